"""optim_*: 20 steps of an optimiser on given gradients, and the learning rates of a schedule.

The cases name the optimiser and hold the first weights, the gradients and the trajectory, but not the settings. The
first steps give them away: SGD's step is lr times the gradient, Adam's first is lr times its sign. FOUND says what was
found so; GUESSED lists plausible settings of the other optimisers, of which only the right one gives the trajectory.
"""

import itertools

import numpy as np

from minigen import Parameter, Tensor, optim

from . import NotCovered, kind

FOUND = {
    "optim_sgd": lambda p: optim.SGD(p, lr=0.1),
    "optim_sgd_mom": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "optim_adam": lambda p: optim.Adam(p, lr=0.05, betas=(0.5, 0.999)),
    "optim_adamw": lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "optim_amsgrad": lambda p: optim.Adam(p, lr=0.05, amsgrad=True),
    "optim_adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "optim_adafactor": lambda p: optim.Adafactor(p, lr=0.05),
}

RATES = (0.05, 0.1, 0.01, 0.02, 0.001, 0.002, 0.03, 0.5, 1.0)
DECAYS = (0.0, 0.01, 0.1)
BETAS = ((0.9, 0.999), (0.5, 0.999), (0.9, 0.99))


def _grid(build, **choices):
    """Optimisers with every combination of settings."""
    settings = [dict(zip(choices, values)) for values in itertools.product(*choices.values())]
    return [lambda p, s=s: build(p, **s) for s in settings]


GUESSED = {
    "optim_nesterov": lambda: _grid(
        optim.SGD, lr=RATES, momentum=(0.9, 0.8, 0.5), nesterov=(True,), weight_decay=DECAYS
    ),
    "optim_rmsprop": lambda: _grid(
        optim.RMSprop,
        lr=RATES,
        alpha=(0.99, 0.9, 0.95),
        momentum=(0.0, 0.9),
        centered=(False, True),
        weight_decay=DECAYS,
    ),
    "optim_adadelta": lambda: _grid(optim.Adadelta, lr=(1.0, *RATES), rho=(0.9, 0.95), weight_decay=DECAYS),
    "optim_adamax": lambda: _grid(optim.Adamax, lr=RATES, betas=BETAS, weight_decay=DECAYS),
    "optim_nadam": lambda: _grid(
        optim.NAdam, lr=RATES, betas=BETAS, weight_decay=DECAYS, decoupled_weight_decay=(False, True)
    ),
    "optim_radam": lambda: _grid(
        optim.RAdam, lr=RATES, betas=BETAS, weight_decay=DECAYS, decoupled_weight_decay=(False, True)
    ),
    "optim_muon": lambda: _grid(optim.Muon, lr=RATES, weight_decay=(0.1, 0.0, 0.01), nesterov=(True, False)),
    "optim_lion": lambda: _grid(optim.Lion, lr=RATES, betas=((0.9, 0.99), (0.95, 0.98)), weight_decay=DECAYS),
    "optim_adam": lambda: _grid(optim.Adam, lr=RATES, betas=BETAS, weight_decay=DECAYS),
    "optim_adamw": lambda: _grid(optim.AdamW, lr=RATES, betas=BETAS, weight_decay=DECAYS),
    "optim_amsgrad": lambda: _grid(optim.Adam, lr=RATES, betas=BETAS, weight_decay=DECAYS, amsgrad=(True,)),
    "optim_adagrad": lambda: _grid(optim.Adagrad, lr=RATES, lr_decay=(0.0, 0.01, 0.1), weight_decay=DECAYS),
    "optim_adafactor": lambda: _grid(optim.Adafactor, lr=RATES, weight_decay=DECAYS),
    "optim_sgd": lambda: _grid(
        optim.SGD, lr=RATES, momentum=(0.9, 0.0, 0.5), dampening=(0.0, 0.1, 0.5), weight_decay=DECAYS
    ),
}
GUESSED["optim_sgd_nesterov"] = GUESSED["optim_nesterov"]


@kind("optim_")
def run(case):
    if case.name in FOUND:
        return case.compare({"out__traj": trajectory(case, FOUND[case.name])}).require()
    known = [name for name in GUESSED if case.name.startswith(name)]
    if not known:
        raise NotCovered(f"no optimiser is known for {case.name!r}")
    _one_of(case, GUESSED[max(known, key=len)](), lambda build: {"out__traj": trajectory(case, build)})


