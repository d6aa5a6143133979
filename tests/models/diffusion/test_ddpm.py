"""DDPM against what is known: Gaussian conditioning, the exact bound of Gaussian data, entropies of worlds."""

import math

import numpy as np
import pytest

import minigen
from minigen import nn
from minigen.data import worlds
from minigen.errors import ArgumentError, ShapeError
from minigen.models.diffusion.ddpm import DDPM, DDPMConfig, discretised_gaussian, gaussian_kl
from minigen.random import Generator

KINDS = ("epsilon", "sample", "v_prediction")


def numbers(*shape, seed=0):
    return minigen.tensor(Generator(seed).normal(shape, dtype=np.float64))


def times(*t):
    return minigen.tensor(np.array(t, np.int64))


class Exact(nn.Module):
    """The best network for a world: E[epsilon | x_t]."""

    def __init__(self, world):
        self.world = world

    def forward(self, x, t, labels=None):
        out = np.empty_like(x.numpy())
        for step in np.unique(t.numpy()):
            rows = t.numpy() == step
            a, s = (float(self.ddpm_table[i, step]) for i in (0, 1))
            out[rows] = -s * self.world.noised(a, s).score(x.numpy()[rows])
        return minigen.tensor(out)


def exact(world, **options):
    network = Exact(world)
    ddpm = DDPM(shape=world.shape, levels=None, network=network, **options).eval()
    network.ddpm_table = ddpm.table.numpy()
    return ddpm


class Constant(nn.Module):
    def __init__(self, channels=1):
        self.channels = channels

    def forward(self, x, t, labels=None):
        said = 0.0 if labels is None else labels.to(x.dtype).reshape(-1, 1, 1, 1)
        return minigen.cat([0.1 * x + said] * self.channels, 1)


# The forward process


def test_the_posterior_is_gaussian_conditioning():
    ddpm = DDPM(shape=(3,), steps=50, network=Constant())
    x, x_t = numbers(2, 3), numbers(2, 3, seed=1)
    mean, log_variance = ddpm.posterior(x, x_t, times(1, 30))
    betas = ddpm.schedule.betas
    for row, t in enumerate((1, 30)):
        alpha_bar = np.cumprod(1 - betas)
        # x_{t-1} and x_t given x_0: means, variances and covariance, written down; then condition.
        before, now, r = alpha_bar[t - 1], alpha_bar[t], math.sqrt(1 - betas[t])
        gain = r * (1 - before) / (1 - now)
        right = math.sqrt(before) * x.numpy()[row] + gain * (x_t.numpy()[row] - math.sqrt(now) * x.numpy()[row])
        np.testing.assert_allclose(mean.numpy()[row], right, rtol=1e-10)
        variance = (1 - before) - gain * r * (1 - before)
        np.testing.assert_allclose(np.exp(log_variance.numpy()[row]), variance, rtol=1e-9)
    np.testing.assert_allclose(ddpm.posterior(x, x_t, times(0, 0))[0].numpy(), x.numpy(), atol=1e-12)


def test_many_steps_are_one():
    ddpm = DDPM(shape=(1,), steps=20, network=Constant())
    g = Generator(0)
    x = walked = np.full((40_000, 1), 0.8)
    for beta in ddpm.schedule.betas:
        walked = math.sqrt(1 - beta) * walked + math.sqrt(beta) * g.normal(x.shape)
    jumped = ddpm.noised(minigen.tensor(x), times(*[19] * len(x)), minigen.tensor(g.normal(x.shape, dtype=np.float64)))
    assert abs(walked.mean() - jumped.numpy().mean()) < 0.02 and abs(walked.std() - jumped.numpy().std()) < 0.02


