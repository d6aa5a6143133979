"""Convolution and transposed convolution: against loops over single elements, kernel against definition, gradients."""

import itertools
from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, autograd, kernels
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops import convolution
from minigen.ops.padding import pad

random = np.random.default_rng(0)
CONV = convolution.conv1d, convolution.conv2d, convolution.conv3d
TRANSPOSED = convolution.conv_transpose1d, convolution.conv_transpose2d, convolution.conv_transpose3d


def draw(*shape):
    return random.standard_normal(shape)


def places(shape):
    return itertools.product(*map(range, shape))


def by_loops(x, w, b, stride, padding, dilation, groups):
    """One product at a time."""
    dims, per_group, outputs = x.ndim - 2, w.shape[1], w.shape[0] // groups
    size = [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((x.shape[0], w.shape[0], *size))
    for n, o, c, *rest in places((*y.shape[:2], per_group, *size, *w.shape[2:])):
        q, t = rest[:dims], rest[dims:]
        p = [stride * i - padding + dilation * j for i, j in zip(q, t)]
        if all(0 <= i < m for i, m in zip(p, x.shape[2:])):
            y[(n, o, *q)] += w[(o, c, *t)] * x[(n, o // outputs * per_group + c, *p)]
    return y + b.reshape(-1, *[1] * dims)


def transposed_by_loops(x, w, b, stride, padding, extra, groups, dilation):
    dims, per_group, inputs = x.ndim - 2, w.shape[1], w.shape[0] // groups
    size = [(n - 1) * stride - 2 * padding + dilation * (k - 1) + extra + 1 for n, k in zip(x.shape[2:], w.shape[2:])]
    y = np.zeros((x.shape[0], per_group * groups, *size))
    for n, c, o, *rest in places((*x.shape[:2], per_group, *x.shape[2:], *w.shape[2:])):
        q, t = rest[:dims], rest[dims:]
        p = [stride * i - padding + dilation * j for i, j in zip(q, t)]
        if all(0 <= i < m for i, m in zip(p, size)):
            y[(n, c // inputs * per_group + o, *p)] += w[(c, o, *t)] * x[(n, c, *q)]
    return y + b.reshape(-1, *[1] * dims)


# (channels, outputs, groups): few and many of each, so that every kernel has its turn
CHANNELS = [(1, 3, 1), (3, 6, 1), (5, 1, 1), (6, 4, 2), (6, 6, 6), (9, 8, 1), (12, 10, 2), (3, 3, 3)]
# (kernel, stride, padding, dilation)
GEOMETRY = [
    (1, 1, 0, 1),
    (3, 1, 1, 1),
    (2, 2, 0, 1),
    (3, 2, 1, 1),
    (1, 2, 0, 1),
    (2, 1, 2, 2),
    (3, 3, 2, 2),
    (1, 3, 1, 1),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_conv_equals_loops(dims, dtype):
    for (C, O, groups), (k, s, p, d) in zip(CHANNELS, GEOMETRY):
        x = draw(2, C, *(6, 5, 4)[:dims]).astype(dtype)
        w, b = draw(O, C // groups, *[k] * dims).astype(dtype), draw(O).astype(dtype)
        y = CONV[dims - 1](Tensor(x), Tensor(w), Tensor(b), s, p, d, groups)
        expected = by_loops(x, w, b, s, p, d, groups)
        assert y.dtype == dtype and y.shape == expected.shape
        np.testing.assert_allclose(y.numpy(), expected, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_conv_transpose_equals_loops(dims, dtype):
    for (C, O, groups), (k, s, p, d) in zip(CHANNELS, GEOMETRY):
        x = draw(2, C, *(4, 5, 3)[:dims]).astype(dtype)
        w, b = draw(C, O // groups, *[k] * dims).astype(dtype), draw(O).astype(dtype)
        extra = max(s, d) - 1
        y = TRANSPOSED[dims - 1](Tensor(x), Tensor(w), Tensor(b), s, p, extra, groups, d)
        expected = transposed_by_loops(x, w, b, s, p, extra, groups, d)
        assert y.dtype == dtype and y.shape == expected.shape
        np.testing.assert_allclose(y.numpy(), expected, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("channels", CHANNELS)
def test_kernel_equals_definition(channels):
    C, O, groups = channels
    for k, s, p, d in GEOMETRY:
        x, w, b = draw(2, C, 9, 8), draw(O, C // groups, k, k), draw(O)
        options = {"stride": s, "padding": p, "dilation": d, "groups": groups}
        kernel_equals_definition(partial(convolution.conv2d, **options), x, w, b)
        w, b = draw(C, O // groups, k, k), draw(O)
        transposed = partial(convolution.conv_transpose2d, output_padding=max(s, d) - 1, **options)
        kernel_equals_definition(transposed, x, w, b)


@pytest.mark.parametrize("dims", [1, 3])
def test_kernel_equals_definition_in_one_and_three_dimensions(dims):
    for (C, O, groups), (k, s, p, d) in zip(CHANNELS, GEOMETRY[::-1]):
        x, w, b = draw(2, C, *(7, 8, 6)[:dims]), draw(O, C // groups, *[k] * dims), draw(O)
        options = {"stride": s, "padding": p, "dilation": d, "groups": groups}
        kernel_equals_definition(partial(CONV[dims - 1], **options), x, w, b)
        w, b = draw(C, O // groups, *[k] * dims), draw(O)
        kernel_equals_definition(partial(TRANSPOSED[dims - 1], **options), x, w, b)


def test_kernel_on_larger_work():
    """Sizes at which the work is cut into blocks, parts and columns."""
    for N, C, O, size, k in [(4, 16, 24, 20, 3), (1, 130, 140, 8, 3), (2, 3, 8, 40, 5), (3, 40, 2, 30, 3)]:
        same = lambda x, w, b: convolution.conv2d(x, w, b, padding="same")
        kernel_equals_definition(same, draw(N, C, size, size), draw(O, C, k, k) / (C * k * k) ** 0.5, draw(O))
    kernel_equals_definition(lambda x, w: convolution.conv1d(x, w, dilation=3), draw(2, 6, 5000), draw(7, 6, 4))


@pytest.mark.parametrize(("C", "O"), [(3, 4), (6, 8), (6, 2), (2, 7), (9, 1)])
def test_one_number_for_each_dimension(C, O):
    x, w = draw(2, C, 7, 9, 8), draw(O, C, 2, 3, 1)
    options = {"stride": (1, 2, 3), "padding": (1, 0, 2), "dilation": (2, 1, 1)}
    kernel_equals_definition(lambda x, w: convolution.conv3d(x, w, **options), x, w)
    w = draw(C, O, 2, 3, 1)
    more = {**options, "output_padding": (1, 1, 2)}
    kernel_equals_definition(lambda x, w: convolution.conv_transpose3d(x, w, **more), x, w)


def memory_orders(x):
    """The same numbers (N, C, H, W) in several memory orders."""
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    sliced = np.repeat(x, 2, axis=1)[:, ::2]
    part = np.concatenate([last.transpose(0, 2, 3, 1)] * 2, axis=3).transpose(0, 3, 1, 2)[:, : x.shape[1]]
    return [x, last, sliced, part, np.asfortranarray(x), np.broadcast_to(x[:1], x.shape)]


@pytest.mark.parametrize("C, O", [(8, 6), (2, 6), (8, 2)])
def test_kernel_takes_any_memory_order(C, O):
    for x in memory_orders(draw(2, C, 6, 5)):
        for w in (draw(O, C, 3, 3), draw(3, 3, O, C).transpose(2, 3, 0, 1)):
            kernel_equals_definition(lambda x, w: convolution.conv2d(x, w, padding=1), x, w)
            w = w.swapaxes(0, 1)
            kernel_equals_definition(lambda x, w: convolution.conv_transpose2d(x, w, stride=2), x, w)


@pytest.mark.kernels
def test_results_lie_channels_last_and_are_read_so_without_a_copy():
    x, w = Tensor(draw(2, 6, 8, 8).astype(np.float32)), Tensor(draw(6, 6, 3, 3).astype(np.float32))
    y = convolution.conv2d(x, w, padding=1)
    assert y.permute(0, 2, 3, 1).is_contiguous()
    inside = kernels.find(y.data, "conv").inside(y.data)
    assert np.shares_memory(inside, y.data)
    z = convolution.conv_transpose2d(y, w, stride=2)
    assert z.permute(0, 2, 3, 1).is_contiguous()


def test_no_batch():
    for dims in (1, 2, 3):
        x, w, b = draw(3, *[6] * dims), draw(4, 3, *[3] * dims), draw(4)
        with_batch = CONV[dims - 1](Tensor(x[None]), Tensor(w), Tensor(b)).numpy()[0]
        np.testing.assert_array_equal(CONV[dims - 1](Tensor(x), Tensor(w), Tensor(b)).numpy(), with_batch)
        kernel_equals_definition(CONV[dims - 1], x, w, b)
        kernel_equals_definition(TRANSPOSED[dims - 1], x, w.swapaxes(0, 1), b)


def test_padding_by_name():
    x = draw(1, 2, 9, 8)
    for k, d in [(3, 1), (4, 1), (2, 3), (5, 2), (1, 1)]:
        w, b = draw(3, 2, k, k), np.zeros(3)
        y = convolution.conv2d(Tensor(x), Tensor(w), padding="same", dilation=d).numpy()
        assert y.shape == (1, 3, 9, 8)
        both = d * (k - 1)
        bordered = np.pad(x, [(0, 0), (0, 0), *[(both // 2, both - both // 2)] * 2])  # the odd one comes last
        np.testing.assert_allclose(y, by_loops(bordered, w, b, 1, 0, d, 1), atol=1e-12)
        kernel_equals_definition(partial(convolution.conv2d, padding="same", dilation=d), x, w)
    valid = convolution.conv2d(Tensor(x), Tensor(draw(3, 2, 3, 3)), padding="valid")
    assert valid.shape == (1, 3, 7, 6)


@pytest.mark.parametrize("C, O", [(1, 3), (8, 6), (8, 1)])
def test_padding_that_differs_on_the_two_sides(C, O):
    """A pair (before, after) in the number's place: causal convolutions need zeros on one side only."""
    x = draw(2, C, 6, 7)
    for rows, columns, stride in [((2, -1), (1, 1), 1), ((0, 0), (2, -1), 1), (1, (3, 0), 2), ((-1, 3), (-2, 1), 1)]:
        w, b = draw(O, C, 2, 3), draw(O)
        f = partial(convolution.conv2d, padding=(rows, columns), stride=stride)
        before = [(side, side) if isinstance(side, int) else side for side in (columns, rows)]
        bordered = pad(Tensor(x), [width for pair in before for width in pair])
        y = convolution.conv2d(bordered, Tensor(w), Tensor(b), stride=stride).numpy()
        np.testing.assert_allclose(f(Tensor(x), Tensor(w), Tensor(b)).numpy(), y, atol=1e-12)
        kernel_equals_definition(f, x, w, b)
    gradients_are_right(partial(convolution.conv2d, padding=((2, -1), (1, 0))), x[:1], draw(O, C, 2, 2), draw(O))
    with pytest.raises(ArgumentError, match="a number or a pair for each dimension"):
        convolution.conv2d(Tensor(x), Tensor(w), padding=((1, 0),))


@pytest.mark.parametrize("C, O, groups", [(2, 3, 1), (4, 2, 2), (3, 3, 3)])
def test_gradients(C, O, groups):
    for k, s, p, d in [(3, 1, 1, 1), (2, 2, 1, 2)]:
        options = {"stride": s, "padding": p, "dilation": d, "groups": groups}
        f = partial(convolution.conv2d, **options)
        gradients_are_right(f, draw(2, C, 6, 5), draw(O, C // groups, k, k), draw(O))
        f = partial(convolution.conv_transpose2d, **options)
        gradients_are_right(f, draw(2, C, 4, 3), draw(C, O // groups, k, k), draw(O))
    gradients_are_right(convolution.conv1d, draw(2, 3, 7), draw(2, 3, 2), draw(2))
    gradients_are_right(convolution.conv_transpose3d, draw(1, 2, 2, 3, 2), draw(2, 2, 2, 2, 2), draw(2))


def test_third_gradient_in_float32():
    """Each op's gradient is another of the three: kernels serve every order."""
    x = [Tensor(draw(1, 2, 4, 4).astype(np.float32), requires_grad=True)]
    w = [Tensor(draw(3, 2, 2, 2).astype(np.float32), requires_grad=True)]
    x.append(Tensor(x[0].data.astype(np.float64), requires_grad=True))
    w.append(Tensor(w[0].data.astype(np.float64), requires_grad=True))
    thirds = []
    for a, b in zip(x, w):
        y = convolution.conv2d(a, b, stride=2, padding=1)
        (g,) = autograd.grad((y * y * y).sum(), [a], create_graph=True)
        (gg,) = autograd.grad((g * g).sum(), [b], create_graph=True)
        thirds.append(autograd.grad((gg * gg).sum(), [a])[0].numpy())
    assert thirds[0].dtype == np.float32
    np.testing.assert_allclose(thirds[0], thirds[1], rtol=1e-3, atol=1e-3 * np.abs(thirds[1]).max())


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6)])
def test_empty(shape):
    f = lambda x, w, b: convolution.conv2d(x, w, b, padding=1)
    kernel_equals_definition(f, draw(*shape), draw(4, shape[1], 3, 3), draw(4))
    f = lambda x, w, b: convolution.conv_transpose2d(x, w, b, stride=2)
    kernel_equals_definition(f, draw(*shape), draw(shape[1], 4, 3, 3), draw(4))


@pytest.mark.parametrize("C, O, groups", [(16, 20, 1), (3, 20, 1), (20, 3, 1), (8, 8, 8)])
def test_same_bits_on_one_thread_and_two(C, O, groups):
    x, w, b = draw(3, C, 20, 20), draw(O, C // groups, 3, 3), draw(O)
    same_bits_on_any_threads(lambda x, w, b: convolution.conv2d(x, w, b, 2, 1, 1, groups), x, w, b)
    w, b = draw(C, O // groups, 4, 4), draw(O)
    same_bits_on_any_threads(lambda x, w, b: convolution.conv_transpose2d(x, w, b, 2, 1, 0, groups), x, w, b)


def test_gradients_that_nobody_wants_are_not_computed(monkeypatch):
    called = []
    for name in ("_spread", "_correlate"):
        whole = getattr(convolution, name)
        monkeypatch.setattr(convolution, name, lambda *a, name=name, whole=whole: called.append(name) or whole(*a))
    x = Tensor(draw(1, 2, 5, 5))
    w = Tensor(draw(3, 2, 3, 3), requires_grad=True)
    convolution.conv2d(x, w).sum().backward()
    assert called == ["_correlate"]


def test_bad_input():
    x, w, b = Tensor(draw(2, 3, 8, 8)), Tensor(draw(4, 3, 3, 3)), Tensor(draw(4))
    f = convolution.conv2d
    with pytest.raises(ShapeError, match="the input has 3 channels, the weight takes 2"):
        f(x, w[:, :2])
    with pytest.raises(ShapeError, match=r"a window of 9 \(5 dilated by 2\) does not fit into 8"):
        f(x, Tensor(draw(4, 3, 5, 5)), dilation=2)
    with pytest.raises(ShapeError, match=r"did you mean x.unsqueeze\(0\)"):
        f(x[0, 0], w)
    with pytest.raises(ShapeError, match="bias must be"):
        f(x, w, b[:3])
    with pytest.raises(ShapeError, match="do not split into groups=3"):
        f(x, Tensor(draw(4, 1, 3, 3)), groups=3)
    with pytest.raises(ArgumentError, match="stride must be at least 1"):
        f(x, w, stride=0)
    with pytest.raises(ArgumentError, match="padding must be at least 0"):
        f(x, w, padding=-1)
    with pytest.raises(ArgumentError, match="one integer, or 2"):
        f(x, w, stride=(1, 2, 3))
    with pytest.raises(DtypeError, match="made of integers"):
        f(x, w, stride=1.5)
    with pytest.raises(DtypeError, match="one floating-point type"):
        f(x, w.float())
    with pytest.raises(ArgumentError, match="keeps the size, which a stride does not"):
        f(x, w, padding="same", stride=2)
    with pytest.raises(ArgumentError, match='"valid" or "same"'):
        f(x, w, padding="full")
    with pytest.raises(ShapeError, match="weight must be"):
        f(x, w[0])
    f = convolution.conv_transpose2d
    with pytest.raises(ShapeError, match="input has 3 channels"):
        f(x, w)
    with pytest.raises(ArgumentError, match="output_padding must be less than stride or dilation"):
        f(x, w.transpose(0, 1), output_padding=1)
    with pytest.raises(ShapeError, match="cuts off everything"):
        f(x, w.transpose(0, 1), padding=9)


@pytest.mark.torch
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_equals_torch(dims):
    functional = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    for (C, O, groups), (k, s, p, d) in zip(CHANNELS, GEOMETRY):
        x, b = draw(2, C, *(9, 8, 7)[:dims]), draw(O)
        for name, w, arguments in [
            (f"conv{dims}d", draw(O, C // groups, *[k] * dims), (s, p, d, groups)),
            (f"conv_transpose{dims}d", draw(C, O // groups, *[k] * dims), (s, p, max(s, d) - 1, groups, d)),
        ]:
            ours = [Tensor(a.astype(np.float32), requires_grad=True) for a in (x, w, b)]
            theirs = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
            y = getattr(convolution, name)(*ours, *arguments)
            z = getattr(functional, name)(*theirs, *arguments)
            (y * y).sum().backward()
            (z * z).sum().backward()
            np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-4)
            for a, t in zip(ours, theirs):
                largest = float(t.grad.abs().max())
                np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), atol=1e-4 * max(1, largest))


def test_definition_is_what_runs_without_kernels():
    x, w = Tensor(draw(1, 3, 6, 6).astype(np.float32)), Tensor(draw(4, 3, 3, 3).astype(np.float32))
    y = convolution.conv2d(x, w).numpy()
    with kernels.disabled():
        z = convolution.conv2d(x, w)
    assert z.is_contiguous() and z.dtype == np.float32
    np.testing.assert_allclose(y, z.numpy(), atol=1e-5)
    assert isinstance(z, minigen.Tensor)
