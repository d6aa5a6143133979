"""fn_*, loss_*, linalg_*: one function, its output, and the gradient of its input.

These cases hold neither the function's arguments nor the targets of a loss: only a name. FOUND lists those whose
arguments were determined from a case's numbers, by trying plausible arguments in the reference until output and
gradient agreed to the last bit; the comment says what settled it. For other names guesses.py has plausible arguments:
each is tried, and only the right one gives the case's numbers. A name in neither is tried as a function of
minigen.nn.functional, minigen or minigen.linalg. It is not covered if it is none of these, or if no arguments give an
output of the case's shape; it fails if the shape is right and the numbers are not.
"""

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import Tensor, linalg
from minigen.errors import MinigenError

from . import NotCovered, kind
from .guesses import GUESSED, classes, full, spd
from .modules import flat, gradients

FOUND = {
    "fn_avgpool": lambda x: F.avg_pool2d(x, 2),  # 6x6 -> 3x3; 3x3 windows with padding give other numbers
    "fn_bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "fn_cumsum": lambda x: x.cumsum(-1),  # not along dimension 0
    "fn_elu": lambda x: F.elu(x),  # alpha 1; 0.5, 0.7, 1.3, 1.5, 2 do not fit
    "fn_erf": lambda x: x.erf(),
    "fn_gelu": lambda x: F.gelu(x),  # erf, not tanh
    "fn_glu": lambda x: F.glu(x, -1),
    "fn_leaky": lambda x: F.leaky_relu(x, 0.2),  # 0.01, 0.1, 0.3 do not fit
    "fn_logsigmoid": lambda x: F.logsigmoid(x),
    "fn_logsoftmax": lambda x: F.log_softmax(x, -1),
    "fn_maxpool": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),  # 2x2 windows give the shape, not the numbers
    "fn_mish": lambda x: F.mish(x),
    "fn_norm": lambda x: x.norm(dim=-1),  # (4, 6) -> (4,)
    "fn_pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "fn_silu": lambda x: F.silu(x),
    "fn_softmax": lambda x: F.softmax(x, -1),
    "fn_softplus": lambda x: F.softplus(x),  # beta 1
    "fn_unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),  # (4 channels x 9, 9 places)
    # The gradient is sigmoid(x) - t (sigmoid(x) + p (1 - sigmoid(x))): two entries give t = 0.3 and p = 2.
    "loss_bce_logits": lambda x: F.binary_cross_entropy_with_logits(
        x, full(x, 0.3), pos_weight=Tensor(np.array(2.0, x.dtype))
    ),
    # softmax(x) less the gradient is 0.9 at the class and 0.1 / 6 everywhere: smoothing 0.1, mean over three rows.
    "loss_ce_smooth_ignore": lambda x: F.cross_entropy(x, classes(), ignore_index=-100, label_smoothing=0.1),
    # The gradient is 2x between -1 and 1, and the value fits smooth L1 with beta 0.5, not Huber with delta 0.5.
    "loss_huber": lambda x: F.smooth_l1_loss(x, full(x, 0.0), beta=0.5),
    # The factor of A A^T + 4 I; A itself is not positive definite.
    "linalg_cholesky_logdet": lambda a: linalg.cholesky(spd(a)),
}


REFUSALS = (MinigenError, TypeError, ValueError, IndexError, AttributeError)


@kind("fn_", "loss_", "linalg_")
def run(case):
    if case.name in FOUND:
        return measure(case, FOUND[case.name]).require()
    candidates = _guesses(case.name)
    if not candidates:
        raise NotCovered(f"no function is known for {case.name!r}")
    closest = None
    for function in candidates:
        try:
            comparison = measure(case, function)
        except REFUSALS:  # arguments that the function does not take are not the case's
            continue
        if comparison.fits:
            return None
        if comparison.comparable and (closest is None or comparison.excess < closest.excess):
            closest = comparison
    if closest is None:
        raise NotCovered(f"no plausible arguments of {case.name!r} give an output of its shape")
    closest.require()


def measure(case, function):
    inputs = case.inputs()
    outputs = [y.reshape(1) if y.ndim == 0 else y for y in flat(function(*inputs))]
    ours = {f"out__{i}": y for i, y in enumerate(outputs) if f"out__{i}" in case}
    targets = {f"gin__{i}": x for i, x in enumerate(inputs) if f"gin__{i}" in case}
    return case.compare(ours | gradients(case, outputs, targets))


def _guesses(name):
    """Candidates for a name: its own, functions of that name, and those of names that it begins with or contains."""
    sort, _, stem = name.partition("_")
    known = {found: [function] for found, function in FOUND.items()} | GUESSED
    starts = sorted((start for start in known if name.startswith(start + "_")), key=len, reverse=True)
    parts = [f"{sort}_{part}" for part in stem.split("_")[1:]]
    lists = [known.get(name, []), _by_name(stem), *[known[n] for n in starts], *[known.get(n, []) for n in parts]]
    return [function for candidates in lists for function in candidates]


def _by_name(name):
    """A function of that name, without arguments or along a dimension."""
    for place in (F, minigen, linalg):
        function = getattr(place, name, None)
        if callable(function):
            return [lambda *xs, f=function: f(*xs)] + [lambda x, d=d, f=function: f(x, d) for d in (-1, 1, 0)]
    return []
