"""The tensor: an array, whether a gradient is wanted, the gradient, and the node of the graph that made it.

A tensor owns no history. The node does (see autograd.py), and it keeps only what its gradient rule saved, so a
tensor can be dropped as soon as nobody looks at it. The methods that compute (`x.sum()`, `x @ w`, `x[0]`) are the
functions of `minigen.ops`, put here by one list: `ops/methods.py`.
"""

import operator

import numpy as np

from .device import FLOATS, device_of, is_array, library, to_device, xp
from .errors import ArgumentError, DtypeError, GradientError

float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
uint8, int8, int16 = np.dtype("uint8"), np.dtype("int8"), np.dtype("int16")
int32, int64, bool_ = np.dtype("int32"), np.dtype("int64"), np.dtype("bool")


def floating_dtype(name):
    """The NumPy dtype of a floating type's name. Raises DtypeError for bfloat16 where ml_dtypes is not installed."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise DtypeError(
            "bfloat16 needs the package ml_dtypes, which is not installed (CuPy brings it)\n  pip install ml_dtypes"
        ) from None
    use_bfloat16()
    return np.dtype(ml_dtypes.bfloat16)


def use_bfloat16():
    """Tell the engine that there are numbers of this type from now on: see autograd/bfloat16.py."""
    from .autograd import modes

    modes.use_bfloat16()


class Clock:
    """Counts nodes and in-place writes on one scale, so that a write can be seen to be later than a node."""

    __slots__ = ("gradients", "last_write", "now", "reader", "writes")

    def __init__(self):
        self.now = 0
        self.last_write = 0
        self.reader = None  # called with "item()" or its like before numbers leave a tensor: a capture must know
        self.gradients = None  # .arrives(leaf) before a gradient is added to a leaf's, .is_set(tensor, g) at x.grad = g
        self.writes = {}  # id of the memory that was written -> (when, a weak reference that keeps the id true)


clock = Clock()


def owner(array):
    """The array that owns the memory `array` is a view of."""
    while array.base is not None and hasattr(array.base, "base"):
        array = array.base
    return array


def repeats(array):
    """Whether one number of its memory is seen at many places, as `expand` makes it."""
    return any([step == 0 and n > 1 for step, n in zip(array.strides, array.shape)])


def is_writable(array):
    """Whether numbers may be written into it: CuPy's arrays always say so."""
    return getattr(array.flags, "writeable", True) and not repeats(array)


def wrote(array):
    """Note that `array`'s memory was written in place: a node that saved it before can no longer go backward."""
    import weakref

    clock.now += 1
    clock.last_write = clock.now
    memory = owner(array)
    key = id(memory)
    clock.writes[key] = clock.now, weakref.ref(memory, lambda _: clock.writes.pop(key, None))


def reads(what):
    """Say that numbers of an array are about to steer the program: a capture must know."""
    if clock.reader is not None:
        clock.reader(what)


