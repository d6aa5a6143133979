"""What is done to a language model's logits before a symbol is drawn: each rule a function, with its paper.

    logits = repetition_penalty(logits, ids, 1.3)
    logits = top_p(temperature(logits, 0.8), 0.95)

logits are (N, V), NumPy or CuPy arrays; what comes back is a new array of the same shape and type, -inf where a symbol
is ruled out. `ids` (N, T) are the symbols before. The cut-offs never rule out all symbols: the likeliest stays.

    temperature, top_k, top_p, min_p, typical, epsilon_cutoff, eta_cutoff     from the logits alone
    repetition_penalty, no_repeat_ngram                                       from what was written so far
    allow, forbid, at_length                                                  by decree
"""

import math

import numpy as np

from .. import kernels
from ..device import xp
from ..errors import ArgumentError, expect
from ..ops.softmax import log_softmax, softmax

LIMITS = {  # of the cut-offs that `generate` knows by name
    "top_k": (lambda k: k >= 1, "top_k: k is at least 1"),
    "top_p": (lambda p: 0 < p <= 1, "top_p: p lies in (0, 1]"),
    "min_p": (lambda p: 0 <= p <= 1, "min_p: p lies in [0, 1]"),
}


def check(name, limit):
    """Raise ArgumentError where a cut-off of this name does not take this number."""
    fits, rule = LIMITS[name]
    expect(fits(limit), rule, limit, error=ArgumentError)


def temperature(logits, t):
    """Logits divided by t: below 1 the likely becomes likelier, above 1 all become alike (Ackley et al. 1985)."""
    expect(t > 0, "temperature: t must be above 0; greedy decoding takes the largest logit", t, error=ArgumentError)
    return logits / logits.dtype.type(t)


def top_k(logits, k):
    """Only the k largest, and what is level with the k-th (Fan, Lewis & Dauphin 2018)."""
    check("top_k", k)
    if k >= logits.shape[-1]:
        return logits.copy()
    kth = xp(logits).partition(logits, -k, axis=-1)[..., -k, None]
    return _without(logits, logits < kth)


def top_p(logits, p):
    """The smallest set of likeliest symbols that has probability p together: the nucleus (Holtzman et al. 2020)."""
    check("top_p", p)
    lib = xp(logits)
    order = lib.argsort(logits, axis=-1, kind="stable")
    below = softmax(lib.take_along_axis(logits, order, -1), -1).cumsum(-1)  # this symbol and all less likely ones
    drop = below <= 1 - p
    drop[..., -1] = False
    return _without(logits, _unsorted(drop, order))


