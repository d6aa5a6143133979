"""Safetensors files: read without trust, written without risk.

    with read_safetensors("model.safetensors") as weights:      # nothing but the header is read
        weights["encoder.weight"]                                # this one array is read now

    write_safetensors("model.safetensors", {"encoder.weight": array}, metadata={"format": "pt"})

The format (huggingface.co/docs/safetensors): 8 bytes say how long the header is; the header, in JSON, gives each
array's type, shape and place; then come the arrays, without gaps. No code can hide in it, which is why minigen reads
nothing else. Whether a file is sound is left to the safetensors library, so that the two never disagree; what
is added here is the size check before anything is allocated, and errors that say what to do.

`bfloat16` and the 8-bit floats come back as `ml_dtypes` types where that package is installed (CuPy brings it).
Without it bfloat16 is widened to float32, which loses nothing.
"""

import contextlib
import itertools
import json
import math
import os
import re
import stat
import struct
import sys
import weakref
from collections.abc import Mapping

import numpy as np

from .atomic import write_atomically
from .device import is_array, to_device
from .errors import ArgumentError, CheckpointError, describe

MAX_HEADER = 100_000_000  # the format's own limit
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16", "BF16": "bfloat16",
    "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_SIZES = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
_CODES = {name: code for code, name in _TYPES.items()}


def read_safetensors(path):
    """The arrays of a safetensors file, as a mapping that reads each when it is asked for.

    Every access reads anew and gives an array of its own. `.metadata` holds the file's own notes (strings).
    Raises CheckpointError if the file is not whole.
    """
    return SafetensorsFile(path)


class SafetensorsFile(Mapping):
    """See `read_safetensors`. `layout` gives each array's (type, shape, first byte, bytes) without reading it."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._file, start, arrays, self.metadata = _opened(self.path)
        self._close = weakref.finalize(self, self._file.close)
        self.layout = {}
        for name, code, shape in arrays:  # in the order in which they lie in the file, without gaps
            kind = _TYPES.get(code)
            if kind is None:
                raise CheckpointError(f"{self.path}: {name!r} is of type {code}, which NumPy does not have")
            size = math.prod(shape) * (_SIZES.get(kind) or np.dtype(kind).itemsize)
            self.layout[name] = kind, tuple(shape), start, size
            start += size

    def __getitem__(self, name):
        kind, shape, start, size = self.layout[name]
        buffer = np.empty(size, np.uint8)
        rest = memoryview(buffer)
        try:
            self._file.seek(start)
            while rest.nbytes:
                done = self._file.readinto(rest)
                if not done:
                    raise CheckpointError(f"{self.path} was cut short while it was read")
                rest = rest[done:]
            return _as_type(buffer, kind, shape)
        except (OSError, ValueError, TypeError) as cause:  # a disk error; a shape that NumPy cannot hold
            raise CheckpointError(f"{self.path}: {name!r} {shape} {kind} cannot be read: {cause}") from cause

    def __iter__(self):
        return iter(self.layout)

    def __len__(self):
        return len(self.layout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the file; it also closes by itself when nobody holds it."""
        self._close()


def write_safetensors(path, arrays, metadata=None):
    """Save a mapping from names to arrays (or tensors) at `path`, entirely or not at all (see `write_atomically`).

    metadata  a mapping from strings to strings, kept in the header. Raises CheckpointError, or ArgumentError for
    an array whose type the format does not have.
    """
    arrays = {_check_name(name): to_numpy(array, name) for name, array in arrays.items()}
    # Wide types first, as the library does: then every array starts at a multiple of its own width.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    header, offset = {"__metadata__": dict(metadata)} if metadata else {}, 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ArgumentError(
            f"{path}: names, shapes, numbers and strings take {len(text):,} bytes; the format allows {MAX_HEADER:,}\n"
            "  put long lists of numbers into arrays"
        )
    head = struct.pack("<Q", len(text)) + text
    data = (_bytes(arrays[name]) for name in order)  # one copy at a time, and only of what is not contiguous
    write_atomically(path, itertools.chain([head], data), len(head) + offset)


def _check_name(name):
    if not isinstance(name, str) or name == "__metadata__" or not name.isascii() and "\\u" in repr(name):
        raise ArgumentError(
            f"{name!r} cannot name an array in a safetensors file\n  give a string of ordinary characters"
        )
    return name


