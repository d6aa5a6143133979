"""CuPy's functions: its names, signatures and types (names.json), NumPy's arithmetic."""

import ast
import inspect
import json
import math
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path

import numpy as np

from .arrays import _write, device, host, ndarray, supported, waits

NAMES = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
WIDE = np.dtype(np.float32)  # what bfloat16 is computed in


def signature(text):
    """The signature that "(a, axis=None, *, keepdims=False)" shows."""
    given = ast.parse(f"def f{text}: pass").body[0].args
    kind, found = inspect.Parameter, []
    plain = [*given.posonlyargs, *given.args]
    defaults = [kind.empty] * (len(plain) - len(given.defaults)) + [ast.unparse(d) for d in given.defaults]
    for i, (one, default) in enumerate(zip(plain, defaults)):
        place = kind.POSITIONAL_ONLY if i < len(given.posonlyargs) else kind.POSITIONAL_OR_KEYWORD
        found.append(kind(one.arg, place, default=default))
    if given.vararg:
        found.append(kind(given.vararg.arg, kind.VAR_POSITIONAL))
    for one, default in zip(given.kwonlyargs, given.kw_defaults):
        found.append(kind(one.arg, kind.KEYWORD_ONLY, default=default and ast.unparse(default)))
    if given.kwarg:
        found.append(kind(given.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(found)


def dtype_of(char):
    if char != "E":
        return np.dtype(char)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def parse(types):
    """[(inputs, outputs), ...] from "ff->f dd->d"; structured, complex and bfloat16 types where they can be had."""
    found = []
    for one in types.split():
        if not set(one) & set("VFD"):
            try:
                found.append(tuple(tuple(map(dtype_of, half)) for half in one.split("->")))
            except ImportError:
                continue
    return found


def is_narrow(x):
    return x.dtype.name == "bfloat16"


def resolve(name, loops, arguments):
    """The first loop to whose types all arguments can be cast safely; Python numbers take the others' type."""
    strong = [x.dtype for x in arguments if isinstance(x, (np.ndarray, np.generic))]
    rank = lambda kind: {"b": 0, "u": 1, "i": 1}.get(kind, 2)
    most = max((rank(t.kind) for t in strong), default=-1)
    types = []
    for x in arguments:
        if isinstance(x, (np.ndarray, np.generic)):
            types.append(x.dtype)
            continue
        weak = np.dtype(bool if isinstance(x, bool) else np.int64 if isinstance(x, int) else np.float64)
        if rank(weak.kind) > most:
            types.append(weak)
        elif weak.kind == "f" and any(t.name == "bfloat16" for t in strong):
            types.append(np.dtype(np.float64 if name in ("power", "pow") else np.float16))
        else:
            types.append(None)
    for inputs, outputs in loops:
        if all(t is None or np.can_cast(t, wanted) for t, wanted in zip(types, inputs)):
            for x, wanted in zip(arguments, inputs):
                whole = isinstance(x, int) and not isinstance(x, bool) and wanted.kind in "iu"
                if whole and not np.iinfo(wanted).min <= x <= np.iinfo(wanted).max:
                    raise OverflowError(f"Python integer {x} out of bounds for {wanted}")
            return inputs, outputs
    raise TypeError(f"Wrong type ({tuple(strong)}) of arguments for cupy_{name}")


def scalar(x):
    """An operand, with device arrays opened: an array, or a number. Raises TypeError for all else."""
    x = host(x)
    if not isinstance(x, (np.ndarray, np.generic, bool, int, float)):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


SCATTERS = {
    "add": ("int32", "int64", "float16", "float32", "float64", "uint32", "uint64"),
    "maximum": ("int32", "int64", "float32", "float64", "uint32", "uint64"),
    "minimum": ("int32", "int64", "float32", "float64", "uint32", "uint64"),
}


class ufunc:
    """An elementwise function. Its results are C-contiguous, whatever the order of its arguments."""

    def __init__(self, name, types, function):
        self.name, self.__name__ = f"cupy_{name}", name
        self.loops, self.function, self.types = parse(types), function, types.split()
        self.nin, self.nout = len(self.loops[0][0]), len(self.loops[0][1])

    def __call__(self, *arguments, out=None, dtype=None, casting="same_kind"):
        if len(arguments) > self.nin:
            *arguments, out = arguments
        if len(arguments) != self.nin:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        given = [scalar(x) for x in arguments]
        if out is not None and not isinstance(out, ndarray):
            if not (isinstance(out, tuple) and len(out) == 1):
                raise TypeError(f"Unsupported type {type(out)}")
            (out,) = out
        if dtype is None:
            inputs, outputs = resolve(self.__name__, self.loops, given)
        else:
            inputs, outputs = next(loop for loop in self.loops if loop[1][0] == np.dtype(dtype))
        cast = [np.asarray(x).astype(WIDE if t.name == "bfloat16" else t) for x, t in zip(given, inputs)]
        with np.errstate(all="ignore"):
            results = self.function(*cast)
        results = results if isinstance(results, tuple) else (results,)
        results = [np.asarray(y, order="C").astype(t, order="C", copy=False) for y, t in zip(results, outputs)]
        if out is not None:
            if out.shape != results[0].shape:
                raise ValueError("Out shape is mismatched")
            if not np.can_cast(results[0].dtype, out.dtype, casting):
                raise TypeError(f"Cannot cast output operand from {results[0].dtype!r} to {out.dtype!r}")
            out._host[...] = results[0]
            return out
        made = [device(np.ascontiguousarray(y).reshape(y.shape)) for y in results]
        return made[0] if self.nout == 1 else tuple(made)

    def at(self, a, indices, b=None):
        if self.__name__ not in SCATTERS:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        from .arrays import _index

        index, simple = _index(indices, a.shape)
        if not simple and a.dtype.name not in SCATTERS[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at does not support {a.dtype} as data type")
        getattr(np, self.__name__).at(a._host, index, np.asarray(scalar(b)).astype(a.dtype))

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return (array.sum if self.__name__ == "add" else array.prod)(axis, dtype, out, keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return (array.cumsum if self.__name__ == "add" else array.cumprod)(axis, dtype, out)

    def __repr__(self):
        return f"<ufunc '{self.name}'>"


ufuncs = {name: ufunc(name, types, getattr(np, name)) for name, types in NAMES["ufuncs"].items() if hasattr(np, name)}
_where = ufunc("where", "???->? bbb->b " + " ".join(f"?{c}{c}->{c}" for c in "bBhHiIlLqQefd"), np.where)
_clip = ufunc("clip", NAMES["clip"], np.clip)
special = {
    name: ufunc(name, NAMES["special"][name], np.vectorize(function, otypes=[np.float64]))
    for name, function in (("erf", math.erf), ("erfc", math.erfc))
}


# Functions that CuPy has for its own reasons otherwise than NumPy


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False):
    if isinstance(obj, ndarray):
        if not copy and (dtype is None or np.dtype(dtype) == obj.dtype):
            ordered = np.asarray(obj._host, order=order if order in "CFKA" else "K")
            if ordered is obj._host:
                return obj
        return device(np.array(obj._host, dtype=dtype, order=order, ndmin=ndmin))
    entries = list(obj) if isinstance(obj, (list, tuple)) else []
    if any(isinstance(x, ndarray) for x in entries):
        if not all(isinstance(x, ndarray) for x in entries):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        obj = [x._host for x in entries]
    if order in ("K", "A"):
        order = "F" if isinstance(obj, np.ndarray) and obj.flags.fnc else "C"
    made = np.array(obj, dtype=dtype, order=order, ndmin=ndmin)
    supported(made.dtype)
    return device(made)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, bool(copy), order or "K")


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def ascontiguousarray(a, dtype=None):
    if isinstance(a, ndarray) and a.flags.c_contiguous and (dtype is None or np.dtype(dtype) == a.dtype):
        return a
    return array(a, dtype, True, "C")


def full(shape, fill_value, dtype=None, order="C"):
    if isinstance(fill_value, np.ndarray) and fill_value.ndim:
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    value = fill_value._host if isinstance(fill_value, ndarray) else fill_value
    return device(np.full(shape, value, supported(np.asarray(value).dtype if dtype is None else dtype), order))


def filled_like(numpy, a, *value, dtype=None, order="K", subok=None, shape=None):
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    return device(numpy(a._host, *map(scalar, value), dtype=dtype, order=order, shape=shape))


def where(condition, x=None, y=None):
    if x is None and y is None:
        return condition.nonzero()
    condition = (
        condition if isinstance(condition, ndarray) and condition.dtype == bool else ufuncs["not_equal"](condition, 0)
    )
    return _where(condition, x, y)


def clip(a, a_min, a_max, out=None):
    if a_min is None and a_max is None:
        raise ValueError("array_clip: must set either max or min")
    if a_min is None:
        return ufuncs["minimum"](a, a_max)
    return ufuncs["maximum"](a, a_min) if a_max is None else _clip(a, a_min, a_max, out=out)


def check_axis(x, axis):
    """Raise AxisError for an axis of an array that has no dimensions: NumPy lets 0 and -1 pass."""
    if x.ndim == 0 and axis not in (None, ()):
        raise np.exceptions.AxisError(f"axis {axis} is out of bounds for array of dimension 0")


def reduction(name, x, axis=None, dtype=None, keepdims=False, **more):
    """sum, prod, mean, ...: in CuPy's type, 16-bit types added in float32."""
    check_axis(x, axis)
    a, narrow = host(x), is_narrow(host(x)) if isinstance(x, ndarray) else False
    axis = tuple(axis) if isinstance(axis, list) else axis
    if name in ("sum", "prod", "max", "min", "all", "any") and dtype is None:
        _, (result,) = resolve(name, REDUCTIONS[name], [a])
    elif dtype is not None:
        result = np.dtype(dtype)
    elif name in ("var", "std"):
        result = np.dtype(np.float64) if narrow or a.dtype.kind in "biu" else a.dtype
    else:
        result = np.dtype(np.float64) if a.dtype.kind in "biu" else a.dtype
    if name not in ("all", "any") and (narrow or a.dtype == np.float16):
        a = a.astype(WIDE)
    with np.errstate(all="ignore"):
        y = np.asarray(getattr(np, name)(a, axis=axis, keepdims=keepdims, **more))
    return device(np.ascontiguousarray(y).reshape(y.shape).astype(result, copy=False))


REDUCTIONS = {name: parse(types) for name, types in NAMES["reductions"].items()}
REDUCTIONS["min"], REDUCTIONS["any"] = REDUCTIONS["max"], REDUCTIONS["all"]


def arg_extreme(name, a, axis=None, *_, keepdims=False, **__):
    check_axis(a, axis)
    if (a.size if axis is None else a.shape[axis]) == 0:
        raise ValueError(f"zero-size array to reduction operation cupy_{name} which has no identity")
    return device(np.asarray(getattr(np, name)(a._host, axis=axis, keepdims=keepdims)).astype("q"))


def scan(name, a, axis=None, dtype=None, out=None):
    check_axis(a, axis)
    x = host(a)
    _, (result,) = resolve(name, REDUCTIONS[name[3:]], [x])
    y = getattr(np, name)(x.astype(WIDE) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x, axis=axis)
    return device(y.astype(dtype or result))


def sorted_by(name, a, *arguments, axis=-1, kind=None, **more):
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    if is_narrow(a):
        raise NotImplementedError("Sorting arrays with dtype 'bfloat16' is not supported")
    if a.ndim == 0:
        raise ValueError("Sorting arrays with the rank of zero is not supported")
    stable = {"kind": "stable"} if name in ("sort", "argsort") else {}
    return device(getattr(np, name)(a._host, *arguments, axis=axis, **stable))


def searchsorted(a, v, side="left", sorter=None):
    if a.ndim > 1:
        raise ValueError("object too deep for desired array")
    if not isinstance(v, ndarray):
        raise NotImplementedError("Only int or ndarray are supported for v")
    return device(np.asarray(np.searchsorted(a._host, v._host, side)).astype(np.int64))


def bincount(x, weights=None, minlength=None):
    if x.ndim > 1:
        raise ValueError("object too deep for desired array")
    if x.dtype.kind not in "biu":
        raise TypeError("x must be int array")
    waits("bincount")
    return device(np.bincount(x._host, host(weights), minlength or 0))


def repeat(a, repeats, axis=None):
    if isinstance(repeats, ndarray):
        waits("repeat")
    return device(np.repeat(host(a), host(repeats), axis))


def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    if not all(isinstance(x, ndarray) for x in tup):
        raise TypeError("Only cupy arrays can be concatenated")
    return device(np.ascontiguousarray(np.concatenate(host(tuple(tup)), axis=axis, dtype=dtype, casting=casting)))


def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    for x in tup:
        if not isinstance(x, ndarray):
            raise TypeError(f"Argument 'a' has incorrect type (expected cupy._core.core._ndarray_base, got {type(x)})")
    return device(np.ascontiguousarray(np.stack(host(tuple(tup)), axis, dtype=dtype, casting=casting)))


def matmul(*arguments, axes=None, axis=None, keepdims=False, casting="same_kind", dtype=None, order="K", out=None):
    a, b = arguments
    for x in (a, b):
        if not isinstance(x, ndarray):
            raise TypeError(f"Argument has incorrect type (expected cupy._core.core._ndarray_base, got {type(x)})")
    x, y = a._host, b._host
    narrow = is_narrow(x) or is_narrow(y)
    if narrow and max(x.ndim, y.ndim) > 2:
        raise TypeError("batched products of bfloat16 are not supported")
    result = np.result_type(x, y)
    wide = [z.astype(WIDE) if z.dtype.itemsize == 2 and z.dtype.kind in "fV" else z for z in (x, y)]
    return device(np.ascontiguousarray(np.asarray(np.matmul(*wide)).astype(result)).reshape(np.matmul(*wide).shape))


def take_along_axis(a, indices, axis):
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    n = a.size if axis is None else a.shape[axis]
    return device(np.take_along_axis(a._host, indices._host.astype(np.int64) % max(n, 1), axis))


def take(a, indices, axis=None, out=None):
    n = a.size if axis is None else a.shape[axis]
    indices = indices._host if isinstance(indices, ndarray) else np.asarray(indices)
    return device(np.asarray(np.take(a._host, indices.astype(np.int64) % max(n, 1), axis)))


def put_along_axis(arr, indices, values, axis):

    index = [np.arange(n).reshape((-1,) + (1,) * (arr.ndim - i - 1)) for i, n in enumerate(arr.shape)]
    index[axis] = indices._host % arr.shape[axis]
    _write(arr._host, tuple(index), host(values))


def diagonal(a, offset=0, axis1=0, axis2=1):
    seen = a._host.diagonal(offset, axis1, axis2)
    seen.flags.writeable = True  # as CuPy's is
    return device(seen, a)


def nonzero(a):
    if a.ndim == 0:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use cp.atleast_1d(scalar).nonzero() instead.")
    waits("nonzero")
    return device(np.nonzero(a._host))


LINALG = ["ignore"]  # cupyx.errstate(linalg=...)


@contextmanager
def errstate(*, linalg):
    """cupyx.errstate: under "raise" what cuSOLVER reports is looked at, for which the host waits."""
    LINALG.append(linalg)
    try:
        yield
    finally:
        LINALG.pop()


def linear_algebra(name, *arguments, **named):
    """A function of cupy.linalg: no 16-bit types, batches that are not stretched, and where NumPy raises for a singular
    matrix NaN, unless `errstate` says "raise".
    """
    given = [host(x) for x in arguments]
    if name == "solve" and given[1].ndim != 1 and given[0].shape[:-1] != given[1].shape[:-1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
    if LINALG[-1] == "raise":
        waits(name)
    for x in given:
        if isinstance(x, np.ndarray) and x.dtype.itemsize == 2 and x.dtype.kind in "fV" and name != "norm":
            raise TypeError(f"unsupported dtype {x.dtype}")
    try:
        result = getattr(np.linalg, name)(*given, **named)
    except np.linalg.LinAlgError as fault:
        if LINALG[-1] == "raise" or ("ingular" not in str(fault) and "positive definite" not in str(fault)):
            raise
        result = np.full(given[-1].shape, np.nan, given[-1].dtype)
    if name == "lstsq":
        return tuple(device(np.asarray(y)) for y in result)
    if isinstance(result, tuple):
        return type(result)(*[device(np.asarray(y)) for y in result]) if hasattr(result, "_fields") else device(result)
    return device(np.asarray(result))


OWN = {
    "array": array, "asarray": asarray, "asanyarray": asarray, "asnumpy": asnumpy, "where": where, "clip": clip,
    "ascontiguousarray": ascontiguousarray, "full": full, "searchsorted": searchsorted, "bincount": bincount,
    "repeat": repeat, "concatenate": concatenate, "concat": concatenate, "stack": stack, "matmul": matmul,
    "take_along_axis": take_along_axis, "take": take, "put_along_axis": put_along_axis, "nonzero": nonzero,
    "diagonal": diagonal,
    "flatnonzero": lambda a: nonzero(a.ravel())[0],
    "argwhere": lambda a: stack(nonzero(a), axis=-1),
    "copy": lambda a, order="K": array(a, order=order),
    "astype": lambda x, dtype, /, *, copy=True: x.astype(dtype, copy=copy),
    "reshape": lambda a, newshape, order="C", *, copy=None: a.reshape(newshape, order=order),
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis],
    "shape": lambda a: a.shape if isinstance(a, ndarray) else np.shape(a),
    "ndim": lambda a: a.ndim if isinstance(a, ndarray) else np.ndim(a),
    "result_type": lambda *given: np.result_type(*[x.dtype if isinstance(x, ndarray) else x for x in given]),
    "can_cast": lambda from_, to, casting="safe": np.can_cast(getattr(from_, "dtype", from_), to, casting),
    "isneginf": lambda x, out=None: ufuncs["equal"](x, -np.inf),
    "isposinf": lambda x, out=None: ufuncs["equal"](x, np.inf),
    **{f"{x}_like": partial(filled_like, getattr(np, f"{x}_like")) for x in ("empty", "zeros", "ones", "full")},
    **{name: partial(arg_extreme, name) for name in ("argmax", "argmin")},
    **{name: partial(scan, name) for name in ("cumsum", "cumprod")},
    **{name: partial(sorted_by, name) for name in ("sort", "argsort", "partition", "argpartition")},
    **{name: partial(reduction, name) for name in ("sum", "prod", "mean", "var", "std", "all", "any")},
    "max": partial(reduction, "max"), "amax": partial(reduction, "max"),
    "min": partial(reduction, "min"), "amin": partial(reduction, "min"),
}  # fmt: skip
WAITING = {"unique", "setdiff1d", "union1d", "intersect1d", "array_equal", "allclose", "histogram", "trim_zeros"}
VIEWS = {
    "reshape", "transpose", "swapaxes", "moveaxis", "rollaxis", "expand_dims", "squeeze", "broadcast_to", "flip",
    "broadcast_arrays", "ravel", "diagonal", "einsum", "split", "array_split", "atleast_1d", "atleast_2d", "atleast_3d",
    "fliplr", "flipud", "rot90", "hsplit", "vsplit", "dsplit", "permute_dims", "matrix_transpose", "meshgrid", "real",
    "imag", "diag", "as_strided", "sliding_window_view", "roll", "pad", "trace",
}  # fmt: skip


def function(name, text, numpy):
    """CuPy's function `name` with its signature `text`, computed by `numpy` or by one of our own."""
    takes = signature(text)
    own = OWN.get(name)

    @wraps(numpy or own)
    def call(*arguments, **named):
        try:
            bound = takes.bind(*arguments, **named)
        except TypeError as fault:
            raise TypeError(f"cupy.{name}: {fault}") from None
        if own is not None:
            given = {k: v for k, v in named.items() if not (k == "out" and v is None)}
            return own(*arguments, **given)
        if name in WAITING:
            waits(name)
        opened = [host(x) for x in arguments]
        keywords = {k: host(v) for k, v in bound.kwargs.items() if not (k in ("out", "subok") and v is None)}
        opened = opened[: len(bound.args)]
        for place in range(len(opened), len(bound.args)):
            opened.append(host(bound.args[place]))
        with np.errstate(all="ignore"):
            result = numpy(*opened, **keywords)
        sources = [x for x in arguments for x in (x if isinstance(x, (list, tuple)) else [x])]
        made = device(result, *sources)
        if name not in VIEWS and isinstance(made, ndarray) and not made.flags.c_contiguous:
            made = device(np.ascontiguousarray(made._host))
        return made

    call.__name__ = name
    return call


functions = {}
for _name, _text in NAMES["functions"].items():
    _numpy = getattr(np, _name, None)
    if _name in OWN or _numpy is not None:
        functions[_name] = function(_name, _text, _numpy)


# The array's methods and signs


def method(name, text):
    takes = signature(text)
    own = METHODS.get(name)

    def call(self, *arguments, **named):
        try:
            takes.bind(*arguments, **named)
        except TypeError as fault:
            raise TypeError(f"ndarray.{name}: {fault}") from None
        if own is not None:
            return own(self, *arguments, **{k: v for k, v in named.items() if not (k == "out" and v is None)})
        return functions[name](self, *arguments, **named)

    call.__name__ = name
    return call


def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
    dtype = supported(dtype)
    if not copy and dtype == self.dtype:
        return self
    with np.errstate(all="ignore"):
        return device(self._host.astype(dtype, order=order))


def reshape(self, *shape, order="C", copy=None):
    return device(self._host.reshape(*shape, order=order), self)


def transpose(self, *axes):
    return device(self._host.transpose(*axes), self)


def view(self, dtype=None, type=None):
    return device(self._host.view() if dtype is None else self._host.view(supported(dtype)), self)


def fill(self, value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
    self._host[...] = host(value) if isinstance(value, ndarray) else value


METHODS = {
    "astype": astype, "reshape": reshape, "transpose": transpose, "view": view, "fill": fill,
    "copy": lambda self, order="C": device(self._host.copy(order)),
    "flatten": lambda self, order="C": device(self._host.flatten(order)),
    "ravel": lambda self, order="C": device(self._host.ravel(order), self),
    "clip": lambda self, min=None, max=None, out=None: clip(self, min, max, out),
    "dot": lambda self, b, out=None: functions["dot"](self, b),
    "argmax": partial(arg_extreme, "argmax"), "argmin": partial(arg_extreme, "argmin"),
    "sort": lambda self, axis=-1, kind=None: fill(self, sorted_by("sort", self, axis=axis, kind=kind)),
    "partition": lambda self, kth, axis=-1: self._host.partition(kth, axis),
    "scatter_add": lambda self, slices, value: ufuncs["add"].at(self, slices, value),
}  # fmt: skip
for _name, _text in NAMES["methods"].items():
    if not hasattr(ndarray, _name) and (_name in METHODS or _name in functions):
        setattr(ndarray, _name, method(_name, _text))

SIGNS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip


def _foreign(x):
    return not isinstance(x, (ndarray, np.ndarray, np.generic, bool, int, float, complex)) and x is not None


def _sign(u, swapped=False):
    def call(self, other):
        if _foreign(other):
            return NotImplemented
        return u(other, self) if swapped else u(self, other)

    return call


def _in_place(u):
    return lambda self, other: NotImplemented if _foreign(other) else u(self, other, out=self)


for _name, _ufunc in SIGNS.items():
    setattr(ndarray, f"__{_name}__", _sign(ufuncs[_ufunc]))
    setattr(ndarray, f"__r{_name}__", _sign(ufuncs[_ufunc], swapped=True))
    setattr(ndarray, f"__i{_name}__", _in_place(ufuncs[_ufunc]))
for _name, _ufunc in {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _sign(ufuncs[_ufunc]))
ndarray.__neg__ = lambda self: ufuncs["negative"](self)
ndarray.__pos__ = lambda self: ufuncs["positive"](self)
ndarray.__invert__ = lambda self: ufuncs["invert"](self)
ndarray.__abs__ = lambda self: ufuncs["absolute"](self)
ndarray.__matmul__ = lambda self, other: NotImplemented if _foreign(other) else matmul(self, other)
ndarray.__rmatmul__ = lambda self, other: NotImplemented if _foreign(other) else matmul(other, self)
ndarray.__divmod__ = lambda self, other: ufuncs["divmod"](self, other)
