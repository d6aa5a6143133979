"""Connectionist temporal classification (Graves et al. 2006): the probability of a text, whatever its timing.

A network gives each of T frames the log-probabilities of C symbols, one of which is "blank". Every path
through the frames that spells the target, once repeats are merged and blanks dropped, counts; the loss is
-log of their summed probability.

With blanks put around the symbols (a, b -> _ a _ b _) a path may, from one frame to the next, stay, go one
state on, or go two on if that skips a blank between two different symbols. So the sum over all paths is a
recursion over frames: forward from the first (alpha), or backward from the last (beta). Their product says
how likely each state is at each frame, given the target, and that is the gradient.
"""

import math

import numpy as np

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, expect
from ..tensor import reads, value
from .activations import floating
from .arithmetic import where
from .elementary import exp, log
from .joining import cat
from .losses import check_reduction
from .picking import gather
from .reduction import mean, sum
from .shape import reshape

__all__ = ["ctc_loss"]


def _states(targets, blank):
    """The symbols (N, S) with blanks around them, S = 2 L + 1, and where a path may come from two states before."""
    lib = xp(targets)
    symbols = lib.full((len(targets), 2 * targets.shape[1] + 1), blank, np.int64)
    symbols[:, 1::2] = targets
    skips = lib.zeros(symbols.shape, bool)
    skips[:, 2:] = (symbols[:, 2:] != blank) & (symbols[:, 2:] != symbols[:, :-2])
    return symbols, skips


def _later(x, states):
    """x (N, S) moved to later states, -inf coming in; to earlier ones if negative."""
    y = xp(x).full_like(x, -np.inf)
    if states > 0:
        y[:, states:] = x[:, :-states]
    else:
        y[:, :states] = x[:, -states:]
    return y


def _together(*logs):
    """log of the sum of e**x over the arrays given; -inf where all are."""
    lib = xp(logs[0])
    top = logs[0]
    for x in logs[1:]:
        top = lib.maximum(top, x)
    top = lib.where(lib.isneginf(top), 0, top)
    total = lib.exp(logs[0] - top)
    for x in logs[1:]:
        total = total + lib.exp(x - top)
    with np.errstate(divide="ignore"):
        return lib.log(total) + top


def _alphas(emitted, skips, input_lengths):
    """log of the probability of all paths from the first frame to each state at each frame: (T, N, S)."""
    lib = xp(emitted)
    alphas = lib.full_like(emitted, -np.inf)
    alphas[0, :, :2] = emitted[0, :, :2]
    for t in range(1, len(emitted)):
        before = alphas[t - 1]
        skipped = lib.where(skips, _later(before, 2), -np.inf)
        alpha = _together(before, _later(before, 1), skipped) + emitted[t]
        alphas[t] = lib.where((t < input_lengths)[:, None], alpha, before)  # past its end a sample stands still
    return alphas


def _betas(emitted, skips, input_lengths, ends):
    """log of the probability of all paths after each state at each frame: (T, N, S)."""
    lib = xp(emitted)
    start = lib.where(ends, 0.0, -np.inf).astype(emitted.dtype)
    betas = lib.full_like(emitted, -np.inf)
    betas[-1] = start
    jump = lib.zeros_like(skips)
    jump[:, :-2] = skips[:, 2:]
    for t in range(len(emitted) - 2, -1, -1):
        after = betas[t + 1] + emitted[t + 1]
        skipped = lib.where(jump, _later(after, -2), -np.inf)
        beta = _together(after, _later(after, -1), skipped)
        betas[t] = lib.where((t + 1 < input_lengths)[:, None], beta, start)
    return betas


def _ends(symbols, target_lengths):
    """The states in which a path may end: the last symbol and the blank after it."""
    places = xp(symbols).arange(symbols.shape[1])
    last = 2 * target_lengths[:, None]
    return (places == last) | (places == last - 1)


def _emitted(log_probs, symbols):
    """The log-probability of each state's symbol at each frame: (T, N, S)."""
    lib = xp(log_probs)
    return log_probs[:, lib.arange(len(symbols))[:, None], symbols]


@op(saves=("alphas",))
def _ctc(log_probs, targets, input_lengths, target_lengths, blank):
    """(T, N, C) -> (N,): -log of the probability of each target."""
    lib = xp(log_probs)
    symbols, skips = _states(targets, blank)
    alphas = _alphas(_emitted(log_probs, symbols), skips, input_lengths)
    last = lib.where(_ends(symbols, target_lengths), alphas[-1], -np.inf)
    return -_together(*[last[:, i] for i in range(last.shape[1])]), alphas


@_ctc.gradient
def _(g, y, log_probs, targets, input_lengths, target_lengths, blank, alphas):
    # d(-log P)/d log p[t, c] = -P(the path emits c at t | the target)
    lib = xp(log_probs)
    symbols, skips = _states(targets, blank)
    emitted = _emitted(log_probs, symbols)
    betas = _betas(emitted, skips, input_lengths, _ends(symbols, target_lengths))
    frames = lib.arange(len(log_probs))[:, None, None]
    possible = (frames < input_lengths[:, None]) & (lib.isfinite(y)[:, None])
    with np.errstate(invalid="ignore"):
        posterior = lib.where(possible, lib.exp(alphas + betas + y[:, None]), 0.0).astype(g.dtype)
    one_hot = (symbols[..., None] == lib.arange(log_probs.shape[-1])).astype(g.dtype)
    return (-lib.einsum("tns,nsc->tnc", posterior, one_hot) * g[:, None],)