def trajectory(case, build, schedule=None, rates=None):
    """The weights after each of the given gradients; the learning rates go into the list `rates`."""
    weight = Parameter(case["in__w0"].copy())
    optimizer = build([weight])
    schedule = schedule and schedule(optimizer)
    weights = []
    for gradient in case["in__grads"]:
        weight.grad = Tensor(gradient.copy())
        if rates is not None:
            rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()
        weights.append(weight.data.copy())
    return np.stack(weights)


def _one_of(case, candidates, run_one):
    closest = None
    for candidate in candidates:
        comparison = case.compare(run_one(candidate))
        if comparison.fits:
            return
        if closest is None or comparison.excess < closest.excess:
            closest = comparison
    closest.require()


# Schedules: the trajectories are those of plain SGD, at 0.1 times the schedule's factor


def _schedules():
    """Name -> schedules, the first of which is what the bundled cases have: warm-up over 5 of 20 steps."""
    s = optim.lr_scheduler

    def each(build, *choices):
        return [lambda o, c=c: build(o, *c) for c in itertools.product(*choices)]

    ends = (0.0, 0.01, 0.001)
    milestones = ([5, 10], [7, 14], [10, 15], [5, 15], [5, 10, 15], [8, 14], [6, 12])
    return {
        "exp": each(s.ExponentialLR, (0.9, 0.95, 0.8, 0.99)),
        "step": each(s.StepLR, (7, 5, 10, 3), (0.5, 0.1, 0.9)),
        "multistep": each(s.MultiStepLR, milestones, (0.5, 0.1, 0.3)),
        "cosine_warmup": each(s.cosine_with_warmup, (5, 4, 10), (20,)),
        "linear_warmup": each(s.linear_with_warmup, (5, 4, 10), (20,)),
        "constant_warmup": each(s.constant_with_warmup, (5, 4, 10)),
        "cosine": each(s.CosineAnnealingLR, (20, 10, 19, 5), ends),
        "cosine_restarts": each(s.CosineAnnealingWarmRestarts, (5, 10, 4, 7), (1, 2), ends),
        "onecycle": each(
            lambda o, m, c: s.OneCycleLR(o, m, total_steps=20, cycle_momentum=c), (0.1, 0.2, 0.5, 1.0), (False, True)
        ),
        "linear": each(s.LinearLR, (1 / 3, 1.0, 0.1), (1.0, 0.0, 0.1), (5, 10, 20)),
        "constant": each(s.ConstantLR, (1 / 3, 0.5, 0.1), (5, 10)),
        "poly": each(s.PolynomialLR, (20, 10, 5), (1.0, 2.0, 0.5)) + each(s.polynomial_with_warmup, (5, 4), (20,)),
        "invsqrt": each(s.inverse_sqrt_with_warmup, (5, 4, 10)),
        "noam": each(s.noam, (64, 512, 32, 16, 12), (5, 4, 10)),
    }


SCHEDULES = {
    "multistep": "multistep",
    "cosine_warmup": "cosine_warmup",
    "cosine_restart": "cosine_restarts",
    "cosine_warm_restart": "cosine_restarts",
    "cosine": "cosine",
    "linear_warmup": "linear_warmup",
    "linear": "linear",
    "constant_warmup": "constant_warmup",
    "constant": "constant",
    "exp": "exp",
    "step": "step",
    "onecycle": "onecycle",
    "one_cycle": "onecycle",
    "poly": "poly",
    "inverse_sqrt": "invsqrt",
    "invsqrt": "invsqrt",
    "inv_sqrt": "invsqrt",
    "noam": "noam",
}


@kind("optim_sched_")
def run_schedule(case):
    name = case.name.removeprefix("optim_sched_")
    known = [start for start in SCHEDULES if name.startswith(start)]
    if not known:
        raise NotCovered(f"no schedule is known for {case.name!r}")

    def run_one(schedule):
        rates = []
        weights = trajectory(case, lambda p: optim.SGD(p, lr=0.1), schedule, rates)
        return {"out__lr": np.array(rates, np.float64), "out__traj": weights}

    _one_of(case, _schedules()[SCHEDULES[max(known, key=len)]], run_one)
