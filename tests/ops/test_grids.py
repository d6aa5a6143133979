"""`grid_sample` and `affine_grid`: against single places read by hand, the identity, gradients."""

import itertools
from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right, kernel_equals_definition

from minigen import Tensor
from minigen.errors import ArgumentError, ShapeError
from minigen.ops.grids import affine_grid, grid_sample

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape)


def inside(p, n, padding, align):
    """A place along one dimension, brought inside."""
    if padding == "border":
        return min(max(p, 0.0), n - 1.0)
    if padding == "reflection":
        low, high = (0.0, n - 1.0) if align else (-0.5, n - 0.5)
        while high > low and not low <= p <= high:
            p = 2 * low - p if p < low else 2 * high - p
        return min(max(p, 0.0), n - 1.0)
    return p


def keys(d, a=-0.75):
    return (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)


def read(image, x, y, mode, padding, align):
    """image (H, W) at one place, in -1 to 1."""
    H, W = image.shape
    row, column = [(p + 1) / 2 * (n - 1) if align else ((p + 1) * n - 1) / 2 for p, n in ((y, H), (x, W))]
    if mode != "bicubic":
        row, column = inside(row, H, padding, align), inside(column, W, padding, align)
    if mode == "nearest":
        taps = [(int(np.rint(row)), int(np.rint(column)), 1.0)]
    else:
        reach = (-1, 0, 1, 2) if mode == "bicubic" else (0, 1)
        weigh = keys if mode == "bicubic" else lambda d: max(0.0, 1 - d)
        top, left = int(np.floor(row)), int(np.floor(column))
        taps = [
            (top + i, left + j, weigh(abs(row - top - i)) * weigh(abs(column - left - j)))
            for i, j in itertools.product(reach, reach)
        ]
    total = 0.0
    for i, j, weight in taps:
        if mode == "bicubic" and padding != "zeros":
            i, j = int(inside(float(i), H, padding, align)), int(inside(float(j), W, padding, align))
        if 0 <= i < H and 0 <= j < W:
            total += weight * image[i, j]
    return total


CHOICES = list(itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)))


@pytest.mark.parametrize("mode, padding, align", CHOICES)
def test_equals_single_places(mode, padding, align):
    image, grid = draw(2, 2, 4, 5), draw(2, 3, 2, 2) * 1.3
    y = grid_sample(Tensor(image), Tensor(grid), mode, padding, align).numpy()
    for n, c, i, j in np.ndindex(*y.shape):
        expected = read(image[n, c], *grid[n, i, j], mode, padding, align)
        np.testing.assert_allclose(y[n, c, i, j], expected, atol=1e-12)


@pytest.mark.parametrize("mode, padding, align", CHOICES)
def test_gradients(mode, padding, align):
    grid = draw(1, 3, 3, 2) * 0.9
    gradients_are_right(
        partial(grid_sample, mode=mode, padding_mode=padding, align_corners=align), draw(1, 2, 4, 5), grid
    )


@pytest.mark.parametrize("align", [False, True])
def test_the_identity_reads_the_picture_itself(align):
    for shape in [(2, 3, 4, 5), (1, 2, 3, 4, 5)]:
        x, dims = draw(*shape), len(shape) - 2
        theta = np.broadcast_to(np.eye(dims, dims + 1), (shape[0], dims, dims + 1)).copy()
        grid = affine_grid(Tensor(theta), shape, align)
        np.testing.assert_allclose(grid_sample(Tensor(x), grid, align_corners=align).numpy(), x, atol=1e-12)


def test_affine_grid_moves_and_has_gradients():
    theta = np.array([[[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]])
    grid = affine_grid(Tensor(theta), (1, 1, 3, 3), True).numpy()
    np.testing.assert_allclose(grid[0, :, :, 0], [[-0.5, 0.5, 1.5]] * 3)
    np.testing.assert_allclose(grid[0, :, :, 1], [[-2.0] * 3, [0.0] * 3, [2.0] * 3])
    gradients_are_right(lambda theta: affine_grid(theta.tanh(), (1, 1, 3, 2)), draw(1, 2, 3))


def test_float32_stays():
    image, grid = draw(2, 3, 6, 6), draw(2, 4, 4, 2)
    kernel_equals_definition(grid_sample, image, grid)
    volume, grid = draw(1, 2, 4, 4, 4), draw(1, 2, 3, 2, 3)
    kernel_equals_definition(grid_sample, volume, grid)


def test_bad_input():
    x, grid = Tensor(draw(2, 3, 4, 5)), Tensor(draw(2, 3, 2, 2))
    with pytest.raises(ShapeError, match=r"grid \(N, h, w, 2\)"):
        grid_sample(x, grid[:1])
    with pytest.raises(ArgumentError, match="mode is one of"):
        grid_sample(x, grid, "linear")
    with pytest.raises(ArgumentError, match="padding_mode is one of"):
        grid_sample(x, grid, padding_mode="wrap")
    with pytest.raises(ShapeError, match=r"theta \(N, 2, 3\)"):
        affine_grid(Tensor(draw(1, 3, 3)), (1, 1, 4, 4))
