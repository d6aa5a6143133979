"""NICE, RealNVP and Glow whole: exact inverses, densities that integrate to 1, classes, and learning."""

import math

import numpy as np
import pytest
from exactly import check, noise, shaken

import minigen
from minigen.data import worlds
from minigen.errors import ArgumentError, ShapeError
from minigen.models.flow.base import ClassNormal, StandardLogistic, StandardNormal
from minigen.models.flow.glow import Glow, GlowConfig
from minigen.models.flow.masked_autoregressive import MAF
from minigen.models.flow.nice import NICE, NICEConfig
from minigen.models.flow.realnvp import RealNVP, RealNVPConfig
from minigen.random import Generator

PICTURES = {
    "nice": lambda shape, **kw: NICE(shape=shape, hidden=(8,), couplings=2, **kw),
    "realnvp": lambda shape, **kw: RealNVP(shape=shape, hidden=6, blocks=1, couplings=2, **kw),
    "realnvp, actnorm, one scale": lambda shape, **kw: RealNVP(
        shape=shape, hidden=6, blocks=1, couplings=2, scales=1, norm="act", **kw
    ),
    "glow": lambda shape, **kw: Glow(shape=shape, hidden=6, steps=2, scales=2, **kw),
    "glow, plain additive": lambda shape, **kw: Glow(
        shape=shape, hidden=6, steps=1, scales=1, mix="plain", coupling="additive", **kw
    ),
    "glow, shuffled": lambda shape, **kw: Glow(
        shape=shape, hidden=6, steps=2, scales=1, mix="shuffle", scale="tanh", **kw
    ),
    "glow, reversed": lambda shape, **kw: Glow(
        shape=shape, hidden=6, steps=2, scales=1, mix="reverse", scale="exp", **kw
    ),
}
PLANE = {
    "nice": lambda **kw: NICE(shape=(2,), hidden=(16,), base="normal", **kw),
    "nice, logistic": lambda **kw: NICE(shape=(2,), hidden=(16,), **kw),
    "realnvp": lambda **kw: RealNVP(shape=(2,), couplings=4, hidden=16, blocks=2, norm="none", **kw),
    "glow": lambda **kw: Glow(shape=(2,), steps=3, hidden=16, **kw),
    "maf": lambda **kw: MAF(shape=(2,), layers=3, hidden=(16,), norm="act", **kw),
}


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 8, 4)])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_go_there_and_back(name, shape):
    model = shaken(PICTURES[name](shape), size=0.1)
    check(model.bijection, noise(2, *shape))
    z, log_det = model.encode(noise(2, *shape))
    assert z.shape == (2, math.prod(shape))
    np.testing.assert_allclose(
        (model.base.log_prob(z) + log_det).detach().numpy(), model.log_prob(noise(2, *shape)).detach().numpy()
    )


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", PLANE)
def test_densities_integrate_to_one(name, classes):
    if classes and "logistic" in name:
        pytest.skip("a logistic base knows no classes")
    model = shaken(PLANE[name](classes=classes), size=0.2)
    reach, side = (60, 600) if "logistic" in name else (14, 400)
    line = np.linspace(-reach, reach, side)
    grid = minigen.tensor(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2))
    for label in range(classes or 1):
        labels = np.full(len(grid), label) if classes else None
        with minigen.no_grad():
            total = np.exp(model.log_prob(grid, labels).numpy()).sum() * (line[1] - line[0]) ** 2
        assert abs(total - 1) < 2e-3


@pytest.mark.parametrize("name", ["realnvp", "glow", "maf"])
def test_it_learns_a_world_and_samples_it(name):
    world = worlds.GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 1.0]], [[0.3, 0.1], [0.1, 0.5]])
    g = Generator(0)
    model = PLANE[name]()
    optimizer = minigen.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        loss = model(minigen.tensor(world.sample(100, g)))
        loss.backward()
        optimizer.step()
    model.eval()
    x = world.sample(4000, g)
    with minigen.no_grad():
        kl = world.divergence(x, model.log_prob(minigen.tensor(x)).numpy())
    assert 0 < float(kl) < 0.35  # a single Gaussian is at 0.56
    drawn = model.sample(4000, generator=g).numpy()
    assert drawn.dtype == np.float32 and world.sliced_wasserstein(drawn) < 0.25
    cold = model.sample(4000, temperature=0.1, generator=g).numpy()
    assert cold.std(0).sum() < 0.8 * drawn.std(0).sum()


