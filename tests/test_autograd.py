"""The engine: what it records, how it walks, what it frees, and what it says when asked for the impossible."""

import gc
import weakref

import numpy as np
import pytest

import minigen
from minigen import autograd
from minigen.autograd import gradcheck, gradgradcheck, op
from minigen.errors import ArgumentError, DtypeError, GradientError, NonFiniteError, ShapeError
from minigen.tensor import Tensor


def randn(*shape, requires_grad=True):
    return Tensor(np.random.default_rng(sum(shape)).standard_normal(shape), requires_grad=requires_grad)


# Gradients


def test_gradients_accumulate_over_uses_and_over_calls():
    x = minigen.tensor([2.0, 3.0], requires_grad=True)
    (x * x + x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    (x * 10).sum().backward()
    assert x.grad.tolist() == [15.0, 17.0]


def test_a_diamond_is_walked_once_a_node():
    """Forty doublings: 2**40 paths, 40 nodes. The order of the walk is what makes it finish."""
    x = minigen.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40


def test_the_walk_goes_newest_first_whatever_the_shape_of_the_graph():
    x = randn(3)

    def f(x):
        a = x * 2.0
        b = a * a
        c = a + b  # a feeds b and c, and b feeds c: a must wait for both
        return c * b + a

    gradcheck(f, [x])


def test_a_chain_of_100_000_ops_goes_backward_and_is_freed():
    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
    for _ in range(100_000):  # and one that is dropped without going backward
        y = y * 1.0
    del y


def test_broadcasting_is_undone():
    a, b = randn(4, 1, 3), randn(2, 1)
    (a * b + b).sum().backward()
    assert a.grad.shape == (4, 1, 3) and b.grad.shape == (2, 1)
    gradcheck(lambda a, b: a * b + b / (a * a + 1.0), [a, b])


def test_no_two_tensors_share_a_gradient_buffer():
    a, b = minigen.zeros(3, requires_grad=True), minigen.zeros(3, requires_grad=True)
    g = minigen.ones(3)
    (a + b).backward(g)
    a.grad.data[0] = 99.0
    assert b.grad.tolist() == [1.0, 1.0, 1.0] and g.tolist() == [1.0, 1.0, 1.0]


def gradient_and_what_its_rule_gave(give, fused=False):
    """The array in x.grad, and what the rule gave: `give(g, kept)`, where `kept` outlives the backward pass."""
    given, kept = [], [np.full((2, 3), 5.0)]

    @op
    def f(x):
        return x * 1.0

    def rule(g):
        array = give(g, kept)
        given.append(array.__array_interface__["data"][0])
        return array

    if fused:
        f.gradient(rule)
        f.definition(lambda x: x * 1.0)
    else:
        f.gradient(x=rule)
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    f(x).backward(Tensor(np.ones((2, 3))))
    x.grad.data[0, 0] += 7.0  # it may be written
    return x.grad.data.__array_interface__["data"][0], given[0], kept[0]


@pytest.mark.parametrize("fused", [False, True])
def test_a_leaf_is_given_the_very_array_that_nobody_else_holds(fused):
    for give in (
        lambda g, kept: g * 2.0,
        lambda g, kept: (g * 2.0).reshape(6).reshape(2, 3),
        lambda g, kept: np.ones((3, 2)).T,
    ):
        got, given, _ = gradient_and_what_its_rule_gave(give, fused)
        assert got == given


@pytest.mark.parametrize("fused", [False, True])
def test_and_a_copy_of_what_others_hold(fused):
    for give in (
        lambda g, kept: g,
        lambda g, kept: kept[0],
        lambda g, kept: kept[0][:],
        lambda g, kept: np.ones((4, 3))[:2],  # more memory than it has numbers
        lambda g, kept: np.broadcast_to(np.ones((2, 3)), (2, 3)),  # may not be written
        lambda g, kept: np.broadcast_to(np.ones(3), (2, 3)),
        lambda g, kept: np.ones((2, 3), np.float32),
    ):
        got, given, kept = gradient_and_what_its_rule_gave(give, fused)
        assert got != given and (kept == 5.0).all()


def test_a_hook_and_a_saved_array_keep_theirs():
    seen = []
    x = randn(3)
    y = x * 2.0
    y.register_hook(seen.append)
    x.register_hook(seen.append)
    y.sum().backward()
    w = randn(3)
    weighted = op(lambda x, w: x * w)
    weighted.gradient(x=lambda g, w: w)  # right where g is 1: what is saved is handed out
    weighted(x, w).sum().backward(retain_graph=True)
    before = w.data.copy()
    x.grad.data += 99.0
    assert seen[0].tolist() == [1.0] * 3 and seen[1].tolist() == [2.0] * 3 and (w.data == before).all()


def test_gradients_are_not_computed_where_nobody_wants_them():
    calls = []

    @op
    def product(a, b):
        return a * b

    product.gradient(a=lambda g, b: calls.append("a") or g * b, b=lambda g, a: calls.append("b") or g * a)
    product(Tensor(np.ones(2)), Tensor(np.ones(2), requires_grad=True)).sum().backward()
    assert calls == ["b"]


def test_a_rule_keeps_only_what_it_names():
    @op
    def triple(x):
        return 3.0 * x

    triple.gradient(x=lambda g: 3.0 * g)
    x = minigen.tensor([1.0, 2.0], requires_grad=True) * 1.0
    memory = weakref.ref(x.data)
    y = triple(x)
    del x
    assert memory() is None
    y.sum().backward()


def test_a_rule_that_asks_for_what_is_not_there_is_refused_when_declared():
    @op
    def f(x):
        return x

    with pytest.raises(ArgumentError, match="asks for 'weight'"):
        f.gradient(x=lambda g, weight: g)


def test_integers_and_detached_tensors_receive_nothing():
    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    y = (x.detach() * x).sum()
    y.backward()
    assert x.grad.tolist() == [1.0, 2.0]
    with pytest.raises(DtypeError, match="only floating-point"):
        minigen.tensor([1, 2], requires_grad=True)


# autograd.grad and higher orders


def test_grad_returns_and_leaves_grad_alone():
    x, w = randn(3), randn(3)
    gx, gw = autograd.grad((x * w).sum(), [x, w])
    assert np.allclose(gx.data, w.data) and np.allclose(gw.data, x.data)
    assert x.grad is None and w.grad is None


def test_grad_of_a_tensor_in_the_middle():
    x = randn(3)
    h = x * 2.0
    (gh,) = autograd.grad((h * h).sum(), [h])
    assert np.allclose(gh.data, 2 * h.data)


def test_grad_of_a_tensor_and_of_what_it_was_made_from():
    x = randn(3)
    h = x * x
    gx, gh = autograd.grad((h * x).sum(), [x, h])
    assert np.allclose(gx.data, 3 * x.data**2) and np.allclose(gh.data, x.data)


def test_grad_outputs_several_outputs_and_unused():
    x, other = randn(2), randn(2)
    a, b = x * 2.0, x * x
    (g,) = autograd.grad([a, b], [x], [Tensor(np.array([1.0, 0.0])), Tensor(np.array([0.0, 1.0]))])
    assert np.allclose(g.data, [2.0, 2 * x.data[1]])
    with pytest.raises(GradientError, match="allow_unused=True"):
        autograd.grad((x * x).sum(), [other])
    assert autograd.grad((x * x).sum(), [other], allow_unused=True) == (None,)
    (zero,) = autograd.grad((x * x).sum(), [other], materialize_grads=True)
    assert zero.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "order, expected", [(1, 5 * 2.0**4), (2, 20 * 2.0**3), (3, 60 * 2.0**2), (4, 120 * 2.0), (5, 120.0)]
)
def test_any_order(order, expected):
    x = Tensor(np.array(2.0), requires_grad=True)
    y = x * x * x * x * x
    for _ in range(order):
        (y,) = autograd.grad(y, [x], create_graph=True)
    assert y.item() == pytest.approx(expected)


