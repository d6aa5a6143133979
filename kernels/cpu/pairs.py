"""The loops that batch, group and instance norm share, over the (sample, channel) pairs of a picture.

They differ only in which pairs share a mean and a variance. So there are four loops that work on each pair alone, and
a little float64 algebra on (N, C) arrays between them (norms.py, group_norm.py):

    sums                Σ(x - k), Σ(x - k)**2 of each pair     forward: mean and variance
    affine              y = (x - k) a + b                      forward
    gradient_sums       Σg, Σg (x - k) of each pair            gradient: of weight, bias, mean, variance
    gradient_affine     dx = α g + β (x - k) + γ               gradient

and where an activation f comes behind the norm, y = f((x - k) a + b), `affine` applies it, and gradient_sums becomes

    inner_gradient      d = f'((x - k) a + b) g, Σd, Σd (x - k)

each in two forms, for NCHW memory (a pair is a row) and for channels-last memory (a pair is a column).

k is a number near the pair's mean (its first element, or its mean in float32). Sums of x itself would lose
every digit where the mean is large beside the spread; x - k is exact. Rows are cut into chunks by the shape
alone, and the chunks' sums are added in order, so any number of threads gives the same bits.

Columns are summed eight rows at a time, and mapped four at a time: what belongs to a column (a sum, a slope) is loaded
and stored once for all of them. Microseconds on one core (Zen 5, AVX-512) for 16 x 1024 rows of 64 numbers, one row at
a time -> these: sums 105 -> 54, gradient_sums 139 -> 117, affine 118 -> 104, gradient_affine 151 -> 129. Where the rows
are still in the cache from the pass before it is more: a group norm took 267 + 367, now 135 + 260.
"""

from functools import cache

import numpy as np
from numba import prange

from .compile import choose, inline, inline_sums, kernel
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
    n = x.shape[0]
    for i in range(0, n - 7, 8):
        a, b, c, d, e, f, g, h = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(one.size):
            k = shift[j]
            p, q, r, s, t, u, v, w = a[j] - k, b[j] - k, c[j] - k, d[j] - k, e[j] - k, f[j] - k, g[j] - k, h[j] - k
            one[j] += ((p + q) + (r + s)) + ((t + u) + (v + w))
            two[j] += (fma(p, p, q * q) + fma(r, r, s * s)) + (fma(t, t, u * u) + fma(v, v, w * w))
    for i in range(n // 8 * 8, n):
        a = x[i]
        for j in range(one.size):
            p = a[j] - shift[j]
            one[j] += p
            two[j] = fma(p, p, two[j])


@inline_sums
def part_affine(x, shift, slope, base, y, f):
    n = x.shape[0]
    for i in range(0, n - 3, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        p, q, r, s = y[i], y[i + 1], y[i + 2], y[i + 3]
        for j in range(shift.size):
            k, m, z = shift[j], slope[j], base[j]
            p[j] = f(affine(a[j], k, m, z), ZERO, ZERO)
            q[j] = f(affine(b[j], k, m, z), ZERO, ZERO)
            r[j] = f(affine(c[j], k, m, z), ZERO, ZERO)
            s[j] = f(affine(d[j], k, m, z), ZERO, ZERO)
    for i in range(n // 4 * 4, n):
        a, p = x[i], y[i]
        for j in range(shift.size):
            p[j] = f(affine(a[j], shift[j], slope[j], base[j]), ZERO, ZERO)


@inline_sums
def part_gradient_sums(g, x, shift, one, two):
    one[:] = 0
    two[:] = 0
    n = x.shape[0]
    for i in range(0, n - 3, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        p, q, r, s = g[i], g[i + 1], g[i + 2], g[i + 3]
        for j in range(one.size):
            k, t, u, v, w = shift[j], p[j], q[j], r[j], s[j]
            one[j] += (t + u) + (v + w)
            two[j] += fma(t, a[j] - k, u * (b[j] - k)) + fma(v, c[j] - k, w * (d[j] - k))
    for i in range(n // 4 * 4, n):
        a, p = x[i], g[i]
        for j in range(one.size):
            one[j] += p[j]
            two[j] = fma(p[j], a[j] - shift[j], two[j])


@inline_sums
def part_inner_gradient(g, x, shift, slope, base, d, one, two, f):
    one[:] = 0
    two[:] = 0
    n = x.shape[0]
    for i in range(0, n - 1, 2):
        a, b, p, q, r, s = x[i], x[i + 1], g[i], g[i + 1], d[i], d[i + 1]
        for j in range(one.size):
            k, m, z = shift[j], slope[j], base[j]
            t = f(p[j], affine(a[j], k, m, z), ZERO, ZERO)
            u = f(q[j], affine(b[j], k, m, z), ZERO, ZERO)
            r[j], s[j] = t, u
            one[j] += t + u
            two[j] += fma(t, a[j] - k, u * (b[j] - k))
    for i in range(n // 2 * 2, n):
        a, p, r = x[i], g[i], d[i]
        for j in range(one.size):
            t = f(p[j], affine(a[j], shift[j], slope[j], base[j]), ZERO, ZERO)
            r[j] = t
            one[j] += t
            two[j] = fma(t, a[j] - shift[j], two[j])


@inline_sums
def part_gradient_affine(g, x, shift, alpha, beta, gamma, gx):
    n = x.shape[0]
    for i in range(0, n - 3, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        p, q, r, s = g[i], g[i + 1], g[i + 2], g[i + 3]
        t, u, v, w = gx[i], gx[i + 1], gx[i + 2], gx[i + 3]
        for j in range(shift.size):
            k, l, m, z = shift[j], alpha[j], beta[j], gamma[j]
            t[j] = gradient(p[j], a[j], k, l, m, z)
            u[j] = gradient(q[j], b[j], k, l, m, z)
            v[j] = gradient(r[j], c[j], k, l, m, z)
            w[j] = gradient(s[j], d[j], k, l, m, z)
    for i in range(n // 4 * 4, n):
        a, p, t = x[i], g[i], gx[i]
        for j in range(shift.size):
            t[j] = gradient(p[j], a[j], shift[j], alpha[j], beta[j], gamma[j])


@inline_sums
def part_gradient_affine_over(d, x, shift, alpha, beta, gamma):
    """The same of d, written over d. (Of an array that is given twice the compiler makes no vectors.)"""
    n = x.shape[0]
    for i in range(0, n - 3, 4):
        a, b, c, e = x[i], x[i + 1], x[i + 2], x[i + 3]
        p, q, r, s = d[i], d[i + 1], d[i + 2], d[i + 3]
        for j in range(shift.size):
            k, l, m, z = shift[j], alpha[j], beta[j], gamma[j]
            p[j] = gradient(p[j], a[j], k, l, m, z)
            q[j] = gradient(q[j], b[j], k, l, m, z)
            r[j] = gradient(r[j], c[j], k, l, m, z)
            s[j] = gradient(s[j], e[j], k, l, m, z)
    for i in range(n // 4 * 4, n):
        a, p = x[i], d[i]
        for j in range(shift.size):
            p[j] = gradient(p[j], a[j], shift[j], alpha[j], beta[j], gamma[j])


# ---- the loops, over rows (NCHW) and over columns (channels-last) ----


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
