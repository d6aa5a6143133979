"""Small changes to pictures that do not change what they show: more data for nothing.

x = random_affine(images, generator)        # each turned, scaled, slanted and moved a little, differently
"""

import numpy as np

from .. import random
from ..errors import ShapeError, expect
from .arrays import as_numpy


def random_affine(images, generator=None, *, turn=10.0, scale=0.1, slant=0.2, shift=0.06):
    """Each picture under its own random affine map: (N, C, H, W) -> the same shape, float32, a NumPy array.

    turn    degrees, to either side;     scale   the size changes by up to a factor e^scale
    slant   sideways per unit of height; shift   in widths of the picture, in both directions

    Pixels are read between the old ones by bilinear interpolation; outside the picture is 0.
    """
    images = as_numpy(images, np.float32)
    expect(images.ndim == 4, "random_affine: images are (N, C, H, W)", images, error=ShapeError)
    n, _, height, width = images.shape
    u = (generator or random.default_generator).uniform((5, n), -1.0, 1.0)
    angle, size, lean = np.deg2rad(turn) * u[0], np.exp(scale * u[1]), slant * u[2]
    row, column = np.meshgrid(
        np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij"
    )  # from the middle
    cos, sin = (size * np.cos(angle))[:, None, None], (size * np.sin(angle))[:, None, None]
    x = cos * column - sin * row + lean[:, None, None] * row + (shift * width * u[3])[:, None, None]
    y = sin * column + cos * row + (shift * height * u[4])[:, None, None]
    return bilinear(images, y + (height - 1) / 2, x + (width - 1) / 2)


def bilinear(images, y, x):
    """The pictures (N, C, H, W) read at rows y and columns x, each (N, h, w); 0 outside: (N, C, h, w)."""
    n, _, height, width = images.shape
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y, x = np.clip(y + 1, 0, height + 1), np.clip(x + 1, 0, width + 1)
    top, left = np.minimum(y.astype(int), height), np.minimum(x.astype(int), width)
    down, right = (y - top)[:, None].astype(np.float32), (x - left)[:, None].astype(np.float32)
    which = np.arange(n)[:, None, None]
    pixel = lambda i, j: framed[which, :, i, j].transpose(0, 3, 1, 2)
    above = pixel(top, left) * (1 - right) + pixel(top, left + 1) * right
    below = pixel(top + 1, left) * (1 - right) + pixel(top + 1, left + 1) * right
    return above * (1 - down) + below * down