def test_gradient_penalty_reaches_the_weights():
    """d/dw of |d(out)/dx|^2: what WGAN-GP, R1 and the path length need."""
    w = randn(4, 3)

    def penalty(w):
        x = randn(2, 3)
        out = ((x @ w.mT).tanh() ** 2).sum()
        (g,) = autograd.grad(out, [x], create_graph=True)
        return (g * g).sum()

    gradcheck(penalty, [w])


def test_gradgradcheck_finds_a_wrong_second_derivative():
    @op
    def square(x):
        return x * x

    square.gradient(x=lambda g, x: g * 2.0 * autograd.value(x))  # right at first order; hides x from the second
    gradcheck(lambda x: square(x), [randn(3)])
    with pytest.raises(GradientError, match="gradgradcheck"):
        gradgradcheck(lambda x: square(x), [randn(3)])


def test_gradcheck_finds_a_wrong_gradient():
    @op
    def cube(x):
        return x * x * x

    cube.gradient(x=lambda g, x: g * 3.0 * x)
    for fast_mode in (False, True):
        with pytest.raises(GradientError, match="ours"):
            gradcheck(lambda x: cube(x), [randn(3)], fast_mode=fast_mode)
    assert not gradcheck(lambda x: cube(x), [randn(3)], raise_exception=False)


