"""Solutions to the exercises of lesson 19, and what there is to see."""

import numpy as np

import minigen
import minigen.nn.functional as F


def middle_tap(inputs, outputs, colours, kind):
    # Blue of a pixel may know its red and its green. Under mask A the inputs are the picture, so its own colour is out.
    seen = np.arange(inputs) * colours // inputs
    seeing = np.arange(outputs)[:, None] * colours // outputs
    return (seen < seeing if kind == "A" else seen <= seeing).astype(int)


def out_of_sight(rows, right):
    # A triangle: half of the quarter above and to the right, about a fourth of all that came before.
    return sum(max(0, right - r) for r in range(1, rows + 1))


def log_difference(a, b):
    # Of the two sigmoids one may be 1 to the last digit; of these three factors none is.
    return F.logsigmoid(a) + F.logsigmoid(-b) + minigen.log(-minigen.expm1(b - a))


def masses(mean, log_scale, half, levels=256):
    # With bins of twice the width each level counts half of its neighbours as well, and the sum is 2.
    x = minigen.tensor(np.arange(levels) * (2 / (levels - 1)) - 1)
    sharp = minigen.exp(-log_scale)
    up, down = minigen.sigmoid((x + half - mean) * sharp), minigen.sigmoid((x - half - mean) * sharp)
    first, last = np.arange(levels) == 0, np.arange(levels) == levels - 1
    up = minigen.where(minigen.tensor(last), minigen.ones_like(up), up)
    return up - minigen.where(minigen.tensor(first), minigen.zeros_like(down), down)


def draw(logits, x, generator, together):
    # Together, each pixel believes that all before it are empty, so hardly any begins a sprite, and none goes on with
    # one. The factors of the chain rule are p(x_i | earlier): without the earlier ones there is nothing to look up.
    _, _, H, W = x.shape
    if together:
        return (generator.uniform(x.shape) < 1 / (1 + np.exp(-logits(x)))).astype(x.dtype)
    for i in range(H):
        for j in range(W):
            p = 1 / (1 + np.exp(-logits(x)[:, 0, i, j]))
            x[:, 0, i, j] = generator.uniform(p.shape) < p
    return x
