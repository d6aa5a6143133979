"""Host memory by address: what the libraries on it are given, as NumPy arrays that share it."""

import ctypes

import numpy as np

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def numbers(address, count, dtype):
    """`count` numbers at an address, as an array that shares them."""
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address) if count else b""
    return np.frombuffer(memory, dtype)


def matrix(address, rows, columns, step, dtype):
    """The matrix (rows, columns) that lies there, each column `step` numbers behind the one before."""
    flat = numbers(address, step * (columns - 1) + rows if rows and columns else 0, dtype)
    return np.ndarray((rows, columns), dtype, flat, strides=(dtype.itemsize, step * dtype.itemsize))
