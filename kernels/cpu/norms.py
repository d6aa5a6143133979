"""Batch norm and its gradient, and the loops that it shares with group norm. (Layer norm: layer_norm.py.)

Batch, group and instance norm differ only in which (sample, channel) pairs share a mean and a variance. So they share
four loops that work on each pair alone, with a little float64 algebra on (N, C) arrays between them:

    sums                Σ(x - k), Σ(x - k)**2 of each pair     forward: mean and variance
    affine              y = (x - k) a + b                      forward
    gradient_sums       Σg, Σg (x - k) of each pair            gradient: of weight, bias, mean, variance
    gradient_affine     dx = α g + β (x - k) + γ               gradient

and where an activation f comes behind the norm, y = f((x - k) a + b), `affine` applies it, and gradient_sums becomes

    inner_gradient      d = f'((x - k) a + b) g, Σd, Σd (x - k)

each in two forms, for NCHW memory (a pair is a row) and for channels-last memory (a pair is a column, and batch norm,
which does not tell samples apart, sees but one of them). Floor: read x twice, write y: 12 bytes an element; 20 in the
gradient.

Measured on one core (Zen 5 with AVX-512; PyTorch 2.13 on one core in brackets): microseconds of batch_norm, forward and
gradient, for 16 x 64 x 32 x 32: 176 + 224 (1356 + 351) as NCHW, 313 + 393 (332 + 461) channels-last; for 64 x 64 x 8 x
8: 105 + 108 (352 + 85) and 87 + 112 (90 + 120).

k is a number near the pair's mean (its first element, or its mean in float32). Sums of x itself would lose
every digit where the mean is large beside the spread; x - k is exact. Rows are cut into chunks by the shape
alone, and the chunks' sums are added in order, so any number of threads gives the same bits.
"""

from functools import cache

import numpy as np
from numba import prange

from .compile import choose, inline, inline_sums, kernel
from .elementwise import like
from .layer_norm import TASK, rows_per_task
from .vector_math import fma

F = np.float32
ZERO = F(0)


# ---- the arithmetic of one number: written out, so that no loop around it rounds in another way (see `inline`) ----


@inline
def affine(x, shift, slope, base):
    return fma(x - shift, slope, base)


@inline
def itself(z, p, q):
    """No activation. (They come from activations.py, which gives them two parameters.)"""
    return z


@inline
def gradient(g, x, shift, alpha, beta, gamma):
    return fma(alpha, g, fma(beta, x - shift, gamma))


# ---- what the loops over columns do with some rows of one sample ----


@inline_sums
def part_sums(x, shift, one, two):
    one[:] = 0
    two[:] = 0
    for i in range(x.shape[0]):
        a = x[i]
        for j in range(a.size):
            d = a[j] - shift[j]
            one[j] += d
            two[j] = fma(d, d, two[j])


@inline_sums
def part_affine(x, shift, slope, base, y, f):
    for i in range(x.shape[0]):
        p, q = x[i], y[i]
        for j in range(p.size):
            q[j] = f(affine(p[j], shift[j], slope[j], base[j]), ZERO, ZERO)


@inline_sums
def part_gradient_sums(g, x, shift, one, two):
    one[:] = 0
    two[:] = 0
    for i in range(x.shape[0]):
        d, a = g[i], x[i]
        for j in range(a.size):
            one[j] += d[j]
            two[j] = fma(d[j], a[j] - shift[j], two[j])


@inline_sums
def part_inner_gradient(g, x, shift, slope, base, d, one, two, f):
    one[:] = 0
    two[:] = 0
    for i in range(x.shape[0]):
        u, a, out = g[i], x[i], d[i]
        for j in range(a.size):
            v = f(u[j], affine(a[j], shift[j], slope[j], base[j]), ZERO, ZERO)
            out[j] = v
            one[j] += v
            two[j] = fma(v, a[j] - shift[j], two[j])


@inline_sums
def part_gradient_affine(g, x, shift, alpha, beta, gamma, gx):
    for i in range(x.shape[0]):
        d, a, out = g[i], x[i], gx[i]
        for j in range(a.size):
            out[j] = gradient(d[j], a[j], shift[j], alpha[j], beta[j], gamma[j])


