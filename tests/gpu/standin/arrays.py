"""The array: NumPy's memory behind CuPy's rules."""

from contextlib import contextmanager

import numpy as np

reads = []  # what has waited for the card, in order
_forbidden = False


class HostRead(AssertionError):
    """Numbers of an array came to the host where the test says that none must."""


class Undefined(AssertionError):
    """A place was written twice with different values: on a card it is open which one stays."""


def waits(what):
    """Note that the host waits for the card. Raises HostRead inside `no_reads`."""
    reads.append(what)
    if _forbidden:
        raise HostRead(f"{what}: the host would wait for the card here")


@contextmanager
def no_reads():
    """Inside the block whatever waits for the card raises HostRead."""
    global _forbidden
    before, _forbidden = _forbidden, True
    try:
        yield
    finally:
        _forbidden = before


def host(x):
    """The NumPy array behind a device array; lists and tuples entry by entry; NumPy's own arrays are refused."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)(host(entry) for entry in x)
    return x


def device(array, *sources):
    """A device array over what NumPy returned; it is a view of that one among `sources` whose memory it shares."""
    if type(array) in (tuple, list):
        return type(array)(device(a, *sources) for a in array)
    if not isinstance(array, (np.ndarray, np.generic)):
        return array
    array = np.asarray(array)
    if array.base is not None or sources:
        for source in sources:
            if isinstance(source, ndarray) and array.size and np.shares_memory(array, source._host):
                return ndarray._over(array, source if source._base is None else source._base)
    return ndarray._over(array)


class Memory:
    """Where an array begins."""

    def __init__(self, array):
        self.ptr, self.device_id = array.ctypes.data, 0
        self.mem = self


class Flags:
    def __init__(self, x):
        self.c_contiguous, self.f_contiguous = x._host.flags.c_contiguous, x._host.flags.f_contiguous
        self.owndata = x._base is None
        self.forc, self.fnc = self.c_contiguous or self.f_contiguous, self.f_contiguous and not self.c_contiguous

    def __getitem__(self, name):
        return getattr(self, name.lower())


class Device:
    """The one device there is."""

    compute_capability = "80"
    mem_info = 1 << 33, 1 << 34

    def __init__(self, number=0):
        self.attributes = {"MultiProcessorCount": 8, "CooperativeLaunch": 1, "MaxSharedMemoryPerBlockOptin": 64 * 1024}
        if number != 0:
            raise RuntimeError(f"cudaErrorInvalidDevice: invalid device ordinal: {number}")
        self.id = 0

    def use(self):
        return self

    def synchronize(self):
        waits("Device.synchronize")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __eq__(self, other):
        return isinstance(other, Device)

    __hash__ = None


class ndarray:
    """An array on the device. `_host` is its memory, `_base` the array that owns it, or None."""

    __slots__ = ("__weakref__", "_base", "_host")
    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in makes no array over given memory")
        self._host, self._base = np.empty(shape, supported(dtype), order), None

    @classmethod
    def _over(cls, array, base=None):
        x = object.__new__(cls)
        x._host, x._base = array, base
        return x

    # What it is

    shape = property(lambda self: self._host.shape, lambda self, shape: setattr(self._host, "shape", shape))
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides if self._host.size else _own_strides(self._host))
    base = property(lambda self: self._base)
    flags = property(Flags)
    data = property(lambda self: Memory(self._host))
    device = property(lambda self: Device())
    T = property(lambda self: device(self._host.T, self))
    mT = property(lambda self: device(self._host.mT, self))
    real = property(lambda self: self)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3, "stream": 1,
            "strides": None if self._host.flags.c_contiguous else self.strides, "data": (self._host.ctypes.data, False),
        }  # fmt: skip

    # To the host

    def get(self, stream=None, order="C", out=None, blocking=True):
        waits("get")
        if out is not None:
            out[...] = self._host
            return out
        return np.array(self._host, order=order)

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._host[...] = arr

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        waits("item")
        return self._host.item()

    def tolist(self):
        waits("tolist")
        return self._host.tolist()

    def tobytes(self, order="C"):
        waits("tobytes")
        return self._host.tobytes(order)

    def _scalar(self, kind):
        if self.ndim:
            raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
        waits(kind.__name__)
        return kind(self._host)

    def __float__(self):
        return self._scalar(float)

    def __int__(self):
        return self._scalar(int)

    def __bool__(self):
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        waits("bool")
        return bool(self._host) if self.size else False

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from . import functions

        known = functions.ufuncs.get(ufunc.__name__)
        if known is None or any(not _operand(x) for x in inputs):
            return NotImplemented
        if method == "__call__":
            return known(*inputs, **kwargs)
        if method == "at":
            return known.at(*inputs)
        return NotImplemented

    def __array_function__(self, function, types, args, kwargs):
        import cupy

        ours = cupy
        for part in function.__module__.split(".")[1:]:
            ours = getattr(ours, part, cupy)
        known = getattr(ours, function.__name__, None)
        if known is None or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return known(*args, **kwargs)

    def __repr__(self):
        waits("repr")
        return repr(self._host)

    def __format__(self, spec):
        waits("format")
        return format(self._host if self.ndim else self._host.item(), spec)

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    # Square brackets

    def __getitem__(self, index):
        index, simple = _index(index, self.shape)
        picked = np.asarray(self._host[index])
        if simple:
            if not isinstance(picked, np.ndarray) or picked.base is None:
                picked = self._host[(*index, ...)]
            return ndarray._over(picked, self if self._base is None else self._base)
        return ndarray._over(np.ascontiguousarray(picked).reshape(picked.shape))

    def __setitem__(self, index, value):
        index, simple = _index(index, self.shape)
        if simple and isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if isinstance(value, ndarray):
            value = value._host
        elif not isinstance(value, (bool, int, float, np.generic, np.ndarray, list, tuple)):
            raise TypeError(f"Unsupported type {type(value)}")
        if not simple:
            _write(self._host, index, value)
        else:
            self._host[index] = np.broadcast_to(value, np.broadcast_shapes(np.shape(value), self._host[index].shape))


def _own_strides(array):
    """CuPy's of an empty array."""
    return tuple(array.strides) if array.size else np.empty(array.shape, array.dtype).strides


