"""The file formats of the classic data sets, read from bytes, without pickle: idx, npy, npz, CIFAR's, libsvm.

A file that is not what it says raises DataError, and its header is believed only as far as its length bears it out.
"""

import io
import math

import numpy as np

from ..errors import DataError
from . import archive

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(raw, name="idx file"):
    """MNIST's format: two zero bytes, a type, the number of dimensions, their sizes (big-endian int32), the numbers."""
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise DataError(f"{name}: it is not an idx file: it begins with {bytes(raw[:4])!r}")
    dtype, dims = np.dtype(IDX_TYPES[raw[2]]), raw[3]
    start = 4 + 4 * dims
    if len(raw) < start:
        raise DataError(f"{name}: it is cut short: {len(raw)} bytes do not hold the header")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", dims, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise DataError(f"{name}: the header promises {shape}, {expected:,} bytes in all; the file has {len(raw):,}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_npy(raw, name="npy file"):
    """NumPy's format for one array of plain numbers. Arrays of Python objects are pickle, and are refused."""
    file = io.BytesIO(raw)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = readers[version](file)
    except Exception as problem:  # the header is Python text: NumPy lets through whatever parsing it raises
        raise DataError(f"{name}: it is not an npy file ({problem})") from None
    if dtype.hasobject:
        raise DataError(f"{name}: it holds Python objects, which only pickle can read, and pickle runs code")
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) - file.tell() != expected or min(shape, default=0) < 0:
        have = len(raw) - file.tell()
        raise DataError(f"{name}: the header promises {shape} {dtype}, {expected:,} bytes; the file has {have:,}")
    flat = np.frombuffer(raw, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def read_npz(path, names):
    """Arrays of an npz file, which is a zip of npy files, as {name: array}."""
    found = archive.read(path, [f"{name}.npy" for name in names])
    return {name: read_npy(found[f"{name}.npy"], f"{path}, array {name}") for name in names}


def read_cifar(raw, label_bytes=1, name="CIFAR file"):
    """CIFAR's binary version: records of `label_bytes` labels and 3x32x32 pixels. The last label is the finest."""
    record = label_bytes + 3 * 32 * 32
    if not raw or len(raw) % record:
        raise DataError(f"{name}: {len(raw):,} bytes are no whole number of records of {record:,}")
    table = np.frombuffer(raw, np.uint8).reshape(-1, record)
    return table[:, label_bytes:].reshape(-1, 3, 32, 32), table[:, label_bytes - 1]


def read_libsvm(text, features, name="libsvm file"):
    """Lines of `label index:value ...`, indices from 1: (rows, features) float32 and (rows,) int64."""
    lines = text.strip().split("\n")
    x, labels = np.zeros((len(lines), features), np.float32), np.zeros(len(lines), np.int64)
    for row, line in enumerate(lines):
        try:
            label, *pairs = line.split()
            labels[row] = int(float(label))
            for pair in pairs:
                index, value = pair.split(":")
                if not 1 <= int(index) <= features:
                    raise ValueError(f"index {index} is not in 1..{features}")
                x[row, int(index) - 1] = float(value)
        except (ValueError, OverflowError) as problem:
            raise DataError(f"{name}: line {row + 1} is not `label index:value ...` ({problem})") from None
    return x, labels
