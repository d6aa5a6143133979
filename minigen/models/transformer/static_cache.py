"""A cache of keys and values with all its room made at the start: nothing grows, nothing moves.

    state = gpt.static_cache(rows=2, capacity=200)          # room for 200 symbols in each of 2 texts
    logits, state = gpt.step(ids, state)                    # written in place: `state` is the same object

The growing cache (causal.py) copies all that it holds with every symbol, and its arrays have another size and another
address each time. Here a layer has one array (N, H, capacity, D) of keys and one of values, and where the next symbol
goes is a number in an array, `lengths` (N,), on the device. So a step of one symbol is the same work on the same
addresses every time, which `minigen.capture` can record once and replay (sampling/decoding.py does that).

Each row has its own length, and padding is never stored: whether the prompts were padded on the left or on the right,
row n holds its own symbols at places 0 to lengths[n] - 1. So a symbol's place in the cache is its place in its text.
"""

import numpy as np

from ... import kernels
from ...autograd import action, is_grad_enabled
from ...device import library, to_device, xp
from ...errors import ArgumentError, GradientError, expect
from ...ops.attention import attend_and_write, cache_write
from ...tensor import value, wrap


class StaticState:
    """Keys and values of each layer, (N, H, capacity, D), and how many places of each row are filled, (N,).

    `gpt.step` and `select` change it in place. The arrays are made by the first step, of the type that it computes in.

    layers    [(keys, values), ...]
    lengths   (N,) int64, on the device
    length    the largest of them, by the host's own count: who replays a recorded step sets it
    """

    def __init__(self, rows, capacity, device=None):
        good = all(isinstance(n, (int, np.integer)) and n > 0 for n in (rows, capacity))
        expect(good, "static_cache: rows and capacity are whole numbers above 0", rows, capacity, error=ArgumentError)
        self.layers, self.length, self.capacity, self.masked = [], 0, int(capacity), False
        self.lengths = library(device).zeros(int(rows), np.int64)

    def check(self, more):
        """Raise ShapeError unless `more` symbols fit."""
        before = f" after {self.length} that were read before" if self.length else ""
        rule = f"static cache: {more} symbols{before} do not fit into its {self.capacity} places"
        hint = "make it with more, model.static_cache(rows, capacity), as far as the model's own places go"
        expect(self.length + more <= self.capacity, rule, hint=hint)

    @property
    def replays(self):
        """Whether a step of one symbol can be captured and replayed, by what was read so far.

        It needs a type that has kernels. On the CPU masked scores (of layers with a window) grow with the text.
        """
        on_cpu = xp(self.lengths) is np
        known = bool(self.layers) and kernels.find(self.layers[0][0], "kv_cache") is not None
        return known and not (on_cpu and self.masked)

    def select(self, rows):
        """The state of those rows, in that order: (M,) int64. If M is N it is this one, changed in place; else another.

        Only rows that change are copied, and of them only what is filled.
        """
        rows = np.asarray(to_device(value(rows), "cpu"), np.int64)
        N, lib, end = len(self.lengths), xp(self.lengths), self.length
        if len(rows) != N:
            other = StaticState(len(rows), self.capacity, "cpu" if lib is np else "cuda")
            other.lengths, other.length, other.masked = self.lengths[lib.asarray(rows)], end, self.masked
            for pair in self.layers:
                shape = (len(rows), *pair[0].shape[1:])
                other.layers.append(tuple(lib.zeros(shape, x.dtype) for x in pair))
                for new, old in zip(other.layers[-1], pair):
                    new[:, :, :end] = old[:, :, :end][lib.asarray(rows)]
            return other
        changed = np.flatnonzero(rows != np.arange(N))
        if len(changed):
            to, come_from = lib.asarray(changed), lib.asarray(rows[changed])
            self.lengths[to] = self.lengths[come_from]
            for pair in self.layers:
                for x in pair:
                    x[to, :, :end] = x[:, :, :end][come_from]
        return self


class StaticReading:
    """T more symbols of each row, read into a StaticState.

    attention_mask   (N, T) of 0 and 1, or None: a 0 is padding, and is not stored
    like             a tensor (N, T, ...) of the type and on the device of the scores
    fused            False: attention is to be written out, with a mask

    places           (N, T): which symbol of its text each is
    count            how many symbols the longest text gets more
    """

    def __init__(self, state, attention_mask, like, fused=True):
        expect(not is_grad_enabled(), "static cache: what is written in place cannot be differentiated", state,
               error=GradientError, hint="write with no_grad(): ..., or let the cache grow, state=None")  # fmt: skip
        self.lib, (rows, self.T) = xp(like.data), like.shape[:2]
        expect(rows == len(state.lengths), f"static cache: made for {len(state.lengths)} rows, which read together",
               like)  # fmt: skip
        self.state, self.like, self.made = state, like, {}
        lengths, count, self.padded = state.lengths[:, None], self.T, attention_mask is not None
        if self.padded:
            kept = self.lib.asarray(value(attention_mask)).astype(bool)
            expect(kept.shape == (rows, self.T), f"attention_mask is (N, T), here {(rows, self.T)}", kept)
            number = kept.cumsum(1)
            self.after = state.lengths + number[:, -1]
            self.places = lengths + self.lib.maximum(number - 1, 0)
            self.written = self.lib.where(kept, self.places, -1)
            count = int(self.after.max()) - state.length
        else:
            self.after = longer(state.lengths, self.T)
            self.places = self.written = lengths if self.T == 1 else lengths + self.lib.arange(self.T)
        self.count, self.end = count, state.length + count
        self.single = self.T == 1 and not self.padded and fused
        state.masked |= not fused

    def layer(self, i, window=None):
        """The function of layer i's new keys and values that stores them, and says what attention needs.

        It returns keys, values, mask, causal, attend: see SelfAttention.
        """

        def remember(k, v):
            keys, values = self._room(i, k, v)
            self.state.masked |= window is not None
            if self.single and window is None:
                cache = keys, values, k, v, self.written, self.after
                return k, v, None, False, lambda q, scale: attend_and_write(q, *cache, scale)
            cache_write(keys, values, k.data, v.data, self.written)
            if self.state.length == 0 and not self.padded and window is None:
                return k, v, None, True, None  # the first symbols: nothing else is there
            # Recorded once and replayed, one symbol's scores must have one size.
            S = self.state.capacity if self.T == 1 and self.lib is not np else self.end
            return wrap(keys[:, :, :S]), wrap(values[:, :, :S]), self._mask(S, window), False, None

        return remember

    def _room(self, i, k, v):
        layers = self.state.layers
        if i == len(layers):
            N, H, _, D = k.shape
            shape = N, H, self.state.capacity
            layers.append((self.lib.zeros((*shape, D), k.dtype), self.lib.zeros((*shape, v.shape[3]), v.dtype)))
        return layers[i]

    def _mask(self, S, window):
        """Numbers to add to the scores, (N, 1, T, S): each symbol sees what stands before it in its own text."""
        if window not in self.made:
            keys, places = self.lib.arange(S), self.places[:, None, :, None]
            allowed = keys <= places
            if window is not None:
                allowed &= keys > places - window
            lowest = np.finfo(self.like.dtype).min
            self.made[window] = wrap(self.lib.where(allowed, 0.0, lowest).astype(self.like.dtype))
        return self.made[window]

    def done(self):
        """The state, now that every layer has read."""
        keep(self.state.lengths, self.after)
        self.state.length = self.end
        return self.state


# What a captured step does beside ops


@action
def longer(lengths, T):
    return lengths + T


@action
def keep(lengths, after):
    lengths[...] = after
