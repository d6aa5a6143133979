"""Multi-head attention with its projections (Vaswani et al. 2017, section 3.2.2), as `nn.MultiheadAttention` uses it.

The attention itself is `scaled_dot_product_attention` (attention.py). Here are the projections into heads, the two
kinds of mask made one, the extra key and value that may be learnt or zero, and the weights for those who look at them.
"""

from ..errors import DtypeError, describe, expect
from . import creation
from .arithmetic import where
from .attention import scaled_dot_product_attention
from .dropout import drop_for, drop_weights
from .joining import cat
from .linear import linear
from .rearranging import triu
from .softmax import softmax


def multi_head_attention_forward(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    average_attn_weights=True,
    is_causal=False,
):
    """Attention of query (L, N, E) over key and value (S, N, E), in heads. Returns (L, N, E) and the weights or None.

    key_padding_mask  (N, S), True where a key is to be ignored, or numbers added to its scores
    attn_mask         (L, S) or (N * heads, L, S), True where attending is not allowed, or numbers added to the scores
    is_causal         position i attends to keys 0..i only, with or without an attn_mask
    need_weights      return (N, L, S), averaged over the heads, or (N, heads, L, S) with average_attn_weights=False
    Without a batch: (L, E), (S, E), and weights without N.
    """
    rule = "multi_head_attention: the embedding of the query must be {} (embed_dim)"
    expect(query.shape[-1] == embed_dim_to_check, rule.format(embed_dim_to_check), query)
    batched = query.ndim == 3
    same = query is key and key is value
    if batched:
        query = query.transpose(0, 1)
        key, value = (query, query) if same else (key.transpose(0, 1), value.transpose(0, 1))
    y, weights = attend(
        query,
        key,
        value,
        num_heads,
        (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight,
        in_proj_bias,
        (bias_k, bias_v),
        add_zero_attn,
        dropout_p if training else 0.0,
        (out_proj_weight, out_proj_bias),
        key_padding_mask,
        attn_mask,
        is_causal,
        need_weights,
        average_attn_weights,
    )
    return (y.transpose(0, 1) if batched else y), weights


def attend(
    query,
    key,
    value,
    num_heads,
    in_weight,
    in_bias,
    extra=(None, None),
    add_zero_attn=False,
    dropout_p=0.0,
    out=(None, None),
    key_padding_mask=None,
    attn_mask=None,
    is_causal=False,
    need_weights=True,
    average=True,
):
    """The same, batch first: query (N, L, E), key and value (N, S, E).

    in_weight  (3 E, E), or three weights (E, E), (E, kdim), (E, vdim);   extra, out: pairs (bias_k, bias_v) and
    (weight, bias) of the output projection
    """
    if query.ndim == 2 and key.ndim == 2 and value.ndim == 2:
        same = query is key and key is value
        query, key, value = [x.unsqueeze(0) for x in (query, key, value)]
        key, value = (query, query) if same else (key, value)
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        y, weights = attend(
            query, key, value, num_heads, in_weight, in_bias, extra, add_zero_attn, dropout_p, out,
            key_padding_mask, attn_mask, is_causal, need_weights, average,
        )  # fmt: skip
        return y.squeeze(0), None if weights is None else weights.squeeze(0)
    _check(query, key, value)
    n, length = query.shape[:2]
    q, k, v = _project(query, key, value, in_weight, in_bias)
    if extra[0] is not None:  # one more key and value, learnt, the same for every sample
        k, v = [cat([x, b.expand(n, 1, b.shape[-1])], dim=1) for x, b in zip((k, v), extra)]
    q, k, v = [x.reshape(n, x.shape[1], num_heads, -1).transpose(1, 2) for x in (q, k, v)]
    if add_zero_attn:  # one more key and value of zeros: a head may attend to nothing
        k, v = [cat([x, _zeros(x, (n, num_heads, 1, x.shape[-1]))], dim=2) for x in (k, v)]
    mask = _merge(key_padding_mask, attn_mask, q, k, key.shape[1], is_causal)
    if need_weights:
        y, weights = _attention_with_weights(q, k, v, mask, dropout_p)
        weights = weights.mean(dim=1) if average else weights
    else:
        alone = mask is None and is_causal
        y, weights = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal=alone), None
    y = y.transpose(1, 2).reshape(n, length, -1)
    return linear(y, *out), weights


