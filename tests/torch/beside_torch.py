"""What the tests beside PyTorch share: its values as minigen's, and results side by side."""

import contextlib
import numbers
import warnings

import numpy as np
import torch

import minigen

DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
}


class NoCounterpart(Exception):
    """A sample that makes no sense here; the message is the reason."""


def to_minigen(x, requires_grad=None):
    """PyTorch's value as minigen's: tensors by their numbers and strides, containers element by element."""
    if isinstance(x, torch.Tensor):
        if x.layout != torch.strided or x.is_nested:
            raise NoCounterpart("sparse and nested tensors: minigen's are dense")
        if x.dtype not in DTYPES:
            raise NoCounterpart("complex, quantised and 8-bit floating types")
        if x.device.type != "cpu":
            raise NoCounterpart("a device that is not here")
        wants = x.requires_grad if requires_grad is None else requires_grad and x.is_floating_point()
        array = x.detach().numpy()
        return minigen.Tensor(np.array(array, order="K"), requires_grad=wants)
    if isinstance(x, torch.dtype):
        if x not in DTYPES:
            raise NoCounterpart("complex, quantised and 8-bit floating types")
        return DTYPES[x]
    if isinstance(x, torch.device):
        return x.type
    if isinstance(x, torch.memory_format | torch.layout):
        raise NoCounterpart("memory_format and layout: here strides say it")
    if isinstance(x, complex):
        raise NoCounterpart("complex, quantised and 8-bit floating types")
    if isinstance(x, dict):
        return {key: to_minigen(value, requires_grad) for key, value in x.items()}
    if isinstance(x, torch.Size):
        return tuple(x)
    if isinstance(x, list | tuple):
        return type(x)(to_minigen(value, requires_grad) for value in x)
    if isinstance(x, slice):
        return slice(*[to_minigen(value) for value in (x.start, x.stop, x.step)])
    return x


def leaves(x, kind):
    """The tensors of class `kind` in nested containers, in order."""
    if isinstance(x, kind):
        return [x]
    if isinstance(x, dict):
        x = x.values()
    elif not isinstance(x, list | tuple):
        return []
    return [leaf for value in x for leaf in leaves(value, kind)]


def difference(ours, theirs, tolerance):
    """None if the results agree, else what is wrong, in words."""
    if isinstance(theirs, torch.Tensor):
        if not isinstance(ours, minigen.Tensor):
            return f"{type(ours).__name__} where PyTorch gives a tensor"
        a, b = ours.data, theirs.detach().numpy(force=True)
        if a.shape != b.shape:
            return f"shape {a.shape}, PyTorch's {b.shape}"
        if a.dtype != b.dtype:
            return f"{a.dtype}, PyTorch's {b.dtype}"
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
            with np.errstate(all="ignore"):
                gap = np.abs(np.subtract(a, b, dtype=np.float64))
            return f"values differ by {np.nanmax(gap):.2g} (NaN at {np.isnan(a).sum()} and {np.isnan(b).sum()} places)"
        return None
    if isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return f"{len(ours)} results, PyTorch's {len(theirs)}"
        return next((d for a, b in zip(ours, theirs) if (d := difference(a, b, tolerance))), None)
    if isinstance(theirs, numbers.Number) and not np.isclose(ours, theirs):
        return f"{ours}, PyTorch's {theirs}"
    return None


def gradients_difference(ours, theirs, tolerance):
    """The same for gradients, where None and zeros are one."""
    for a, b in zip(ours, theirs, strict=True):
        if a is None and b is None:
            continue
        a = minigen.zeros(tuple(b.shape), dtype=DTYPES[b.dtype]) if a is None else a
        b = torch.zeros(a.shape, dtype=getattr(torch, str(a.dtype))) if b is None else b
        if found := difference(a, b, tolerance):
            return found
    return None


@contextlib.contextmanager
def quiet():
    """Without warnings, of which PyTorch's samples raise many; with the attention that it can differentiate twice."""
    mathematics = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with warnings.catch_warnings(), np.errstate(all="ignore"), mathematics:
        warnings.simplefilter("ignore")
        yield
