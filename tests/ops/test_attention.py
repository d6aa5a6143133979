"""Scaled dot-product attention: against the formula written with loops, kernel against definition, gradients."""

from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, kernels
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops.attention import scaled_dot_product_attention as attend

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape)


def by_loops(q, k, v, allowed=None, bias=None, scale=None):
    """One query at a time."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    for place in np.ndindex(*q.shape[:-1]):
        *lead, i = place
        scores = k[tuple(lead)] @ q[place] * scale
        if bias is not None:
            scores = scores + bias[i]
        keys = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed[i])
        if len(keys):
            weights = np.exp(scores[keys] - scores[keys].max())
            y[place] = weights / weights.sum() @ v[tuple(lead)][keys]
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T, S", [(1, 1), (5, 7), (70, 3), (130, 131)])
def test_equals_the_formula(T, S, dtype):
    q, k, v = (draw(2, 3, n, d).astype(dtype) for n, d in ((T, 8), (S, 8), (S, 5)))
    allowed = random.random((T, S)) < 0.5
    bias = draw(T, S).astype(dtype)
    causal = np.tril(np.ones((T, S), bool))
    tensors = Tensor(q), Tensor(k), Tensor(v)
    for y, expected in [
        (attend(*tensors), by_loops(q, k, v)),
        (attend(*tensors, scale=0.3), by_loops(q, k, v, scale=0.3)),
        (attend(*tensors, is_causal=True), by_loops(q, k, v, causal)),
        (attend(*tensors, Tensor(allowed)), by_loops(q, k, v, allowed)),
        (attend(*tensors, Tensor(bias)), by_loops(q, k, v, bias=bias)),
        (attend(*tensors, Tensor(bias), is_causal=True), by_loops(q, k, v, causal, bias)),
    ]:
        assert y.dtype == dtype and y.shape == expected.shape
        np.testing.assert_allclose(y.numpy(), expected, atol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T, S", [(1, 1), (3, 9), (64, 64), (65, 129), (200, 70)])
def test_kernel_equals_definition(T, S, causal):
    q, k, v = draw(2, 4, T, 8), draw(2, 4, S, 8), draw(2, 4, S, 6)
    kernel_equals_definition(lambda q, k, v: attend(q, k, v, is_causal=causal), q, k, v)
    grouped = lambda q, k, v: attend(q, k, v, is_causal=causal, enable_gqa=True)
    kernel_equals_definition(grouped, q, k[:, :2], v[:, :2])
    masked = lambda q, k, v, bias: attend(q, k, v, bias, is_causal=causal)
    for shape in [(T, S), (S,), (2, 1, T, S), (4, 1, S), (2, 4, T, S)]:
        kernel_equals_definition(masked, q, k, v, draw(*shape))
    allowed = random.random((2, 1, T, S)) < 0.3
    kernel_equals_definition(lambda q, k, v: attend(q, k, v, Tensor(allowed), is_causal=causal), q, k, v)


@pytest.mark.kernels
def test_kernel_reads_views_of_one_projection_and_leaves_heads_side_by_side():
    packed = draw(2, 10, 3, 4, 8)

    def split(packed):
        return attend(*[packed[:, :, i].transpose(1, 2) for i in range(3)], is_causal=True)

    kernel_equals_definition(split, packed)
    y = split(Tensor(packed.astype(np.float32)))
    assert np.shares_memory(y.data, y.transpose(1, 2).reshape(2, 10, 32).data)


def test_kernel_takes_transposed_rows():
    q, k, v = draw(2, 3, 8, 9), draw(2, 3, 8, 9), draw(2, 3, 8, 9)
    turned = lambda q, k, v: attend(q.mT, k.mT, v.mT)
    kernel_equals_definition(turned, q, k, v)


def test_leading_dimensions():
    q, k, v = draw(7, 5), draw(6, 5), draw(6, 4)
    y = by_loops(q, k, v)
    np.testing.assert_allclose(attend(Tensor(q), Tensor(k), Tensor(v)).numpy(), y, atol=1e-12)
    for shape in [(3,), (2, 3), (2, 2, 3)]:
        many = [Tensor(np.broadcast_to(x, (*shape, *x.shape)).copy()) for x in (q, k, v)]
        np.testing.assert_allclose(attend(*many).numpy(), np.broadcast_to(y, (*shape, 7, 4)), atol=1e-12)
    q, k, v = draw(3, 1, 7, 5), draw(1, 2, 6, 5), draw(1, 2, 6, 4)
    y = attend(Tensor(q), Tensor(k), Tensor(v))
    expected = by_loops(*[np.broadcast_to(x, (3, 2, *x.shape[2:])) for x in (q, k, v)])
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)
    kernel_equals_definition(attend, q, k, v)
    kernel_equals_definition(attend, draw(7, 5), draw(6, 5), draw(6, 4))
    kernel_equals_definition(attend, draw(2, 2, 3, 7, 5), draw(2, 2, 3, 6, 5), draw(3, 6, 4))
    masked = lambda q, k, v, bias: attend(q, k, v, bias)
    kernel_equals_definition(masked, draw(2, 2, 3, 7, 5), draw(2, 2, 3, 6, 5), draw(2, 2, 3, 6, 4), draw(2, 1, 1, 7, 6))
    kernel_equals_definition(masked, draw(3, 7, 5), draw(3, 6, 5), draw(3, 6, 4), draw(3, 1, 6))


def test_three_dimensions_are_contiguous():
    x = Tensor(draw(4, 6, 8).astype(np.float32))
    assert attend(x, x, x).is_contiguous()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_that_may_attend_to_nothing_gets_zeros(dtype):
    q, k, v = (Tensor(draw(1, 2, 5, 4).astype(dtype), requires_grad=True) for _ in range(3))
    allowed = np.ones((5, 5), bool)
    allowed[2] = False
    y = attend(q, k, v, Tensor(allowed))
    assert (y.data[:, :, 2] == 0).all() and (y.data[:, :, 1] != 0).all()
    y.sum().backward()
    assert (q.grad.data[:, :, 2] == 0).all() and np.isfinite(k.grad.data).all() and np.isfinite(v.grad.data).all()


def test_a_nan_is_seen():
    q, k, v = (draw(1, 1, 4, 4).astype(np.float32) for _ in range(3))
    q[0, 0, 1, 2] = np.nan
    y = attend(Tensor(q), Tensor(k), Tensor(v)).numpy()
    assert np.isnan(y[0, 0, 1]).all() and np.isfinite(y[0, 0, [0, 2, 3]]).all()


def test_gradients():
    for causal in (False, True):
        f = partial(attend, is_causal=causal)
        gradients_are_right(f, draw(2, 2, 4, 3), draw(2, 2, 5, 3), draw(2, 2, 5, 2))
    gradients_are_right(attend, draw(4, 3), draw(5, 3), draw(5, 2), draw(4, 5))
    shared = lambda q, k, v: attend(q, k, v, enable_gqa=True)
    gradients_are_right(shared, draw(1, 4, 4, 3), draw(1, 2, 5, 3), draw(1, 2, 5, 2))


def test_second_gradient_in_float32():
    """The kernel's op is differentiated twice through its definition."""
    x = [Tensor(draw(1, 2, 4, 3).astype(np.float32), requires_grad=True) for _ in range(3)]
    (g,) = minigen.autograd.grad(attend(*x).square().sum(), [x[0]], create_graph=True)
    (gg,) = minigen.autograd.grad(g.square().sum(), [x[1]])
    y = [Tensor(t.data.astype(np.float64), requires_grad=True) for t in x]
    (h,) = minigen.autograd.grad(attend(*y).square().sum(), [y[0]], create_graph=True)
    (hh,) = minigen.autograd.grad(h.square().sum(), [y[1]])
    assert gg.dtype == np.float32
    np.testing.assert_allclose(gg.numpy(), hh.numpy(), rtol=1e-3, atol=1e-4)


