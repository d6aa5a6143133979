"""Checks that several test files share: a kernel equals its definition, and gradients equal differences."""

import numpy as np

from minigen import Tensor, autograd, kernels
from minigen.gradcheck import gradcheck, gradgradcheck


def run(function, arrays, dtype, seed=0):
    """Outputs of `function` on tensors over `arrays`, and the gradients of a random weighting of them."""
    tensors = [
        Tensor(a.astype(dtype, order="K", copy=False), requires_grad=True) if a.dtype.kind == "f" else Tensor(a)
        for a in arrays
    ]
    outputs = function(*tensors)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    random = np.random.default_rng(seed)
    weights = [Tensor(random.standard_normal(y.shape).astype(dtype)) for y in outputs]
    wanted = [t for t in tensors if t.requires_grad]
    pairs = [(y, g) for y, g in zip(outputs, weights) if y.requires_grad]
    gradients = autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True) if pairs else ()
    return [y.data for y in outputs], [None if g is None else g.data for g in gradients]


def kernel_equals_definition(function, *arrays, tolerance=2e-5, gradient_tolerance=2e-4):
    """float32 on kernels against float64 on definitions, outputs and gradients, relative to the largest entry."""
    ours, our_gradients = run(function, arrays, np.float32)
    with kernels.disabled():
        theirs, their_gradients = run(function, arrays, np.float64)
    for kind, pairs, allowed in (
        ("output", zip(ours, theirs), tolerance),
        ("gradient", zip(our_gradients, their_gradients), gradient_tolerance),
    ):
        for i, (a, b) in enumerate(pairs):
            assert (a is None) == (b is None), f"{kind} {i}: {a}, {b}"
            if a is None:
                continue
            assert a.shape == b.shape, f"{kind} {i}: {a.shape}, {b.shape}"
            if b.dtype.kind == "f":
                assert a.dtype == np.float32, f"{kind} {i} is {a.dtype}"
                scale = max(1.0, float(np.abs(b).max(initial=0)))
                error = float(np.abs(a - b).max(initial=0)) / scale
                assert error <= allowed, f"{kind} {i}: relative error {error:.2g} for shape {b.shape}"
            else:
                assert (a == b).all(), f"{kind} {i}"


def gradients_are_right(function, *arrays, second=True):
    """First and second gradients in float64, against differences along random directions."""
    tensors = [Tensor(a.astype(np.float64), requires_grad=True) if a.dtype.kind == "f" else Tensor(a) for a in arrays]
    assert gradcheck(function, tensors, fast_mode=True)
    if second:
        assert gradgradcheck(function, tensors, fast_mode=True)


def same_bits_on_any_threads(function, *arrays):
    """Outputs and gradients in float32 are the same bits with one thread as with two."""
    import numba

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = run(function, arrays, np.float32)
        numba.set_num_threads(before)
        several = run(function, arrays, np.float32)
    finally:
        numba.set_num_threads(before)
    for a, b in zip([*one[0], *one[1]], [*several[0], *several[1]]):
        assert (a is None and b is None) or a.tobytes() == b.tobytes()
