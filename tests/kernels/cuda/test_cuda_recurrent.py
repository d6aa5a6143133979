"""The recurrent layers on the GPU: equal to the loops that define them, and step by step the same bits as together.

The emulator runs the blocks of a cooperative launch as they would meet on a card, in two orders. That what one block
writes is seen by the others after the barrier, it cannot show: there every write is seen at once.
"""

import numpy as np
import pytest

import minigen
from minigen import Tensor, autograd, nn, optim
from minigen import kernels as families
from minigen.kernels.cuda import compile, precision, recurrent
from minigen.kernels.ladder import nvrtc
from minigen.ops.recurrent import gru_layer, lstm_layer, rnn_layer

pytestmark = pytest.mark.kernels
F = np.float32
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
LAYERS = {"rnn": rnn_layer, "gru": gru_layer, "lstm": lstm_layer}
UNIT = {"float32": 1e-6, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # of one rounding
# of steps, sequences, inputs, units: odd sizes, several blocks of units and of sequences, more chunks than warps
SHAPES = [(1, 1, 1, 1), (4, 3, 4, 36), (4, 35, 5, 9)]


def arguments(kind, T, N, D, H, dtype, batch_first=False, seed=0):
    """x, the first states, w_ih, w_hh, b_ih, b_hh, and gradients of the outputs."""
    random, rows = np.random.default_rng(seed), GATES[kind] * H
    states = [random.standard_normal((N, H)) for _ in range(2 if kind == "lstm" else 1)]
    x = random.standard_normal((N, T, D) if batch_first else (T, N, D))
    weights = [random.standard_normal((rows, n)) * n**-0.5 for n in (D, H)]
    arrays = x, *states, *weights, *random.standard_normal((2, rows))
    gradients = random.standard_normal((N, T, H) if batch_first else (T, N, H)), *(0.5 * h + 1 for h in states)
    return [a.astype(dtype) for a in arrays], [a.astype(dtype) for a in gradients]


def defined(kind, arrays, gradients, **options):
    """The outputs and the gradients, by the definition in float64."""
    tensors = [None if a is None else Tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    outputs = LAYERS[kind](*tensors, **options)
    wanted = [t for t in tensors if t is not None]
    chosen = [(y, Tensor(g.astype(np.float64))) for y, g in zip(outputs, gradients) if g is not None]
    found = iter(autograd.grad([y for y, _ in chosen], wanted, [g for _, g in chosen], allow_unused=True))
    return [y.data for y in outputs], [None if t is None else next(found).data for t in tensors]


def computed(on_gpu, kind, arrays, gradients, nonlinearity="tanh", reverse=False, batch_first=False, needs=None):
    """The same from the kernels."""
    chosen = (nonlinearity,) if kind == "rnn" else ()
    ways = *chosen, reverse, batch_first
    results = on_gpu(getattr(recurrent, kind), *arrays, *ways)
    count = 3 if kind == "lstm" else 2
    x, states, (w_ih, w_hh, *_) = arrays[0], count - 1, arrays[count:]
    needs = needs or [a is not None for a in arrays]
    found = on_gpu(getattr(recurrent, f"{kind}_gradient"), *gradients, x, w_ih, w_hh, *results[count:], *ways, needs)
    assert states == len(gradients) - 1
    return results, found


def close(got, want, dtype, room=8):
    """Within some roundings of the largest number."""
    assert got.dtype == dtype and got.shape == want.shape
    off = abs(got.astype(np.float64) - want).max() / max(abs(want).max(), 1e-9)
    assert off <= room * UNIT[dtype.name], f"off by {off / UNIT[dtype.name]:.1f} roundings"


def compare(on_gpu, kind, arrays, gradients, **options):
    dtype = arrays[0].dtype
    outputs, found = computed(on_gpu, kind, arrays, gradients, **options)
    options.pop("needs", None)
    want, want_gradients = defined(kind, arrays, gradients, **options)
    for y, wanted in zip(outputs, want):
        close(y, wanted, dtype)
    for g, wanted in zip(found, want_gradients):
        if wanted is not None:
            close(g, wanted, dtype)
    return outputs, found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", GATES)
def test_forward_and_gradient(on_gpu, kind, shape):
    for reverse, batch_first in ((False, False), (True, True)):
        arrays, gradients = arguments(kind, *shape, np.dtype(F), batch_first)
        compare(on_gpu, kind, arrays, gradients, reverse=reverse, batch_first=batch_first)


SLOW = pytest.mark.slow  # one cell and one type are enough of a test of the product on tensor cores


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [pytest.param("rnn", marks=SLOW), pytest.param("gru", marks=SLOW), "lstm"])
@pytest.mark.parametrize("name", [pytest.param("float16", marks=SLOW), "bfloat16"])
def test_forward_and_gradient_in_16_bits(on_gpu, name, kind, shape):
    dtype = np.dtype(name if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    for reverse, batch_first in ((False, False), (True, True)):
        arrays, gradients = arguments(kind, *shape, dtype, batch_first)
        compare(on_gpu, kind, arrays, gradients, reverse=reverse, batch_first=batch_first)


def test_the_other_nonlinearity(on_gpu):
    compare(on_gpu, "rnn", *arguments("rnn", 3, 2, 3, 5, F), nonlinearity="relu")


# units a block, blocks of sequences, all steps in one launch: 35 sequences are two groups, which one block may take
WAYS = [(units, rows, together) for units in (8, 16) for rows in (1, 2) for together in (False, True)]


@pytest.mark.parametrize("kind", GATES)
def test_every_way_gives_the_same_bits(on_gpu, monkeypatch, kind):
    arrays, gradients = arguments(kind, 4, 35, 2, 12, F)
    results = set()
    for units, rows, together in WAYS:

        def plan(columns, depth, *sizes, units=units, rows=rows, together=together):
            return units, rows, together and compile.over(4 * depth, 64) * columns * units * 64

        monkeypatch.setattr(recurrent, "plan", plan)
        found = computed(on_gpu, kind, arrays, gradients)
        results.add(b"".join(np.ascontiguousarray(a).tobytes() for part in found for a in part))
    assert len(results) == 1


def test_the_way_follows_from_the_shape_and_the_card(monkeypatch):
    class Card:
        def limits(self):
            return self.multiprocessors, self.memory

    card = Card()
    monkeypatch.setattr(compile, "machine", card)
    kilobytes = 1024
    for card.multiprocessors, card.memory in ((132, 227 * kilobytes), (108, 163 * kilobytes), (40, 64 * kilobytes)):
        for hidden in (1, 100, 256, 512, 1024, 2048):
            for sequences in (1, 32, 64, 1000):
                for columns, depth in ((4, hidden), (1, 4 * hidden)):
                    for size in (2, 4):
                        units, rows, weights = recurrent.plan(columns, depth, hidden, sequences, 50, size)
                        if weights:
                            assert compile.over(hidden, units) * rows <= card.multiprocessors
                            assert units * columns * depth * size <= weights <= card.memory - 8 * kilobytes
                        else:
                            assert rows == compile.over(sequences, 32)
                        assert recurrent.plan(columns, depth, hidden, sequences, 1, size)[2] == 0
    card.multiprocessors, card.memory = 132, 227 * kilobytes
    assert recurrent.plan(4, 1024, 1024, 64, 128, 2)[:2] == (16, 2)
    assert recurrent.plan(4, 1024, 1024, 64, 128, 4)[:2] == (8, 1)
    assert recurrent.plan(4, 256, 256, 32, 64, 4)[:2] == (8, 1)
    assert recurrent.plan(4, 2048, 2048, 64, 128, 4)[2] == 0  # 64 MB of weights
    card.multiprocessors, card.memory = 108, 163 * kilobytes
    assert recurrent.plan(4, 1024, 1024, 64, 128, 2)[:2] == (16, 1)


def test_the_emulator_has_seen_both_ways(emulator):
    arrays, _ = arguments("lstm", 5, 3, 4, 20, F)
    emulator.launched, earlier = set(), emulator.launched
    with compile.running_on(emulator):
        recurrent.lstm(*arrays, False, False)
        recurrent.lstm(arrays[0][:2], *arrays[1:], False, False)
    names = {name for file, name in emulator.launched if file == "recurrent.cu"}
    emulator.launched |= earlier
    assert names == {"pack_weights", "lstm_forward_together_8", "lstm_forward_8"}


@pytest.mark.parametrize("kind", GATES)
def test_what_may_be_missing(on_gpu, kind):
    arrays, gradients = arguments(kind, 4, 3, 2, 5, F)
    for missing in ((-1,), (-2,), (-1, -2)):  # biases
        compare(on_gpu, kind, [None if i - len(arrays) in missing else a for i, a in enumerate(arrays)], gradients)
    for only in range(len(gradients)):  # gradients that arrive
        compare(on_gpu, kind, arrays, [g if i == only else None for i, g in enumerate(gradients)])
    everything = computed(on_gpu, kind, arrays, gradients)[1]
    for only in range(len(arrays)):  # gradients that are asked for
        found = computed(on_gpu, kind, arrays, gradients, needs=[i == only for i in range(len(arrays))])[1]
        for i, (one, other) in enumerate(zip(found, everything)):
            if i == only:
                assert np.array_equal(one, other)
            else:
                assert one is None or i in (1, len(arrays) - 5)  # the states' come for nothing


def test_arrays_of_any_layout(on_gpu):
    for kind in ("gru", "lstm"):
        arrays, gradients = arguments(kind, 3, 4, 5, 6, F)
        want = computed(on_gpu, kind, arrays, gradients)
        turned = [np.asfortranarray(a) for a in arrays], [np.repeat(g, 2, -1)[..., ::2] for g in gradients]
        for part, wanted in zip(computed(on_gpu, kind, *turned), want):
            for one, other in zip(part, wanted):
                assert np.array_equal(one, other)


def test_tf32(on_gpu, emulator, monkeypatch):
    monkeypatch.setattr(precision, "_on", True)
    arrays, gradients = arguments("lstm", 4, 3, 5, 20, F)
    if not precision.tf32():
        pytest.skip("the card has no TF32")
    outputs, found = computed(on_gpu, "lstm", arrays, gradients)
    want, want_gradients = defined("lstm", arrays, gradients)
    off = [abs(a - b).max() / abs(b).max() for a, b in zip((*outputs[:3], *found), (*want, *want_gradients))]
    assert 1e-6 < max(off[:3]) < 2e-3 and max(off) < 6e-3  # rounded to TF32, and to no less


@pytest.mark.slow
@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize("gates, fast", recurrent.SOURCES)
def test_each_cell_compiles_alone(gates, fast):
    source = recurrent.SOURCES[gates, fast]
    ptx = nvrtc.compile(source.text, "compute_80", (*source.options((np.dtype(F),)), "-ftz=true"))
    assert ptx.count(".visible .entry") == 9 and ".local" not in ptx
    assert ("tf32.tf32" in ptx) == fast


def test_gates_saturate_without_overflow(on_gpu, dtype):
    for kind in GATES if dtype == F else ("lstm",):
        arrays, gradients = arguments(kind, 3, 2, 4, 5, dtype)
        arrays[0] = (arrays[0].astype(F) * 1e3).astype(dtype)
        outputs, found = computed(on_gpu, kind, arrays, gradients)
        assert all(np.isfinite(a.astype(F)).all() for a in (*outputs, *found))
        close(outputs[0], defined(kind, arrays, gradients)[0][0], dtype)


def test_a_network_learns_the_same(emulator, monkeypatch):
    def train():
        minigen.manual_seed(3)
        network = nn.ModuleList([nn.LSTM(6, 10, 2, bidirectional=True), nn.GRU(20, 9, batch_first=True), nn.RNN(9, 5)])
        x = minigen.tensor(np.random.default_rng(0).standard_normal((5, 3, 6)).astype(F))
        optimiser, losses = optim.Adam(network.parameters(), lr=0.02), []
        for _ in range(3):
            y, (_, cell) = network[0](x)
            y, _ = network[1](y)
            loss = (network[2](y)[0] ** 2).mean() + (cell**2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses, [p.data.copy() for p in network.parameters()]

    want = train()

    def find(array, family):
        return recurrent if family == "recurrent" and array.dtype == F else None

    monkeypatch.setattr(families, "find", find)
    emulator.launched, earlier = set(), emulator.launched
    with compile.running_on(emulator):
        got = train()
    names = {name for file, name in emulator.launched if file == "recurrent.cu"}
    emulator.launched |= earlier
    backward = {f"{kind}_backward_together_8" for kind in GATES}
    forward = {"lstm_forward_together_8", "rnn_forward_together_8", "gru_forward_8"}  # the GRU has but three steps
    assert names == {"pack_weights"} | forward | backward
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    for one, other in zip(got[1], want[1]):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