class Tensor:
    """An array that remembers how it was computed.

    data           the NumPy or CuPy array
    requires_grad  whether `backward()` should reach it
    grad           d(loss)/d(this), a tensor of the same shape, after `backward()`; None before
    node           the graph node that made it; None for a leaf

    Build one with `minigen.tensor(...)`, `minigen.zeros(...)` and their kin. `Tensor(array)` wraps without a copy.
    """

    __slots__ = ("__weakref__", "_grad", "buffer", "data", "hooks", "node", "requires_grad", "slot")
    __array_ufunc__ = None  # so that `array * tensor` asks the tensor
    __array_priority__ = 100

    def __init__(self, data, requires_grad=False):
        if isinstance(data, Tensor):
            data = data.data
        elif not is_array(data):
            data = _array(data)
        if requires_grad and data.dtype.kind not in FLOATS:
            raise DtypeError(
                f"requires_grad=True on a tensor of {data.dtype}: only floating-point numbers have gradients\n"
                f"  write x.float() first"
            )
        if data.dtype.kind == "V":
            use_bfloat16()
        self.data = data
        self.requires_grad = requires_grad
        self._grad = None
        self.node = None
        self.slot = None
        self.hooks = None
        self.buffer = None  # where an optimiser wants the gradient: a view of its flat buffer

    def _set_grad(self, g):
        if clock.gradients is not None:
            clock.gradients.is_set(self, g)
        self._grad = g

    grad = property(operator.attrgetter("_grad"), _set_grad)

    # What it is

    @property
    def shape(self):
        return self.data.shape

    @property
    def dtype(self):
        return self.data.dtype

    @property
    def ndim(self):
        return self.data.ndim

    @property
    def device(self):
        return device_of(self.data)

    @property
    def is_leaf(self):
        """Whether no op made it (or none that is recorded): where `backward()` leaves gradients."""
        return self.node is None

    @property
    def is_cuda(self):
        return self.device == "cuda"

    def size(self, dim=None):
        return self.data.shape if dim is None else self.data.shape[dim]

    def dim(self):
        return self.data.ndim

    def numel(self):
        return self.data.size

    def element_size(self):
        return self.data.itemsize

    def is_floating_point(self):
        return self.data.dtype.kind in FLOATS

    def is_contiguous(self):
        return bool(self.data.flags.c_contiguous)

    def stride(self, dim=None):
        """Steps in elements, as in PyTorch (NumPy counts bytes)."""
        steps = tuple(step // self.data.itemsize for step in self.data.strides)
        return steps if dim is None else steps[dim]

    # Out of the engine

    def item(self):
        """The one number in it, as a Python number."""
        if self.data.size != 1:
            raise ArgumentError(
                f"item: a tensor of shape {self.shape} has {self.data.size} numbers, not one\n"
                f"  write x.tolist(), or reduce it first: x.mean().item()"
            )
        reads("item()")
        return self.data.item()

    def tolist(self):
        reads("tolist()")
        return self.data.tolist()

    def numpy(self):
        """The NumPy array itself (no copy). Raises if a gradient is tracked or the tensor is on the GPU."""
        if self.requires_grad:
            raise GradientError("numpy: this tensor is part of a graph\n  write x.detach().numpy()")
        if self.device != "cpu":
            raise GradientError("numpy: this tensor is on the GPU\n  write x.cpu().numpy()")
        reads("numpy()")
        return self.data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.numpy(), dtype=dtype)

    def detach(self):
        """The same memory, without the history."""
        return Tensor(self.data)

    def detach_(self):
        """Forget the history in place."""
        self.node, self.requires_grad = None, False
        return self

    def requires_grad_(self, requires_grad=True):
        if self.node is not None:
            if requires_grad:
                return self
            raise GradientError(
                "requires_grad_(False): only a leaf can stop wanting its gradient\n  write x = x.detach()"
            )
        if requires_grad and self.data.dtype.kind not in FLOATS:
            raise DtypeError(f"requires_grad_: a tensor of {self.dtype} has no gradient\n  write x.float() first")
        self.requires_grad = requires_grad
        return self

    def __len__(self):
        if self.data.ndim == 0:
            raise TypeError("len() of a 0-d tensor: it holds one number\n  write x.item()")
        return self.data.shape[0]

    def __iter__(self):
        if self.data.ndim == 0:
            raise TypeError("a 0-d tensor cannot be iterated over: it holds one number\n  write x.item()")
        return iter(self.unbind(0))  # one node for all of them

    def __bool__(self):
        if self.data.size != 1:
            raise ArgumentError(
                f"the truth of a tensor of shape {self.shape} is ambiguous\n  write (x > 0).any() or .all()"
            )
        reads("the truth of a tensor")
        return bool(self.data)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.data.dtype.kind not in "iub":
            raise DtypeError(f"a tensor of {self.dtype} cannot index\n  write int(x) or x.long()")
        return int(self.item())

    def __format__(self, spec):
        return format(self.item(), spec) if spec and self.data.size == 1 else format(str(self), spec)

    def __hash__(self):
        return id(self)

    def __repr__(self):
        reads("printing")
        numbers = self.data if self.device == "cpu" else self.data.get()
        text = np.array2string(numbers, precision=4, separator=", ", prefix="tensor(", threshold=200)
        notes = [] if self.dtype in (float32, int64, bool_) else [f"dtype={self.dtype}"]
        if self.device != "cpu":
            notes.append(f"device={self.device!r}")
        if self.node is not None:
            notes.append(f"made by {self.node.name}")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return ", ".join([f"tensor({text}", *notes]) + ")"

    def __reduce__(self):
        raise TypeError("a tensor is not pickled: pickle can run code\n  write minigen.checkpoint.save(path, {...})")

    def __deepcopy__(self, memo):
        if self.node is not None:
            raise GradientError("deepcopy: only a leaf can be copied with its role\n  write x.detach().clone()")
        copy = type(self)(self.data.copy(), requires_grad=self.requires_grad)
        if self.grad is not None:
            copy.grad = Tensor(self.grad.data.copy())
        memo[id(self)] = copy
        return copy

    # In-place writes: for leaves, under no_grad (see ops/inplace.py)

    # Devices

    def cpu(self):
        return self.to("cpu")

    def cuda(self):
        return self.to("cuda")


