"""How the CPU kernels are compiled: `@kernel` and `@inline`, Numba with a cache of our own.

    @inline                                     # a scalar helper: becomes part of the kernels that call it
    def square(x): return x * x

    @kernel                                     # a parallel loop over NumPy arrays, called from Python
    def squares(x, y):
        for i in prange(x.size):
            y[i] = square(x[i])

A kernel is compiled when it is first called with new types (about a second) and kept on disk, so the second
process loads it in milliseconds. Rules for whoever writes one:

* Write `prange` explicitly; nothing else is made parallel. A kernel may call helpers, never another kernel.
* The split of the work must follow from the shapes, never from the number of threads, and partial sums must
  be added in order: then one thread and sixteen give the same bits.
* No array that a kernel writes may overlap another of its arguments.
* Sums may be reordered (that is what makes them vectorise), but NaN and Inf keep their meaning. Division by
  zero gives Inf as in NumPy. There are no bounds checks: the Python function around the kernel checks shapes.
* Few specialisations: the wrapper makes arrays contiguous, so that each kernel is compiled once.

The cache holds machine code, which a loader trusts like a program: it lives in a folder that only its owner
can write, anything else is refused, and each file carries its own SHA-256.
"""

import hashlib
import os
import pickle
import re
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from functools import cache, cached_property, wraps
from numbers import Number
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import llvmlite.binding as llvm
import numba
from numba.core import compiler, config, serialize
from numba.core.caching import _Cache
from numba.core.dispatcher import Dispatcher

from .memory import keep_freed_memory

if config.DISABLE_JIT:  # a learner's NUMBA_DISABLE_JIT=1: kernels in plain Python would take hours, definitions do not
    raise ModuleNotFoundError("NUMBA_DISABLE_JIT is set", name="numba")

keep_freed_memory()

# Sums may be reordered and products fused into them. Not "nnan" or "ninf": masks hold -inf, and a NaN must
# be seen. Not "arcp" or "afn": vector reciprocals by estimate turn 1/inf and 1/0 into NaN.
REORDER = frozenset({"reassoc", "contract", "nsz"})
# Only explicit prange loops become parallel; the other transforms cost compile time and split work by thread.
TRANSFORMS = ["comprehension", "inplace_binop", "reduction", "setitem", "stencil", "fusion", "numpy", "prange"]
PARALLEL = {name: name == "prange" for name in TRANSFORMS}


def inline(function):
    """A scalar helper that is compiled into each kernel that calls it. Its arithmetic is what is written: the order
    (x - n*HIGH - n*LOW must not become x - n*(HIGH + LOW)), and every rounding. Where a product is to be fused into a
    sum, vector_math's `fma` says so. A compiler that is free chooses one way in a loop over vectors and another in the
    loop over what is left, and an element's bits would depend on where it lies.
    """
    # An empty set of liberties; without it Numba would hand down those of the first kernel that calls.
    return numba.njit(forceinline=True, fastmath=set(), error_model="numpy")(function)


def inline_sums(function):
    """Like `inline`, for helpers that loop: sums inside may be reordered, which lets them vectorise."""
    return numba.njit(forceinline=True, fastmath=set(REORDER), error_model="numpy")(function)


def kernel(function=None, *, parallel=True, reads=None, dense=(), exact=False):
    """A function over arrays compiled by Numba, its prange loops in parallel, kept in minigen's own cache.

    It releases the GIL, and may be called from several threads at once. `k.serial` is the same kernel k without
    threads: 1 to 3 us quicker to enter, 50 if they have gone to sleep, so the better one for little work (see `choose`;
    the choice must follow from the shape, since the two may round sums differently).

    reads=("x", "w")  the names of the arguments that are only read. Then the kernel is compiled once, for arrays of any
                      strides. (Otherwise Numba compiles anew for each mixture of contiguous, strided and read-only.)
    dense=("y",)      beside `reads`: arguments that are contiguous all the same, so that loops over them vectorise
    exact=True        round after every operation as NumPy does, for kernels that promise NumPy's very bits.
    """
    if function is None:
        return lambda function: kernel(function, parallel=parallel, reads=reads, dense=dense, exact=exact)
    fastmath, threads = False if exact else set(REORDER), parallel and PARALLEL
    options = {"error_model": "numpy", "nogil": True, "parallel": threads, "pipeline_class": OwnCode}
    dispatcher = numba.njit(fastmath=fastmath, **options)(function)
    dispatcher._compiler._customize_flags = arrays_lie_apart
    dispatcher._cache = KernelCache(function, f"parallel={parallel} exact={exact} apart {sorted(REORDER)}")
    call = dispatcher if reads is None else for_any_strides(dispatcher, reads, dense)
    if parallel and not pool_takes_many_callers():
        call = one_at_a_time(call)
    if parallel:
        call.serial = kernel(function, parallel=False, reads=reads, dense=dense, exact=exact)  # compiled when called
    return call


def arrays_lie_apart(flags):
    """Compiler flags by which no array that a kernel writes may overlap another. Numba says so of parallel loops.

    Without it a serial kernel would look where its arrays lie each time, and take a loop without vectors, which adds in
    another order, for a small output right behind its input: its bits would depend on that.
    """
    flags.noalias = True
    return flags