def test_dropout_keeps_the_mean_and_scales_the_rest():
    eye = Tensor(np.eye(64, dtype=np.float32))
    zeros = Tensor(np.zeros((200, 64), np.float32))
    weights = attend(zeros, eye, eye, dropout_p=0.25).numpy()  # each weight is 1/64, dropped or scaled by 4/3
    kept = weights != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(weights[kept], 1 / 64 / 0.75, rtol=1e-5)
    assert (attend(zeros, eye, eye, dropout_p=1.0).numpy() == 0).all()


def test_dropout_kernel_equals_definition():
    def dropped(q, k, v, bias):
        minigen.manual_seed(3)
        return attend(q, k, v, bias, dropout_p=0.4, is_causal=True)

    kernel_equals_definition(dropped, draw(2, 2, 70, 8), draw(2, 2, 71, 8), draw(2, 2, 71, 8), draw(70, 71))
    kernel_equals_definition(dropped, draw(2, 2, 7, 8), draw(2, 2, 71, 8), draw(2, 2, 71, 8), draw(7, 71))  # few


@pytest.mark.parametrize("keys", [8, 9])
@pytest.mark.parametrize("queries", [3, 9])
def test_dropout_with_shared_heads_and_more_dimensions(queries, keys):
    def dropped(q, k, v):
        minigen.manual_seed(3)
        return attend(q, k, v, dropout_p=0.4, enable_gqa=True)

    kernel_equals_definition(dropped, draw(2, 3, 4, queries, 5), draw(2, 3, 2, keys, 5), draw(2, 3, 2, keys, 6))