def min_p(logits, p):
    """Symbols at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    check("min_p", p)
    chance = softmax(logits, -1)
    return _without(logits, chance < p * chance.max(-1, keepdims=True))


def typical(logits, mass):
    """The symbols whose surprise is nearest to the expected one, up to `mass` (Meister et al. 2023, arXiv:2202.00666).

    Human text is neither always likely nor ever wild: -log p(symbol) stays near the entropy H.
    """
    expect(0 < mass < 1, "typical: mass lies in (0, 1)", mass, error=ArgumentError)
    lib = xp(logits)
    surprise = -log_softmax(logits, -1)
    chance = lib.exp(-surprise)
    entropy = lib.where(chance > 0, surprise * chance, 0).sum(-1, keepdims=True)
    off = abs(surprise - entropy)
    order = lib.argsort(off, axis=-1, kind="stable")
    within = lib.take_along_axis(chance, order, -1).cumsum(-1)
    last = lib.minimum((within < mass).sum(-1, keepdims=True), logits.shape[-1] - 1)
    widest = lib.take_along_axis(lib.take_along_axis(off, order, -1), last, -1)
    return _without(logits, off > widest)


def epsilon_cutoff(logits, epsilon):
    """Symbols at least as likely as epsilon (Hewitt, Manning & Liang 2022, arXiv:2210.15191)."""
    expect(0 < epsilon < 1, "epsilon_cutoff: epsilon lies in (0, 1)", epsilon, error=ArgumentError)
    return _at_least(logits, epsilon)


def eta_cutoff(logits, epsilon):
    """Symbols at least as likely as min(epsilon, sqrt(epsilon) e^-H): looser where much is open (same paper, eq. 5)."""
    expect(0 < epsilon < 1, "eta_cutoff: epsilon lies in (0, 1)", epsilon, error=ArgumentError)
    lib = xp(logits)
    log_p = log_softmax(logits, -1)
    chance = lib.exp(log_p)
    entropy = -lib.where(chance > 0, log_p * chance, 0).sum(-1, keepdims=True)
    return _at_least(logits, lib.minimum(epsilon, math.sqrt(epsilon) * lib.exp(-entropy)))


def repetition_penalty(logits, ids, penalty):
    """What was written before becomes less likely: logits above 0 divided by `penalty`, the others multiplied.

    Once, however often it was written (Keskar et al. 2019, arXiv:1909.05858, section 4.1).
    """
    expect(penalty > 0, "repetition_penalty: penalty is above 0", penalty, error=ArgumentError)
    lib, ids = xp(logits), _ids(ids, logits)
    family = kernels.find(logits, "sampling")
    if family is not None:
        return family.repetition_penalty(logits, ids, penalty)
    then = lib.take_along_axis(logits, ids, -1)
    penalty = logits.dtype.type(penalty)
    out = logits.copy()
    out[lib.arange(len(ids))[:, None], ids] = lib.where(then < 0, then * penalty, then / penalty)
    return out


def no_repeat_ngram(logits, ids, n):
    """No n symbols in a row may stand there twice (Paulus, Xiong & Socher 2018, section 2.5)."""
    expect(n >= 1, "no_repeat_ngram: n is at least 1", n, error=ArgumentError)
    lib, ids = xp(logits), _ids(ids, logits)
    out, length = logits.copy(), ids.shape[1]
    if length < n:
        return out
    before = lib.stack([ids[:, i : length - n + 1 + i] for i in range(n)], -1)  # every n-gram so far, (N, T-n+1, n)
    again = (before[..., :-1] == ids[:, None, length - n + 1 :]).all(-1)
    row, place = lib.nonzero(again)
    out[row, before[row, place, -1]] = -np.inf
    return out


def allow(logits, symbols):
    """Only these symbols (a list, or a boolean mask (V,) or (N, V)): constrained decoding, by a grammar say."""
    return _without(logits, ~_mask(logits, symbols))


def forbid(logits, symbols):
    """None of these symbols (a list, or a boolean mask)."""
    return _without(logits, _mask(logits, symbols))


def at_length(logits, ids, length, symbol):
    """Where the next symbol is the last of `length`, it is `symbol` (BART's forced end)."""
    return allow(xp(logits).zeros_like(logits), [symbol]) if ids.shape[1] == length - 1 else logits


# Pieces


def _without(logits, drop):
    return xp(logits).where(drop, logits.dtype.type(-np.inf), logits)


def _at_least(logits, threshold):
    chance = softmax(logits, -1)
    return _without(logits, (chance < threshold) & (logits < logits.max(-1, keepdims=True)))


def _unsorted(values, order):
    """`values`, that stand in sorted order, where they came from."""
    lib = xp(values)
    return lib.take_along_axis(values, lib.argsort(order, axis=-1), -1)


def _ids(ids, logits):
    ids = xp(logits).asarray(getattr(ids, "data", ids) if hasattr(ids, "requires_grad") else ids)
    good = ids.ndim == 2 and len(ids) == len(logits) and ids.dtype.kind in "iu"
    expect(good, "logits (N, V) go with ids (N, T), whole numbers", logits, ids)
    return ids


def _mask(logits, symbols):
    lib = xp(logits)
    symbols = lib.asarray(symbols)
    if symbols.dtype.kind == "b":
        return symbols
    mask = lib.zeros(logits.shape[-1], bool)
    mask[symbols.astype(np.int64)] = True
    return mask
