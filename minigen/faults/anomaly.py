"""Row 6: a NaN or an Inf, put into an input, a weight or a gradient of every op in turn.

Inside `detect_anomaly` the first op whose result is NaN, or whose gradient is not finite, must be named. It is
compared with what can be seen without it: the same call's output and gradients.
"""

import re
import warnings

import numpy as np

from .. import random
from ..autograd import detect_anomaly
from ..errors import MinigenError, NonFiniteError
from ..tensor import Tensor
from .examples import calls
from .score import Finding


def bad_numbers(count=None, seed=0):
    """Every example with a NaN and an Inf in every float tensor, and in the gradient that comes back to it."""
    cases, named, faults = 0, 0, []
    for key, call in calls()[0].items():
        for where, poisoned, gradient in poison(call):
            outcome = watched(poisoned, gradient)
            cases += 1
            named += outcome == "named"
            if outcome not in ("named", "clean", "refused") or (outcome == "named" and where == "nothing"):
                faults.append(f"{key}, {where}: {outcome}")
    text = f"{cases} calls with a bad number, {named} named by detect_anomaly, the others did no harm"
    return Finding(not faults, text + "".join(f"\n      {fault}" for fault in faults[:40]))


def poison(call):
    """(what is bad, call, first number of the gradient): nothing, each float tensor of the call, its gradient."""
    yield "nothing", call, 1.0
    for place, value in [*enumerate(call.args), *call.kwargs.items()]:
        if isinstance(value, Tensor) and value.dtype.kind == "f":
            for bad in (np.nan, np.inf):
                array = value.data.copy()
                array.reshape(-1)[0] = bad
                yield f"{bad} in argument {place}", call.replaced(place, Tensor(array, value.requires_grad)), 1.0
    for bad in (np.nan, np.inf):
        yield f"{bad} in the gradient", call, bad


def watched(call, gradient):
    """ "named" (an op was), "clean" (nothing went bad), "refused" (the op wants no such numbers), or what is wrong."""
    try:
        bad = _goes_bad(call, gradient)
    except MinigenError:
        return "refused"
    try:
        with detect_anomaly():
            _run(call, gradient)
    except NonFiniteError as error:
        return "named" if re.match(r"\w+: ", str(error)) else f"no op is named: {error}"
    return f"not found, though {bad} is bad" if bad else "clean"


def _goes_bad(call, gradient):
    """What is not finite without the watch: "the output" (NaN), "a gradient" (NaN or Inf), or None."""
    outputs, leaves = _run(call, gradient)
    if any(np.isnan(y.data).any() for y in outputs):
        return "the output"
    if any(x.grad is not None and not np.isfinite(x.grad.data).all() for x in leaves):
        return "a gradient"
    return None


def _run(call, gradient):
    """Forward and backward: (what ops made, the leaves). The gradient is ones, but for its first number."""
    random.manual_seed(0)  # so that dropout drops the same every time
    leaves = [x for x in _floats((call.args, call.kwargs)) if x.requires_grad and x.is_leaf]
    for x in leaves:
        x.grad = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outputs = [y for y in _floats(call()) if not y.is_leaf]
        for y in outputs:
            g = np.ones_like(y.data)
            g.reshape(-1)[:1] = gradient
            y.backward(Tensor(g), retain_graph=True)
    return outputs, leaves


def _floats(value):
    """Every float tensor in a nest of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        if value.dtype.kind == "f":
            yield value
    elif isinstance(value, (tuple, list)):
        for x in value:
            yield from _floats(x)
    elif isinstance(value, dict):
        yield from _floats(list(value.values()))
