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

What is kept on disk and how it is trusted: cache.py. The threads: threads.py.
"""

import ctypes
from functools import wraps

import llvmlite.binding as llvm
import numba
from numba.core import compiler, config
from numba.core.codegen import JITCodeLibrary

from .cache import KernelCache
from .memory import keep_freed_memory
from .threads import one_at_a_time, pool_takes_many_callers

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
    """Numba's compiler, for kernels whose parts are compiled once, within the kernel.

    A kernel is made of parts: the body of a prange loop, what wraps it, the helpers it calls. Numba optimises each and
    makes machine code of it, and then does both again for the kernel that they are linked into. Here the parts stay as
    they are until then, which halves the time of compiling. It also means that the process that compiles a kernel runs
    the very code that is kept on disk: two copies of a loop's body might round sums differently.
    """

    def compile_extra(self, function):
        codegen = self.state.targetctx.codegen()
        library = self.state.library = codegen.create_library(function.__qualname__)
        library.enable_object_caching()
        link = library._finalize_final_module

        def link_own():
            for part in library._final_module.functions:
                if not part.is_declaration and part.linkage in (llvm.Linkage.linkonce_odr, llvm.Linkage.weak_odr):
                    part.linkage = llvm.Linkage.internal
            link()

        library._finalize_final_module = link_own
        before, codegen._library_class = codegen._library_class, Part  # Numba compiles one function at a time
        try:
            return super().compile_extra(function)
        finally:
            del library._finalize_final_module
            codegen._library_class = before


REFUSAL = ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value


class Part(JITCodeLibrary):
    """Code that a kernel is made of. It is linked as it is, and has no address of its own: who calls a helper from
    Python that a kernel has compiled gets a TypeError ("not callable") from the function at REFUSAL, and should call
    helper.py_func.
    """

    @property
    def codegen(self):
        return Unnamed(self._codegen)

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return REFUSAL


class Unnamed:
    """A code generator for a Part, which has no machine code whose environment could be set."""

    def __init__(self, codegen):
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, name, env):
        pass


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
