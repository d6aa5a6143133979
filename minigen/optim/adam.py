"""Adam and its kin: a step is the mean of recent gradients over the root of their mean square.

    m <- b1 m + (1 - b1) g            "exp_avg"
    v <- b2 v + (1 - b2) g^2          "exp_avg_sq"
    p <- p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)           (Kingma & Ba 2014, algorithm 1)

m and v start at zero; dividing by 1 - b^t takes that bias away. The mathematics stands in each `update`; Adam and
AdamW, which most training spends its time in, have a kernel that does it in one pass.
"""

import math

from .. import kernels
from ..errors import ArgumentError, expect
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


class Adam(Optimizer):
    """Kingma & Ba 2014. See the top of this file.

    weight_decay            adds weight_decay * p to the gradient
    decoupled_weight_decay  shrinks p by 1 - lr * weight_decay instead: AdamW
    amsgrad                 divides by the largest v so far (Reddi et al. 2018)
    maximize                climb instead
    """

    arrays = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    skips = True
    flags = ("foreach", "capturable", "differentiable", "fused")

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        amsgrad=False,
        *,
        maximize=False,
        decoupled_weight_decay=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, flags)

    def update(self, s, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay, **_):
        p, g, m, v, t, (b1, b2) = s.p, s.g, s["exp_avg"], s["exp_avg_sq"], s.step, betas
        largest = s["max_exp_avg_sq"] if amsgrad else None
        kernel = kernels.find(p, "optim")
        if kernel is not None:
            flags = weight_decay, decoupled_weight_decay, maximize, *s.device_only(s.skip)
            return kernel.adam(p, g, m, v, largest, t, lr, b1, b2, eps, *flags)
        xp = s.flat.xp
        g = -g if maximize else g
        if weight_decay and decoupled_weight_decay:
            p *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * p
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        if amsgrad:
            v = xp.maximum(largest, v, out=largest)
        p -= lr / (1 - b1**t) * m / (xp.sqrt(v) / (1 - b2**t) ** 0.5 + eps)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights and is not divided by sqrt(v) (Loshchilov & Hutter 2017)."""

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        **flags,
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True, **flags
        )


class Adamax(Optimizer):
    """Adam with the largest recent |g| in place of the root mean square (Kingma & Ba 2014, algorithm 2)."""

    arrays = ("exp_avg", "exp_inf")

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, *, maximize=False, **flags):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, flags)

    def update(self, s, lr, betas, eps, weight_decay, maximize, **_):
        p, m, u, t, xp, (b1, b2) = s.p, s["exp_avg"], s["exp_inf"], s.step, s.flat.xp, betas
        g = -s.g if maximize else s.g
        if weight_decay:
            g = g + weight_decay * p
        m += (1 - b1) * (g - m)
        xp.maximum(b2 * u, xp.abs(g) + eps, out=u)
        p -= lr / (1 - b1**t) * m / u


class NAdam(Optimizer):
    """Adam with Nesterov momentum, whose momentum mu_t grows towards b1 (Dozat 2016).

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2);  "mu_product" is the product of all so far.
    """

    arrays = ("exp_avg", "exp_avg_sq")
    numbers = ("step", "mu_product")

    def __init__(
        self,
        params,
        lr=2e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        momentum_decay=4e-3,
        decoupled_weight_decay=False,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def check(self, momentum_decay, **_):
        rule = f"NAdam: Invalid momentum_decay value: {momentum_decay}: it must be at least 0"
        expect(momentum_decay >= 0, rule, error=ArgumentError)

    def update(self, s, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay, maximize, **_):
        p, m, v, t, (b1, b2) = s.p, s["exp_avg"], s["exp_avg_sq"], s.step, betas
        g = -s.g if maximize else s.g
        if weight_decay and decoupled_weight_decay:
            p *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * p
        mu = b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        mu_next = b1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        product = s.product("mu_product", mu)
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        denominator = s.flat.xp.sqrt(v / (1 - b2**t)) + eps
        p -= lr * (1 - mu) / (1 - product) * g / denominator
        p -= lr * mu_next / (1 - product * mu_next) * m / denominator


class RAdam(Optimizer):
    """Adam that starts as plain momentum and divides by sqrt(v) only once v can be trusted (Liu et al. 2019).

    rho is the length of the average that v is so far; the variance of 1 / sqrt(v) is known for rho > 4, and `r`
    corrects for it.
    """

    arrays = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        decoupled_weight_decay=False,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def update(self, s, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize, **_):
        p, m, v, t, (b1, b2) = s.p, s["exp_avg"], s["exp_avg_sq"], s.step, betas
        g = -s.g if maximize else s.g
        if weight_decay and decoupled_weight_decay:
            p *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * p
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        step = lr / (1 - b1**t) * m
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if s.on_device:
            rectified = step * s.flat.xp.maximum(self._variance(rho, rho_inf), 0.0) ** 0.5 * (1 - b2**t) ** 0.5
            step = s.flat.xp.where(rho > 5, rectified / (s.flat.xp.sqrt(v) + eps), step)
        elif rho > 5:
            r = math.sqrt(self._variance(rho, rho_inf))
            step = step * (r * math.sqrt(1 - b2**t)) / (s.flat.xp.sqrt(v) + eps)
        p -= step

    @staticmethod
    def _variance(rho, rho_inf):
        return (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
