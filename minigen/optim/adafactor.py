"""Adafactor: Adam's second moment in the memory of its row and column means (Shazeer & Stern 2018)."""

import math

import numpy as np

from ..errors import ArgumentError, expect
from .optimizer import Optimizer

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """For a matrix, the mean square V is kept as its row means r and column means c: V is about r c^T / mean(r).

    beta2_decay  the running means forget with 1 - t^beta2_decay (section 7.2)
    eps          (eps1, eps2): the least root mean square, the machine's epsilon if None, and the least size of a
                 parameter: a step is min(lr, 1 / sqrt(t)) times max(eps2, the root mean square of p)
    d            updates whose root mean square is above d are scaled down to it (section 6)
    weight_decay is decoupled, as in AdamW
    """

    arrays = ("variance",)
    flags = ("foreach",)
    alone = True

    def __init__(
        self,
        params,
        lr=1e-2,
        beta2_decay=-0.8,
        eps=(None, 1e-3),
        d=1.0,
        weight_decay=0.0,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def check(self, beta2_decay, eps, d, **_):
        rules = {
            f"beta2_decay should be <= 0 but is: {beta2_decay}": beta2_decay <= 0,
            f"epsilon1 should be >= 0 but is: {eps[0]}": eps[0] is None or eps[0] >= 0,
            f"epsilon2 should be >= 0 but is: {eps[1]}": eps[1] >= 0,
            f"Clipping threshold d should be >= 1 but is: {d}": d >= 1,
        }
        for rule, holds in rules.items():
            expect(holds, f"Adafactor: {rule}", error=ArgumentError)

    def update(self, s, lr, beta2_decay, eps, d, weight_decay, maximize, **_):
        p, t, xp = s.p, s.step, s.flat.xp
        if p.size == 0:
            return
        g = -s.g if maximize else s.g
        eps1 = np.finfo(p.dtype).eps.item() if eps[0] is None else eps[0]
        new = t**beta2_decay  # the weight of this gradient in the running means
        size = s.number(xp.maximum(eps[1], s.number(xp.linalg.norm(p)) / math.sqrt(p.size)))
        alpha = size * s.number(xp.minimum(lr, 1 / t**0.5))
        if weight_decay:
            p *= 1 - lr * weight_decay
        if g.ndim > 1:
            rows = s.own("row_var", (*g.shape[:-1], 1))
            columns = s.own("col_var", (*g.shape[:-2], 1, g.shape[-1]))
            rows += new * ((g * g).mean(-1, keepdims=True) - rows)
            columns += new * ((g * g).mean(-2, keepdims=True) - columns)
            v = rows * columns / xp.maximum(rows.mean(-2, keepdims=True), eps1)
        else:
            v = s["variance"]
            v += new * (g * g - v)
        step = g / xp.sqrt(xp.maximum(v, eps1 * eps1))
        too_large = s.number(xp.linalg.norm(step)) / (math.sqrt(step.size) * d)
        p -= alpha / s.number(xp.maximum(1.0, too_large)) * step
