"""Noise schedules against their formulas, and against Bayes' rule."""

import math

import numpy as np
import pytest

import minigen
from minigen.errors import ArgumentError
from minigen.random import Generator
from minigen.sampling.diffusion import NoiseSchedule, schedule_from_config

ALL = ("linear", "scaled_linear", "cosine", "sigmoid", "laplace", "exp")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("T", [1, 7, 1000])
def test_every_schedule_drowns_the_picture_step_by_step(name, T):
    schedule = getattr(NoiseSchedule, name)(T)
    assert len(schedule) == T and schedule.betas.dtype == np.float32
    assert (np.diff(schedule.alphas_bar) < 0).all() and 0 < schedule.alphas_bar[-1] < 1
    np.testing.assert_allclose(schedule.alphas_bar, np.cumprod(1.0 - schedule.betas), rtol=1e-4)


def test_the_cosine_schedule_is_its_formula():
    s = NoiseSchedule.cosine(100, dtype=minigen.float64)
    f = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    np.testing.assert_allclose(s.alphas_bar[:98], np.array(f[1:99]) / f[0], rtol=1e-9)
    assert s.betas[-1] == 0.999


def test_steps_one_by_one_are_the_steps_in_one_go():
    schedule, g = NoiseSchedule.linear(10, 0.01, 0.3), Generator(0)
    x0 = minigen.full((100_000, 1), 2.0)
    x = x0
    for t in range(7):
        noise = minigen.tensor(g.normal((100_000, 1)))
        x = x * math.sqrt(schedule.alphas[t]) + noise * math.sqrt(schedule.betas[t])
    once = schedule.add_noise(x0, minigen.tensor(g.normal((100_000, 1))), 6)
    assert abs(x.data.mean() - once.data.mean()) < 0.015 and abs(x.data.std() - once.data.std()) < 0.01


def test_velocity_x0_and_eps_make_each_other():
    schedule = NoiseSchedule.cosine(50)
    x0, eps = (minigen.tensor(Generator(i).normal((4, 1, 2, 2))) for i in range(2))
    t = minigen.tensor([0, 10, 30, 49])
    x, v = schedule.add_noise(x0, eps, t), schedule.velocity(x0, eps, t)
    signal, noise = schedule.coefficients(t, x)
    np.testing.assert_allclose((x * signal - v * noise).data, x0.data, atol=1e-5)
    np.testing.assert_allclose((x * noise + v * signal).data, eps.data, atol=1e-5)
    np.testing.assert_allclose(schedule.snr(t), (signal / noise).data.reshape(-1) ** 2, rtol=1e-4)


def test_the_posterior_is_bayes_rule():
    schedule = NoiseSchedule.linear(20, 0.01, 0.3, dtype=minigen.float64)
    x0, x, t = 0.7, -0.4, 12
    mean, variance = schedule.posterior(minigen.Tensor(np.array([[x0]])), minigen.Tensor(np.array([[x]])), [t])
    line = np.linspace(-6, 6, 20_001)
    before = schedule.alphas_bar[t - 1]
    log = -((line - math.sqrt(before) * x0) ** 2) / (2 * (1 - before))
    log = log - (x - math.sqrt(schedule.alphas[t]) * line) ** 2 / (2 * schedule.betas[t])
    p = np.exp(log - log.max())
    p /= p.sum()
    assert abs(mean.item() - (p * line).sum()) < 1e-9
    assert abs(variance.item() - (p * (line - mean.item()) ** 2).sum()) < 1e-9
    mean, variance = schedule.posterior(minigen.ones(1, 1), minigen.zeros(1, 1), 0)
    assert mean.item() == 1 and variance.item() == 0


def test_zero_terminal_snr_ends_in_pure_noise_and_starts_as_before():
    schedule = NoiseSchedule.scaled_linear()
    to_zero = schedule.zero_terminal_snr()
    assert to_zero.alphas_bar[-1] == 0 and schedule.alphas_bar[-1] > 0
    assert abs(to_zero.alphas_bar[0] - schedule.alphas_bar[0]) < 1e-6


def test_published_configurations():
    trained = schedule_from_config({"trained_betas": [0.1, 0.2]})
    np.testing.assert_allclose(trained.alphas_bar, [0.9, 0.72], rtol=1e-6)
    cosine = schedule_from_config({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 30})
    np.testing.assert_array_equal(cosine.betas, NoiseSchedule.cosine(30).betas)
    with pytest.raises(minigen.errors.CheckpointError, match="quadratic"):
        schedule_from_config({"beta_schedule": "quadratic"})


def test_mistakes_are_answered():
    schedule, x = NoiseSchedule.linear(10), minigen.ones(2, 3)
    for t in (10, -1, [0, 10], 1.5):
        with pytest.raises(ArgumentError, match="from 0 to 9"):
            schedule.add_noise(x, x, t)
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        NoiseSchedule([0.1, 1.2])
    with pytest.raises(ArgumentError, match="at least 1"):
        NoiseSchedule.linear(0)
