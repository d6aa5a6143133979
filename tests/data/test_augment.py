"""Random affine maps of pictures."""

import numpy as np
import pytest

from minigen.data.augment import bilinear, random_affine
from minigen.errors import ShapeError
from minigen.random import Generator


def pictures(n=5):
    return Generator(0).uniform((n, 2, 7, 9))


def test_nothing_asked_is_nothing_changed():
    x = pictures()
    np.testing.assert_allclose(random_affine(x, Generator(1), turn=0, scale=0, slant=0, shift=0), x, atol=1e-6)


def test_a_quarter_turn_is_rot90():
    x = pictures()[..., :7]
    line = np.arange(7.0)
    row, column = (np.broadcast_to(a, (5, 7, 7)) for a in np.meshgrid(line, line, indexing="ij"))
    np.testing.assert_allclose(bilinear(x, column, 6 - row), np.rot90(x, axes=(2, 3)), atol=1e-6)


def test_halfway_between_pixels_is_their_mean():
    x = pictures()
    row, column = (
        np.broadcast_to(a, (5, 7, 8)) for a in np.meshgrid(np.arange(7.0), np.arange(8) + 0.5, indexing="ij")
    )
    np.testing.assert_allclose(bilinear(x, row, column), (x[..., 1:] + x[..., :-1]) / 2, atol=1e-6)


def test_outside_is_zero():
    x = np.ones((1, 1, 4, 4), np.float32)
    far = np.full((1, 2, 2), 9.0)
    assert (bilinear(x, far, far) == 0).all() and (bilinear(x, -far, far) == 0).all()


def test_the_same_seed_gives_the_same_pictures_and_each_moves_differently():
    x = np.repeat(pictures(1), 4, 0)
    one, two = random_affine(x, Generator(3)), random_affine(x, Generator(3))
    assert (one == two).all() and one.dtype == np.float32
    assert not np.allclose(one[0], one[1])


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="N, C, H, W"):
        random_affine(np.ones((3, 8, 8)))
