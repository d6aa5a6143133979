"""Dequantisation: the noise fills the level, the bound is a bound, and nothing is won by noise of half the width."""

import math

import numpy as np
import pytest
from exactly import check, noise, shaken

import minigen
from minigen.errors import ArgumentError, ShapeError
from minigen.metrics.likelihood import dequantisation_constant
from minigen.models.flow.bijection import Composition
from minigen.models.flow.dequantize import Logit, UniformDequantization, VariationalDequantization
from minigen.models.flow.glow import Glow
from minigen.models.flow.nice import NICE
from minigen.random import Generator


def whole_numbers(n, levels, *shape):
    return minigen.tensor(Generator(0).integers(0, levels, (n, *shape)).astype(np.float32))


@pytest.mark.parametrize("levels, alpha", [(17, 0.05), (256, 1e-3), (1, 0.0)])
def test_logit(levels, alpha):
    inside = minigen.tensor(levels * Generator(0).uniform((3, 1, 2, 2)).astype(np.float64))
    logit = Logit(levels, alpha)
    z, log_det = logit(inside)
    back, log_det_back = logit.inverse(z)
    np.testing.assert_allclose(back.numpy(), inside.numpy(), atol=1e-10)
    np.testing.assert_allclose(log_det_back.numpy(), -log_det.numpy(), atol=1e-10)
    slope = (logit(inside + 1e-6)[0] - logit(inside - 1e-6)[0]).numpy() / 2e-6
    np.testing.assert_allclose(log_det.numpy(), np.log(slope).reshape(3, -1).sum(1), atol=1e-4)
    if alpha:
        ends = logit(minigen.tensor([[0.0, float(levels)]]))[0].numpy()
        np.testing.assert_allclose(ends, math.log(1 / alpha - 1) * np.array([[-1, 1]]), rtol=1e-4)


def test_uniform_noise_fills_the_level_and_costs_nothing():
    x = whole_numbers(2000, 3, 1, 2, 2)
    v, log_q = UniformDequantization()(x, Generator(1))
    u = (v - x).numpy()
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.02 and abs(u.var() - 1 / 12) < 0.005
    assert (log_q.numpy() == 0).all()


def test_variational_noise_starts_uniform_and_keeps_its_own_density():
    x = whole_numbers(400, 5, 1, 4, 4)
    dequantizer = VariationalDequantization((1, 4, 4), 5, hidden=8, couplings=2)
    with minigen.no_grad():
        v, log_q = dequantizer(x, Generator(1))
    u = (v - x).numpy()
    assert u.min() >= 0 and u.max() <= 1 and abs(u.mean() - 0.5) < 0.02
    np.testing.assert_allclose(log_q.numpy(), 0, atol=1e-4)
    shaken(dequantizer, 0.025)
    with minigen.no_grad():
        draws = [dequantizer(x.double(), Generator(i)) for i in range(40)]
    u = np.stack([(v - x.double()).numpy() for v, _ in draws])
    assert u.min() >= 0 and u.max() <= 1
    # E_q[1 / q(u)] is the volume of the cube that u fills, which is 1.
    log_q = np.stack([log_q.numpy() for _, log_q in draws])
    assert log_q.std() > 0.1 and abs(np.exp(-log_q).mean() - 1) < 0.1


def test_the_flow_of_the_noise_is_exact():
    dequantizer = shaken(VariationalDequantization((1, 2, 2), 5, hidden=4, couplings=2), 0.2)
    couplings = Composition(*list(dequantizer.flow.layers)[:-1])  # the sigmoid is tested above
    check(couplings, noise(2, 1, 2, 2), noise(2, 4, 2, 2, seed=3))


def enumerated(levels, pixels):
    grids = np.meshgrid(*[np.arange(levels, dtype=np.float64)] * pixels, indexing="ij")
    return minigen.tensor(np.stack(grids, -1).reshape(-1, pixels))


@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_it_bounds_a_probability_of_whole_numbers(dequantization):
    """Many draws give probabilities that add up to (at most) 1; a single draw's mean lies below their logarithm."""
    levels = 3
    model = shaken(
        Glow(shape=(1, 2, 2), levels=levels, scales=1, steps=2, hidden=6, dequantization=dequantization,
             noise_hidden=4, noise_couplings=2), 0.2
    )  # fmt: skip
    x = enumerated(levels, 4).reshape(-1, 1, 2, 2)
    g = Generator(0)
    with minigen.no_grad():
        one = np.mean([model.log_prob(x, generator=g).numpy() for _ in range(30)], 0)
        tight = model.bound(x, k=600, generator=g).numpy()
        z = model.base.sample(200_000, generator=g)
        inside = ((v := model.decode(z).numpy().reshape(-1, 4)) >= 0).all(1) & (v < levels).all(1)
    assert abs(np.exp(tight).sum() - inside.mean()) < 0.02
    assert one.mean() < tight.mean() - 0.01


def test_half_the_width_reports_what_no_model_can_reach():
    """A density that knows the trick: on x + u/2 it is 1/width of the probability, and the constant takes it back."""
    levels, pixels, g = 4, 6, Generator(0)
    p = np.full(levels, 1 / levels)
    x = g.integers(0, levels, (1000, pixels))
    honest = -np.log(p[x]).sum(1).mean()
    reported = -np.log(p[x] / 0.5).sum(1).mean()
    assert reported < honest - 4
    assert abs(reported + dequantisation_constant(pixels, noise=0.5) - honest) < 1e-9


def test_samples_are_whole_numbers_and_z_interpolates():
    model = NICE(shape=(1, 4, 4), levels=17, hidden=(8,)).eval()
    x = model.sample(50, generator=Generator(0))
    assert x.shape == (50, 1, 4, 4) and set(np.unique(x.numpy())) <= set(range(17))
    with minigen.no_grad():
        z, _ = model.encode(x + 0.5)
        np.testing.assert_array_equal(model.quantize(model.decode(z)).numpy(), x.numpy())


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="alpha"):
        Logit(17, 0.5)
    with pytest.raises(ShapeError, match=r"shape is \(C, H, W\)"):
        VariationalDequantization((64,), 17)