@pytest.mark.parametrize("given", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_predictions_convert_into_each_other(given, wanted):
    ddpm = DDPM(shape=(4,), steps=30, network=Constant())
    x, noise, t = numbers(3, 4), numbers(3, 4, seed=1), times(0, 12, 29)
    x_t = ddpm.noised(x, t, noise)
    a = np.sqrt(ddpm.schedule.alphas_bar[[0, 12, 29]])[:, None]
    s = np.sqrt(1 - ddpm.schedule.alphas_bar[[0, 12, 29]])[:, None]
    values = {"epsilon": noise, "sample": x, "v_prediction": minigen.tensor(a * noise.numpy() - s * x.numpy())}
    found = ddpm.convert(values[given], x_t, t, given, wanted)
    np.testing.assert_allclose(found.numpy(), values[wanted].numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("prediction", KINDS)
def test_the_epsilon_loss_is_the_same_whatever_is_predicted(prediction):
    class Told(nn.Module):
        def forward(self, x, t, labels=None):
            return self.ddpm.convert(0.5 * x, x, t, "epsilon", prediction)

    losses = {}
    for kind in ("epsilon", "simple", "min_snr"):
        network = Told()
        ddpm = DDPM(shape=(4,), steps=30, prediction=prediction, loss=kind, levels=None, network=network)
        object.__setattr__(network, "ddpm", ddpm)
        losses[kind] = ddpm(numbers(64, 4), generator=Generator(3)).item()
    g = Generator(3)
    x, t = numbers(64, 4), minigen.randint(0, 30, (64,), generator=g)
    noise = minigen.randn_like(x, generator=g)
    off = (0.5 * ddpm.noised(x, t, noise) - noise).numpy() ** 2
    np.testing.assert_allclose(losses["epsilon"], off.mean(), rtol=1e-9)
    ratio = ddpm.snr(t, x).numpy()
    np.testing.assert_allclose(losses["min_snr"], (off * np.minimum(ratio, 5) / ratio).mean(), rtol=1e-9)
    weight = {"epsilon": 1.0, "sample": 1 / ratio, "v_prediction": (1 + ratio) / ratio}[prediction]
    np.testing.assert_allclose(losses["simple"], (off * weight).mean(), rtol=1e-7)


# The bound


def test_the_bound_of_the_exact_denoiser_of_gaussian_data_is_the_analytic_one():
    spread = 0.6
    world = worlds.GaussianMixture([1.0], [[0.0, 0.0]], spread**2)
    ddpm = exact(world, steps=25, variance="fixed_small")
    x = minigen.tensor(world.sample(4000, Generator(0)).astype(np.float64))
    found = ddpm.bound_terms(x, generator=Generator(1)).numpy()
    alpha_bar = ddpm.schedule.alphas_bar
    left = spread**2 * (1 - alpha_bar) / (alpha_bar * spread**2 + 1 - alpha_bar)  # Var[x_0 | x_t], a number of x
    snr = alpha_bar / (1 - alpha_bar)
    right = np.append(0.5 * (snr[:-1] - snr[1:]) * left[1:], 0.0) * 2
    first = left[0] / ddpm.schedule.betas[0] + math.log(2 * math.pi * ddpm.schedule.betas[0])
    right = np.concatenate([[first], right[:-1]])
    last = alpha_bar[-1]
    prior = last * spread**2 + (1 - last) - 1 - math.log(1 - last)
    error = found.std(0) / math.sqrt(len(x))
    assert (np.abs(found.mean(0) - np.append(right, prior)) < 5 * error + 1e-9).all()
    assert found.sum(1).mean() > float(world.entropy())


@pytest.mark.parametrize("steps, most", [(30, 2.0), (300, 0.25)])
def test_the_bound_tends_to_the_entropy_from_above(steps, most):
    world = worlds.GaussianMixture.pair(distance=2.0, std=0.3)
    alpha_bar = 1 / (1 + np.exp(-np.linspace(7, -7, steps)))
    betas = tuple(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))
    ddpm = exact(world, steps=steps, schedule=betas, variance="fixed_small")
    x = world.sample(500, Generator(0)).astype(np.float64)
    excess = ddpm.bound(minigen.tensor(x), generator=Generator(1)).numpy() + world.log_prob(x)
    assert 0 < excess.mean() < most


def test_looking_at_some_steps_gives_the_whole_sum_on_average():
    ddpm = DDPM(shape=(1,), steps=20, levels=None, network=Constant())
    ddpm.bound_term = lambda x, t, labels, generator: t.to(x.dtype) ** 2  # terms that are known
    x = numbers(500, 1)
    found = ddpm.bound(x, times=3, generator=Generator(1)) - ddpm.prior_term(x)
    assert found.mean().item() == pytest.approx(sum(t**2 for t in range(20)), rel=0.01)
    assert ddpm.bound(x[:1], times=20).item() == pytest.approx((found.mean() + ddpm.prior_term(x[:1])).item(), rel=0.02)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_pieces_of_a_gaussian_add_up_to_one(levels, dtype):
    x = np.linspace(-1, 1, levels).astype(dtype)[:, None]
    mean = np.array([-1.3, -0.2, 0.0, 0.9, 2.0], dtype)
    for log_variance in (-9.0, -4.0, 1.0):
        share = discretised_gaussian(*map(minigen.tensor, (x, mean + 0 * x, np.full_like(x, log_variance))), levels)
        assert share.dtype == dtype
        np.testing.assert_allclose(np.exp(share.numpy()).sum(0), 1, atol=1e-5 if dtype == np.float32 else 1e-9)


def test_far_pieces_keep_their_digits():
    x = minigen.tensor(np.array([1.0 - 2 / 255], np.float32))
    found = discretised_gaussian(x, minigen.tensor([0.0]), minigen.tensor([-4.6]), 256).item()
    low, high = ((0.992157 + edge) / math.exp(-2.3) for edge in (-1 / 255, 1 / 255))
    right = math.log(0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))))
    assert abs(found - right) < 0.01 * abs(right)


def test_a_binary_world_is_bounded_by_its_entropy():
    world = worlds.Sprites(8, radii=(2,), places=2, flip=0.02)

    class Best(nn.Module):
        def forward(self, x, t, labels=None):
            a, s = (float(self.table[i, int(t.numpy()[0])]) for i in (0, 1))
            return minigen.tensor(2 * world.posterior_mean(x.numpy() + a, 2 * a, s) - 1).to(x.dtype)

    network = Best()
    alpha_bar = 1 / (1 + np.exp(-np.linspace(4, -7, 60)))
    betas = tuple(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))
    ddpm = DDPM(shape=world.shape, steps=60, levels=2, schedule=betas, prediction="sample", variance="fixed_small",
                network=network)  # fmt: skip
    network.table = ddpm.table.numpy()
    x = world.sample(60, Generator(0))
    excess = ddpm.bound(minigen.tensor(2 * x - 1), generator=Generator(1)).numpy() + world.log_prob(x)
    assert 0 < excess.mean() < 3
    assert abs(ddpm.bits_per_dim(64 * math.log(2)) - 1) < 1e-12


def test_the_flow_gives_the_density():
    world = worlds.GaussianMixture.pair(distance=2.0, std=0.4)

    class Smooth(nn.Module):  # the exact answer, through ops, so that it has a gradient
        def forward(self, x, t, labels=None):
            a, s = (float(self.table[i, int(t.numpy()[0])]) for i in (0, 1))
            variance = a * a * 0.16 + s * s
            return s * (x - a * minigen.tanh(a * x / variance)) / variance

    network = Smooth()
    ddpm = DDPM(shape=(1,), levels=None, network=network)
    network.table = ddpm.table.numpy()
    x = np.linspace(-2, 2, 9)[:, None]
    found = ddpm.log_prob(minigen.tensor(x), steps=200).numpy()
    first = world.noised(*(float(v) for v in network.table[:2, 0]))
    np.testing.assert_allclose(found, first.log_prob(x), atol=0.01)


def test_kl_of_equal_gaussians_is_zero():
    mean, log_variance = numbers(5), numbers(5, seed=1)
    np.testing.assert_allclose(gaussian_kl(mean, log_variance, mean, log_variance).numpy(), 0, atol=1e-15)


# Training and sampling


