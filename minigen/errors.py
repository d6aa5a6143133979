"""What minigen says when something is wrong: the op or file, the shapes or values, the rule broken, what to write.

MinigenError         every error below, so that one `except` catches them all
  ShapeError         shapes that do not fit               (also a ValueError)
  ArgumentError      a value or a keyword out of range    (also a ValueError)
  DtypeError         a type that the op does not take     (also a TypeError)
  DimError           a dimension that is not there        (also an IndexError)
  DeviceError        arrays on two devices, or none there (also a RuntimeError)
  GradientError      a graph that cannot be walked        (also a RuntimeError)
  NonFiniteError     a NaN or Inf that was hunted for     (also an ArithmeticError)
  OutOfMemoryError   no room for an array                 (also a MemoryError)
  CheckpointError    a file that is not a whole checkpoint
  DataError          data that cannot be read
  DownloadError      data that cannot be fetched
  DistributedError   processes that do not work together  (also a RuntimeError)
"""

import difflib
import functools
import inspect
import re


class MinigenError(Exception):
    """The base of every error that minigen raises on purpose."""


class ShapeError(MinigenError, ValueError):
    """Shapes that do not fit the op."""


class ArgumentError(MinigenError, ValueError):
    """A value or a keyword that the function does not take."""


class DtypeError(MinigenError, TypeError):
    """A type of element, or of argument, that the op does not take."""


class DimError(MinigenError, IndexError):
    """A dimension or an index that the tensor does not have."""


class DeviceError(MinigenError, RuntimeError):
    """Arrays on two devices, or a device that is not there."""


class GradientError(MinigenError, RuntimeError):
    """A graph that cannot be walked: nothing to differentiate, walked twice, or written over."""


class NonFiniteError(MinigenError, ArithmeticError):
    """A NaN or an Inf, found by `detect_anomaly` or by the training loop."""


class OutOfMemoryError(MinigenError, MemoryError):
    """The machine, or the GPU, has no room for an array."""


class CheckpointError(MinigenError):
    """A file or folder that is not a whole checkpoint."""


class DataError(MinigenError):
    """Data that cannot be read."""


class DownloadError(DataError):
    """Data that cannot be fetched, or that is not what was promised."""


class CaptureError(MinigenError, RuntimeError):
    """A step that cannot be captured, or that is no longer the one that was."""


class DistributedError(MinigenError, RuntimeError):
    """Processes that do not work together: one is missing, hangs, or does something else."""


def describe(value):
    """How an argument is shown in an error: `(32, 784) float32` for an array or tensor, its repr otherwise."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{tuple(value.shape)} {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def expect(condition, rule, *values, error=ShapeError, hint=None):
    """Raise `error` with the rule, the offending values and a hint, unless `condition` holds.

    expect(x.shape[-1] == weight.shape[1], "linear: x (..., in) and weight (out, in) must share `in`", x, weight)
    """
    if condition:
        return
    lines = [rule]
    if values:
        lines.append("  got " + ", ".join(describe(value) for value in values))
    if hint:
        lines.append("  " + hint)
    raise error("\n".join(lines))


def answering(function):
    """`function`, with a call that does not fit its parameters answered by an ArgumentError that says what does.

    Python's own TypeError names neither the parameters nor the remedy: `axis=` is met with "did you mean dim=?".
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except MinigenError as error:
            named(error, function.__name__)
            raise
        except (TypeError, AttributeError, ValueError, IndexError, OverflowError, MemoryError) as fault:
            raise refused(function, fault, args, kwargs) from fault

    return call


def named(error, name):
    """`error`, with the function's name put before a message that names none."""
    if error.args and not re.match(r"[\w.]+( [\w.]+)?: ", str(error.args[0])):
        error.args = (f"{name.strip('_')}: {error.args[0]}", *error.args[1:])
    return error


def refused(function, fault, args, kwargs):
    """The error for arguments that Python or NumPy stumbled over inside `function`: what they were, and what fits."""
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return misfit(function, fault, kwargs)
    name = function.__name__.strip("_")
    shown = ", ".join(f"{key}={_shown(value)}" for key, value in given.items())
    if isinstance(fault, MemoryError):
        return out_of_memory(name, shown, fault)
    if (answer := no_tensor(name, fault, args)) is not None:
        return answer
    kind = ShapeError if isinstance(fault, ValueError) else DimError if isinstance(fault, IndexError) else DtypeError
    takes = ", ".join(key for key in inspect.signature(function).parameters if key not in ("self", "cls"))
    return kind(f"{name}: cannot take {shown}\n  {fault}\n  {name} takes ({takes})")


def no_tensor(name, fault, args):
    """The error for an argument that was used as a tensor and is none; None if that is not what went wrong."""
    given = getattr(fault, "obj", fault)
    if isinstance(fault, AttributeError) and any(given is x for x in args) and not hasattr(given, "dtype"):
        return DtypeError(f"{name}: takes a tensor, got {describe(given)}\n  write minigen.tensor(...)")
    return None


def out_of_memory(name, shown, fault):
    """The error for an array that the machine has no room for. NumPy and CuPy say how large it would have been."""
    size = str(fault) or "there is no room for the result"
    return OutOfMemoryError(f"{name}: no memory left for {shown}\n  {size}\n  try a smaller batch, or no_grad()")


def _shown(value):
    if isinstance(value, (list, tuple)) and len(value) <= 8:
        return f"[{', '.join(map(_shown, value))}]"
    return describe(value)


def misfit(function, fault, kwargs, name=None):
    """The ArgumentError for a call whose arguments `function` does not take; `name` if it is known by another."""
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    unknown = next((name for name in kwargs if name not in names), None)
    lines = [f"{name or function.__name__.strip('_')}: takes ({', '.join(names)})"]
    if unknown is None:
        lines.append(f"  {str(fault).split('() ')[-1]}")
    else:
        known = {"axis": "dim", "axes": "dims", "keepdims": "keepdim", "a": "input", "out_dtype": "dtype"}
        near = known.get(unknown) if known.get(unknown) in names else None
        near = near or next(iter(difflib.get_close_matches(unknown, names, n=1)), None)
        lines.append(f"  there is no argument {unknown!r}" + (f": did you mean {near}=?" if near else ""))
    return ArgumentError("\n".join(lines))
