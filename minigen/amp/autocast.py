"""`autocast`: inside the block each op gets its arguments in the type that the policy names.

The engine asks in one place (`modes.autocast`, read by `Op.__call__`); outside all blocks that costs nothing. An
argument is changed by the op `cast`, so the gradient comes back through it in the type of the tensor: a float32 weight
gets a float32 gradient. A weight that is used several times in a block is cast once, and again only if it was written
since. On the GPU an optimiser's parameters, which lie in one array, are cast all at once.
"""

import contextlib

from .. import kernels
from ..autograd import modes
from ..autograd.order import in_type
from ..device import CPU, CUDA, FLOATS, device_of, is_array
from ..errors import ArgumentError, describe
from ..ops.casting import _cast
from ..tensor import Tensor, clock, float32, float64, floating_dtype, owner, value
from .policy import FLOAT32, INSIDE, LOW, POLICY, WIDER

__all__ = ["autocast", "is_autocast_enabled"]

USUAL = {CUDA: "float16", CPU: "bfloat16", None: "bfloat16"}  # as in PyTorch
NARROW = ("float16", "bfloat16")


class autocast(contextlib.ContextDecorator):
    """`with autocast("bfloat16"):` ops choose their types by the policy (policy.py) inside the block or function.

    device_type    "cpu" or "cuda": only tensors there; both if None. Also the type itself: autocast("float16")
    dtype          float16 or bfloat16; by default float16 on "cuda", else bfloat16
    enabled        False: inside the block ops compute in the types that they are given again
    cache_enabled  whether a weight is cast once a block

    Leave the block before `backward()`: what a rule computes follows from the types that the forward chose. Raises
    ArgumentError for another type, and DtypeError for bfloat16 on the CPU where ml_dtypes is not installed.
    """

    def __init__(self, device_type=None, dtype=None, enabled=True, cache_enabled=True):
        if device_type not in (None, CPU, CUDA):
            device_type, dtype = None, device_type if dtype is None else dtype
        self.device_type, self.enabled, self.cache_enabled = device_type, enabled, cache_enabled
        if dtype is None and enabled:
            dtype = USUAL[device_type]
        self.dtype = None if dtype is None else _narrow(dtype)
        self.outer = []

    def __enter__(self):
        outer = modes.mode.autocast
        cache = {} if outer is None else outer.cache
        region = _Region(self.dtype, self.device_type, cache if self.cache_enabled else None) if self.enabled else None
        self.outer.append(modes.use_autocast(region, 1))
        return self

    def __exit__(self, *_):
        modes.use_autocast(self.outer.pop(), -1)


def is_autocast_enabled():
    """Whether ops choose their types by the policy now, in this thread."""
    return modes.mode.autocast is not None


def _narrow(dtype):
    """float16 or bfloat16 as a NumPy dtype, from one or its name."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    name = {"half": "float16"}.get(name, name)
    if name not in NARROW:
        raise ArgumentError(
            f'autocast: computes in float16 or bfloat16, not in {describe(dtype)}\n  write autocast("bfloat16")'
        )
    return floating_dtype(name)


class _Region:
    """What the ops of one block compute in: `arguments` before an op; `defined` where its definition is used."""

    def __init__(self, dtype, device, cache):
        self.dtype, self.device, self.cache = dtype, device, {} if cache is None else cache
        self.keeps = cache is not None

    def arguments(self, op, args):
        """An op's arguments in the types of the policy. Calls on plain arrays, as gradient rules make them, pass."""
        kind = POLICY.get(op.name)
        if kind in (None, INSIDE, WIDER) or not any([isinstance(x, Tensor) for x in args]):
            return args
        if kind is LOW:
            target = self.dtype
        elif kind is FLOAT32:
            target = float32
        elif (target := _widest(args)) is None:
            return args
        return [self.cast(x, target) if _floats(x) and self.covers(x, target) else x for x in args]

    def mixes(self, a, b):
        """Whether a kernel adds a and b in one pass, one of them in float32 and the other in 16 bits."""
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.dtype == b.dtype:
            return False
        if float32 not in (a.dtype, b.dtype) or self.device not in (None, device_of(a.data)):
            return False
        family = kernels.find(a.data, "arithmetic")
        return family is not None and family.fits(a.data, b.data)

    def widened(self, x):
        """The type of losses of x."""
        return float32 if self.covers(x, float32) else x.dtype

    def narrowed(self, x):
        """The type of a norm of x, if it is not x's."""
        return self.dtype if x.dtype == float32 and self.covers(x, self.dtype) else None

    def covers(self, x, target):
        return x.dtype not in (target, float64) and self.device in (None, device_of(value(x)))

    def cast(self, x, target):
        if not isinstance(x, Tensor):
            return x.astype(target)
        if not (self.keeps and x.requires_grad and x.node is None):
            return _cast(x, target, x.dtype)
        recording = modes.mode.recording
        key = id(x), target, recording
        version = clock.writes.get(id(owner(x.data)), (0,))[0]
        found = self.cache.get(key)
        if found is not None:
            of, array, when, made = found
            freed = made.node is not None and made.node.edges is None  # a backward pass went through it
            if of is x and array is x.data and when == version and not freed:
                return made
        made = _cast(x, target, x.dtype, self.among_others(x, target, version))
        self.cache[key] = x, x.data, version, made
        return made

    def among_others(self, x, target, version):
        """x in the type `target` as a view of all its optimiser's parameters, cast in one launch; None on the CPU."""
        whole = owner(x.data)
        if x.buffer is None or device_of(whole) == CPU or whole.ndim != 1 or not x.data.flags.c_contiguous:
            return None
        key = id(whole), target
        of, when, cast = self.cache.get(key, (None, None, None))
        if of is not whole or when != version:
            cast = in_type(whole, target)
            self.cache[key] = whole, version, cast
        first = (x.data.data.ptr - whole.data.ptr) // whole.itemsize
        return cast[first : first + x.data.size].reshape(x.shape)

    def defined(self, op, args):
        """What the op's definition gives. The ops inside follow the policy where it names this op, else its type."""
        kind = POLICY.get(op.name)
        if kind is INSIDE:
            return self.inside(op, args)
        if kind is WIDER:
            args = self.in_float32(args)
        if kind is not None:
            return op.defined(*args)
        with autocast(enabled=False):
            return op.defined(*args)

    def inside(self, op, args):
        """A definition in float32, its first output in 16 bits, if the first argument or its own wish says so."""
        narrow = args[0].dtype
        with autocast(enabled=False):
            y = op.defined(*self.in_float32(args))
        first, *rest = y if isinstance(y, tuple) else (y,)
        first = first if first.dtype != float32 or narrow == float32 else _cast(first, narrow, float32)
        return (first, *rest) if rest else first

    def in_float32(self, args):
        return [self.cast(x, float32) if _floats(x) and self.covers(x, float32) else x for x in args]


def _floats(x):
    return hasattr(x, "dtype") and (isinstance(x, Tensor) or is_array(x)) and x.dtype.kind in FLOATS


def _widest(args):
    """The widest floating type among the operands, of those with dimensions if there are any; None if they agree."""
    operands = [x for x in args if _floats(x)]
    kinds = {x.dtype for x in operands if x.ndim} or {x.dtype for x in operands}
    if len({x.dtype for x in operands}) < 2:
        return None
    if len({kind.itemsize for kind in kinds}) == 1 < len(kinds):  # float16 beside bfloat16: neither holds the other
        return float32
    return max(kinds, key=lambda kind: kind.itemsize)
