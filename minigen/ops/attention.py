"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1): softmax(q k^T / sqrt(d) + mask) v.

The projections and heads around it stand in multihead.py. The kernels, of the CPU and of the GPU, never hold all the
weights; the definition below is the formula.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import action, op
from ..autograd.modes import mode
from ..device import FLOATS, xp
from ..errors import DtypeError, ShapeError, expect
from ..tensor import value as array
from ..tensor import wrap
from .arithmetic import where
from .dropout import drop_for, drop_weights
from .elementary import exp
from .rearranging import repeat_interleave
from .reduction import sum
from .shape import expand, reshape


@op(saves=("logs",))
def _attention(query, key, value, mask, drop, scale, causal):
    """query (B, H, T, D), key (B, G, S, D), value (B, G, S, E) -> (B, H, T, E); head h uses key head h // (H / G).

    mask is added to the scores: None or broadcasts to (B, H, T, S). drop is dropout of the weights: None or what
    `drop_for` gives for (B, H, T, S).
    """
    family = kernels.find(query, "attention")
    plain = mask is None and drop is None and not causal and query.shape[1] == key.shape[1]
    if not _served(family, query, key, value, plain):
        return NotImplemented
    return family.attention(query, key, value, _spread(query, key, mask), drop, scale, causal)


def _served(family, query, key, value, plain=False):
    """Whether there is a kernel for heads of this size, and something to do. plain: the family takes any size."""
    some = 0 not in query.shape and 0 not in key.shape and 0 not in value.shape
    return some and family is not None and (plain or max(query.shape[3], value.shape[3]) <= family.WIDEST)


@_attention.gradient
def _(g, y, query, key, value, mask, drop, logs, scale, causal, needs):
    family, mask = kernels.find(g, "attention"), _spread(query, key, mask)
    return family.attention_gradient(g, query, key, value, mask, drop, y, logs, scale, causal, mask_too=needs[3])


@_attention.definition
def _(query, key, value, mask, drop, scale, causal):
    shared = query.shape[1] // max(key.shape[1], 1)
    if shared > 1:
        key, value = repeat_interleave(key, shared, 1), repeat_interleave(value, shared, 1)
    scores = query @ key.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = scores + _future(scores)
    weights = exp(scores - _largest(scores))
    total = sum(weights, -1, keepdim=True)
    weights = weights / (total + (total == 0))  # a query that may attend to nothing: 0 / 1, not 0 / 0
    return drop_weights(weights, drop) @ value


def _spread(query, key, mask):
    """The mask seen at every score, as a view."""
    return None if mask is None else xp(mask).broadcast_to(mask, (*query.shape[:3], key.shape[2]))


@action
def _future(scores):
    """-inf above the diagonal of the last two dimensions: query i may not look at a key after i."""
    lib, (T, S) = xp(array(scores)), scores.shape[-2:]
    return lib.where(lib.arange(S) > lib.arange(T)[:, None], -np.inf, 0.0).astype(scores.dtype)


@action
def _largest(scores):
    """The largest score of each query, which taken off keeps exp from overflowing; a constant to the gradient."""
    scores = array(scores)
    if scores.shape[-1] == 0:
        return xp(scores).zeros((*scores.shape[:-1], 1), scores.dtype)
    top = scores.max(-1, keepdims=True)
    return xp(scores).where(top == -np.inf, 0.0, top).astype(scores.dtype)


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """softmax(scale query key^T + mask) value: each query takes a weighted mean of the values.

    query       (..., H, T, D), key (..., H, S, D), value (..., H, S, E) -> (..., H, T, E); leading dimensions broadcast
    attn_mask   broadcasts to (..., H, T, S): of booleans, False forbids; of numbers, it is added to the scores
    dropout_p   the share of the weights that is zeroed, the rest being scaled up, by the default generator. Applied
                whenever it is not 0: write `p if self.training else 0.0`
    is_causal   query i sees keys 0 to i only (beside what attn_mask says)
    scale       1 / sqrt(D) if None
    enable_gqa  key and value may have fewer heads than query: each serves H / G query heads (Ainslie et al. 2023)

    A query that may attend to no key gets zeros. The result of (B, H, T, D) inputs lies in memory as (B, T, H, E), so
    that `.transpose(1, 2).reshape(B, T, H * E)` copies nothing. Raises ShapeError, DtypeError or ArgumentError.
    """
    _check(query, key, value)
    lead, shared = _leading(query, key, value, enable_gqa)
    T, S, D, E = query.shape[-2], key.shape[-2], query.shape[-1], value.shape[-1]
    mask = None if attn_mask is None else _added(attn_mask, lead, T, S, query.dtype, enable_gqa)
    query, (key, value) = _four(query, lead, enable_gqa), [_four(x, shared, enable_gqa) for x in (key, value)]
    drop = drop_for((*query.shape[:3], S), dropout_p)
    scale = 1.0 / math.sqrt(max(D, 1)) if scale is None else float(scale)
    y = _attention(query, key, value, mask, drop, scale, bool(is_causal))
    return y if len(lead) == 2 else reshape(y, (*lead, T, E))