def test_learned_variances_lie_between_the_two_ends_and_get_their_gradient_from_the_bound_alone():
    class Learned(nn.Module):
        def __init__(self):
            self.mean, self.share = (nn.Parameter(minigen.zeros(1)) for _ in range(2))

        def forward(self, x, t, labels=None):
            return minigen.cat([self.mean + 0 * x, minigen.tanh(self.share) + 0 * x], 1)

    network = Learned()
    ddpm = DDPM(shape=(1, 2, 2), steps=20, loss="hybrid", variance="learned_range", network=network)
    x = minigen.randn(8, 1, 2, 2, generator=Generator(0)).clamp(-1, 1)
    log_variance = ddpm.predict(x, times(*range(8)))[2].detach().numpy()
    small, large = (ddpm.table.numpy()[ddpm.rows[f"fixed_{end}"]][:8] for end in ("small", "large"))
    np.testing.assert_allclose(log_variance[:, 0, 0, 0], (small + large) / 2, rtol=1e-5)
    ddpm(x, generator=Generator(1)).backward()
    hybrid = network.mean.grad.item()
    assert network.share.grad.item() != 0
    simple = DDPM(shape=(1, 2, 2), steps=20, network=lambda *given: network(*given)[:, :1])
    network.zero_grad()
    simple(x, generator=Generator(1)).backward()
    assert network.mean.grad.item() == pytest.approx(hybrid, rel=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler", "heun", "dpm_solver", "pndm"])
def test_every_sampler_draws_the_world_from_the_exact_network(sampler):
    world = worlds.GaussianMixture.pair(distance=2.0, std=0.3)

    class Float(Exact):
        def forward(self, x, t, labels=None):
            grid = np.arange(self.ddpm_table.shape[1])
            a, s = (np.interp(float(t.numpy()[0]), grid, row) for row in self.ddpm_table[:2])
            a = a / math.hypot(a, s)
            s = math.sqrt(1 - a * a)
            return minigen.tensor(-s * world.noised(a, s).score(x.numpy()).astype(np.float32))

    network = Float(world)
    ddpm = DDPM(shape=(1,), levels=None, network=network)
    network.ddpm_table = ddpm.table.numpy()
    x = ddpm.sample(3000, generator=Generator(0), sampler=sampler, steps=50)
    assert x.shape == (3000, 1) and x.dtype == minigen.float32
    assert world.wasserstein(x.numpy()) < 0.1


def test_guidance_and_labels():
    ddpm = DDPM(shape=(1, 2, 2), classes=3, steps=10, clip=False, network=Constant())
    x, t, labels = minigen.ones(2, 1, 2, 2), times(4, 5), times(0, 2)
    said = [ddpm.predict(x, t, labels, w)[1].numpy() for w in (0.0, 1.0, 3.0)]
    alone = ddpm.predict(x, t)[1].numpy()  # no label is the label 3
    np.testing.assert_allclose(said[0], alone, rtol=1e-6)
    np.testing.assert_allclose(alone[:, 0, 0, 0], [3.1, 3.1], rtol=1e-6)
    np.testing.assert_allclose(said[1][:, 0, 0, 0], [0.1, 2.1], rtol=1e-5)
    np.testing.assert_allclose(said[2], alone + 3 * (said[1] - alone), rtol=1e-5)


def test_a_share_of_the_labels_is_hidden_in_training_only():
    ddpm = DDPM(shape=(1, 2, 2), classes=3, steps=10, label_dropout=0.25, network=Constant())
    labels = minigen.zeros(4000, dtype=minigen.int64)
    hidden = ddpm._hidden(labels, 4000, Generator(0)).numpy()
    assert set(np.unique(hidden)) == {0, 3} and abs((hidden == 3).mean() - 0.25) < 0.03
    assert (ddpm.eval()._hidden(labels, 4000, Generator(0)).numpy() == 0).all()


def test_the_u_net_learns():
    minigen.manual_seed(0)
    sizes = {"channels": (8, 8), "attention": (False, True), "layers": 1, "groups": 4}
    ddpm = DDPM(DDPMConfig(shape=(1, 4, 4), classes=2, steps=20, levels=2, prediction="v_prediction", **sizes))
    g = Generator(0)
    labels = minigen.tensor(g.integers(0, 2, (64,)))
    x = minigen.tensor(
        np.where(labels.numpy() == 1, 1, -1).reshape(-1, 1, 1, 1) * np.ones((1, 1, 4, 4)), minigen.float32
    )
    optimizer = minigen.optim.Adam(ddpm.parameters(), lr=3e-3)
    before = ddpm.eval().bound(x, labels, generator=Generator(1)).mean().item()
    for _ in range(80):
        optimizer.zero_grad()
        ddpm.train()(x, labels, generator=g).backward()
        optimizer.step()
    after = ddpm.eval().bound(x, labels, generator=Generator(1)).mean().item()
    assert after < 0.6 * before
    made = ddpm.sample(8, minigen.tensor(np.arange(8) % 2), generator=g, sampler="ddim", steps=10).numpy()
    assert made.shape == (8, 1, 4, 4) and (np.sign(made.mean((1, 2, 3))) == np.where(np.arange(8) % 2, 1, -1)).all()


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="prediction is one of"):
        DDPMConfig(prediction="score")
    with pytest.raises(ArgumentError, match="learned variances are trained by"):
        DDPMConfig(variance="learned_range")
    with pytest.raises(ArgumentError, match="10 betas"):
        DDPM(shape=(1,), steps=10, schedule=(0.1, 0.2), network=Constant())
    with pytest.raises(ArgumentError, match="schedule is one of"):
        DDPM(shape=(1,), steps=10, schedule="quadratic", network=Constant())
    with pytest.raises(ArgumentError, match="give a network"):
        DDPM(shape=(2,))
    ddpm = DDPM(shape=(1, 2, 2), steps=10, network=Constant())
    with pytest.raises(ShapeError, match=r"x is \(N, 1, 2, 2\)"):
        ddpm(minigen.ones(3, 4))
    with pytest.raises(ArgumentError, match="sampler is one of"):
        ddpm.sample(2, sampler="ancestral")
    with pytest.raises(ArgumentError, match="one label for each"):
        ddpm.sample(2, times(1))
