"""bfloat16 in, bfloat16 out: what NumPy, as CuPy, has no bfloat16 version of is computed in float32 and rounded."""

import numpy as np
import pytest

import minigen
from minigen.autograd import modes
from minigen.nn import functional as F

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
NARROW = np.dtype(ml_dtypes.bfloat16)
INDEX = np.array([[0, 1, 1], [2, 0, 2]])
MASK = np.array([[True, False, True], [False, True, True]])
OPS = {
    "add a number": lambda x: x + 1,
    "times a number": lambda x: x * 0.5,
    "by a number": lambda x: 1.0 / (x * x + 1),
    "square": lambda x: x**2,
    "power": lambda x: (x * x + 1.0) ** 0.5,
    "where": lambda x: minigen.where(minigen.tensor(MASK), x, 0.0),
    "where two": lambda x: minigen.where(minigen.tensor(MASK), x, x * 2.0),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp below": lambda x: x.clamp(min=0.1),
    "maximum": lambda x: minigen.maximum(x, x * 0.5),
    "minimum": lambda x: minigen.minimum(x, -0.25),
    "masked_fill": lambda x: x.masked_fill(minigen.tensor(MASK), -1e4),
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(1),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std(),
    "norm": lambda x: x.norm(),
    "normalize": lambda x: F.normalize(x),
    "amax": lambda x: x.amax(1),
    "max": lambda x: x.max(1).values,
    "cumsum": lambda x: x.cumsum(1),
    "logsumexp": lambda x: x.logsumexp(1),
    "cat": lambda x: minigen.cat([x, x * 2], 1),
    "stack": lambda x: minigen.stack([x, x]),
    "pad": lambda x: F.pad(x, (1, 2)),
    "reflect": lambda x: F.pad(x[None], (1, 1), "reflect"),
    "gather": lambda x: x.gather(1, minigen.tensor(INDEX)),
    "scatter_add": lambda x: x.scatter_add(1, minigen.tensor(INDEX), x),
    "index": lambda x: x[minigen.tensor(np.array([0, 1, 1]))],
    "slice": lambda x: x[:, 1:],
    "index_select": lambda x: x.index_select(1, minigen.tensor(np.array([0, 2, 2]))),
    "embedding": lambda x: F.embedding(minigen.tensor(INDEX % 2), x),
    "sigmoid": lambda x: x.sigmoid(),
    "gelu": lambda x: F.gelu(x),
    "silu": lambda x: F.silu(x),
    "softplus": lambda x: F.softplus(x),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x, (3,)),
    "rms_norm": lambda x: F.rms_norm(x, (3,), eps=1e-5),
    "group_norm": lambda x: F.group_norm(x, 1),
    "batch_norm": lambda x: F.batch_norm(minigen.cat([x, x * x]), None, None, training=True),
    "max_pool1d": lambda x: F.max_pool1d(x[None], 2, 1),
    "avg_pool1d": lambda x: F.avg_pool1d(x[None], 2, 1, 1, count_include_pad=False),
    "interpolate": lambda x: F.interpolate(x[None], size=5, mode="linear"),
    "matmul": lambda x: x @ x.mT,
    "linear": lambda x: F.linear(x, x),
    "attention": lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    "cross_entropy": lambda x: F.cross_entropy(x, minigen.tensor(np.array([0, 2]))),
    "mse_loss": lambda x: F.mse_loss(x, x.detach() * 0.5),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, x.detach() * 0.5),
    "bce_with_logits": lambda x: F.binary_cross_entropy_with_logits(x, x.detach() * 0 + 0.25),
}


def run(function, values, dtype):
    x = minigen.Tensor(values.astype(dtype), requires_grad=True)
    y = function(x)
    y.backward(minigen.Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(NARROW).astype(dtype)))
    assert y.dtype == x.grad.dtype == dtype
    return y.data.astype(np.float32), x.grad.data.astype(np.float32)


@pytest.mark.parametrize("name", OPS)
def test_the_type_stays_and_the_numbers_are_right(name):
    values = np.random.default_rng(0).standard_normal((2, 3)).astype(NARROW).astype(np.float32)
    want = run(OPS[name], values, np.float32)
    for got, wanted in zip(run(OPS[name], values, NARROW), want):
        assert np.allclose(got, wanted, rtol=2**-6, atol=2**-6 * max(abs(wanted).max(), 1e-3))


def test_a_definition_rounds_once():
    values = (np.random.default_rng(0).standard_normal((4, 64)) + 10).astype(NARROW)
    got = F.layer_norm(minigen.Tensor(values), (64,)).data
    want = F.layer_norm(minigen.Tensor(values.astype(np.float32)), (64,)).data
    assert (abs(got.astype(np.float32) - want) <= 2**-8 * abs(want)).all()


def test_an_op_that_is_asked_for_another_type_gives_it():
    x = minigen.Tensor(np.ones(3, NARROW))
    assert x.float().dtype == np.float32 and x.double().dtype == np.float64 and x.float().to(NARROW).dtype == NARROW


def test_nothing_is_asked_before_there_is_a_number_of_this_type():
    x = minigen.ones(3, requires_grad=True)
    (x * 2).sum().backward()
    assert not modes.bfloat16
    x.detach().to(NARROW)
    assert modes.bfloat16 and modes.watched