@pytest.mark.parametrize("keys", [4, 5])
def test_dropout_is_differentiated_twice(keys):
    def dropped(q, k, v, bias):
        minigen.manual_seed(4)
        return attend(q, k, v, bias, dropout_p=0.4)

    arrays = draw(1, 2, 3, 4), draw(1, 2, keys, 4), draw(1, 2, keys, 3), draw(3, keys)
    gradients_are_right(dropped, *arrays)

    def second(dtype):
        x = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        (g,) = minigen.autograd.grad(dropped(*x).square().sum(), [x[0]], create_graph=True)
        return minigen.autograd.grad(g.square().sum(), x)

    for ours, theirs in zip(second(np.float32), second(np.float64)):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-4)


def test_dropout_chooses_by_the_place_in_the_stream():
    """A row of weights begins with a block of four words; where rows are whole blocks the choice is F.dropout's."""
    for p, keys, queries in ((0.3, 8, 70), (0.3, 13, 70), (0.3, 13, 5), (1e-12, 4, 4)):
        eye = Tensor(np.eye(keys, dtype=np.float32))
        minigen.manual_seed(5)
        first = minigen.random.default_generator.get_state()
        weights = attend(minigen.zeros(2, queries, keys), eye, eye, dropout_p=p).numpy() * keys
        whole = -(-keys // 4) * 4
        words = minigen.random.philox(*first.values(), 2 * queries * whole).reshape(2, queries, whole)[..., :keys]
        np.testing.assert_allclose(weights, (words >= round(p * 2**32)) / (1 - p), rtol=1e-5)
        assert minigen.random.default_generator.counter == queries * whole // 2
        if keys == whole:
            minigen.random.default_generator.set_state(first)
            dropped = minigen.nn.functional.dropout(minigen.ones(2, queries, keys), p).numpy()
            np.testing.assert_allclose(weights, dropped, rtol=1e-5)


def test_dropout_is_the_same_with_and_without_weights():
    layer = minigen.nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)
    x = Tensor(draw(3, 7, 8).astype(np.float32))
    minigen.manual_seed(6)
    y, weights = layer(x, x, x, average_attn_weights=False)
    weights, y = weights.detach(), y.detach()
    assert (weights.numpy() == 0).any()
    minigen.manual_seed(6)
    np.testing.assert_allclose(layer(x, x, x, need_weights=False)[0].detach().numpy(), y.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [((0, 2, 3, 4), (0, 2, 5, 4)), ((1, 2, 0, 4), (1, 2, 5, 4)), ((2, 3, 0), (2, 5, 0))])