@inline_sums
def part_gradient_affine_over(d, x, shift, alpha, beta, gamma):
    """The same of d, written over d. (Of an array that is given twice the compiler makes no vectors.)"""
    for i in range(x.shape[0]):
        out, a = d[i], x[i]
        for j in range(a.size):
            out[j] = gradient(out[j], a[j], shift[j], alpha[j], beta[j], gamma[j])


# ---- the four loops of batch, group and instance norm, over rows (NCHW) and over columns (channels-last)
# ----


@kernel
def sums_rows(x, k, first, second, step):
    n, width = x.shape
    for task in prange((n + step - 1) // step):
        for i in range(task * step, min(n, (task + 1) * step)):
            a = x[i]
            total = F(0)
            for j in range(width):
                total += a[j]
            m = total / F(width)
            one, two = F(0), F(0)
            for j in range(width):
                one += a[j] - m
                two += (a[j] - m) * (a[j] - m)
            k[i], first[i], second[i] = m, one, two


@kernel
def sums_columns(x, k, first, second, step):
    n, parts = first.shape[:2]
    for task in prange(n * parts):
        s, part = task // parts, task % parts
        part_sums(x[s, part * step : (part + 1) * step], k[s], first[s, part], second[s, part])


@cache
def affine_rows(f):
    @kernel
    def rows_mapped(x, k, a, b, y, step):
        n, width = x.shape
        for task in prange((n + step - 1) // step):
            for i in range(task * step, min(n, (task + 1) * step)):
                p, q, shift, slope, base = x[i], y[i], k[i], a[i], b[i]
                for j in range(width):
                    q[j] = f(affine(p[j], shift, slope, base), ZERO, ZERO)

    return rows_mapped


@cache
def affine_columns(f):
    @kernel
    def columns_mapped(x, k, a, b, y, step):
        n, height, _ = x.shape
        parts = (height + step - 1) // step
        for task in prange(n * parts):
            s, begin, end = task // parts, task % parts * step, (task % parts + 1) * step
            part_affine(x[s, begin:end], k[s], a[s], b[s], y[s, begin:end], f)

    return columns_mapped


@kernel
def gradient_sums_rows(g, x, k, first, second, step):
    n, width = x.shape
    for task in prange((n + step - 1) // step):
        for i in range(task * step, min(n, (task + 1) * step)):
            d, a, shift = g[i], x[i], k[i]
            one, two = F(0), F(0)
            for j in range(width):
                one += d[j]
                two += d[j] * (a[j] - shift)
            first[i], second[i] = one, two


@kernel
def gradient_sums_columns(g, x, k, first, second, step):
    n, parts = first.shape[:2]
    for task in prange(n * parts):
        s, part, begin, end = task // parts, task % parts, task % parts * step, (task % parts + 1) * step
        part_gradient_sums(g[s, begin:end], x[s, begin:end], k[s], first[s, part], second[s, part])


@cache
def inner_gradient_rows(f):
    @kernel
    def rows_differentiated(g, x, k, a, b, d, first, second, step):
        n, width = x.shape
        for task in prange((n + step - 1) // step):
            for i in range(task * step, min(n, (task + 1) * step)):
                u, p, out, shift, slope, base = g[i], x[i], d[i], k[i], a[i], b[i]
                one, two = F(0), F(0)
                for j in range(width):
                    v = f(u[j], affine(p[j], shift, slope, base), ZERO, ZERO)
                    out[j] = v
                    one += v
                    two += v * (p[j] - shift)
                first[i], second[i] = one, two

    return rows_differentiated


@cache
def inner_gradient_columns(f):
    @kernel
    def columns_differentiated(g, x, k, a, b, d, first, second, step):
        n, parts = first.shape[:2]
        for task in prange(n * parts):
            s, part, begin, end = task // parts, task % parts, task % parts * step, (task % parts + 1) * step
            rows = g[s, begin:end], x[s, begin:end], k[s], a[s], b[s], d[s, begin:end]
            part_inner_gradient(*rows, first[s, part], second[s, part], f)

    return columns_differentiated


@kernel
def gradient_affine_rows(g, x, k, alpha, beta, gamma, gx, step):
    n, width = x.shape
    for task in prange((n + step - 1) // step):
        for i in range(task * step, min(n, (task + 1) * step)):
            d, a, out, shift, p, q, r = g[i], x[i], gx[i], k[i], alpha[i], beta[i], gamma[i]
            for j in range(width):
                out[j] = gradient(d[j], a[j], shift, p, q, r)


@kernel
def gradient_affine_columns(g, x, k, alpha, beta, gamma, gx, step):
    n, height, _ = x.shape
    parts = (height + step - 1) // step
    for task in prange(n * parts):
        s, begin, end = task // parts, task % parts * step, (task % parts + 1) * step
        part_gradient_affine(g[s, begin:end], x[s, begin:end], k[s], alpha[s], beta[s], gamma[s], gx[s, begin:end])


class Pairs:
    """x (N, C, ...) as (sample, channel) pairs, in the memory order it has; (N, C) arrays go in and come out.

    together: channels-last samples are one sample, the longer.
    """

    def __init__(self, x, together=False):
        self.samples, self.channels = self.pairs = x.shape[:2]
        self.count = x.size // max(self.samples * self.channels, 1)  # elements in a pair
        self.last = (0, *range(2, x.ndim), 1)  # the order of dimensions that puts the channels last
        self.columns = x.ndim == 2 or (not x.flags.c_contiguous and abs(x.strides[1]) <= min(map(abs, x.strides)))
        if self.columns:
            if not x.transpose(self.last).flags.c_contiguous:
                channels_last = np.empty((self.samples, *x.shape[2:], self.channels), F)
                copy = channels_last.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))
                copy[...] = x
                x = copy
            if together:
                self.samples, self.count = 1, self.samples * self.count
                self.pairs = 1, self.channels
            self.shape = self.samples, self.count, self.channels
            self.step = min(max(-(-TASK // self.channels), 1), 4096)
        else:
            x = np.ascontiguousarray(x)
            self.shape = self.samples * self.channels, self.count
            self.step = rows_per_task(*self.shape)
        self.x, self.flat = x, self.view(x)

    def view(self, x):
        """An array of x's shape and memory order, as the loops want it."""
        return (x.transpose(self.last) if self.columns else x).reshape(self.shape)

    def run(self, name, *arguments, f=None):
        """Run a loop, made for the activation f if it takes one."""
        loop = LOOPS[name, self.columns]
        choose(loop if f is None else loop(f), self.x.size)(*arguments, self.step)

    def per_pair(self, values):
        """Values that broadcast to (N, C) as the loops want them: float32, one a pair."""
        if np.shape(values) == self.pairs:
            spread = np.ascontiguousarray(values, F)
        else:
            spread = np.empty(self.pairs, F)
            spread[...] = values
        return spread if self.columns else spread.reshape(-1)

    def two_sums(self, name, *arguments, f=None):
        """Run a loop that makes two sums a pair. Returns them in parts, (N, parts, C)."""
        first, second = self.room_for_sums(), self.room_for_sums()
        self.run(name, *arguments, first, second, f=f)
        parts = first.shape if self.columns else (self.samples, 1, self.channels)
        return first.reshape(parts), second.reshape(parts)

    def room_for_sums(self):
        parts = (self.samples, -(-self.count // self.step), self.channels) if self.columns else (self.shape[0],)
        return np.empty(parts, F)

    def moments(self):
        """k (N, C), and Σ(x - k) and Σ(x - k)**2, each (N, parts, C)."""
        if self.columns:
            k = self.flat[:, 0].copy()
            return k, *self.two_sums("sums", self.flat, k)
        k = np.empty(self.shape[0], F)
        first, second = self.two_sums("sums", self.flat, k)
        return k.reshape(self.pairs), first, second

    def affine(self, k, a, b, f=itself):
        """f((x - k) a + b)."""
        y = np.empty_like(self.x)
        self.run("affine", self.flat, *map(self.per_pair, (k, a, b)), self.view(y), f=f)
        return y

    def gradient_sums(self, g, k):
        """Σg and Σg (x - k), each (N, parts, C); g as the loops want it."""
        return self.two_sums("gradient_sums", g, self.flat, self.per_pair(k))

    def inner_gradient(self, g, k, a, b, f):
        """d = f(g, (x - k) a + b), where f is an activation's gradient; Σd and Σd (x - k). g and d as the loops want
        them.
        """
        d = self.view(np.empty_like(self.x))
        return d, *self.two_sums("inner_gradient", g, self.flat, *map(self.per_pair, (k, a, b)), d, f=f)

    def gradient_affine(self, g, k, alpha, beta, gamma):
        """alpha g + beta (x - k) + gamma; g as the loops want it."""
        gx = np.empty_like(self.x)
        self.run("gradient_affine", g, self.flat, *map(self.per_pair, (k, alpha, beta, gamma)), self.view(gx))
        return gx


LOOPS = {
    ("sums", False): sums_rows,
    ("sums", True): sums_columns,
    ("affine", False): affine_rows,
    ("affine", True): affine_columns,
    ("gradient_sums", False): gradient_sums_rows,
    ("gradient_sums", True): gradient_sums_columns,
    ("inner_gradient", False): inner_gradient_rows,
    ("inner_gradient", True): inner_gradient_columns,
    ("gradient_affine", False): gradient_affine_rows,
    ("gradient_affine", True): gradient_affine_columns,
}


# ---- batch norm: x (N, C, ...), weight and bias (C,) or None ----


def added(parts):
    """(N, parts, C) -> their sums (N, C), in float64 and in order."""
    return np.add.reduce(parts, 1, np.float64)


def over_samples(values):
    """The average of (N, C) values over the samples, (1, C): what the pairs of a batch norm share."""
    return np.add.reduce(values, 0, keepdims=True) / len(values)


def batch_norm(x, weight, bias, eps):
    """x (N, C, ...) normalised over samples and positions. Returns y, k, offset, rstd, and (C,) mean and variance.

    k and offset, the mean less k, are (N, C), or (1, C) for channels-last memory; rstd, 1 / sqrt(variance + eps), is
    (1, C).
    """
    pairs = Pairs(x, together=True)
    k, *sums = pairs.moments()
    first, second = map(added, sums)
    own = k + first / pairs.count
    mean = over_samples(own)
    spread = second / pairs.count - (first / pairs.count) ** 2 + (own - mean) ** 2
    variance = np.maximum(over_samples(spread), 0)
    rstd = 1 / np.sqrt(variance + eps)
    slope = rstd if weight is None else rstd * weight
    base = (k - mean) * slope
    y = pairs.affine(k, slope, base if bias is None else base + bias)
    return y, k, mean - k, rstd, mean[0].astype(F), variance[0].astype(F)


def batch_norm_gradient(g, x, weight, k, offset, rstd):
    """dL/dx, dL/dweight, dL/dbias."""
    # h = (x - k - offset) rstd, v = g weight:   dx = rstd (v - average(v) - h average(v h))
    pairs = Pairs(x, together=True)
    g = pairs.view(like(g, pairs.x))
    sum_g, sum_gx = map(added, pairs.gradient_sums(g, k))
    sum_gh = (sum_gx - offset * sum_g) * rstd
    w = 1 if weight is None else weight.astype(np.float64)
    average_v, average_vh = over_samples(w * sum_g) / pairs.count, over_samples(w * sum_gh) / pairs.count
    beta = -rstd * rstd * average_vh
    gamma = -rstd * average_v - beta * offset
    gx = pairs.gradient_affine(g, k, rstd * w, beta, gamma)
    return gx, sum_gh.sum(0).astype(F), sum_g.sum(0).astype(F)


def batch_norm_eval(x, weight, bias, mean, variance, eps):
    """x (N, C, ...) normalised with a given (C,) mean and variance."""
    rstd = 1 / np.sqrt(variance.astype(np.float64) + eps)
    slope = rstd if weight is None else rstd * weight
    return Pairs(x, together=True).affine(mean, slope, 0.0 if bias is None else bias)


def batch_norm_eval_gradient(g, x, weight, mean, variance, eps):
    """dL/dx, dL/dweight, dL/dbias of batch_norm_eval; mean and variance are constants."""
    pairs, rstd = Pairs(x, together=True), 1 / np.sqrt(variance.astype(np.float64) + eps)
    g = pairs.view(like(g, pairs.x))
    sum_g, sum_gx = map(added, pairs.gradient_sums(g, mean))
    gx = pairs.gradient_affine(g, mean, rstd if weight is None else rstd * weight, 0.0, 0.0)
    return gx, (sum_gx.sum(0) * rstd).astype(F), sum_g.sum(0).astype(F)
