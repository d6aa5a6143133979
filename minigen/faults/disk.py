"""Row 2: the disk refuses. The Nth system call of a save fails; the old checkpoint must not notice.

Three ways, from the inside to the outside: the calls of `os` replaced one by one; a limit on the size of files, set
by the system itself (RLIMIT_FSIZE); and strace, which makes the kernel's answer an error, where it is installed.
"""

import errno
import os
import shutil
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np

from .. import atomic, checkpoint
from ..errors import CheckpointError
from .score import Finding, scratch

CALLS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "replace": (errno.EIO, errno.EACCES, errno.EXDEV),
    "open": (errno.EMFILE, errno.EACCES, errno.EROFS, errno.ENOSPC),
    "close": (errno.EIO,),
    "fstat": (errno.EIO,),
    "scandir": (errno.EACCES,),
}


def _state(step):
    return {"step": step, "model": {f"{i}.weight": np.full((8, 8), step, np.float32) for i in range(8)}}


class _FailingSystem:
    """The `os` module, except that the Nth call of one name fails."""

    def __init__(self, name, n, code):
        self.name, self.n, self.code, self.calls = name, n, code, 0

    def __getattr__(self, name):
        genuine = getattr(os, name)
        if name != self.name:
            return genuine

        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.n:
                raise OSError(self.code, os.strerror(self.code))
            if name == "write" and self.calls == self.n - 1:  # a full disk takes what fits first
                return genuine(args[0], args[1][: len(args[1]) // 2 or 1])
            return genuine(*args, **kwargs)

        return call


def failing_calls(count=None, seed=0):
    """Every call that a save makes, failing in every way it knows, one at a time."""
    cases = 0
    with scratch() as folder:
        path = folder / "model.safetensors"
        for name, codes in CALLS.items():
            for code in codes:
                n = 0
                while True:
                    n += 1
                    checkpoint.save(path, _state(1))
                    system = _FailingSystem(name, n, code)
                    with mock.patch.object(atomic, "os", system), warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        fault = _one_save(path)
                    if system.calls < n:
                        break  # the save makes no more calls of this name
                    cases += 1
                    if fault:
                        return Finding(False, f"call {n} of {name} fails with {errno.errorcode[code]}: {fault}")
    return Finding(True, f"{cases} failing calls: each time the old file or, once renamed, the whole new one")


def _one_save(path):
    """Save over `path`: what is wrong afterwards, or None. Succeeding is allowed; then the new file must be whole."""
    before = path.read_bytes()
    try:
        checkpoint.save(path, _state(2))
    except CheckpointError as error:
        if path.read_bytes() != before:
            return "the old file was changed"
        if str(path) not in str(error) or "bytes" not in str(error):
            return f"the error does not name path and bytes: {error}"
    else:
        if checkpoint.load(path)["step"] != 2:
            return "no error, and not the new file"
    left = sorted(os.listdir(path.parent))
    return None if left == [path.name] else f"left behind: {left}"


_CHILD = """
import os, sys, resource
from minigen import checkpoint
from minigen.faults.disk import _state
path, limit = sys.argv[1], int(sys.argv[2])
checkpoint.save(path + ".warm", {})           # everything is imported before anything fails
os.unlink(path + ".warm")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    checkpoint.save(path, _state(2))
except checkpoint.CheckpointError as error:
    sys.exit(str(error))
"""


def _from_outside(path, command, limit=0):
    """Save over `path` in another process: (whether that was refused, what is wrong afterwards or None)."""
    checkpoint.save(path, _state(1))
    before = path.read_bytes()
    done = subprocess.run(
        [*command, sys.executable, "-B", "-c", _CHILD, str(path), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    left = [name for name in os.listdir(path.parent) if name.startswith(atomic.TEMPORARY)]
    if left:
        return False, f"left behind: {left}"
    if done.returncode == 0:
        return False, None if checkpoint.load(path)["step"] == 2 else "no error, and not the new file"
    if "Traceback" in done.stderr or str(path) not in done.stderr or "bytes" not in done.stderr:
        return True, f"the error: {done.stderr[-300:]}"
    return True, None if path.read_bytes() == before else "the old file was changed"


def file_size_limit(count=6, seed=0):
    """The system allows files only so large: the write is cut in the middle, at `count` places."""
    try:
        import resource  # noqa: F401
    except ImportError:
        return Finding(None, "this system has no limits to set")
    with scratch() as folder:
        path = folder / "model.safetensors"
        checkpoint.save(path, _state(1))
        size = path.stat().st_size
        for i in range(count):
            limit = 1 + i * (size - 2) // max(count - 1, 1)  # from 1 byte to all but one
            refused, fault = _from_outside(path, [], limit)
            if fault or not refused:
                return Finding(False, f"files limited to {limit} bytes: {fault or 'the save went through'}")
    return Finding(True, f"{count} limits on the size of files")


def kernel_errors(count=12, seed=0):
    """strace answers in the kernel's place: write, fsync and rename fail, whoever calls them."""
    strace = shutil.which("strace")
    if strace is None:
        return Finding(None, "strace is not installed")
    if subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode:
        return Finding(None, "strace is not allowed to trace here")
    # The first save (of nothing) makes 1 write, 2 fsyncs and 1 rename, so the counting starts behind those.
    plan = [("write", "ENOSPC", n) for n in range(2, 11)] + [("fsync", "EIO", n) for n in (3, 4)]
    plan += [("/rename", "EIO", 2), ("/rename", "EACCES", 2)]
    refusals = 0
    with scratch() as folder:
        for call, code, n in plan[:count] if count < len(plan) else plan:
            inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={code}:when={n}"]
            refused, fault = _from_outside(folder / "model.safetensors", [strace, "-f", "-o", os.devnull, *inject])
            if fault:
                return Finding(False, f"{call} {n} fails with {code}: {fault}")
            refusals += refused
    return Finding(refusals > 0, f"{min(count, len(plan))} calls failed by strace, {refusals} saves refused")
