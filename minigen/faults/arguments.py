"""Row 5: wrong arguments. Every public function is called wrongly in five ways, and must say what is wrong.

    type      text, None, an object, a list where a tensor belongs; text where a number belongs
    shape     a tensor with a dimension too many, too few, too long
    dim       a dimension that is not there, or not an integer
    dtype     integers, booleans or float64 where float32 belongs, and the other way round
    call      too few arguments, too many, `axis=` for `dim=`, a keyword that does not exist

Much of this is right by PyTorch's rules (a longer tensor may broadcast), and then nothing is asked. But what is
refused must be refused by one of minigen's errors, which names the function, shows the shapes where shapes are at
fault, and says what to write. Some calls cannot be right, and those must be refused.
"""

import inspect
import re
import warnings

import numpy as np

from ..errors import MinigenError
from ..tensor import Tensor
from .examples import calls
from .score import Finding

# A message of one line must at least say the rule.
RULE = (
    r"\b(must|give|write|takes|did you mean|missing|only|from|between|or|made of|at least|at most|one of|do not"
    r"|does not|empty|no common|out of bounds|too many|for \d)\b"
)


def wrong_calls(count=None, seed=0):
    """Spoil every example in every way."""
    good, missing = calls()
    if missing:
        return Finding(False, f"no good call is known of {', '.join(missing)}: add it to faults/examples.py")
    cases, refused, faults = 0, 0, []
    for key, call in good.items():
        for kind, spoilt, must in spoil(call):
            verdict, fault = judge(kind, spoilt, must)
            cases += 1
            refused += verdict
            if fault:
                faults.append(f"{key}, {kind}: {fault}")
    text = f"{cases} wrong calls of {len(good)} functions, {refused} refused"
    return Finding(not faults, text + "".join(f"\n      {fault}" for fault in faults[:40]))


def spoil(call):
    """(kind, wrong call, whether it must be refused) for everything that can be wrong with a good call."""
    places = [*enumerate(call.args), *call.kwargs.items()]
    for place, value in places:
        for kind, bad, must in _spoilt_values(value):
            yield kind, call.replaced(place, bad), must
    signature = _signature(call.function)
    names = set(signature.parameters)
    takes_any = {p.kind for p in signature.parameters.values()}
    if "dim" in names:
        place = list(signature.parameters).index("dim")
        place = place if place < len(call.args) else "dim"
        for bad in (99, -99, 1.5, "x"):
            yield "dim", call.replaced(place, bad), True
    yield "call", call.replaced("frobnicate", 1), True
    if "axis" not in names:
        yield "call", call.replaced("axis", 0), True
    if inspect.Parameter.VAR_POSITIONAL not in takes_any:
        yield "call", _with(call, (*call.args, *[None] * 20)), True
        yield "call", _with(call, ()), True


def _spoilt_values(value):
    if isinstance(value, Tensor):
        shape = value.shape
        yield "type", "text", True
        yield "type", object(), True
        yield "type", {"a": value}, True
        yield "type", None, False
        yield "type", [1, "a"], False
        for wrong in {(*shape, 7), (7, *shape), tuple([n + 4 for n in shape]), shape[1:], shape[:-1], (0, *shape[1:])}:
            yield "shape", Tensor(np.resize(value.data, wrong), requires_grad=False), False
        for dtype in ("int64", "bool", "float64", "float32"):
            if dtype != value.dtype.name:
                yield "dtype", Tensor(value.data.astype(dtype)), False
    elif isinstance(value, (list, tuple)) and any(isinstance(x, Tensor) for x in value):
        yield "type", "text", True
        yield "type", None, False
        yield "type", [*value, "text"], True
        yield "shape", [], False
        longer = Tensor(np.resize(value[0].data, (5, 5, 5)))
        yield "shape", [*value, longer], False
    elif isinstance(value, bool):
        return
    elif isinstance(value, (int, float)):
        for bad in ("text", object(), None, float("nan"), -99, [1, 2, 3], 1.5):
            yield "type", bad, bad == "text"
    elif isinstance(value, tuple):
        for bad in (("a",) * len(value), (-5,) * len(value), (), (99,) * 3, "text", object(), 1.5):
            yield "type", bad, False
    elif isinstance(value, str):
        yield "type", "nonsense", True
        yield "type", 3, True
        yield "type", None, False


def judge(kind, call, must):
    """(whether the call was refused, what is wrong with how, or None)."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            call()
    except MinigenError as error:
        return True, _weakness(kind, call, str(error))
    except Exception as error:
        return True, f"a bare {type(error).__name__}: {str(error)[:100]!r}  from {shown(call)}"
    return False, f"accepted: {shown(call)}" if must else None


def _weakness(kind, call, text):
    if call.name.strip("_").lower() not in text.lower() and not re.match(r"[\w.]+( \w+)?:", text):
        return f"the function is not named: {text[:100]!r}  from {shown(call)}"
    if kind == "shape" and not re.search(r"\d|empty", text):
        return f"no shape or size is shown: {text[:100]!r}  from {shown(call)}"
    if "\n" not in text and not re.search(RULE, text):
        return f"no rule and no way out is shown: {text[:100]!r}  from {shown(call)}"
    return None


def _with(call, args):
    changed = call.replaced("_", None)
    changed.args, changed.kwargs = args, call.kwargs
    return changed


def _signature(function):
    if not inspect.isfunction(function) and not inspect.isbuiltin(function) and hasattr(function, "forward"):
        function = function.forward
    return inspect.signature(function)


def shown(call):
    """The call as one would write it, with shapes for tensors."""
    args = [*map(_written, call.args), *(f"{name}={_written(x)}" for name, x in call.kwargs.items())]
    return f"{call.name}({', '.join(args)})"


def _written(x):
    if isinstance(x, Tensor):
        return f"{x.dtype}{list(x.shape)}"
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(_written, x))}]"
    return repr(x) if type(x) is not object else "object()"
