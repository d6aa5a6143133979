"""The recurrent kernels: equal to the loops that define them, in every shape and layout; same bits on any threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
from agreement import kernel_equals_definition, run, same_bits_on_any_threads

from minigen import Tensor, autograd
from minigen.ops import recurrent
from minigen.ops.recurrent import gru_layer, lstm_layer, rnn_layer

pytest.importorskip("numba")
GATES = {"rnn": 1, "relu": 1, "gru": 3, "lstm": 4}
LAYERS = {
    "rnn": rnn_layer,
    "relu": lambda *a, **options: rnn_layer(*a, nonlinearity="relu", **options),
    "gru": gru_layer,
    "lstm": lstm_layer,
}


def arguments(kind, T, N, D, H, batch_first=False, seed=0):
    """x, the first states, w_ih, w_hh, b_ih, b_hh."""
    random, rows = np.random.default_rng(seed), GATES[kind] * H
    x = random.standard_normal((N, T, D) if batch_first else (T, N, D))
    states = [random.standard_normal((N, H)) for _ in range(2 if kind == "lstm" else 1)]
    weights = [random.standard_normal((rows, n)) * n**-0.5 for n in (D, H)]
    return x, *states, *weights, *random.standard_normal((2, rows))


@pytest.fixture(autouse=True)
def no_definition_in_float32(monkeypatch):
    """Fail where a float32 layer falls back to its definition: these tests would compare that with itself."""
    for op in (recurrent._rnn, recurrent._gru, recurrent._lstm):

        def guarded(x, *rest, define=op.define):
            assert x.dtype == np.float64, "the definition ran in float32"
            return define(x, *rest)

        monkeypatch.setattr(op, "define", guarded)


# A task takes 16 sequences at most, a panel is 64 columns wide, a product 256 deep.
@pytest.mark.parametrize("T, N, D, H", [(1, 1, 1, 1), (3, 2, 4, 5), (7, 33, 9, 70), (2, 40, 130, 64), (4, 3, 7, 300)])
@pytest.mark.parametrize("kind", GATES)
def test_kernel_equals_definition(kind, T, N, D, H):
    for reverse in (False, True):
        for batch_first in (False, True):
            options = {"reverse": reverse, "batch_first": batch_first}
            arrays = arguments(kind, T, N, D, H, batch_first)
            kernel_equals_definition(lambda *a, options=options: LAYERS[kind](*a, **options), *arrays)


@pytest.mark.parametrize("kind", GATES)
def test_biases_may_be_missing(kind):
    *arrays, b_ih, b_hh = arguments(kind, 4, 5, 6, 7)
    kernel_equals_definition(LAYERS[kind], *arrays)
    kernel_equals_definition(LAYERS[kind], *arrays, b_ih)
    kernel_equals_definition(lambda *a: LAYERS[kind](*a[:-1], None, a[-1]), *arrays, b_hh)


@pytest.mark.parametrize("kind", GATES)
def test_each_gradient_alone(kind):
    arrays = arguments(kind, 4, 5, 6, 7)
    for i in range(len(arrays)):

        def only(wanted, i=i):
            constants = [Tensor(a.astype(wanted.dtype)) for a in arrays]
            return LAYERS[kind](*constants[:i], wanted, *constants[i + 1 :])

        kernel_equals_definition(only, arrays[i])


@pytest.mark.parametrize("kind", GATES)
def test_gradients_from_one_output_alone(kind):
    arrays = arguments(kind, 4, 5, 6, 7)
    for output in range(3 if kind == "lstm" else 2):
        for reverse in (False, True):
            kernel_equals_definition(lambda *a, o=output, r=reverse: LAYERS[kind](*a, reverse=r)[o], *arrays)


@pytest.mark.parametrize("kind", GATES)
def test_arrays_of_any_layout(kind):
    x, *rest = arguments(kind, 5, 6, 8, 9)
    kernel_equals_definition(lambda x, *a: LAYERS[kind](x.permute(2, 0, 1), *a), x.transpose(1, 2, 0), *rest)
    kernel_equals_definition(lambda x, *a: LAYERS[kind](x[::-1, :, ::2], *a), np.repeat(x, 2, axis=2), *rest)
    turned = [np.asfortranarray(a) for a in rest]
    kernel_equals_definition(LAYERS[kind], x, *turned)
    kernel_equals_definition(lambda *a: LAYERS[kind](*[t.T if t.ndim == 2 else t for t in a]), x, *[a.T for a in rest])
    expand = lambda x, *a: LAYERS[kind](x.expand(5, 6, 8), *a)  # a gradient that comes back wide is summed
    kernel_equals_definition(expand, x[:, :1], *rest)


@pytest.mark.parametrize("kind", GATES)
def test_arrays_that_cannot_be_written(kind):
    arrays = [a.astype(np.float32) for a in arguments(kind, 3, 4, 5, 6)]
    expected = run(LAYERS[kind], arrays, np.float32)
    for a in arrays:
        a.flags.writeable = False
    for ours, theirs in zip(run(LAYERS[kind], arrays, np.float32), expected):
        assert [a.tobytes() for a in ours] == [b.tobytes() for b in theirs]


@pytest.mark.parametrize("kind", GATES)
def test_a_sequence_does_not_depend_on_its_neighbours(kind):
    x, *rest = [a.astype(np.float32) for a in arguments(kind, 6, 20, 5, 7)]
    states, weights = rest[:-4], rest[-4:]
    out = LAYERS[kind](*map(Tensor, (x, *rest)))[0].numpy()
    x[:, 13] = np.nan
    spoilt = LAYERS[kind](*map(Tensor, (x, *states, *weights)))[0].numpy()
    others = np.arange(20) != 13
    assert np.isnan(spoilt[:, 13]).all()
    np.testing.assert_array_equal(spoilt[:, others], out[:, others])


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_gates_saturate_without_overflow(kind):
    arrays = [a.astype(np.float32) for a in arguments(kind, 5, 3, 4, 6)]
    arrays[0] *= 1e4
    outputs, gradients = run(LAYERS[kind], arrays, np.float32)
    assert all(np.isfinite(a).all() for a in outputs + gradients)
    kernel_equals_definition(LAYERS[kind], *arrays)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_nothing_given_or_saved_is_changed(kind):
    arrays = [a.astype(np.float32) for a in arguments(kind, 4, 5, 6, 7)]
    before = [a.copy() for a in arrays]
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    outputs = LAYERS[kind](*tensors)
    given = [Tensor(np.ones(y.shape, np.float32)) for y in outputs]
    once, again = (autograd.grad(outputs, tensors, given, retain_graph=True) for _ in range(2))
    for a, b in zip(once, again):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(arrays, before):
        np.testing.assert_array_equal(a, b)
    assert all((g.numpy() == 1).all() for g in given)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_same_bits_on_any_threads(kind):
    for N, D, H in ((5, 6, 7), (40, 64, 128)):
        same_bits_on_any_threads(LAYERS[kind], *arguments(kind, 6, N, D, H))


PROGRAM = """
import hashlib, sys
import numpy as np
sys.path.insert(0, "tests/ops"); sys.path.insert(0, "tests/kernels")
from agreement import run
from test_recurrent import LAYERS, arguments
digest = hashlib.sha256()
for kind in ("rnn", "gru", "lstm"):
    for found in run(LAYERS[kind], arguments(kind, 8, 40, 128, 128), np.float32):
        for a in found:
            digest.update(np.ascontiguousarray(a).tobytes())
print(digest.hexdigest())
"""


def test_same_bits_in_processes_of_one_and_of_two_threads(request):
    digests = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=request.config.rootpath,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
