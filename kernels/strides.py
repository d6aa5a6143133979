"""What shapes and strides say of an array, of NumPy or of CuPy."""


def three(values, fill):
    """One to three values, filled up in front to three."""
    return (fill,) * (3 - len(values)) + tuple(values)


def outside(y, dims):
    """(N, D, H, W, C) -> (N, C, ...) with `dims` spatial dimensions, a view."""
    y = y.reshape(y.shape[0], *y.shape[4 - dims :])
    return y.transpose(0, dims + 1, *range(1, dims + 1))


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
