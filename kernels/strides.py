"""What strides say of an array, of NumPy or of CuPy."""


def is_dense(x):
    """Whether the strides are those of a contiguous array with permuted dimensions."""
    expected = x.itemsize
    for stride, size in sorted(zip(x.strides, x.shape)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