class OwnCode(compiler.Compiler):
    """Numba's compiler, for kernels that run the very code that is kept on disk.

    The body of a prange loop is compiled twice: alone, and once more within the kernel. The process that compiles would
    run the first, every later one (which loads the kernel) the second; they may round sums differently. So the kernel's
    own copy is made private to it before it is linked.
    """

    def compile_extra(self, function):
        library = self.state.library = self.state.targetctx.codegen().create_library(function.__qualname__)
        library.enable_object_caching()
        link = library._finalize_final_module

        def link_own():
            for part in library._final_module.functions:
                if not part.is_declaration and part.linkage in (llvm.Linkage.linkonce_odr, llvm.Linkage.weak_odr):
                    part.linkage = llvm.Linkage.internal
            link()

        library._finalize_final_module = link_own
        try:
            return super().compile_extra(function)
        finally:
            del library._finalize_final_module


def choose(run, size, small=32768):
    """A kernel, or its serial form for a work of at most `small` elements, where starting threads does not pay."""
    return run.serial if size <= small else run


def for_any_strides(dispatcher, reads, dense):
    """`dispatcher`, compiled once, for arrays of which no stride is known, but for those in `dense`; those named in
    `reads` may be read-only.
    """
    names = dispatcher.py_func.__code__.co_varnames

    def general(name, argument):
        kind = numba.typeof(argument)
        if not isinstance(kind, numba.types.Array):
            return kind
        return kind.copy(layout="C" if name in dense else "A", readonly=name in reads)

    @wraps(dispatcher.py_func)
    def call(*arguments):
        if dispatcher._can_compile:
            dispatcher.compile(tuple(map(general, names, arguments)))
            dispatcher.disable_compile()
        return dispatcher(*arguments)

    return call


# ----------------------------------------------------------------------------------------------------------
# Threads. Numba takes TBB or OpenMP where there is one, both of which may be entered by several threads at
# once. Its own "workqueue" may not (it ends the process), so there the kernels take turns.

_turn = threading.RLock()


# GNU's OpenMP lets a waiting thread spin for milliseconds. On a machine that does anything else besides, that is the
# time slice of the thread it waits for: a training step took 73 ms, 14 with this limit (2 cores, 8 processes).
SPINS = "5000"  # some 120 us, which bridges the time between two kernels


@contextmanager
def briefly_spinning():
    """Inside the block OpenMP, if it is loaded there for the first time, reads SPINS, unless the user has chosen."""
    chosen = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ)
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


@cache
def pool_takes_many_callers():
    """Whether Numba will run on TBB or OpenMP; asked without starting its threads, or choosing for the user."""
    layer = str(config.THREADING_LAYER).lower()
    if layer in ("tbb", "omp", "workqueue"):
        return layer != "workqueue"
    try:
        with briefly_spinning():
            from numba.np.ufunc import omppool  # noqa: F401

        return layer != "forksafe"
    except ImportError:
        pass
    try:
        from numba.np.ufunc import tbbpool  # noqa: F401

        return True
    except ImportError:
        return False


def one_at_a_time(function):
    """`function` behind a lock that all kernels share."""

    @wraps(function)
    def call(*arguments):
        with _turn:
            return function(*arguments)

    return call


class _Forked(dict):
    """Stands for `kernels._found` in a forked child: the threads did not come along, so there are no kernels."""

    def __missing__(self, key):
        say("forked from a process whose threads run kernels; here the definitions run instead (use spawn)")
        return None


def _after_fork():
    # GNU's OpenMP cannot be used in the child of a process that has used it: Numba would end the child.
    from numba.np.ufunc import parallel

    if parallel._is_initialized and parallel._threading_layer == "omp" and sys.platform.startswith("linux"):
        sys.modules[__name__.rsplit(".", 2)[0]]._found = _Forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# ----------------------------------------------------------------------------------------------------------
# The cache: one file a kernel and signature, named after everything its machine code depends on. There is no index to
# tear, and processes that compile the same kernel at once write the same name, each by an atomic rename.


_said = set()


def say(line):
    """Print one line on stderr, once in the life of the process."""
    if line not in _said:
        _said.add(line)
        print(f"minigen: {line}", file=sys.stderr, flush=True)


