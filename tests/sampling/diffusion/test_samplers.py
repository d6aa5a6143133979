"""Samplers against what is known: the exact way back when the data are Gaussian, and the order of each method.

For data N(MEAN, STD^2) the best prediction is known in closed form, and so is the solution of the probability flow: on
x = x_0 + sigma eps it keeps (x - MEAN) / sqrt(STD^2 + sigma^2).
"""

import numpy as np
import pytest

import minigen
from minigen import float64
from minigen.errors import ArgumentError, CheckpointError, ShapeError
from minigen.random import Generator
from minigen.sampling.diffusion import (
    DDIM,
    DDPM,
    PNDM,
    DPMSolver,
    DynamicThreshold,
    Euler,
    EulerAncestral,
    FlowEuler,
    Heun,
    NoiseSchedule,
    from_config,
    limited,
)
from minigen.sampling.diffusion.sigmas import beta_quantile, levels

MEAN, STD = 0.3, 0.5
FINE = NoiseSchedule.linear(20_000, 1e-4 / 20, 0.02 / 20, dtype=float64)
DECADE = NoiseSchedule.linear(1000, dtype=float64)


def exact_model(sampler, prediction="epsilon"):
    """The best prediction for Gaussian data, at one sampler's steps in their order."""
    calls = iter([] if sampler.sigmas is None else sampler.sigmas.astype(float))

    def model(x, t):
        sigma = sigma_of(sampler.schedule, t.data[0]) if sampler.sigmas is None else next(calls)
        wide = x.data * np.sqrt(1 + sigma**2)  # x_0 + sigma eps: the network is given it with variance 1
        eps = sigma * (wide - MEAN) / (STD**2 + sigma**2)
        x0 = wide - sigma * eps
        v = (eps - sigma * x0) / np.sqrt(1 + sigma**2)
        return minigen.Tensor({"epsilon": eps, "sample": x0, "v_prediction": v}[prediction].astype(x.dtype))

    return model


def error(sampler, start_sigma, end_sigma, wide):
    """How far a walk from one point ends from the exact solution. `wide`: the sampler is on x_0 + sigma eps."""
    size = [1.0 if wide else np.sqrt(1 + s**2) for s in (start_sigma, end_sigma)]
    x = np.array([[start_sigma * 1.3], [-start_sigma * 0.4]])
    *_, y = sampler.walk(exact_model(sampler), minigen.Tensor(x / size[0]))
    ratio = np.sqrt((STD**2 + end_sigma**2) / (STD**2 + start_sigma**2))
    assert y.dtype == float64
    return np.abs(y.data * size[1] - (MEAN + (x - MEAN) * ratio)).max()


def sigma_of(schedule, t):
    a = float(schedule.alphas_bar[t])
    return np.sqrt((1 - a) / a)


