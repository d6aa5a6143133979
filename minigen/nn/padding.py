"""Padding layers: zeros, a constant, the edge repeated, a mirror, or the other side (`F.pad` with that mode).

padding: one number for every side, or (left, right, top, bottom, ...) from the last dimension to the first.
"""

from ..errors import ArgumentError, describe, expect
from . import functional as F
from .module import Module

__all__ = [f"{kind}Pad{n}d" for kind in ("Constant", "Zero") for n in (1, 2, 3)]
__all__ += [f"{kind}Pad{n}d" for kind in ("Reflection", "Replication", "Circular") for n in (1, 2, 3)]


class _Pad(Module):
    """`spatial` dimensions are padded in one `mode`. Inputs: (N, C, *space) or (C, *space)."""

    shown = ("padding",)
    spatial, mode = 0, ""

    def __init__(self, padding):
        sides = (padding,) * (2 * self.spatial) if isinstance(padding, int) else tuple(padding)
        expect(
            len(sides) == 2 * self.spatial,
            f"{type(self).__name__}: padding is one number or {2 * self.spatial}, got {describe(padding)}",
            error=ArgumentError,
        )
        self.padding = sides

    def forward(self, input):
        expect(
            input.ndim in (self.spatial + 1, self.spatial + 2),
            f"{type(self).__name__}: input must have {self.spatial + 1} or {self.spatial + 2} dimensions",
            input,
        )
        return F.pad(input, self.padding, mode=self.mode)


class _ConstantPad(_Pad):
    """Any number of dimensions, filled with `value`."""

    shown = ("padding", "value")

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, mode="constant", value=self.value)


class ConstantPad1d(_ConstantPad):
    """A constant on both sides of the last dimension."""

    spatial = 1


class ConstantPad2d(_ConstantPad):
    """A constant around the last two dimensions."""

    spatial = 2


class ConstantPad3d(_ConstantPad):
    """A constant around the last three dimensions."""

    spatial = 3


class _ZeroPad(_ConstantPad):
    shown = ("padding",)

    def __init__(self, padding):
        super().__init__(padding, 0.0)


class ZeroPad1d(_ZeroPad):
    """Zeros on both sides of the last dimension."""

    spatial = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around the last two dimensions."""

    spatial = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around the last three dimensions."""

    spatial = 3


class ReflectionPad1d(_Pad):
    """A mirror at the edge, which is not repeated."""

    spatial, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """A mirror at the edges, which are not repeated."""

    spatial, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """A mirror at the edges, which are not repeated."""

    spatial, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The edge repeated."""

    spatial, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edges repeated."""

    spatial, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The edges repeated."""

    spatial, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """What stands on the other side, as on a ring."""

    spatial, mode = 1, "circular"


class CircularPad2d(_Pad):
    """What stands on the other side, as on a torus."""

    spatial, mode = 2, "circular"


class CircularPad3d(_Pad):
    """What stands on the other side, as on a torus."""

    spatial, mode = 3, "circular"
