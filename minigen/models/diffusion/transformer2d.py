"""A transformer over the pixels, which also looks at a context (Rombach et al. 2022, arXiv:2112.10752, appendix E.2.1).

In latent diffusion the text reaches the picture here: the pixels are the queries, the encoded words the keys and
values. Each block is self-attention, attention to the context, and a gated feed-forward layer (Shazeer 2020, GEGLU),
each after a layer norm and around a residual. The parts bear the published names (diffusers' Transformer2DModel).
"""

from ... import nn
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from .blocks import attend


class Transformer2d(nn.Module):
    """(N, C, H, W) and a context (N, S, context_size) -> (N, C, H, W).

    heads        C // heads channels each
    depth        how many blocks
    linear       the layers before and after are linear; otherwise 1 x 1 convolutions (the same map, another file)
    only_cross   the first attention looks at the context too, not at the pixels
    groups       of the norm before it all
    zero         the layer after starts at 0: a new transformer passes x on
    """

    def __init__(self, channels, heads, context_size, depth=1, groups=32, linear=False, only_cross=False, zero=True):
        rule = f"Transformer2d: heads={heads} must be from 1 to the {channels} channels"
        expect(0 < heads <= channels, rule, error=ArgumentError)
        inner = heads * (channels // heads)
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner) if linear else nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList(Block(inner, heads, context_size, only_cross) for _ in range(depth))
        self.proj_out = nn.Linear(inner, channels) if linear else nn.Conv2d(inner, channels, 1)
        if zero:
            nn.init.zeros_(self.proj_out.weight)
            nn.init.zeros_(self.proj_out.bias)

    def forward(self, x, context, mask=None):
        n, _, height, width = x.shape
        h = self.norm(x)
        h = _tokens(h) if self.linear else _tokens(self.proj_in(h))
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context, mask)
        h = self.proj_out(h) if self.linear else h
        h = h.reshape(n, height, width, -1).permute(0, 3, 1, 2)
        return x + (h if self.linear else self.proj_out(h))


def _tokens(x):
    """(N, C, H, W) -> (N, H W, C)."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])


class Block(nn.Module):
    """Pixels h (N, T, C) and context (N, S, context_size) -> (N, T, C)."""

    def __init__(self, channels, heads, context_size, only_cross):
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, context_size if only_cross else channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context_size, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, h, context, mask=None):
        x = self.norm1(h)
        h = h + self.attn1(x, context if self.only_cross else x)
        h = h + self.attn2(self.norm2(h), context, mask)
        return h + self.ff(self.norm3(h))


class Attention(nn.Module):
    """Each of the queries x (N, T, C) looks at the context (N, S, context_size)."""

    def __init__(self, channels, context_size, heads):
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_size, channels, bias=False)
        self.to_v = nn.Linear(context_size, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x, context, mask=None):
        size = self.to_k.in_features
        fits = context.ndim == 3 and len(context) == len(x) and context.shape[2] == size
        expect(fits, f"Transformer2d: the context is (N, S, {size}), one row of words for each x", context, x,
               error=ShapeError)  # fmt: skip
        return self.to_out(attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads, mask))


class FeedForward(nn.Module):
    """C -> 4 C -> C, where each of the 4 C is gated: a gelu(b), both linear in x (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, channels):
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class GEGLU(nn.Module):
    def __init__(self, channels, out):
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x):
        a, b = self.proj(x).chunk(2, -1)
        return a * F.gelu(b)