def test_the_training_loss_is_minus_the_mean_log_density():
    model, x = PLANE["realnvp"]().eval(), minigen.randn(20, 2)
    assert abs(model(x).item() + model.log_prob(x).mean().item()) < 1e-6
    np.testing.assert_array_equal(model.log_prob(x).detach().numpy(), model.log_density(x).detach().numpy())


@pytest.mark.parametrize("base", [StandardNormal(3), StandardLogistic(3), ClassNormal(3, 2, top=2)])
def test_bases_have_the_density_that_they_sample(base):
    g, n = Generator(0), 40_000
    with minigen.no_grad():
        for p in base.parameters():
            p.add_(0.5 * minigen.randn_like(p, generator=g))
    labels = np.ones(n, np.int64)
    z = base.sample(n, labels, generator=g)
    with minigen.no_grad():
        entropy = -base.log_prob(z, labels).numpy().mean()
    if isinstance(base, StandardLogistic):
        assert abs(entropy - 6.0) < 0.05  # 2 nats a dimension
        assert abs(z.numpy().std() - math.pi / math.sqrt(3)) < 0.02
        return
    gaussian = 1.5 * (1 + math.log(2 * math.pi))
    if isinstance(base, ClassNormal):
        gaussian += base.log_std[1].sum().item()
        np.testing.assert_allclose(z.numpy().mean(0)[:2], base.mean[1].detach().numpy(), atol=0.05)
        assert abs(z.numpy()[:, 2].std() - 1) < 0.02
    assert abs(entropy - gaussian) < 0.03
    half = base.sample(n, labels, temperature=0.5, generator=g)
    np.testing.assert_allclose(half.numpy().std(0), 0.5 * z.numpy().std(0), rtol=0.03)


def test_glow_tells_the_class_to_what_stays_to_the_end():
    config = GlowConfig(shape=(1, 8, 8), scales=3, steps=1, hidden=4, classes=2)
    assert config.top == 16  # 64, of which half leave, and half of the rest
    model = Glow(config)
    assert model.base.mean.shape == (2, 16)
    x = minigen.randn(4, 1, 8, 8)
    model(x, [0, 1, 0, 1]).backward()
    assert (model.base.mean.grad.numpy() != 0).any()
    assert model.sample(2, [0, 1]).shape == (2, 1, 8, 8)


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="multiples of 8"):
        Glow(shape=(1, 12, 12), scales=3)
    with pytest.raises(ArgumentError, match="mix is one of"):
        GlowConfig(mix="qr")
    with pytest.raises(ArgumentError, match="norm is one of"):
        RealNVPConfig(norm="layer")
    with pytest.raises(ArgumentError, match="classes need"):
        NICEConfig(classes=10)
    with pytest.raises(ArgumentError, match="dequantization is one of"):
        NICEConfig(levels=17, dequantization="half")
    with pytest.raises(ArgumentError, match="alpha"):
        NICEConfig(levels=17, alpha=0.0)
    with pytest.raises(ShapeError, match=r"RealNVP: x is \(N, 2\)"):
        PLANE["realnvp"]()(minigen.ones(3, 4))
    with pytest.raises(ArgumentError, match="needs the labels"):
        PLANE["realnvp"](classes=3)(minigen.ones(3, 2))
    with pytest.raises(ShapeError, match="one for each sample"):
        PLANE["realnvp"](classes=3)(minigen.ones(3, 2), [0, 1])
    with pytest.raises(ArgumentError, match="even number"):
        Glow(shape=(3,))


@pytest.mark.parametrize("name", ["nice", "realnvp", "glow", "glow, shuffled"])
def test_saved_and_read_back(name, tmp_path):
    model = PICTURES[name]((1, 4, 4), levels=5)
    x = minigen.tensor(Generator(0).integers(0, 5, (4, 1, 4, 4)).astype(np.float32))
    model(x)  # an actnorm has its first batch
    model.eval().save_pretrained(tmp_path / "flow")
    again = type(model).from_pretrained(tmp_path / "flow")
    assert again.config == model.config
    np.testing.assert_array_equal(
        again.log_density(x + 0.5).detach().numpy(), model.log_density(x + 0.5).detach().numpy()
    )