def to_numpy(value, name):
    """`value`, an array or a tensor on any device, as a NumPy array of a type that the format has."""
    array = value.data if hasattr(value, "requires_grad") else value
    if not is_array(array):
        raise ArgumentError(f"{name}: {describe(value)} is not an array or a tensor")
    array = to_device(array, "cpu")
    if array.dtype.name not in _CODES:
        raise ArgumentError(
            f"{name}: an array of {array.dtype} cannot be saved: a checkpoint holds bool, integers, float16, bfloat16, "
            f"float32, float64 and complex64\n  convert it first, for example to float64"
        )
    return array


def _bytes(array):
    """The array's numbers in row-major order and little-endian, as a flat array of bytes (a copy only if need be)."""
    array = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.byteswap()
    return array.view(np.uint8)


def _as_type(buffer, kind, shape):
    if kind in _SIZES:
        try:
            import ml_dtypes

            return buffer.view(getattr(ml_dtypes, kind)).reshape(shape)
        except ImportError:
            if kind != "bfloat16":
                raise TypeError(f"{kind} needs the package ml_dtypes") from None
            # A bfloat16 is the upper half of a float32.
            return (buffer.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    array = buffer.view(np.dtype(kind).newbyteorder("<"))
    return array.astype(kind, copy=False).reshape(shape)


# Is the file whole?


def _opened(path):
    """The open file, where its data starts, [(name, type, shape)] in the order of the data, and the metadata."""
    for _ in range(100):
        file, size = _open(path)
        try:
            start = _header_end(path, file, size)
            arrays, metadata = _judge(path, file, size)
            if _is(path, file):
                return file, start, arrays, metadata
        except BaseException:
            file.close()
            raise
        file.close()  # it was replaced by a newer one between our opening it and the library's
    raise CheckpointError(f"{path} is replaced too often to be read")


def _open(path):
    """The open file and its size. It must be an ordinary file: a pipe would wait for ever, a device never end."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is not an ordinary file")
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - it is handed on
        return file, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        raise CheckpointError(f"{path} cannot be read: {getattr(cause, 'strerror', None) or cause}") from cause


def _header_end(path, file, size):
    """Where the header ends, by its own word, having checked that word against the file's size."""
    first = file.read(8)
    if len(first) < 8:
        raise CheckpointError(
            f"{path} is cut short: a safetensors file starts with 8 bytes, this one has {size:,} in all"
        )
    end = 8 + struct.unpack("<Q", first)[0]
    if end > size or end > 8 + MAX_HEADER:
        if end <= 8 + MAX_HEADER and file.read(1) in (b"{", b""):
            raise CheckpointError(f"{path} is cut short: the header alone takes {end:,} bytes, the file has {size:,}")
        raise CheckpointError(
            f"{path} is not a safetensors file: its first 8 bytes promise a header of {end - 8:,} bytes"
        )
    return end


def _judge(path, file, size):
    """The library's reading of the header: [(name, type, shape)] in the order of the data, and the metadata."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as judge:
            slices = [(name, judge.get_slice(name)) for name in judge.offset_keys()]
            return [(name, s.get_dtype(), s.get_shape()) for name, s in slices], judge.metadata() or {}
    except Exception as verdict:  # the library raises several kinds
        promised = _promised(file)
        if promised > size:
            raise CheckpointError(
                f"{path} is cut short: the header promises {promised:,} bytes, the file has {size:,}"
            ) from verdict
        raise CheckpointError(f"{path} is not a sound safetensors file: {str(verdict)[:200]}") from verdict


def _promised(file):
    """The size that the header speaks of. It is searched, not parsed: it may be hostile, and parsing takes memory."""
    with contextlib.suppress(OSError):
        file.seek(0)
        length = struct.unpack("<Q", file.read(8))[0]
        ends = re.finditer(rb'"data_offsets"\s*:\s*\[\s*\d{1,19}\s*,\s*(\d{1,19})\s*\]', file.read(length))
        return max((8 + length + int(end[1]) for end in ends), default=0)
    return 0


def _is(path, file):
    """Whether `path` still names the open file, and of the same size."""
    try:
        ours, theirs = os.fstat(file.fileno()), os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino, ours.st_size) == (theirs.st_dev, theirs.st_ino, theirs.st_size)
