"""Schedules by their formulas, and what goes wrong with them."""

import math

import pytest

import minigen
from minigen import errors, optim
from minigen.optim import lr_scheduler


def sgd(lr=0.1, **values):
    return optim.SGD([minigen.Parameter([1.0])], lr=lr, **values)


def rates(make, steps=21, lr=0.1):
    optimizer = sgd(lr)
    schedule = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


FORMULAS = {
    "step": (lambda o: lr_scheduler.StepLR(o, 4, 0.5), lambda t: 0.1 * 0.5 ** (t // 4)),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, 0.9), lambda t: 0.1 * 0.9**t),
    "linear": (lambda o: lr_scheduler.LinearLR(o, 0.2, 1, 10), lambda t: 0.1 * (0.2 + 0.08 * min(t, 10))),
    "polynomial": (lambda o: lr_scheduler.PolynomialLR(o, 10, 2), lambda t: 0.1 * max(0, 1 - t / 10) ** 2),
    "cosine": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 8, 0.01),
        lambda t: 0.01 + 0.09 * (1 + math.cos(math.pi * t / 8)) / 2,
    ),
    "linear_with_warmup": (
        lambda o: lr_scheduler.linear_with_warmup(o, 5, 20),
        lambda t: 0.1 * (t / 5 if t < 5 else (20 - min(t, 20)) / 15),
    ),
    "cosine_with_warmup": (
        lambda o: lr_scheduler.cosine_with_warmup(o, 5, 20),
        lambda t: 0.1 * (t / 5 if t < 5 else (1 + math.cos(math.pi * (t - 5) / 15)) / 2),
    ),
    "inverse_sqrt": (
        lambda o: lr_scheduler.inverse_sqrt_with_warmup(o, 5),
        lambda t: 0.1 * (t / 5 if t < 5 else math.sqrt(5 / t)),
    ),
    "constant_with_warmup": (lambda o: lr_scheduler.constant_with_warmup(o, 4), lambda t: 0.1 * min(1, t / 4)),
    "hard_restarts": (
        lambda o: lr_scheduler.cosine_with_hard_restarts_with_warmup(o, 0, 20, 2),
        lambda t: 0 if t >= 20 else 0.05 * (1 + math.cos(math.pi * (t % 10) / 10)),
    ),
    "polynomial_with_warmup": (
        lambda o: lr_scheduler.polynomial_with_warmup(o, 5, 20, lr_end=0.01, power=2),
        lambda t: 0.1 * t / 5 if t < 5 else 0.01 + 0.09 * (1 - (t - 5) / 15) ** 2,
    ),
    "noam": (
        lambda o: lr_scheduler.noam(o, 64, 6),
        lambda t: 0.1 * 64**-0.5 * min((t + 1) ** -0.5, (t + 1) * 6**-1.5),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    make, formula = FORMULAS[name]
    assert rates(make) == pytest.approx([formula(t) for t in range(21)], abs=1e-12)


def test_a_tensor_as_learning_rate_is_written_in_place():
    rate = minigen.tensor(0.1)
    optimizer = sgd(rate)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == pytest.approx(0.05)


def test_stepping_before_the_optimiser_warns():
    schedule = lr_scheduler.StepLR(sgd(), 3)
    with pytest.warns(UserWarning, match="before optimizer"):
        schedule.step()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda o: lr_scheduler.StepLR(0.1, 3), "not an Optimizer"),
        (lambda o: lr_scheduler.StepLR(o, 3, last_epoch=4), "initial_lr"),
        (lambda o: lr_scheduler.LambdaLR(o, 0.5), "function"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs, abs]), "2 values for 1"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), "start_factor"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "total_steps"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, anneal_strategy="up"), "anneal_strategy"),
        (lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), "mode"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), "T_0"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "factor"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 3)], [2]), "milestones"),
        (lambda o: lr_scheduler.SequentialLR(sgd(), [lr_scheduler.StepLR(o, 3)], []), "another optimiser"),
        (lambda o: lr_scheduler.ChainedScheduler([]), "at least one"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(errors.MinigenError, match=message):
        make(sgd())


def test_one_cycle_says_when_it_is_over():
    optimizer = sgd(momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, 3)
    with pytest.raises(errors.ArgumentError, match="schedule of 3"):
        for _ in range(5):
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize("state", [None, {}, [1], {"state": {}}])
def test_what_is_no_state_is_refused(state):
    optimizer = sgd()
    for holder in (optimizer, lr_scheduler.StepLR(optimizer, 3), optim.EMA(optimizer.param_groups[0]["params"])):
        with pytest.raises(errors.CheckpointError, match="load_state_dict"):
            holder.load_state_dict(state)