# Fused ops and their definitions


def fused_square():
    used = []

    @op(saves=("twice",))
    def fused(x, scale):
        used.append("kernel")
        return NotImplemented if x.dtype == np.float64 else (scale * x * x, 2 * scale * x)

    @fused.gradient
    def _(g, twice):
        return g * twice

    @fused.definition
    def _(x, scale):
        used.append("definition")
        return x * x * scale

    return fused, used


def test_a_fused_op_runs_its_definition_where_there_is_no_kernel():
    fused, used = fused_square()
    x = randn(3)
    gradcheck(lambda x: fused(x, 2.0), [x])
    gradgradcheck(lambda x: fused(x, 2.0), [x])
    assert used.count("kernel") == used.count("definition") > 0


def test_the_second_derivative_of_a_fused_op_goes_through_its_definition():
    fused, used = fused_square()
    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    (g,) = autograd.grad(fused(x, 3.0).sum(), [x], create_graph=True)
    assert used == ["kernel", "definition"] and g.tolist() == [6.0, 12.0]
    (gg,) = autograd.grad((g * g).sum(), [x])
    assert gg.tolist() == [72.0, 144.0]


# Modes


def test_no_grad_as_block_and_decorator():
    x = minigen.ones(2, requires_grad=True)
    with minigen.no_grad():
        assert not (x * 2).requires_grad
        with minigen.enable_grad():
            assert (x * 2).requires_grad
    assert minigen.no_grad()(lambda: x * 2)().requires_grad is False
    assert (x * 2).requires_grad


def test_checkpoint_gives_the_same_gradients_and_keeps_only_the_inputs():
    w = randn(3, 3)
    x = randn(2, 3)
    block = lambda x: ((x @ w).tanh() @ w).tanh()
    plain = autograd.grad((block(x) ** 2).sum(), [x, w])
    x.grad = w.grad = None
    (autograd.checkpoint(block, x) ** 2).sum().backward()
    assert np.allclose(x.grad.data, plain[0].data) and np.allclose(w.grad.data, plain[1].data)
    again = autograd.grad((autograd.checkpoint(block, x) ** 2).sum(), [x, w])
    assert all(np.allclose(a.data, b.data) for a, b in zip(again, plain))
    gradgradcheck(lambda x: autograd.checkpoint(block, x), [x])


def test_checkpoint_draws_the_same_noise_twice():
    x = minigen.ones(1000, requires_grad=True)
    y = autograd.checkpoint(lambda x: x * (minigen.rand(1000) > 0.5).float(), x)
    after = minigen.rand(4)
    y.sum().backward()
    assert np.array_equal(x.grad.data, y.data)
    assert not np.array_equal(after.data, minigen.rand(4).data)


