"""Compiled kernels kept on disk: one file a kernel and signature, named after everything its machine code depends on.

There is no index to tear, and processes that compile the same kernel at once write the same name, each by an atomic
rename. The files hold machine code, which a loader trusts like a program: they live in a folder that only its owner can
write, anything else is refused, and each file carries its own SHA-256.
"""

import hashlib
import os
import pickle
import re
import sys
import tempfile
from contextlib import suppress
from functools import cache, cached_property
from numbers import Number
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import llvmlite.binding as llvm
import numba
from numba.core import compiler, config, serialize
from numba.core.caching import _Cache
from numba.core.dispatcher import Dispatcher

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