def _operand(x):
    return isinstance(x, (ndarray, np.ndarray, np.generic, bool, int, float, complex, tuple, slice, type(None)))


def _index(index, shape):
    """The index as NumPy takes it, integers in it wrapped into range as on a card; and whether it gives a view."""
    entries = list(index) if isinstance(index, tuple) else [index]
    simple, dim = True, 0
    named = sum(
        e.ndim
        if isinstance(e, ndarray) and e.dtype == bool
        else 0
        if e is None or isinstance(e, (bool, np.bool_))
        else 1
        for e in entries
        if e is not Ellipsis
    )
    for place, entry in enumerate(entries):
        if entry is Ellipsis:
            dim += len(shape) - named
            continue
        if entry is None:
            continue
        if isinstance(entry, (bool, np.bool_)):
            simple, entries[place] = False, np.asarray(entry)
            continue
        if isinstance(entry, (int, np.integer)) or (np.isscalar(entry) and not isinstance(entry, str)):
            entries[place] = int(entry)
        elif isinstance(entry, (list, np.ndarray, ndarray)):
            simple, array = False, host(entry) if isinstance(entry, ndarray) else np.asarray(entry)
            if array.size == 0 and isinstance(entry, list):
                array = array.astype(np.int64)
            if array.dtype.kind not in "iub":
                raise IndexError(
                    f"arrays used as indices must be of integer or boolean type. (actual: {array.dtype.type})"
                )
            if array.dtype.kind == "b":
                waits("a mask as an index")
                entries[place] = array
                dim += array.ndim
                continue
            if dim < len(shape) and shape[dim]:
                array = array.astype(np.int64) % shape[dim]
            entries[place] = array
        elif not isinstance(entry, slice):
            raise IndexError("only integers, slices, ellipsis, None and integer or boolean arrays are valid indices")
        dim += 1
    return tuple(entries), simple


def _write(array, index, value):
    """array[index] = value where no place may be named twice with two values."""
    array[index] = value
    written = array[index]
    wanted = np.broadcast_to(np.asarray(value).astype(array.dtype), written.shape)
    if written.tobytes() != wanted.tobytes():
        raise Undefined(f"an array of shape {array.shape} is written twice at one place, with different values")


KINDS = "biufc"


def supported(dtype):
    """`dtype` as NumPy's, if a card has it. Raises ValueError."""
    dtype = np.dtype(dtype)
    if dtype.kind not in KINDS and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype
