"""Solutions to the exercises of lesson 6, and what there is to see."""

import numpy as np


def receptive_field(layers):
    # A tap further along the kernel is dilation * step pixels further in the picture; a stride spreads what follows.
    seen, step = 1, 1
    for kernel, stride, dilation in layers:
        seen += (kernel - 1) * dilation * step
        step *= stride
    return seen


def max_pool_slope(x, dz):
    N, C, H, W = x.shape
    squares = x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
    dx = np.zeros_like(squares)
    np.put_along_axis(dx, squares.argmax(-1)[..., None], dz[..., None], -1)
    return dx.reshape(N, C, H // 2, W // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)


def batch_norm_slope(x, g, eps=1e-5):
    # With u = (x - mean) / s: du/dx keeps what is neither along 1 (the mean is gone) nor along u (the length is fixed).
    mean = lambda a: a.mean((0, 2, 3), keepdims=True)
    centred = x - mean(x)
    s = np.sqrt(mean(centred**2) + eps)
    y = centred / s
    return (g - mean(g) - y * mean(g * y)) / s


def spread(z, w, broken):
    # In a symmetric kernel nobody would notice.
    x = np.zeros(len(z) + len(w) - 1)
    for q, value in enumerate(z):
        x[q : q + len(w)] += value * (w[::-1] if broken else w)
    return x


def batch_normalise(x, broken, eps=1e-5):
    dims = 0 if broken else (0, 2, 3)
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)