@op
def _attention_decode(query, key, value, length, scale):
    family = kernels.find(query, "attention")
    if not _served(family, query, key, value):
        return NotImplemented
    return family.attention_decode(query, key, value, length, scale)


@_attention_decode.definition
def _(query, key, value, length, scale):
    lib = xp(array(query))
    seen = lib.arange(key.shape[2]) < array(length)[:, None, None, None]
    mask = lib.where(seen, 0.0, -np.inf).astype(query.dtype)
    there = seen.swapaxes(2, 3)
    key, value = where(there, key, 0.0), where(there, value, 0.0)  # nobody knows what stands in places not yet written
    return _attention(query, key, value, wrap(mask), None, scale, False)


def attention_decode(query, key, value, length, scale=None):
    """Attention of one new symbol in each row, over the first length[n] of the keys of a cache (Pope et al. 2022).

    query (N, H, 1, D), key (N, G, S, D), value (N, G, S, E), length (N,) of whole numbers from 1 to S, on the same
    device -> (N, H, 1, E). H is a multiple of G: head h uses key head h // (H / G). scale is 1 / sqrt(D) if None. No
    gradient: the keys of a cache were written in place. Raises ShapeError or DtypeError.
    """
    shapes = query.shape, key.shape, value.shape
    fits = all(len(shape) == 4 for shape in shapes) and query.shape[2] == 1 and shapes[1][:3] == shapes[2][:3]
    fits = fits and shapes[0][::3] == shapes[1][::3] and shapes[0][1] % max(shapes[1][1], 1) == 0
    fits = fits and tuple(length.shape) == shapes[0][:1]
    if not fits:
        raise ShapeError(
            "attention_decode: query (N, H, 1, D), key (N, G, S, D), value (N, G, S, E), length (N,), H a multiple of G"
            f"\n  got {shapes[0]}, {shapes[1]}, {shapes[2]} and {tuple(length.shape)}"
        )
    good = query.dtype == key.dtype == value.dtype and query.dtype.kind in FLOATS and length.dtype.kind in "iu"
    rule = "attention_decode: query, key and value of one floating type, length of whole numbers"
    expect(good, rule, query, key, value, length, error=DtypeError)
    scale = 1.0 / math.sqrt(max(shapes[0][3], 1)) if scale is None else float(scale)
    return _attention_decode(query, key, value, length, scale)


@action
def cache_write(keys, values, k, v, places):
    """Write new keys and values into a cache: keys[n, :, places[n, t]] = k[n, :, t], and so the values. On arrays.

    keys (N, G, S, D), values (N, G, S, E), k (N, G, T, D), v (N, G, T, E), places (N, T) int64 below S; a symbol whose
    place is negative is not stored.
    """
    family = kernels.find(k, "kv_cache")
    if family is not None and k.dtype == keys.dtype and v.dtype == values.dtype:
        return family.cache_write(keys, values, k, v, places)
    rows, t = (places >= 0).nonzero()
    for cache, new in ((keys, k), (values, v)):
        cache[rows, :, places[rows, t]] = new[rows, :, t]


def attend_and_write(query, keys, values, k, v, places, length, scale):
    """`attention_decode` over a cache that gets each row's new key and value first, at places[n] = length[n] - 1.

    query (N, H, 1, D), k (N, G, 1, D) and v (N, G, 1, E) are tensors; keys (N, G, S, D), values (N, G, S, E), places
    (N, 1) and length (N,) arrays. On the GPU that is one launch.
    """
    family = kernels.find(keys, "attention")
    one_type = query.dtype == k.dtype == keys.dtype and v.dtype == values.dtype
    if type(keys) is np.ndarray or not one_type or not _served(family, array(query), keys, values):
        cache_write(keys, values, array(k), array(v), places)
        return attention_decode(query, wrap(keys), wrap(values), length, scale)
    return wrap(_attended(array(query), keys, values, array(k), array(v), length, float(scale)))


