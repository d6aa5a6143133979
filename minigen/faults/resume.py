"""Row 10: resuming. N steps at once and N/2 steps, saved, loaded into new objects, and N/2 more: the same bits.

Every optimiser with every schedule, an average of the weights, a shuffled loader stopped in the middle of its epoch,
dropout. The second half starts in objects made from another seed, so that nothing is right by accident.
"""

import minigen

from .score import Finding, scratch
from .small import fingerprint, loss, pictures

STEPS = 6


def optimisers():
    """{name: make(parameters)} of every optimiser in minigen.optim."""
    from minigen import optim

    def plain(name):
        return lambda p: getattr(optim, name)(p, lr=1e-2)

    names = "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam Adafactor Lion"
    found = {name: plain(name) for name in names.split()}
    found["Muon"] = lambda p: optim.Muon([x for x in p if x.ndim == 2], lr=1e-2)  # it is for matrices
    found["SGD momentum"] = lambda p: optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True)
    found["Adam amsgrad"] = lambda p: optim.Adam(p, lr=1e-2, amsgrad=True, weight_decay=1e-2)
    found["RMSprop centred"] = lambda p: optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5)
    return found


def schedules():
    """{name: make(optimizer)} of every schedule in minigen.optim.lr_scheduler."""
    from minigen.optim import lr_scheduler as s

    return {
        "none": lambda o: None,
        "step": lambda o: s.StepLR(o, 2, 0.5),
        "multi-step": lambda o: s.MultiStepLR(o, [2, 4], 0.5),
        "exponential": lambda o: s.ExponentialLR(o, 0.8),
        "cosine": lambda o: s.CosineAnnealingLR(o, STEPS),
        "linear": lambda o: s.LinearLR(o, 0.1, 1.0, 4),
        "one cycle": lambda o: s.OneCycleLR(
            o, 1e-2, total_steps=STEPS + 1, cycle_momentum=bool({"momentum", "betas"} & set(o.param_groups[0]))
        ),
        "triangles": lambda o: s.CyclicLR(o, 1e-3, 1e-2, step_size_up=2, cycle_momentum=False),
        "warm restarts": lambda o: s.CosineAnnealingWarmRestarts(o, 2),
        "polynomial": lambda o: s.PolynomialLR(o, STEPS),
        "warm-up": lambda o: s.cosine_with_warmup(o, 2, STEPS),
        "noam": lambda o: s.noam(o, 16, 2),
        "chained": lambda o: s.ChainedScheduler([s.LinearLR(o, 0.1, 1.0, 2), s.ExponentialLR(o, 0.9)]),
        "lambda": lambda o: s.LambdaLR(o, lambda step: 1 / (1 + step)),
        "sequential": lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.1, 1.0, 2), s.CosineAnnealingLR(o, STEPS)], [2]),
    }


def every_pair(count=None, seed=0):
    """All optimisers with all schedules."""
    pairs = 0
    for name, optimiser in optimisers().items():
        for plan, schedule in schedules().items():
            pairs += 1
            fault = broken(optimiser, schedule)
            if fault:
                return Finding(False, f"{name} with schedule {plan}: {fault}")
    return Finding(True, f"{pairs} pairs of optimiser and schedule, with EMA, loader and dropout: bits equal")


def broken(optimiser, schedule):
    """What differs between a run and the same run interrupted half-way, or None."""
    with scratch() as folder:
        straight = _run(optimiser, schedule, STEPS, 0)
        _run(optimiser, schedule, STEPS // 2, 0, checkpoints=folder)
        resumed = _run(optimiser, schedule, STEPS, 1, checkpoints=folder, resume=True)
    for name in straight:
        if fingerprint(straight[name]) != fingerprint(resumed[name]):
            return f"{name} differs"
    return None


def _run(optimiser, schedule, steps, seed, **options):
    from minigen import nn, optim
    from minigen.data import DataLoader, TensorDataset
    from minigen.train import fit

    minigen.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
    data = DataLoader(TensorDataset(*pictures(40)), batch_size=16, shuffle=True)
    trained = optimiser(model.parameters())
    run = fit(
        model,
        loss,
        data,
        trained,
        steps=steps,
        scheduler=schedule(trained),
        ema=optim.EMA(model, 0.9),
        clip_norm=1.0,
        progress=False,
        **options,
    )
    state = run.state()
    return {**state.pop("parts"), **state, "next numbers": minigen.randn(4).data}