def test_hooks_see_and_change_the_whole_gradient():
    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    seen = []
    h = x * 3.0
    first = x.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10.0)
    h.retain_grad()
    (h + h * h + x).sum().backward()
    assert seen == [x.grad.tolist()] and x.grad.tolist() == [211.0, 391.0]
    assert h.grad is not None
    first.remove()
    (x * 1.0).sum().backward()
    assert len(seen) == 1


def test_detect_anomaly_names_the_op_and_the_line():
    x = minigen.tensor([0.0, 1.0], requires_grad=True)
    said = r"sqrt: the gradient of its argument 'x' has an Inf(.|\n)*test_autograd"
    with pytest.raises(NonFiniteError, match=said), minigen.detect_anomaly():
        (x.sqrt()).sum().backward()
    with pytest.raises(NonFiniteError, match="log: its result"), minigen.detect_anomaly():
        (x - 2.0).log()


# What is freed


def test_a_training_loop_leaves_nothing_behind_without_the_collector():
    """Counts live tensors and nodes after 5 and after 200 steps, first order and with create_graph."""

    def live():
        return sum(type(o) in (Tensor, autograd.Node) for o in gc.get_objects())

    w = minigen.ones(4, 4, requires_grad=True)
    x = minigen.ones(2, 4)

    def step():
        inner = minigen.ones(2, 4, requires_grad=True)
        out = (inner @ w).tanh()
        (g,) = autograd.grad(out.sum(), [inner], create_graph=True)
        loss = ((out - x) ** 2).mean() + (g * g).mean()
        loss.backward()
        with minigen.no_grad():
            w.sub_(0.01 * w.grad)
        w.grad = None
        return loss.item()

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            step()
        before = live()
        for _ in range(200):
            step()
        assert live() == before
    finally:
        gc.enable()


def test_a_graph_walked_twice():
    x = minigen.tensor([3.0], requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()


def test_a_write_to_what_a_gradient_needs_is_seen():
    x = minigen.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2.0
    y = (h * h).sum()
    with minigen.no_grad():
        h.detach().fill_(0.0)
    with pytest.raises(GradientError, match="written in place"):
        y.backward()
    z = (x + 1.0).sum()  # this gradient needs no array: a write does it no harm
    with minigen.no_grad():
        x.fill_(5.0)
    z.backward()
    assert x.grad.tolist() == [1.0, 1.0]


# What it says


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: minigen.ones(3, requires_grad=True).backward(), GradientError, r"x.sum\(\).backward\(\)"),
        (lambda: minigen.ones(3).sum().backward(), GradientError, "requires_grad=True"),
        (lambda: minigen.ones(3, requires_grad=True).backward(minigen.ones(2)), ShapeError, r"\(2,\)"),
        (lambda: minigen.ones(2, requires_grad=True).numpy(), GradientError, r"detach\(\).numpy"),
        (lambda: minigen.ones(2).item(), ArgumentError, "tolist"),
        (lambda: bool(minigen.ones(2) > 0), ArgumentError, "ambiguous"),
        (lambda: minigen.exp(minigen.ones(2), axis=1), ArgumentError, "exp"),
        (lambda: minigen.ones(2).sum(axis=0), ArgumentError, r"did you mean dim=\?"),
        (lambda: minigen.ones(2) * minigen.ones(2).double(), DtypeError, "x.float"),
        (lambda: minigen.ones(2) * "a", DtypeError, "tensor, an array or a number"),
        (lambda: minigen.ones(2, 3) * minigen.ones(2), ShapeError, r"mul.*\(2, 3\)"),
        (lambda: minigen.ones(2, 3).sum(dim=2), IndexError, "from -2 to 1"),
        (lambda: minigen.tensro, AttributeError, "did you mean 'tensor'"),
    ],
    ids=str,
)
def test_errors_say_what_to_write(call, error, words):
    with pytest.raises(error, match=words):
        call()