@action
def _attended(query, keys, values, k, v, length, scale):
    return kernels.find(keys, "attention").attention_decode(query, keys, values, length, scale, (k, v))


def _check(query, key, value):
    name = "scaled_dot_product_attention"
    for x in (query, key, value):
        expect(hasattr(x, "shape"), f"{name}: query, key and value must be tensors", x, error=DtypeError)
    shapes = query, key, value
    expect(
        min(x.ndim for x in shapes) >= 2, f"{name}: query (..., T, D), key (..., S, D) and value (..., S, E)", *shapes
    )
    expect(
        query.dtype.kind in FLOATS and (query.dtype == key.dtype == value.dtype or mode.autocast is not None),
        f"{name}: query, key and value must be of one floating type",
        *shapes,
        error=DtypeError,
    )
    expect(
        query.shape[-1] == key.shape[-1],
        f"{name}: query and key must have the same last dimension, over which their products are summed",
        *shapes,
    )
    expect(
        key.shape[-2] == value.shape[-2],
        f"{name}: each key needs its value: key (..., S, D), value (..., S, E)",
        *shapes,
    )


def _leading(query, key, value, enable_gqa):
    """The dimensions before the last two, heads last, broadcast: those of query, and those of key and value."""
    name = "scaled_dot_product_attention"
    leads = [tuple(x.shape[:-2]) for x in (query, key, value)]
    if enable_gqa:
        H, G, V = [lead[-1] if lead else 0 for lead in leads]
        expect(
            G == V and G > 0 and H % G == 0,
            f"{name}: with enable_gqa the heads of query must be a multiple of those of key and value",
            *(query, key, value),
        )
    try:
        if not enable_gqa:
            lead = np.broadcast_shapes(*leads)
            return lead, lead
        batch = np.broadcast_shapes(*[lead[:-1] for lead in leads])
        return (*batch, H), (*batch, G)
    except ValueError:
        few, many = [lead[-1] if lead else 1 for lead in leads[1::-1]]
        raise ShapeError(
            f"{name}: the leading dimensions of query {tuple(query.shape)}, key {tuple(key.shape)} and value "
            f"{tuple(value.shape)} do not broadcast"
            + ("\n  did you mean enable_gqa=True? Then query heads share a key head" if many % max(few, 1) == 0 else "")
        ) from None


def _two(lead, enable_gqa):
    """Leading dimensions brought to two, (B, H). One alone is a batch, so that (B, T, D) comes out contiguous."""
    if len(lead) < 2:
        return (1, *lead) if enable_gqa else (*(lead or (1,)), 1)
    return math.prod(lead[:-1]), lead[-1]


def _four(x, lead, enable_gqa):
    """x stretched to its leading dimensions, and those brought to two."""
    if tuple(x.shape[:-2]) != lead:
        x = expand(x, (*lead, *x.shape[-2:]))
    return x if len(lead) == 2 else reshape(x, (*_two(lead, enable_gqa), *x.shape[-2:]))


def _added(mask, lead, T, S, dtype, enable_gqa):
    """attn_mask as numbers to add, with four dimensions that broadcast to (B, H, T, S)."""
    name = "scaled_dot_product_attention"
    expect(hasattr(mask, "shape"), f"{name}: attn_mask must be a tensor", mask, error=DtypeError)
    expect(
        mask.dtype == bool or mask.dtype == dtype,
        f"{name}: attn_mask must be of booleans (True where a key may be seen) or of query's type, {dtype}",
        mask,
        error=DtypeError,
    )
    full = (*lead, T, S)
    fits = mask.ndim <= len(full) and all([m in (1, n) for m, n in zip(mask.shape[::-1], full[::-1])])
    expect(fits, f"{name}: attn_mask must broadcast to (..., H, T, S), here {full}", mask)
    if mask.dtype == bool:
        allowed = array(mask)
        mask = xp(allowed).where(allowed, 0.0, -np.inf).astype(dtype)
    mask = reshape(mask, (1,) * (len(full) - mask.ndim) + tuple(mask.shape))
    if len(lead) == 2:
        return mask
    return _four(mask, lead if len(lead) > 2 else tuple(mask.shape[:-2]), enable_gqa)
