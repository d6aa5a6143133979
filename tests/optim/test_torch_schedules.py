"""Every schedule beside PyTorch's of that name: the rates of sixty steps, and through a saved state."""

import warnings

import numpy as np
import pytest

import minigen
from minigen import optim
from minigen.optim import lr_scheduler as ours

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*before")]
torch = pytest.importorskip("torch")
theirs = torch.optim.lr_scheduler

SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 0.9**t),
    "lambda_each": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda t: 0.95 if t % 2 else 1.01),
    "step": lambda s, o: s.StepLR(o, 7, 0.5),
    "multi_step": lambda s, o: s.MultiStepLR(o, [3, 8, 8, 30], 0.3),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 6),
    "linear": lambda s, o: s.LinearLR(o, 0.1, 0.8, 9),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "polynomial": lambda s, o: s.PolynomialLR(o, 40, 2.0),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 13, 1e-3),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, 1e-4),
    "restarts_equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 4, 6),
    "cyclic2": lambda s, o: s.CyclicLR(o, [0.01, 0.02], 0.2, 4, mode="triangular2"),
    "cyclic_exp": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 4, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "cyclic_own": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 4, scale_fn=lambda c: 1 / c, scale_mode="cycle"),
    "one_cycle": lambda s, o: s.OneCycleLR(o, 0.3, 60),
    "one_cycle_linear": lambda s, o: s.OneCycleLR(
        o, [0.3, 0.1], epochs=6, steps_per_epoch=10, anneal_strategy="linear"
    ),
    "one_cycle_three": lambda s, o: s.OneCycleLR(o, 0.3, 60, three_phase=True, pct_start=0.2, cycle_momentum=False),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 20)], [5, 20]
    ),
    "warm_up_cosine": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.01, 1.0, 10), s.CosineAnnealingLR(o, 50)], [10]),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9), s.StepLR(o, 9)]),
    "chained_in_sequence": lambda s, o: s.SequentialLR(
        o, [s.ChainedScheduler([s.ConstantLR(o, 0.5, 3), s.ExponentialLR(o, 0.9)]), s.PolynomialLR(o, 30)], [8]
    ),
}


def optimizers():
    for library, tensor in ((optim, minigen.tensor), (torch.optim, torch.tensor)):
        a, b = tensor([1.0, 2.0]), tensor([3.0])
        for x in (a, b):
            x.requires_grad_()
        yield library.SGD([{"params": [a]}, {"params": [b], "lr": 0.05}], lr=0.1, momentum=0.9)


def rates(optimizer, schedule, steps):
    found = []
    for _ in range(steps):
        found.append([(float(g["lr"]), g["momentum"]) for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return np.array(found)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name):
    mine, other = optimizers()
    a, b = SCHEDULES[name](ours, mine), SCHEDULES[name](theirs, other)
    assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(rates(mine, a, 60), rates(other, b, 60), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
def test_resumed(name):
    """25 steps, save, load into new ones, 25 more: the same rates as 50 steps."""
    whole, _ = optimizers()
    expected = rates(whole, SCHEDULES[name](ours, whole), 50)
    first, _ = optimizers()
    schedule = SCHEDULES[name](ours, first)
    rates(first, schedule, 25)
    second, _ = optimizers()
    resumed = SCHEDULES[name](ours, second)
    resumed.load_state_dict(schedule.state_dict())
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(rates(second, resumed, 25), expected[25:])


@pytest.mark.parametrize("values", [{}, {"mode": "max"}, {"threshold_mode": "abs", "threshold": 0.1, "cooldown": 2}])
def test_plateau(values):
    mine, other = optimizers()
    a = ours.ReduceLROnPlateau(mine, patience=2, factor=0.5, min_lr=[0.01, 0.02], **values)
    b = theirs.ReduceLROnPlateau(other, patience=2, factor=0.5, min_lr=[0.01, 0.02], **values)
    noise = np.random.default_rng(0)
    for t in range(60):
        loss = 1 / (1 + t) + 0.2 * noise.random()
        a.step(loss)
        b.step(loss)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-14)


def test_going_to_an_epoch():
    for name in ("step", "multi_step", "linear", "exponential", "polynomial", "cosine", "constant", "restarts"):
        mine, other = optimizers()
        a, b = SCHEDULES[name](ours, mine), SCHEDULES[name](theirs, other)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in (3, 17, 2, 30):
                a.step(epoch)
                b.step(epoch)
                assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-13), (name, epoch)
