"""Hunting a NaN: the checks that `detect_anomaly` switches on."""

import numpy as np

from ..device import FLOATS, is_array, xp
from ..errors import NonFiniteError
from ..tensor import value


def check_forward(name, y, arrays):
    for out in y if isinstance(y, tuple) else (y,):
        if out.dtype.kind in FLOATS and bool(xp(out).isnan(out).any()):
            fed = any(is_array(x) and x.dtype.kind in FLOATS and bool(xp(x).isnan(x).any()) for x in arrays)
            raise NonFiniteError(
                f"{name}: its result of shape {out.shape} has a NaN"
                + ("; an input had one already" if fed else ", though its inputs had none")
                + "\n  inputs: "
                + ", ".join(_range(x) for x in arrays if is_array(x))
            )


def check_backward(node, gradients):
    for i, g in gradients:
        g = value(g)
        if g is not None and not bool(xp(g).isfinite(g).all()):
            bad = "a NaN" if bool(xp(g).isnan(g).any()) else "an Inf"
            raise NonFiniteError(
                f"{node.name}: the gradient of its argument {_argument_name(node.op, i)} has {bad}, shape {g.shape}\n"
                f"  the op was called at {_call_site(node.trace)}"
            )


def _argument_name(op, i):
    return repr(op.names[i]) if not op.variadic and i < len(op.names) else str(i)


def _call_site(trace):
    outside = [f for f in trace or () if "/minigen/" not in f.filename.replace("\\", "/")]
    if not outside:
        return "an unknown place (wrap the forward pass too in detect_anomaly)"
    return f"{outside[-1].filename}:{outside[-1].lineno}: {outside[-1].line}"


def _range(x):
    if x.size == 0 or x.dtype.kind not in FLOATS:
        return f"{x.shape}"
    with np.errstate(all="ignore"):
        return f"{x.shape} from {x.min():.3g} to {x.max():.3g}"