def _check(query, key, value):
    expect(
        query.ndim == key.ndim == value.ndim == 3,
        "multi_head_attention: query, key and value must all be batched (3 dimensions) or all be single (2)",
        query,
        key,
        value,
    )
    expect(
        key.shape[:2] == value.shape[:2] and query.shape[0] == key.shape[0],
        "multi_head_attention: key and value must have the same length, and all three the same batch",
        query,
        key,
        value,
    )


def _project(query, key, value, weight, bias):
    """q, k, v (N, length, E). Where they come from one tensor they come from one product."""
    if isinstance(weight, tuple):
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return [linear(x, w, b) for x, w, b in zip((query, key, value), weight, biases)]
    size = query.shape[-1]
    if query is key and key is value:
        return linear(query, weight, bias).chunk(3, dim=-1)
    b = (None, None) if bias is None else (bias[:size], bias[size:])
    q = linear(query, weight[:size], b[0])
    if key is value:
        return q, *linear(key, weight[size:], b[1]).chunk(2, dim=-1)
    b = (None, None) if bias is None else (bias[size : 2 * size], bias[2 * size :])
    return q, linear(key, weight[size : 2 * size], b[0]), linear(value, weight[2 * size :], b[1])


def _merge(key_padding_mask, attn_mask, q, k, keys, is_causal):
    """One mask for scaled_dot_product_attention: True where attending is allowed, or numbers to add; None if all may.

    `keys` counts the keys that were given; those added since (k is longer then) are open to everyone.
    """
    n, heads, length, total = *q.shape[:3], k.shape[2]
    parts = []
    if key_padding_mask is not None:
        _check_mask("key_padding_mask", key_padding_mask, [(n, keys)])
        parts.append(key_padding_mask.reshape(n, 1, 1, keys))
    if attn_mask is not None:
        _check_mask("attn_mask", attn_mask, [(length, keys), (n * heads, length, keys)])
        parts.append(attn_mask.reshape(n, heads, length, keys) if attn_mask.ndim == 3 else attn_mask)
    if is_causal and (parts or total != keys):
        parts.append(triu(creation.ones(length, keys, dtype=bool, device=q.device), 1))
    if total != keys:
        parts = [cat([m, _zeros(m, (*m.shape[:-1], total - keys))], dim=-1) for m in parts]
    if not parts:
        return None
    if all(m.dtype == bool for m in parts):
        blocked = parts[0]
        for m in parts[1:]:
            blocked = blocked | m
        return ~blocked
    added = 0.0
    for m in parts:
        added = added + (where(m, float("-inf"), _zeros(q, ())) if m.dtype == bool else m)
    return added


def _check_mask(name, mask, shapes):
    wanted = " or ".join(str(shape) for shape in shapes)
    expect(mask.shape in shapes, f"multi_head_attention: {name} must be {wanted}", mask)
    if not (mask.dtype == bool or mask.is_floating_point()):
        raise DtypeError(f"multi_head_attention: {name} holds booleans or numbers to add, got {describe(mask)}")


def _attention_with_weights(q, k, v, mask, dropout_p):
    """softmax(q k^T / sqrt(d) + mask) v, and the weights that multiplied v."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if mask is not None:
        scores = where(mask, scores, float("-inf")) if mask.dtype == bool else scores + mask
    weights = drop_weights(softmax(scores, -1), drop_for(scores.shape, dropout_p))
    return weights @ v, weights


def _zeros(like, shape):
    return creation.zeros(shape, dtype=like.dtype, device=like.device)


__all__ = ["attend", "multi_head_attention_forward"]