class Parameter(Tensor):
    """A tensor that a module trains: `requires_grad` is True unless said otherwise, and the module lists it."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad=requires_grad)

    def __repr__(self):
        return "Parameter " + super().__repr__()


_new = object.__new__


def wrap(data, node=None, slot=None):
    """A tensor made by `node`: what ops use, without the checks of `Tensor(...)`."""
    tensor = _new(Tensor)
    tensor.data = data
    tensor.node = node
    tensor.slot = slot
    tensor.requires_grad = node is not None
    tensor._grad = tensor.hooks = tensor.buffer = None
    return tensor


def value(x):
    """The array in a tensor; anything else unchanged."""
    return x.data if isinstance(x, Tensor) else x


def _array(data, dtype=None):
    """A NumPy array from numbers and nested lists: floats become float32, integers int64, unless `dtype` is given."""
    if isinstance(data, np.generic):
        return np.asarray(data)
    if isinstance(data, (list, tuple)) and any(isinstance(x, Tensor) for x in data):
        data = [x.tolist() if isinstance(x, Tensor) else x for x in data]
    try:
        array = np.asarray(data)
    except ValueError as ragged:
        raise ArgumentError(f"tensor: the rows of a list must have one length\n  {ragged}") from None
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"tensor: {type(data).__name__} of {array.dtype} is not numeric\n"
            f"  give numbers, nested lists of numbers, or an array"
        )
    given_array = hasattr(data, "dtype") or (
        isinstance(data, (list, tuple)) and len(data) > 0 and hasattr(data[0], "dtype")
    )
    narrows = dtype is None and array.dtype == float64 and not given_array
    return array.astype(float32) if narrows else array


def tensor(data, dtype=None, device=None, requires_grad=False):
    """A new tensor holding a copy of `data`: a number, nested lists, an array or a tensor.

    Python floats give float32 and integers int64; arrays keep their type unless `dtype` says otherwise.
    """
    array = data.data if isinstance(data, Tensor) else data if is_array(data) else _array(data, dtype)
    array = xp(array).array(array, dtype=dtype)
    if device is not None:
        array = to_device(array, device)
    return Tensor(array, requires_grad=requires_grad)


def as_tensor(data, dtype=None, device=None):
    """`data` as a tensor, sharing memory where it can."""
    if isinstance(data, Tensor) and dtype is None and device is None:
        return data
    array = data.data if isinstance(data, Tensor) else data if is_array(data) else _array(data, dtype)
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    return Tensor(array if device is None else to_device(array, device))


def from_numpy(array):
    """A tensor over `array`'s own memory."""
    if not isinstance(array, np.ndarray):
        raise DtypeError(f"from_numpy: got {type(array).__name__}, not a NumPy array\n  write minigen.tensor(...)")
    return Tensor(array)


def new_library(device):
    """numpy or cupy for a creation function's `device` argument (None means the CPU)."""
    return np if device is None else library(device)