def test_empty(shape):
    kernel_equals_definition(attend, draw(*shape[0]), draw(*shape[1]), draw(*shape[1]))


def test_no_keys_give_zeros():
    y = attend(Tensor(draw(2, 3, 4)), Tensor(draw(2, 0, 4)), Tensor(draw(2, 0, 5)))
    assert y.shape == (2, 3, 5) and (y.numpy() == 0).all()


def test_same_bits_on_one_thread_and_two():
    f = lambda q, k, v, bias: attend(q, k, v, bias, is_causal=True)
    same_bits_on_any_threads(f, draw(2, 3, 150, 8), draw(2, 3, 150, 8), draw(2, 3, 150, 8), draw(150, 150))


def test_without_kernels_the_numbers_are_the_same():
    q = Tensor(draw(2, 2, 6, 4).astype(np.float32))
    y = attend(q, q, q, is_causal=True).numpy()
    with kernels.disabled():
        np.testing.assert_allclose(attend(q, q, q, is_causal=True).numpy(), y, atol=1e-6)


def test_bad_input():
    q = Tensor(draw(2, 4, 5, 8))
    with pytest.raises(ShapeError, match="same last dimension"):
        attend(q, q[..., :4], q)
    with pytest.raises(ShapeError, match="each key needs its value"):
        attend(q, q, q[:, :, :3])
    with pytest.raises(ShapeError, match="did you mean enable_gqa=True"):
        attend(q, q[:, :2], q[:, :2])
    with pytest.raises(ShapeError, match="do not broadcast"):
        attend(q, q[:, :3], q[:, :3])
    with pytest.raises(ShapeError, match="multiple"):
        attend(q, q[:, :3], q[:, :3], enable_gqa=True)
    with pytest.raises(DtypeError, match="one floating type"):
        attend(q, q.float(), q)
    with pytest.raises(DtypeError, match="True where a key may be seen"):
        attend(q, q, q, Tensor(np.ones((5, 5), np.int64)))
    with pytest.raises(ShapeError, match=r"must broadcast to \(..., H, T, S\), here \(2, 4, 5, 5\)"):
        attend(q, q, q, Tensor(np.ones((5, 6), bool)))
    with pytest.raises(ArgumentError, match="dropout_p"):
        attend(q, q, q, dropout_p=1.5)
    with pytest.raises(ShapeError, match=r"query \(..., T, D\)"):
        attend(q[0, 0, 0], q, q)


@pytest.mark.torch
def test_equals_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.scaled_dot_product_attention
    q, k, v, bias = draw(2, 4, 9, 8), draw(2, 4, 7, 8), draw(2, 4, 7, 8), draw(4, 9, 7)
    allowed = random.random((9, 7)) < 0.6
    cases = [{}, {"is_causal": True}, {"scale": 0.2}, {"attn_mask": bias}, {"attn_mask": allowed}]
    for options in cases:
        ours = {n: Tensor(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
        other = {n: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
        a = [Tensor(x, requires_grad=True) for x in (q, k, v)]
        b = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
        y, z = attend(*a, **ours), theirs(*b, **other)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-12)
        (y * y).sum().backward()
        (z * z).sum().backward()
        for s, t in zip(a, b):
            np.testing.assert_allclose(s.grad.numpy(), t.grad.numpy(), atol=1e-11)
    y = attend(Tensor(q), Tensor(k[:, :2]), Tensor(v[:, :2]), enable_gqa=True)
    z = theirs(*[torch.from_numpy(x) for x in (q, k[:, :2], v[:, :2])], enable_gqa=True)
    np.testing.assert_allclose(y.numpy(), z.numpy(), atol=1e-12)
