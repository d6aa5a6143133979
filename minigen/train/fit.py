"""The ordinary training loop: one model, one loss, one optimiser."""

import contextlib
import math

import numpy as np

from ..autograd import detect_anomaly, no_grad
from ..checkpoint import find_non_finite
from ..device import xp
from ..distributed import DataParallel, Group
from ..errors import ArgumentError, NonFiniteError
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from ..optim.lr_scheduler import ReduceLROnPlateau
from .batches import Batches, length
from .run import Run


def fit(
    model,
    loss,
    batches,
    optimizer,
    *,
    steps,
    scheduler=None,
    ema=None,
    clip_norm=None,
    clip_value=None,
    evaluate=None,
    every=None,
    checkpoints=None,
    keep=3,
    resume=False,
    generator=None,
    progress=True,
    group=None,
):
    """Train `model` until `steps` steps are done; returns the `Run`, which holds the losses.

    loss         loss(model, batch) -> a tensor of one number; or {"loss": it, "kl": ...}, and all are noted
    batches      a DataLoader or anything else to loop over, again and again; or a function that makes a batch
    scheduler    a learning rate schedule, stepped after every step; ReduceLROnPlateau after every evaluation, with its
                 number (or "loss", or the first of a dict)
    ema          a moving average of the weights, updated after every step and evaluated in the model's place
    clip_norm    the largest norm of the whole gradient;  clip_value  the largest size of each of its numbers
    evaluate     evaluate(model) -> a number or a dict of numbers, every `every` steps, without gradients and in
                 eval mode. What it draws from the generators is put back: training does not notice it.
    every        steps between evaluations and between checkpoints; a tenth of `steps` if None
    group        a distributed.Group: gradients are averaged over its processes, and the losses that are shown too.
                 Give each its part of the batches: `group.shard(loader)`, and its own noise: `group.generator(g)`.
                 The optimiser may be a distributed.ShardedOptimizer
    checkpoints, keep, resume, generator, progress    see `Run`

    Raises NonFiniteError when the loss or a gradient is NaN or Inf. It names the op that was the first to go bad;
    the weights and the last checkpoint are those of before.
    """
    by_evaluation = isinstance(scheduler, ReduceLROnPlateau)
    if by_evaluation and evaluate is None:
        raise ArgumentError(
            "fit: ReduceLROnPlateau follows an evaluation, and there is none\n"
            "  give evaluate=, or a schedule that counts steps"
        )
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "ema": ema, "data": Batches(batches)}
    parts = {name: part for name, part in parts.items() if part is not None}
    run = Run(
        steps,
        every=every,
        checkpoints=checkpoints,
        keep=keep,
        resume=resume,
        generator=generator,
        progress=progress,
        group=group,
        **parts,
    )
    group = Group() if group is None else group
    alone = group.size == 1
    parallel = DataParallel(model, optimizer, group)
    parameters = [p for its in optimizer.param_groups for p in its["params"]]
    model.train()
    for step in run:
        batch = next(parts["data"])
        before = run.generator_states()
        optimizer.zero_grad()
        numbers = _numbers(loss(model, batch))
        with parallel:
            numbers["loss"].backward()
        if group.combined(not _finite(numbers["loss"], parameters), "MAX"):
            run.restore_generators(before)
            raise _explained(run, step, model, loss, batch)
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        if scheduler is not None and not by_evaluation:
            scheduler.step()
        if ema is not None:
            ema.update()
        if not alone:
            numbers = {name: group.mean(number.item()) for name, number in numbers.items()}
        run.log(samples=length(batch), **numbers)
        if evaluate is not None and run.due(step):
            run.evaluated(_evaluated(evaluate, model, ema, run))
            if by_evaluation:
                found = run.evaluations[-1][1]
                scheduler.step(found.get("loss", next(iter(found.values()))))
    return run


def _numbers(value):
    """What the loss function gave, as a dict with the key "loss"."""
    numbers = dict(value) if isinstance(value, dict) else {"loss": value}
    if not hasattr(numbers.get("loss"), "backward"):
        raise ArgumentError(
            f"fit: the loss function gave {type(value).__name__}, not a tensor\n"
            '  return the loss itself (not loss.item()), or a dict with it as "loss"'
        )
    return numbers


def _evaluated(evaluate, model, ema, run):
    before = run.generator_states()
    model.eval()
    try:
        with no_grad(), ema.applied() if ema is not None else contextlib.nullcontext():
            return evaluate(model)
    finally:
        model.train()
        run.restore_generators(before)


def _finite(loss, parameters):
    """Whether the loss and every gradient are free of NaN and Inf."""
    return math.isfinite(loss.item()) and all(_all_finite(p.grad.data) for p in parameters if p.grad is not None)


def _all_finite(array):
    # A sum is one pass without a temporary, and one NaN or Inf spoils it. A sum can also overflow by itself.
    with np.errstate(all="ignore"):
        return math.isfinite(float(array.sum())) or bool(xp(array).isfinite(array).all())


def _explained(run, step, model, loss, batch):
    """The error for a step whose loss or gradient is NaN or Inf: the step is run again, with every op watched."""
    bad = find_non_finite(model)
    if bad is not None:
        found = f"{bad} was NaN or Inf before the step began: the update before it did that. Try a smaller lr"
    else:
        try:
            with detect_anomaly():
                value = _numbers(loss(model, batch))["loss"]
                value.backward()
            found = f"the loss is {value.item()}; run again with every op watched, none made a NaN"
        except NonFiniteError as error:
            found = str(error)
    return NonFiniteError(f"step {step}: {found}\n  nothing was updated or saved; {run.last_good()}")
