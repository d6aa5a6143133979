"""Gradient descent with momentum, and its sign: SGD and Lion."""

from .. import kernels
from ..errors import ArgumentError, expect
from .optimizer import Optimizer, given

__all__ = ["SGD", "Lion"]


class SGD(Optimizer):
    """p <- p - lr * b, where b <- momentum * b + (1 - dampening) * g, or g itself the first time.

    weight_decay  adds weight_decay * p to the gradient
    nesterov      steps along g + momentum * b: the gradient as seen from where momentum leads (Sutskever et al. 2013)
    maximize      climb instead
    """

    arrays = ("momentum_buffer",)
    numbers = ()
    skips = True
    flags = ("foreach", "differentiable", "fused")

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0,
        dampening=0,
        weight_decay=0,
        nesterov=False,
        *,
        maximize=False,
        **flags,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flags)

    def check(self, momentum, dampening, nesterov, **_):
        expect(
            not nesterov or (momentum > 0 and dampening == 0),
            "SGD: Nesterov momentum requires a momentum and zero dampening",
            error=ArgumentError,
        )

    def update(self, s, lr, momentum, dampening, weight_decay, nesterov, maximize, **_):
        p, g = s.p, s.g
        first = "momentum_buffer" not in s
        b = s["momentum_buffer"] if given(momentum) else None
        kernel = kernels.find(p, "optim")
        if kernel is not None:
            dampening = 0.0 if first and not s.on_device else dampening
            flags = weight_decay, nesterov, maximize, *s.device_only(s.step, s.skip)
            return kernel.sgd(p, g, b, lr, momentum, dampening, *flags)
        g = -g if maximize else g
        if weight_decay:
            g = g + weight_decay * p
        if b is not None:
            b *= momentum  # zero the first time
            share = 1.0 if first else 1 - dampening
            if s.on_device:  # the first step may have been left out
                share = s.flat.xp.where(s.step <= 1, 1.0, 1 - dampening)
            b += share * g
            g = g + momentum * b if nesterov else b
        p -= lr * g


class Lion(Optimizer):
    """p <- p - lr * (sign(b1 m + (1 - b1) g) + weight_decay * p), m <- b2 m + (1 - b2) g (Chen et al. 2023).

    Every number moves by the same amount; its learning rate is a third to a tenth of Adam's.
    """

    arrays = ("exp_avg",)
    flags = ()

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, maximize=False):
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def update(self, s, lr, betas, weight_decay, maximize, **_):
        p, m, (b1, b2) = s.p, s["exp_avg"], betas
        g = -s.g if maximize else s.g
        p *= 1 - lr * weight_decay
        p -= lr * s.flat.xp.sign(b1 * m + (1 - b1) * g)
        m += (1 - b2) * (g - m)