LAST = {"final": "sigma_min", "levels": "exponential"}
ORDERS = {
    "ddim": (1, lambda n: DDIM(FINE, n, to_one=False)),
    "euler": (1, lambda n: Euler(FINE, n, levels="karras", final="sigma_min")),
    "heun": (2, lambda n: Heun(FINE, n, levels="karras", final="sigma_min")),
    "dpm1": (1, lambda n: DPMSolver(FINE, n, order=1, **LAST)),
    "dpm2": (2, lambda n: DPMSolver(FINE, n, order=2, **LAST)),
    "dpm2 heun": (2, lambda n: DPMSolver(FINE, n, order=2, solver="heun", **LAST)),
    "dpm3 as published": (2, lambda n: DPMSolver(FINE, n, order=3, **LAST)),
    "dpm3": (3, lambda n: DPMSolver(FINE, n, order=3, corrected=True, **LAST)),
    "dpm2 on eps": (2, lambda n: DPMSolver(FINE, n, order=2, algorithm="dpmsolver", **LAST)),
    "dpm3 on eps": (3, lambda n: DPMSolver(FINE, n, order=3, algorithm="dpmsolver", corrected=True, **LAST)),
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(name):
    order, make = ORDERS[name]
    errors = []
    for n in (100, 200, 400):
        sampler = make(n)
        wide = isinstance(sampler, Euler | Heun)
        start = float(sampler.sigmas[0]) if sampler.sigmas is not None else sigma_of(FINE, sampler.timesteps[0])
        errors.append(error(sampler, start, sigma_of(FINE, 0), wide))
    found = np.log2(errors[1] / errors[2])
    assert order - 0.25 < found < order + (1.4 if order == 3 else 0.3), f"errors {errors}, order {found:.2f}"


def test_pndm_is_far_more_accurate_than_ddim_at_the_same_steps():
    for runge_kutta in (False, True):
        ours = error(sampler := PNDM(FINE, 100, runge_kutta=runge_kutta), sigma_of(FINE, sampler.timesteps[0]),
                     sigma_of(FINE, 0), wide=False)  # fmt: skip
        plain = error(DDIM(FINE, 100, to_one=False), sigma_of(FINE, 19_800), sigma_of(FINE, 0), wide=False)
        assert ours < plain / 20


STOCHASTIC = {
    "ddpm": lambda: DDPM(DECADE),
    "ddpm large": lambda: DDPM(DECADE, variance="fixed_large"),
    "ddpm in 200 steps": lambda: DDPM(DECADE, 200, spacing="trailing"),
    "ddim eta 1": lambda: DDIM(DECADE, 200, eta=1.0),
    "euler ancestral": lambda: EulerAncestral(DECADE, 200),
    "euler churned": lambda: Euler(DECADE, 200, levels="karras", churn=10.0),
    "dpm sde": lambda: DPMSolver(DECADE, 100, algorithm="sde-dpmsolver++"),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_have_the_mean_and_the_spread_of_the_data(name):
    sampler = STOCHASTIC[name]()
    x = sampler.sample(exact_model(sampler), (20_000, 1), generator=Generator(1)).data
    assert abs(x.mean() - MEAN) < 0.015
    assert abs(x.std() / STD - 1) < 0.04  # the bias of a few hundred steps is 3%


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("make", [
    lambda **o: DDIM(DECADE, 20, **o),
    lambda **o: DDPM(DECADE, 20, **o),
    lambda **o: Euler(DECADE, 20, **o),
    lambda **o: Heun(DECADE, 20, **o),
    lambda **o: DPMSolver(DECADE, 20, **o),
])  # fmt: skip
def test_the_three_predictions_lead_to_the_same_sample(make, prediction):
    noise = minigen.Tensor(Generator(2).normal((5, 1), dtype=float64))
    x = [(s := make(prediction=p)).sample(exact_model(s, p), noise, Generator(3)).data for p in ("epsilon", prediction)]
    np.testing.assert_allclose(*x, rtol=1e-9)


@pytest.mark.parametrize("dtype", [minigen.float32, minigen.float64])
def test_types_are_kept_and_a_seed_gives_a_sample_again(dtype):
    for make in (
        lambda: DDPM(NoiseSchedule.cosine(50)),
        lambda: Heun(NoiseSchedule.linear(50), 7),
        lambda: FlowEuler(5),
    ):
        sampler = make()
        x, again = [sampler.sample(lambda x, t: x * 0.1, (2, 1, 4, 4), Generator(5), dtype=dtype) for _ in range(2)]
        assert x.dtype == dtype and x.shape == (2, 1, 4, 4) and not x.requires_grad
        np.testing.assert_array_equal(x.data, again.data)


def test_a_walk_shows_every_step_and_can_begin_in_the_middle():
    sampler = DDIM(DECADE, 10)
    model, x0 = exact_model(sampler), minigen.Tensor(np.full((3, 1), 0.4))
    eps = minigen.Tensor(Generator(0).normal((3, 1), dtype=float64))
    x = sampler.add_noise(x0, eps, [int(sampler.timesteps[6])] * 3)
    walked = list(sampler.walk(model, x, first=6))
    assert len(walked) == 4
    by_hand = sampler.step(model(x, sampler.at(6, x)), 6, x)
    np.testing.assert_array_equal(walked[0].data, by_hand.data)
    assert len(list(sampler.walk(model, eps))) == 10


def test_ddim_with_eta_1_is_ancestral_sampling():
    schedule = NoiseSchedule.linear(100, dtype=float64)
    x, out, noise = (minigen.Tensor(Generator(i).normal((2, 3), dtype=float64)) for i in range(3))
    ancestral, implicit = DDPM(schedule, 20), DDIM(schedule, 20, eta=1.0)
    for i in range(19):
        steps = [sampler.step(out, i, x, noise).data for sampler in (ancestral, implicit)]
        np.testing.assert_allclose(*steps, rtol=1e-9)
    without = DDIM(schedule, 20, eta=0.5).step(out, 3, x, noise * 0).data
    assert np.abs(DDIM(schedule, 20, eta=0.5).step(out, 3, x, noise).data - without).max() > 0.01


def test_noise_is_added_as_each_sampler_counts_it():
    x0, eps = minigen.ones(2, 1), minigen.full((2, 1), 2.0)
    t = DDIM(DECADE, 10).timesteps[[2, 5]]
    a = DECADE.alphas_bar[t].reshape(2, 1)
    np.testing.assert_allclose(DDIM(DECADE, 10).add_noise(x0, eps, t).data, np.sqrt(a) + 2 * np.sqrt(1 - a), rtol=1e-6)
    euler = Euler(DECADE, 10)
    wanted = 1 + 2 * euler.sigmas[[2, 5]].reshape(2, 1)
    np.testing.assert_allclose(euler.add_noise(x0, eps, euler.timesteps[[2, 5]]).data, wanted, rtol=1e-6)
    flow = FlowEuler(10)
    wanted = 1 + flow.sigmas[[2, 5]].reshape(2, 1)
    np.testing.assert_allclose(flow.add_noise(x0, eps, flow.timesteps[[2, 5]]).data, wanted, rtol=1e-6)


def test_a_straight_flow_needs_one_step():
    target = minigen.tensor([[0.5], [-2.0]])
    x = FlowEuler(1).sample(lambda x, t: (x - target) / (t.reshape(-1, 1) / 1000), (2, 1), Generator(0))
    np.testing.assert_allclose(x.data, target.data, atol=1e-6)


def test_learned_variances_lie_between_the_two_fixed_ones():
    noise, x, out = minigen.ones(1, 1, 2, 2), minigen.zeros(1, 1, 2, 2), minigen.zeros(1, 1, 2, 2)
    schedule = NoiseSchedule.linear(100)
    steps = {}
    for variance, v in (("fixed_small", None), ("fixed_large", None), ("learned_range", -1.0), ("learned_range", 1.0)):
        given = out if v is None else minigen.cat([out, minigen.full((1, 1, 2, 2), v)], 1)
        steps[variance, v] = DDPM(schedule, variance=variance).step(given, 40, x, noise).data
    np.testing.assert_allclose(steps["learned_range", -1.0], steps["fixed_small", None], rtol=1e-5)
    np.testing.assert_allclose(steps["learned_range", 1.0], steps["fixed_large", None], rtol=1e-5)
    with pytest.raises(ShapeError, match="2 x 1 channels"):
        DDPM(schedule, variance="learned_range").step(out, 40, x, noise)


def test_clipping_and_dynamic_thresholding():
    x = minigen.tensor(Generator(0).normal((2, 1, 10, 10)) * 3)
    assert limited(x, None) is x and abs(limited(x, 1.5).data).max() == np.float32(1.5)
    y = limited(x, DynamicThreshold(0.9, largest=10.0)).data
    for one, given in zip(y, x.data):
        s = np.quantile(np.abs(given), 0.9)
        np.testing.assert_allclose(one, np.clip(given, -s, s) / s, rtol=1e-5)
    np.testing.assert_allclose(
        limited(x * 0.1, DynamicThreshold(0.9)).data, (x * 0.1).clamp(-1, 1).data
    )  # s is 1 or more


def test_noise_levels():
    for kind in ("karras", "exponential", "lu", "beta"):
        s = levels(kind, 80.0, 0.002, 9)
        np.testing.assert_allclose(s[[0, -1]], [80.0, 0.002], rtol=1e-6)
        assert (np.diff(s) < 0).all()
    p = np.array([1e-9, 0.01, 0.3, 0.5, 0.77, 1 - 1e-6])
    np.testing.assert_allclose(
        [beta_quantile(x, 0.5, 0.5) for x in p], np.sin(np.pi * p / 2) ** 2, rtol=1e-9
    )  # arcsine
    np.testing.assert_allclose([beta_quantile(x, 1.0, 1.0) for x in p], p, rtol=1e-12)
    np.testing.assert_allclose([beta_quantile(x, 2.0, 1.0) for x in p], np.sqrt(p), rtol=1e-9)


def test_mistakes_are_answered():
    schedule = NoiseSchedule.linear(100)
    for make, said in (
        (lambda: DDIM(schedule, 101), "1 to the schedule's 100"),
        (lambda: DDIM(schedule, 10, spacing="even"), "spacing is one of"),
        (lambda: DDIM(schedule, 10, eta=2.0), "eta is from 0 to 1"),
        (lambda: DDIM(schedule, 100, offset=1), "beyond the last time"),
        (lambda: DDPM(schedule, prediction="noise"), "prediction is one of"),
        (lambda: DDPM(schedule, variance="small"), "variance is one of"),
        (lambda: DDPM(schedule, timesteps=[5, 50]), "timesteps fall"),
        (lambda: PNDM(schedule, 10, prediction="sample"), "not x_0"),
        (lambda: PNDM(schedule, 3, runge_kutta=True), "4 steps or more"),
        (lambda: Euler(schedule), "one of them"),
        (lambda: Euler(schedule, 10, levels="cosine"), "levels is one of"),
        (lambda: DPMSolver(schedule, 10, order=4), "order is 1, 2 or 3"),
        (lambda: DPMSolver(schedule, 10, algorithm="dpmsolver"), "sigma_min"),
        (lambda: FlowEuler(0), "1 or more"),
        (lambda: Euler(schedule, 10).step_of(3.5), "one of its timesteps"),
    ):
        with pytest.raises(ArgumentError, match=said):
            make()
    with pytest.raises(CheckpointError, match="UniPCMultistepScheduler"):
        from_config({"_class_name": "UniPCMultistepScheduler"}, 10)
    with pytest.raises(CheckpointError, match="needs mu="):
        from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, 10)
    with pytest.raises(CheckpointError, match="takes no sigmas"):
        from_config({"_class_name": "DDIMScheduler"}, 10, sigmas=[1.0, 0.0])
