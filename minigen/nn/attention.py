"""Multi-head attention as a layer (Vaswani et al. 2017)."""

from ..errors import ArgumentError, expect
from ..ops import multihead
from . import init
from .linear import Linear
from .module import Module, new_parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Every query looks at all keys, in `num_heads` subspaces, and returns a mean of the values.

    query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E); with batch_first (N, L, E) and so on; without
    N for a single sequence. Masks: True means "not allowed" (see `ops.multihead.multi_head_attention_forward`).

    in_proj_weight (3 E, E) holds the projections of query, key and value one under the other, unless kdim or vdim
    differ: then they are q_proj_weight, k_proj_weight and v_proj_weight.
    add_bias_kv    one more key and value, learnt;    add_zero_attn    one more key and value, zero
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
        device=None,
        dtype=None,
    ):
        expect(
            embed_dim > 0 and num_heads > 0 and embed_dim % num_heads == 0,
            f"MultiheadAttention: num_heads={num_heads} must divide embed_dim={embed_dim}",
            error=ArgumentError,
        )
        factory = {"device": device, "dtype": dtype}
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first
        self.in_proj_weight = self.q_proj_weight = self.k_proj_weight = self.v_proj_weight = None
        if self.kdim == embed_dim == self.vdim:
            self.in_proj_weight = new_parameter(3 * embed_dim, embed_dim, **factory)
        else:
            self.q_proj_weight = new_parameter(embed_dim, embed_dim, **factory)
            self.k_proj_weight = new_parameter(embed_dim, self.kdim, **factory)
            self.v_proj_weight = new_parameter(embed_dim, self.vdim, **factory)
        self.in_proj_bias = new_parameter(3 * embed_dim, **factory) if bias else None
        self.bias_k = new_parameter(1, 1, embed_dim, **factory) if add_bias_kv else None
        self.bias_v = new_parameter(1, 1, embed_dim, **factory) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, **factory)
        self.reset_parameters()

    def reset_parameters(self):
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        need_weights=True,
        attn_mask=None,
        average_attn_weights=True,
        is_causal=False,
    ):
        """(output, weights); the weights (N, L, S), or None with need_weights=False, which is faster."""
        swap = query.ndim == 3 and not self.batch_first
        if swap:
            same = query is key and key is value
            query = query.transpose(0, 1)
            key, value = (query, query) if same else (key.transpose(0, 1), value.transpose(0, 1))
        separate = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        y, weights = multihead.attend(
            query,
            key,
            value,
            self.num_heads,
            separate if self.in_proj_weight is None else self.in_proj_weight,
            self.in_proj_bias,
            (self.bias_k, self.bias_v),
            self.add_zero_attn,
            self.dropout if self.training else 0.0,
            (self.out_proj.weight, self.out_proj.bias),
            key_padding_mask,
            attn_mask,
            is_causal,
            need_weights,
            average_attn_weights,
        )
        return (y.transpose(0, 1) if swap else y), weights
