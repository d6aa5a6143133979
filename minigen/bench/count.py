"""How much arithmetic a training step is: the multiplications and additions of its matrix products.

    with counting() as operations:
        step()
    operations.total

Counted are the products of linear layers, matmul, convolutions, attention and recurrent layers, from the shapes that
occur: forward once, and back once for each operand that wants a gradient. So a first layer's input costs nothing on
the way back, what a causal mask forbids is not counted, and neither is what a kernel computes a second time to save
memory. Element-wise work is left out: it is bound by memory, not by arithmetic.
"""

from contextlib import contextmanager

from ..autograd import is_grad_enabled
from ..ops import attention, convolution, linalg, linear, recurrent
from ..tensor import Tensor


def _linear(x, weight, bias):
    return x.numel() * len(weight)


def _linear_activation(x, weight, bias, activation):
    return _linear(x, weight, bias)


def _linear_few(x, weight, *rest):
    return _linear(x, weight, None)


def _matmul(a, b):
    rows = 1 if a.ndim == 1 else a.shape[-2]
    columns = 1 if b.ndim == 1 else b.shape[-1]
    pairs = max(a.numel() // (rows * a.shape[-1]), b.numel() // (columns * a.shape[-1]))
    return pairs * rows * columns * a.shape[-1]


def _convolve(x, weight, bias, size, window):
    places = x.shape[0]
    for n in size:
        places *= n
    return places * weight.numel()


def _spread(z, weight, bias, size, window):
    return z.numel() * weight.numel() // len(weight)


def _attention(query, key, value, mask, drop, scale, causal):
    T, S = query.shape[-2], key.shape[-2]
    pairs = sum(min(t + 1, S) for t in range(T)) if causal else T * S
    return query.numel() // (T * query.shape[-1]) * pairs * (query.shape[-1] + value.shape[-1])


def _recurrent(x, h0, *rest):
    return x.numel() // x.shape[-1] * sum(w.numel() for w in rest if isinstance(w, Tensor) and w.ndim == 2)


def _lstm(x, h0, c0, *rest):
    return _recurrent(x, h0, *rest)


# the op, its multiply-adds, and how many of its first arguments it multiplies (None: all or nothing)
COUNTED = [
    (linear._linear, _linear, 2),
    (linear._linear_activation, _linear_activation, 2),
    (linear._linear_few, _linear_few, 2),
    (linalg._matmul, _matmul, 2),
    (convolution._convolve, _convolve, 2),
    (convolution._spread, _spread, 2),
    (attention._attention, _attention, None),
    (recurrent._rnn, _recurrent, None),
    (recurrent._gru, _recurrent, None),
    (recurrent._lstm, _lstm, None),
]


class Operations:
    """total   additions and multiplications so far"""

    def __init__(self):
        self.total = 0
        self.inside = False  # an op that is counted already: its definition may be made of others


@contextmanager
def counting():
    """Inside the block, tensors that go through products are counted, forward and back. Yields an Operations."""
    found = Operations()
    kinds = [type(op) for op, _, _ in COUNTED]
    try:
        for op, formula, operands in COUNTED:
            op.__class__ = _counted(type(op), formula, operands, found)
        yield found
    finally:
        for (op, _, _), kind in zip(COUNTED, kinds):
            op.__class__ = kind


def _counted(kind, formula, operands, found):
    """The class `kind` of ops, whose calls on tensors are added up in `found` before they are made."""

    class Counted(kind):
        def __call__(self, *args, **kwargs):
            full = self._bind(args, dict(kwargs)) if kwargs or len(args) != self.arity else args
            tensors = [x for x in full if isinstance(x, Tensor)]
            if tensors and not found.inside:
                wanted = [x.requires_grad for x in (full[:operands] if operands else tensors) if isinstance(x, Tensor)]
                back = sum(wanted) if operands else 2 * any(wanted)
                found.total += 2 * formula(*full) * (1 + back * is_grad_enabled())
            before, found.inside = found.inside, True
            try:
                return super().__call__(*args, **kwargs)
            finally:
                found.inside = before

    return Counted
