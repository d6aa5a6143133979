"""Steps divided by the size of past gradients, without Adam's momentum: Adagrad, RMSprop and Adadelta."""

from ..errors import ArgumentError, expect
from .optimizer import Optimizer, given

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(Optimizer):
    """p <- p - lr * g / (sqrt(sum of all g^2) + eps) (Duchi et al. 2011).

    lr_decay  the rate falls as lr / (1 + (t - 1) lr_decay)
    """

    arrays = ("sum",)
    flags = ("foreach", "differentiable", "fused")

    def __init__(
        self,
        params,
        lr=1e-2,
        lr_decay=0,
        weight_decay=0,
        initial_accumulator_value=0,
        eps=1e-10,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def check(self, lr_decay, initial_accumulator_value, **_):
        for name, value in {"lr_decay": lr_decay, "initial_accumulator_value": initial_accumulator_value}.items():
            expect(value >= 0, f"Adagrad: Invalid {name} value: {value}: it must be at least 0", error=ArgumentError)

    def update(self, s, lr, lr_decay, eps, weight_decay, initial_accumulator_value, maximize, **_):
        p, total = s.p, s.state("sum", fill=initial_accumulator_value)
        g = -s.g if maximize else s.g
        if weight_decay:
            g = g + weight_decay * p
        total += g * g
        p -= lr / (1 + (s.step - 1) * lr_decay) * g / (s.flat.xp.sqrt(total) + eps)


class RMSprop(Optimizer):
    """p <- p - lr * g / (sqrt(v) + eps), v <- alpha v + (1 - alpha) g^2 (Hinton 2012, lecture 6e).

    centered  divides by the standard deviation instead: v minus the square of the mean gradient (Graves 2013)
    momentum  steps along b <- momentum * b + g / (sqrt(v) + eps)
    """

    arrays = ("square_avg", "momentum_buffer", "grad_avg")

    def __init__(
        self,
        params,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0,
        momentum=0,
        centered=False,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def check(self, alpha, **_):
        expect(alpha >= 0, f"RMSprop: Invalid alpha value: {alpha}: it must be at least 0", error=ArgumentError)

    def update(self, s, lr, alpha, eps, weight_decay, momentum, centered, maximize, **_):
        p, v, xp = s.p, s["square_avg"], s.flat.xp
        g = -s.g if maximize else s.g
        if weight_decay:
            g = g + weight_decay * p
        v += (1 - alpha) * (g * g - v)
        if centered:
            mean = s["grad_avg"]
            mean += (1 - alpha) * (g - mean)
            v = v - mean * mean
        step = g / (xp.sqrt(v) + eps)
        if given(momentum):
            b = s["momentum_buffer"]
            b *= momentum
            b += step
            step = b
        p -= lr * step


class Adadelta(Optimizer):
    """p <- p - lr * g * sqrt(d + eps) / sqrt(v + eps) (Zeiler 2012).

    v and d are running means, with factor rho, of g^2 and of the steps squared: the step has p's unit.
    """

    arrays = ("square_avg", "acc_delta")

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, *, maximize=False, **flags):
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, flags)

    def check(self, rho, **_):
        expect(0 <= rho <= 1, f"Adadelta: Invalid rho value: {rho}: it must be in [0, 1]", error=ArgumentError)

    def update(self, s, lr, rho, eps, weight_decay, maximize, **_):
        p, v, d, xp = s.p, s["square_avg"], s["acc_delta"], s.flat.xp
        g = -s.g if maximize else s.g
        if weight_decay:
            g = g + weight_decay * p
        v += (1 - rho) * (g * g - v)
        step = xp.sqrt(d + eps) / xp.sqrt(v + eps) * g
        d += (1 - rho) * (step * step - d)
        p -= lr * step
