"""Causal attention's two companions: which places may be looked at, and what is kept of those that were read.

masks = Masks(T, past, attention_mask, like=x)
mask, causal = masks(window)                       # for F.scaled_dot_product_attention
state = State([(keys, values), ...])               # one pair a layer; state.select(rows) for beam search
reading = Reading(state, attention_mask, like=x)   # T more places: hands each layer its past, and keeps what it leaves

static_cache.py has the same, State and Reading, in arrays that never grow.
"""

import numpy as np

from ...device import xp
from ...errors import expect
from ...nn import functional as F
from ...ops.arithmetic import where
from ...ops.joining import cat
from ...tensor import value, wrap


class Masks:
    """Which keys each of T places, after `past` others, may look at: numbers to add to the scores, made once a kind.

    attention_mask   (N, past + T) of 0 and 1, or None: nobody looks at a 0
    like             a tensor (N, T, ...) of the type and on the device of the scores

    What is forbidden gets the type's lowest number, as published, and not -inf: a place that may look nowhere (padding
    on the left) then looks everywhere alike, and nothing becomes NaN.
    """

    def __init__(self, T, past, attention_mask, like):
        self.T, self.past, self.like, self.made = T, past, like, {}
        self.padding = None if attention_mask is None else xp(like.data).asarray(value(attention_mask)).astype(bool)
        if self.padding is not None:
            over_all = self.padding.shape == (like.shape[0], past + T)
            expect(over_all, f"attention_mask is (N, S), over all {past + T} places so far", self.padding)
            if self.padding.all():
                self.padding = None

    def __call__(self, window=None):
        """(mask (N or 1, 1, T, S) or None, whether attention is to be causal by itself).

        window   each place sees so many, itself included; None: all before it
        """
        if window is not None and window >= self.past + self.T:
            window = None
        if self.padding is None and window is None and (self.past == 0 or self.T == 1):
            return None, self.past == 0
        if window not in self.made:
            lowest = np.finfo(self.like.dtype).min
            self.made[window] = wrap(
                xp(self.like.data).where(self._allowed(window), 0.0, lowest).astype(self.like.dtype)
            )
        return self.made[window], False

    def _allowed(self, window):
        """Whether each place may look at each key, (N or 1, 1, T, S)."""
        lib, S = xp(self.like.data), self.past + self.T
        keys = lib.ones((1, S), bool) if self.padding is None else self.padding
        number = keys.cumsum(1)  # which of its text's symbols each is, padding left out
        allowed = keys[:, None] & (lib.arange(S) <= lib.arange(self.past, S)[:, None])
        if window is not None:
            allowed &= number[:, None] > number[:, self.past :, None] - window
        return allowed[:, None]


class State:
    """Keys and values of each layer, (N, H, S, D), and which of the S places count, (N, S), or None for all.

    layers   [(keys, values), ...]
    length   S
    """

    def __init__(self, layers, attention_mask=None):
        self.layers, self.attention_mask = layers, attention_mask

    @property
    def length(self):
        return self.layers[0][0].shape[2]

    def select(self, rows):
        """The state of those rows, in that order: (M,) int64. Beam search goes on from its best beams."""
        mask = None if self.attention_mask is None else value(self.attention_mask)[rows]
        return State([(keys[rows], values[rows]) for keys, values in self.layers], mask)


class Reading:
    """T more places after `state`, (N, T, ...) as `like` is; attention_mask as in Masks."""

    def __init__(self, state, attention_mask, like):
        self.past, self.attention_mask, self.kept = [] if state is None else state.layers, attention_mask, []
        self.masks = Masks(like.shape[1], 0 if state is None else state.length, attention_mask, like)

    def layer(self, i, window=None):
        """The function of layer i's new keys and values that keeps them, and says what attention needs.

        It returns keys, values, mask, causal, None: see SelfAttention in gpt.py.
        """
        mask, causal = self.masks(window)

        def remember(k, v):
            if self.past:
                k, v = cat([self.past[i][0], k], 2), cat([self.past[i][1], v], 2)
            self.kept.append((k, v))
            return k, v, mask, causal, None

        return remember

    def done(self):
        """The state, now that every layer has read."""
        return State(self.kept, self.attention_mask)


def padded_places(shape, attention_mask, state=None):
    """For T more symbols after `state`: the attention mask over all S places, and the T places counted without padding.

    shape            (N, T)
    attention_mask   (N, T) of 0 and 1, or None for no padding among them. Returns (N, S), (N, T) or (None, None).
    """
    before = None if state is None else state.attention_mask
    if attention_mask is None and before is None:
        return None, None
    lib = xp(value(before if attention_mask is None else attention_mask))
    now = lib.ones(shape, np.int64) if attention_mask is None else lib.asarray(value(attention_mask)).astype(np.int64)
    expect(now.shape == tuple(shape), f"attention_mask is (N, T), here {tuple(shape)}", now)
    if state is not None:
        before = lib.ones((shape[0], state.length), np.int64) if before is None else value(before)
        now = lib.concatenate([before, now], 1)
    return now, wrap(lib.maximum(now.cumsum(1) - 1, 0)[:, now.shape[1] - shape[1] :])


def attention_weights(q, k, mask=None, causal=True, scale=1.0, upcast=False):
    """softmax(scale q k^T + mask), written out: q (N, H, T, D), k (N, H, S, D) -> (N, H, T, S).

    upcast   scores and softmax in float32 where q has half as many bits
    """
    dtype = q.dtype
    if upcast and dtype.itemsize < 4:
        q, k = q.float(), k.float()
    scores = q @ k.mT * scale
    if causal:
        lib, (T, S) = xp(scores.data), scores.shape[-2:]
        scores = where(wrap(lib.tri(T, S, dtype=bool)), scores, -np.inf)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return F.softmax(scores, -1).to(dtype)
