"""The steps of the optimisers over flat buffers: optim.cu.

    sgd  adam  lerp  scale        in place on 1-D arrays

Parameters, moments and averages are float32; a gradient, the weights that `lerp` follows, and what `scale` scales may
be of any type.
"""

from .compile import Source
from .elementwise import grid

TYPES = ("float32",)
KERNELS = Source("optim.cu")


def sgd(p, g, buffer, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """One step of SGD on p and `buffer` in place; no buffer (None) without momentum, zeros before the first step."""
    numbers = float(lr), float(momentum), float(1 - dampening), float(weight_decay)
    sign = -1.0 if maximize else 1.0
    KERNELS.run("sgd", (g.dtype,), *grid(p.size, g.dtype), p, g, buffer, p.size, *numbers, int(nesterov), sign)


def adam(p, g, m, v, most, step, lr, beta1, beta2, eps, weight_decay=0.0, decoupled=False, maximize=False):
    """Step number `step` (from 1) of Adam or (decoupled) AdamW on p, m and v in place; `most`: AMSGrad's
    array or None.
    """
    KERNELS.run(
        *("adam", (g.dtype,), *grid(p.size, g.dtype), p, g, m, v, most, p.size),
        *map(float, (lr / (1 - beta1**step), beta1, beta2, 1 - beta1, 1 - beta2, eps)),
        *map(float, (0 if decoupled else weight_decay, 1 - lr * weight_decay if decoupled else 1)),
        *map(float, ((1 - beta2**step) ** -0.5, -1 if maximize else 1)),
    )


def lerp(a, b, weight):
    """a += weight (b - a), in place: the exponential moving average."""
    KERNELS.run("lerp", (b.dtype,), *grid(a.size, b.dtype), a, b, a.size, float(weight))


def scale(a, factor):
    """a *= factor, in place: gradient clipping."""
    KERNELS.run("scale", (a.dtype,), *grid(a.size, a.dtype), a, a.size, float(factor))