def cache_root():
    """The folder for everything minigen caches: MINIGEN_CACHE, or `minigen` in the user's cache folder."""
    if os.environ.get("MINIGEN_CACHE"):
        return Path(os.environ["MINIGEN_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "minigen" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/minigen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigen"


@cache
def folder():
    """The folder of this Python's and this CPU's kernels, made if need be; None (after one line) if it is not safe."""
    try:
        root = cache_root()
        cpu = re.sub(r"\W", "", str(config.CPU_NAME or llvm.get_host_cpu_name()))
        python = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
        leaf = root / "kernels" / f"{python}-numba-{numba.__version__}-{cpu}"
        try:
            leaf.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            say(f"cannot keep compiled kernels in {leaf} ({error.strerror}); compiling without a cache")
            return None
    except RuntimeError:  # no home folder
        say("no home folder to keep compiled kernels in; compiling without a cache (or set MINIGEN_CACHE)")
        return None
    for path, others in ((root, 0o002), (leaf.parent, 0o022), (leaf, 0o022)):
        problem = unsafe(path.stat(), others)
        if problem:
            say(f"the kernel cache {path} {problem}: not used, since loading from it would run its code")
            return None
    return leaf


def unsafe(status, others=0o022):
    """Why a file or folder could have been written by someone else, or None."""
    if not hasattr(os, "getuid"):  # Windows: the user's own folder is protected by its access list
        return None
    if status.st_uid != os.getuid():
        return "belongs to another user"
    if status.st_mode & others and not status.st_mode & 0o1000:  # in a sticky folder (/tmp) others cannot replace ours
        return "can be written by other users"
    return None


CONSTANTS = (Number, str, bytes, tuple, type(None), numba.types.Type, numba.types.ExternalFunction)


def theirs(module):
    """Whether a module is NumPy's, Numba's or Python's own: its version, not its code, is in the folder's name."""
    return (module or "").partition(".")[0] in ("numpy", "numba", "math", "builtins")


def meaning(value, seen):
    """All that a function's machine code depends on, as text: its bytecode, and the functions and constants it names.

    Numba alone looks at the file that the function stands in: it would go on running an old helper from
    another file, and compile everything anew for a changed comment.
    """
    if isinstance(value, Dispatcher):
        options = sorted(
            (name, str(sorted(setting) if isinstance(setting, set) else setting))
            for name, setting in value.targetoptions.items()
        )
        return f"{options}{meaning(value.py_func, seen)}"
    value = getattr(value, "_defn", value)  # the Python function behind one of Numba's intrinsics
    if not isinstance(value, FunctionType) or theirs(value.__module__):
        return (
            repr(value)
            if isinstance(value, CONSTANTS)
            else f"{type(value).__qualname__} {getattr(value, '__name__', '')}"
        )
    if value in seen:
        return value.__qualname__
    seen.add(value)
    code, scope = value.__code__, value.__globals__
    parts = [value.__qualname__, *(meaning(cell.cell_contents, seen) for cell in value.__closure__ or ())]
    codes = [code]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
        parts += [code.co_code.hex(), repr(constants), repr(code.co_names)]
        for name in code.co_names:
            if isinstance(scope.get(name), ModuleType):  # vector_math.exp: the function of that name
                if not theirs(scope[name].__name__):
                    parts += [meaning(getattr(scope[name], other, None), seen) for other in code.co_names]
            elif name in scope:
                parts.append(meaning(scope[name], seen))
    return "\n".join(parts)


class KernelCache(_Cache):
    """Numba's cache interface over one checked file a signature."""

    def __init__(self, function, options):
        self.function, self.options, self.enabled = function, options, True

    @property
    def cache_path(self):
        return str(folder())

    def path(self, signature, codegen):
        place = folder() if self.enabled else None
        if place is None:
            return None
        settings = (config.OPT, config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT)
        text = repr((self.meaning, self.options, str(signature), codegen.magic_tuple(), settings))
        name = f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"
        return place / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.bin"

    @cached_property
    def meaning(self):
        return meaning(self.function, set())

    def load_overload(self, sig, target_context):
        """The compiled kernel from disk, or None: then Numba compiles it, and we say so once."""
        target_context.refresh()
        path = self.path(sig, target_context.codegen())
        if path is not None and (content := read(path)) is not None:
            try:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(content))
            except Exception as error:  # whole, by its checksum, yet of no use to this Numba
                discard(path, f"{type(error).__name__}")
        say("compiling kernels for this machine, once (about 1 s each the first time a kernel is used) ...")
        return None

    def save_overload(self, sig, data):
        path = self.path(sig, data.codegen)
        if path is None or data.library.has_dynamic_globals:
            return
        content = serialize.dumps(data._reduce())
        try:
            write(path, content)
        except OSError as error:
            say(f"cannot keep compiled kernels in {path.parent} ({error.strerror}); compiling again next time")

    def enable(self):
        self.enabled = True

    def disable(self):
        self.enabled = False

    def flush(self):
        """Nothing to do: a changed source has another file name."""


def read(path):
    """The content of a cache file whose owner and checksum are right, else None."""
    try:
        with open(path, "rb") as file:
            if problem := unsafe(os.fstat(file.fileno())):
                say(f"the cached kernel {path} {problem}: not loaded")
                return None
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"cannot read the cached kernel {path} ({error.strerror}); compiling it again")
        return None
    digest, content = data[:32], data[32:]
    if hashlib.sha256(content).digest() == digest:
        return content
    discard(path, "its checksum is wrong")
    return None


def write(path, content):
    """Write beside and rename, so that no reader ever sees half a file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp: mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def discard(path, reason):
    """Delete a damaged cache file, and say that its kernel is compiled again."""
    say(f"the cached kernel {path.name} is damaged ({reason}); compiling it again")
    with suppress(OSError):
        path.unlink()
