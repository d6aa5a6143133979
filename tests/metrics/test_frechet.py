"""Frechet and kernel distances against closed forms and recorded values."""

import numpy as np
import pytest

import minigen
from minigen.errors import ShapeError
from minigen.metrics.frechet import frechet_distance, gaussian_distance, kernel_distance, moments, root
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


def spd(n, seed):
    a = numbers(n, n, seed=seed)
    return a @ a.T


def test_gaussians_on_a_line():
    assert gaussian_distance([1.0], [[4.0]], [-2.0], [[0.25]]) == pytest.approx(9 + (2 - 0.5) ** 2)


def test_covariances_that_commute():
    """|m1 - m2|^2 and the distance of the roots: sum (sqrt a_i - sqrt b_i)^2."""
    a, b = np.array([4.0, 1.0, 0.0]), np.array([1.0, 9.0, 0.0])
    turn = np.linalg.qr(numbers(3, 3))[0]
    found = gaussian_distance(np.zeros(3), turn * a @ turn.T, np.ones(3), turn * b @ turn.T)
    assert found == pytest.approx(3 + 1 + 4)


def test_it_is_the_least_cost_of_the_linear_map_between_the_two():
    """Independent of the formula: T = C1^-1/2 (C1^1/2 C2 C1^1/2)^1/2 C1^-1/2 carries one onto the other."""
    c1, c2 = spd(4, 1), spd(4, 2)
    r = root(c1)
    back = np.linalg.inv(r)
    transport = back @ root(r @ c2 @ r) @ back
    np.testing.assert_allclose(transport @ c1 @ transport, c2, rtol=1e-8, atol=1e-8)
    off = transport - np.eye(4)
    cost = np.trace(off @ c1 @ off.T)  # E|Tx - x|^2
    assert gaussian_distance(np.zeros(4), c1, np.zeros(4), c2) == pytest.approx(cost, rel=1e-8)


def test_symmetric_zero_for_equal_and_never_negative_without_full_rank():
    a, b = numbers(20, 30), numbers(25, 30, seed=1)  # fewer vectors than dimensions: singular covariances
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert abs(frechet_distance(a, a)) < 1e-9
    assert abs(frechet_distance(a, a[::-1])) < 1e-9


def test_its_bias_falls_with_the_sample_and_float32_tensors_are_taken():
    g = Generator(0)
    few, many = (frechet_distance(g.normal((n, 8)), g.normal((n, 8))) for n in (100, 3000))
    assert few > 5 * many > 0
    x = minigen.randn(50, 8, generator=g)
    assert frechet_distance(x, x + 1) == pytest.approx(8, rel=1e-5)


def test_one_feature():
    x = numbers(100, 1)
    assert moments(x)[1] == pytest.approx(x.var(ddof=1))


def test_the_kernel_distance_has_no_bias():
    g = Generator(0)
    same = [kernel_distance(g.normal((40, 3)), g.normal((60, 3))) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)
    apart = [kernel_distance(g.normal((40, 3)), g.normal((60, 3)) + 1) for _ in range(20)]
    assert min(apart) > max(same)


def test_the_kernel_distance_of_few_vectors_by_hand():
    """Of {0, 1} and {0, 2} in one dimension, k = (xy + 1)^3: 1 + 1 - 2 (1 + 1 + 1 + 27) / 4."""
    assert kernel_distance([[0.0], [1.0]], [[0.0], [2.0]]) == pytest.approx(2 - 2 * 30 / 4)


def test_mistakes_are_answered():
    with pytest.raises(ShapeError, match=r"features are \(N, D\)"):
        frechet_distance(np.zeros((3, 2, 2)), np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="two means"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ShapeError, match="kernel_distance"):
        kernel_distance(np.zeros((1, 2)), np.zeros((3, 2)))
