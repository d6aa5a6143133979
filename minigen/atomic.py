"""Replacing a file so that at no moment, whatever fails, the old contents are lost before the new ones are whole.

    write_atomically("runs/vae/step-000400.safetensors", pieces, size)

The bytes go to a temporary file beside the target, are flushed to the disk, and the temporary file is then renamed
over the target: a rename happens entirely or not at all (POSIX rename(2)). A process that is killed half-way leaves
its temporary file behind; the next save into the same folder takes it away.
"""

import contextlib
import os
import secrets
import warnings
from pathlib import Path

from .errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyhow: no lock is needed
    fcntl = None

TEMPORARY = ".minigen-saving-"


def write_atomically(path, pieces, size):
    """Put `pieces` (buffers of bytes, `size` bytes in all) at `path`; missing folders are made.

    Raises CheckpointError if that fails. Then `path` is byte for byte what it was and nothing else is left behind.
    A link at `path` is replaced, never written through.
    """
    written = 0
    descriptor = temporary = None
    try:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError("it is a folder; name a file in it")
        remove_stale(path.parent)
        descriptor, temporary = _create(path.parent)
        for piece in pieces:
            rest = memoryview(piece)
            while rest.nbytes:
                done = os.write(descriptor, rest)
                written += done
                rest = rest[done:]
        os.fsync(descriptor)
        os.replace(temporary, path)
        temporary = None
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        raise CheckpointError(
            f"{path} could not be saved: {_reason(cause)}, after {written:,} of {size:,} bytes\n"
            f"  what stood there before is untouched"
        ) from cause
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if descriptor is not None:
            with contextlib.suppress(OSError):  # the bytes are on the disk since fsync: closing cannot lose them
                os.close(descriptor)
    _flush_folder(path)


def remove_stale(folder):
    """Remove the temporary files in `folder` whose writer is gone; one that is still being written is kept."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(TEMPORARY)]
    except OSError:  # a folder that may be written but not listed
        return
    for name in names:
        with contextlib.suppress(OSError):
            if fcntl is None:
                os.unlink(name)
                continue
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer, if alive, holds this lock
                os.unlink(name)
            finally:
                os.close(descriptor)


def _create(folder):
    """A new, locked temporary file: its descriptor and its name."""
    while True:
        name = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some network file systems have no locks: then nothing is stale
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, name
            os.close(descriptor)  # another save took it for stale before it was locked
        except OSError:
            os.close(descriptor)
            os.unlink(name)
            raise


def _flush_folder(path):
    """Bring the rename itself to the disk, so that a power cut after the save cannot undo it."""
    if os.name == "nt":  # a folder cannot be opened there, and NTFS journals the rename
        return
    descriptor = None
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
    except OSError as cause:
        warnings.warn(
            f"{path} is saved, but its folder could not be flushed ({_reason(cause)}): "
            f"after a power cut the file before it may be back",
            stacklevel=3,
        )
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _reason(cause):
    return getattr(cause, "strerror", None) or str(cause)