@_ctc.definition
def _(log_probs, targets, input_lengths, target_lengths, blank):
    """The alpha recursion in probabilities of one frame after another, rescaled so that none underflows."""
    targets, input_lengths, target_lengths = map(value, (targets, input_lengths, target_lengths))
    lib, dtype = xp(value(log_probs)), log_probs.dtype
    symbols, skips = _states(targets, blank)
    samples, states = symbols.shape
    first = (lib.arange(states) < 2).astype(dtype)
    column, total, alpha = lib.zeros((samples, 1), dtype), 0.0, None
    for t in range(len(log_probs)):
        emitted = exp(gather(log_probs[t], 1, symbols))
        if alpha is None:
            new = emitted * first
        else:
            one = cat([column, alpha[:, :-1]], 1)
            two = cat([column, column, alpha[:, :-2]], 1) if states > 1 else alpha * 0.0
            new = (alpha + one + two * skips.astype(dtype)) * emitted
            new = where((t < input_lengths)[:, None], new, alpha)
        scale = sum(new, 1, keepdim=True)
        scale = where(value(scale) > 0, scale, 1.0)
        alpha, total = new / scale, total + log(scale)
    ends = _ends(symbols, target_lengths).astype(dtype)
    chance = sum(alpha * ends, 1)
    reached = value(chance) > 0  # an infinite loss has no gradient
    return where(reached, -(log(where(reached, chance, 1.0)) + reshape(total, (-1,))), math.inf)


def _padded(targets, lengths, lib):
    """Targets one after another (their summed length,) as rows (N, longest)."""
    lengths = lengths.tolist()
    rows = lib.zeros((len(lengths), max([1, *lengths])), np.int64)
    start = 0
    for i, n in enumerate(lengths):
        rows[i, :n] = targets[start : start + n]
        start += n
    return rows


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """-log of the probability of every alignment of the targets with the frames.

    log_probs       (T, N, C), or (T, C) for one sample: log_softmax over the last dimension
    targets         (N, L) of symbols other than blank, or all of them one after another, (the sum of
    target_lengths,)
    input_lengths   (N,): how many frames each sample has; target_lengths (N,): how many symbols
    reduction       "mean" divides each loss by its target's length, then averages
    zero_infinity   a target that cannot be reached (too few frames) counts 0, without gradient, in place of
    infinity

    Raises ShapeError, DtypeError, ArgumentError, and DimError for a symbol that is not there.
    """
    name = "ctc_loss"
    check_reduction(name, reduction)
    floating(name, log_probs)
    expect(log_probs.ndim in (2, 3), f"{name}: log_probs is (T, N, C) or (T, C)", log_probs)
    single = log_probs.ndim == 2
    x = reshape(log_probs, (log_probs.shape[0], 1, log_probs.shape[1])) if single else log_probs
    frames, samples, classes = x.shape
    lib = xp(value(x))
    expect(0 <= blank < classes, f"{name}: blank is one of the {classes} symbols", blank, error=ArgumentError)
    reads("ctc_loss, which looks at the lengths,")
    lengths = []
    for what, given in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        given = lib.asarray(value(given)).reshape(-1)
        expect(given.dtype.kind in "iu", f"{name}: {what} holds integers", given, error=DtypeError)
        expect(len(given) == samples, f"{name}: {what} has one number for each of the {samples} samples", given)
        expect(
            not bool((given < 0).any()), f"{name}: {what} holds lengths, which are not negative", error=ArgumentError
        )
        lengths.append(given.astype(np.int64))
    input_lengths, target_lengths = lengths
    expect(
        frames > 0 and not bool((input_lengths > frames).any()),
        f"{name}: log_probs has {frames} frames; no input_length may be longer",
        input_lengths,
        error=ArgumentError,
    )
    targets = lib.asarray(value(targets))
    expect(targets.dtype.kind in "iu", f"{name}: targets are integers", targets, error=DtypeError)
    if single and targets.ndim == 1:
        targets = targets[None]
    if targets.ndim == 1:
        total = int(target_lengths.sum())
        expect(len(targets) == total, f"{name}: targets in one row hold the sum of target_lengths, {total}", targets)
        targets = _padded(targets, target_lengths, lib)
    longest = int(target_lengths.max()) if samples else 0
    expect(
        targets.ndim == 2 and len(targets) == samples and targets.shape[1] >= longest,
        f"{name}: targets is ({samples}, at least {longest})",
        targets,
    )
    used = lib.arange(targets.shape[1]) < target_lengths[:, None]
    targets = lib.where(used, targets, blank)
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise DimError(f"{name}: symbols go from 0 to {classes - 1}")
    losses = _ctc(x, targets.astype(np.int64), input_lengths, target_lengths, int(blank))
    if zero_infinity:
        losses = where(lib.isinf(value(losses)), 0.0, losses)
    if reduction == "mean":
        return mean(losses / lib.maximum(target_lengths, 1).astype(x.dtype))
    if reduction == "sum":
        return sum(losses)
    return reshape(losses, ()) if single else losses
