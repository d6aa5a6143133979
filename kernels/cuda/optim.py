"""The steps of the optimisers over flat buffers: optim.cu.

    sgd  adam  lerp  scale        in place on 1-D arrays

Parameters, moments and averages are float32; a gradient, the weights that `lerp` follows, and what `scale` scales may
be of any type.

What changes from step to step is a number, or stands in an array of one, as a captured step wants it: `step`, and with
it lr, momentum or beta1; the weight of `lerp` (all float64); the factor of `scale` (float32). `skip` is a float32 array
of one number: where it is not 0 nothing happens.
"""

from .compile import Source
from .elementwise import grid
from .numbers import adam_numbers, sgd_numbers, split

TYPES = ("float32",)
KERNELS = Source("optim.cu")


def sgd(p, g, b, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, step=1, skip=None):
    """One step of SGD on p and its buffer b in place; b is None without momentum, zeros before the first step."""
    numbers = None
    if not isinstance(step, int):
        numbers = sgd_numbers(step, lr, momentum, dampening)
        lr, momentum = 0.0, 0.0
    constants = float(lr), float(momentum), float(1 - dampening), float(weight_decay)
    last = int(nesterov), -1.0 if maximize else 1.0, numbers, skip
    KERNELS.run("sgd", (g.dtype,), *grid(p.size, p.dtype), p, g, b, p.size, *constants, *last)


def adam(p, g, m, v, most, step, lr, beta1, beta2, eps, weight_decay=0.0, decoupled=False, maximize=False, skip=None):
    """Step number `step` (from 1) of Adam or (decoupled) AdamW on p, m and v in place; `most`: AMSGrad's
    array or None.
    """
    numbers = None
    if not isinstance(step, int):
        numbers = adam_numbers(step, lr, beta1, beta2, weight_decay)
        step, lr, beta1 = 1, 0.0, 0.0
    KERNELS.run(
        *("adam", (g.dtype,), *grid(p.size, p.dtype), p, g, m, v, most, p.size),
        *map(float, (lr / (1 - beta1**step), beta1, beta2, 1 - beta1, 1 - beta2, eps)),
        *map(float, (0 if decoupled else weight_decay, 1 - lr * weight_decay if decoupled else 1)),
        *map(float, ((1 - beta2**step) ** -0.5, -1 if maximize else 1)),
        *(int(decoupled), numbers, skip),
    )


def lerp(a, b, weight):
    """a += weight (b - a), in place: the exponential moving average."""
    array, number = split(weight)
    KERNELS.run("lerp", (b.dtype,), *grid(a.size, a.dtype), a, b, a.size, number, array)


def scale(a, factor):
    """a *= factor, in place: gradient clipping. Zeros stay zeros."""
    array, number = split(factor)
    KERNELS.run("scale", (a.dtype,), *grid(a.size, a.dtype), a, a.size, number, array)
