"""The VAE against what is known about it."""

import math

import numpy as np
import pytest

import minigen
from minigen.errors import ArgumentError, ShapeError
from minigen.models.latent.vae import VAE, VAEConfig, kl_to_standard
from minigen.random import Generator

LEVELS = 5


def images(likelihood, n=6):
    g = Generator(0)
    x = {
        "bernoulli": lambda: g.bernoulli(0.4, (n, 1, 4, 4)),
        "categorical": lambda: g.integers(0, LEVELS, (n, 1, 4, 4)),
        "gaussian": lambda: g.normal((n, 1, 4, 4)),
    }[likelihood]()
    return minigen.tensor(x.astype(np.float32))


def small(likelihood, **sizes):
    minigen.manual_seed(0)
    return VAE(shape=(1, 4, 4), latent=2, hidden=(8,), likelihood=likelihood, levels=LEVELS, **sizes)


def exact_log_prob(vae, x, n=161):
    """log p(x) by the trapezoid rule over both causes."""
    line = np.linspace(-6, 6, n)
    z = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2).astype(np.float32)
    with minigen.no_grad():
        rows = [
            vae.log_likelihood(x[i : i + 1].expand(len(z), 1, 4, 4), minigen.tensor(z)).numpy() for i in range(len(x))
        ]
    log_joint = np.stack(rows).astype(np.float64) - 0.5 * (z**2).sum(1) - math.log(2 * math.pi)
    return np.log(np.exp(log_joint).sum(1)) + 2 * math.log(line[1] - line[0])


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_the_bounds_are_in_order_and_tend_to_the_likelihood(likelihood):
    vae, x = small(likelihood).eval(), images(likelihood)
    exact = exact_log_prob(vae, x)
    g = Generator(1)
    with minigen.no_grad():
        elbo = np.mean([vae.elbo(x, g)[0].numpy() for _ in range(500)], axis=0)
        five = np.mean([vae.iwae(x, 5, g).numpy() for _ in range(200)], axis=0)
        many = vae.iwae(x, 5000, g).numpy()
    assert elbo.mean() < five.mean() < exact.mean() + 0.01
    np.testing.assert_allclose(many, exact, atol=0.05)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_probabilities_of_all_pictures_add_up_to_one(likelihood):
    vae = VAE(shape=(2,), latent=2, hidden=(8,), likelihood=likelihood, levels=2)
    z = minigen.randn(1, 2, generator=Generator(0))
    pictures = [[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)]
    with minigen.no_grad():
        total = sum(vae.log_likelihood(minigen.tensor([p]), z).exp().item() for p in pictures)
    assert abs(total - 1) < 1e-5


def test_the_gaussian_likelihood_is_a_density_with_a_learned_variance():
    vae, x = small("gaussian"), images("gaussian")
    with minigen.no_grad():
        vae.log_variance.fill_(math.log(0.3))
        z = minigen.randn(6, 2, generator=Generator(0))
        off = (x - vae.decode(z)).numpy().reshape(6, -1)
        right = (-0.5 * off**2 / 0.3 - 0.5 * math.log(2 * math.pi * 0.3)).sum(1)
        np.testing.assert_allclose(vae.log_likelihood(x, z).numpy(), right, rtol=1e-4)
    vae(x).backward()
    assert vae.log_variance.grad is not None


def test_elbo_is_reconstruction_minus_kl_and_the_loss_its_mean():
    vae, x = small("bernoulli").eval(), images("bernoulli")
    elbo, reconstruction, kl = vae.elbo(x, Generator(3))
    np.testing.assert_allclose(elbo.detach().numpy(), (reconstruction - kl).detach().numpy(), rtol=1e-6)
    assert abs(vae(x, Generator(3)).item() + elbo.mean().item()) < 1e-4
    mu, log_var = vae.encode(x)
    np.testing.assert_allclose(kl_to_standard(mu, log_var).sum(1).detach().numpy(), kl.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_samples_are_of_the_right_kind_and_have_the_models_mean(likelihood):
    vae, g = small(likelihood).eval(), Generator(2)
    x = vae.sample(4000, g)
    assert x.shape == (4000, 1, 4, 4) and x.dtype == minigen.float32 and not x.requires_grad
    if likelihood != "gaussian":
        assert set(np.unique(x.numpy())) <= set(range(2 if likelihood == "bernoulli" else LEVELS))
    with minigen.no_grad():
        mean = vae.mean(vae.decode(minigen.randn(4000, 2, generator=g))).numpy().mean(0)
    np.testing.assert_allclose(x.numpy().mean(0), mean, atol=0.15)
    assert vae.reconstruct(images(likelihood)).shape == (6, 1, 4, 4)


def test_it_learns_and_says_which_causes_carry_nats():
    g = Generator(0)
    cause = g.bernoulli(0.5, (400, 1, 1, 1))
    x = minigen.tensor((cause ^ g.bernoulli(0.05, (400, 1, 4, 4))).astype(np.float32))
    vae = VAE(shape=(1, 4, 4), latent=3, hidden=(16,))
    optimizer = minigen.optim.Adam(vae.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = vae(x, g)
        loss.backward()
        optimizer.step()
    kl, active = vae.kl_per_unit(x)
    assert loss.item() < 5.5  # log 2 + 16 H(0.05) = 3.9; independent pixels 11.1
    assert active.numpy().any() and kl.sum().item() > 0.5


def test_own_encoder_and_decoder_and_two_hidden_layers():
    nn = minigen.nn
    vae = VAE(
        VAEConfig(shape=(1, 8, 8), latent=4),
        encoder=nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8)),
        decoder=nn.Sequential(nn.Linear(4, 64)),
    )
    assert math.isfinite(vae(minigen.ones(2, 1, 8, 8)).item())
    deep = VAE(shape=(1, 8, 8), latent=4, hidden=(32, 16))
    assert [p.shape for p in deep.decoder.parameters() if p.ndim == 2] == [(16, 4), (32, 16), (64, 32)]


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="likelihood"):
        VAEConfig(likelihood="mse")
    with pytest.raises(ArgumentError, match="activation"):
        VAEConfig(activation="relu6")
    with pytest.raises(ShapeError, match=r"x is \(N, 1, 4, 4\)"):
        small("bernoulli")(minigen.ones(2, 16))
