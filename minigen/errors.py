"""What minigen says when something is wrong: the op or file, the shapes or values, the rule broken, what to write.

MinigenError         every error below, so that one `except` catches them all
  ShapeError         shapes that do not fit               (also a ValueError)
  ArgumentError      a value or a keyword out of range    (also a ValueError)
  DtypeError         a type that the op does not take     (also a TypeError)
  DimError           a dimension that is not there        (also an IndexError)
  DeviceError        arrays on two devices, or none there (also a RuntimeError)
  GradientError      a graph that cannot be walked        (also a RuntimeError)
  NonFiniteError     a NaN or Inf that was hunted for     (also an ArithmeticError)
  CheckpointError    a file that is not a whole checkpoint
  DataError          data that cannot be read
  DownloadError      data that cannot be fetched
"""


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


class CheckpointError(MinigenError):
    """A file or folder that is not a whole checkpoint."""


class DataError(MinigenError):
    """Data that cannot be read."""


class DownloadError(DataError):
    """Data that cannot be fetched, or that is not what was promised."""


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
