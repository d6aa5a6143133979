"""Optimisers over flat buffers: whatever a user does with his parameters, the plain formula's numbers come out."""

import gc
import weakref

import numpy as np
import pytest

import minigen
from minigen import errors, nn, optim
from minigen.optim.flat import merged

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Lion": {"lr": 0.01},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "amsgrad": True},
    "RMSprop": {"lr": 0.01, "momentum": 0.9, "centered": True},
    "Adagrad": {"lr": 0.1},
    "Adadelta": {"lr": 10.0},
    "Adamax": {"lr": 0.1},
    "NAdam": {"lr": 0.1},
    "RAdam": {"lr": 0.1},
    "Adafactor": {"lr": 0.1},
}


def parameters(*shapes, dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    return [minigen.Parameter(random.standard_normal(shape).astype(dtype)) for shape in shapes]


def descend(params, optimizer, steps=1):
    """Steps on sum(x^2) / 2, whose gradient is x."""
    for _ in range(steps):
        optimizer.zero_grad()
        sum(((p * p).sum() / 2 for p in params), 0.0).backward()
        optimizer.step()


def numbers(params):
    return [p.data.copy() for p in params]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_descends(name):
    params = parameters((3, 4), (5,))
    optimizer = getattr(optim, name)(params, **OPTIMIZERS[name])
    before = sum((p.data**2).sum() for p in params)
    descend(params, optimizer, 60)
    assert sum((p.data**2).sum() for p in params) < 0.5 * before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_and_agrees_with_float64(name):
    """The kernels (float32) and the definitions (float64) are one formula."""
    results = []
    for dtype in (np.float32, np.float64):
        params = parameters((3, 4), (5,), (), dtype=dtype)
        descend(params, getattr(optim, name)(params, weight_decay=0.1, **OPTIMIZERS[name]), 10)
        assert all(p.dtype == dtype for p in params)
        results.append(params)
    for a, b in zip(*results):
        np.testing.assert_allclose(a.data, b.data, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_run_has_the_same_bits(name):
    def fresh():
        params = parameters((3, 4), (5,))
        return params, getattr(optim, name)(params, **OPTIMIZERS[name])

    params, optimizer = fresh()
    descend(params, optimizer, 4)
    saved = numbers(params)
    state = {k: v for k, v in optimizer.state_dict().items()}
    state["state"] = {i: {k: v.data.copy() for k, v in s.items()} for i, s in state["state"].items()}
    descend(params, optimizer, 4)
    resumed, other = fresh()
    for p, x in zip(resumed, saved):
        p.data = x
    other.load_state_dict(state)
    descend(resumed, other, 4)
    for a, b in zip(params, resumed):
        np.testing.assert_array_equal(a.data, b.data)


def test_parameters_are_views_of_one_array():
    params = parameters((3, 4), (5,), ())
    before = numbers(params)
    optim.Adam(params)
    assert len({id(p.data.base) for p in params}) == 1
    for p, x in zip(params, before):
        np.testing.assert_array_equal(p.data, x)


def test_gradients_arrive_in_one_array():
    params = parameters((3, 4), (5,))
    optimizer = optim.SGD(params, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum((p * p).sum() for p in params).backward()
        assert len({id(p.grad.data.base) for p in params}) == 1
    (row,) = merged([p.grad.data for p in params])
    assert row[0].shape == (16 + 5,)


def test_a_gradient_that_is_kept_is_not_written_over():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=0.1)
    (p * 2.0).sum().backward()
    kept = p.grad
    optimizer.step()
    optimizer.zero_grad()
    (p * 5.0).sum().backward()
    np.testing.assert_array_equal(kept.data, np.full(3, 2.0, np.float32))
    np.testing.assert_array_equal(p.grad.data, np.full(3, 5.0, np.float32))
    before = p.data.copy()
    optimizer.step()
    np.testing.assert_allclose(p.data, before - 0.5, rtol=1e-6)


def test_a_parameter_without_a_gradient_stays_and_its_clock_stands_still():
    a, b, c = parameters((2,), (2,), (2,))
    optimizer = optim.Adam([a, b, c], lr=0.1, weight_decay=0.5)
    for p in (a, b, c):
        p.grad = minigen.ones(2)
    optimizer.step()
    b.grad = None
    before = b.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(b.data, before)
    assert [optimizer.state[p]["step"].item() for p in (a, b, c)] == [2, 1, 2]


def test_data_given_anew_is_what_is_trained():
    params = parameters((3,), (2,))
    optimizer = optim.SGD(params, lr=0.5)
    params[0].data = np.full(3, 7.0, np.float32)
    for p in params:
        p.grad = minigen.ones(*p.shape)
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, np.full(3, 6.5, np.float32))


def test_data_of_another_shape_is_refused():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=0.5)
    p.data, p.grad = np.zeros(4, np.float32), minigen.ones(4)
    with pytest.raises(errors.ShapeError, match=r"\(3,\)"):
        optimizer.step()


def test_a_model_made_double_goes_on():
    params = parameters((3,), (2,))
    optimizer = optim.Adam(params, lr=0.1)
    descend(params, optimizer, 2)
    reference = parameters((3,), (2,), dtype=np.float64)
    descend(reference, optim.Adam(reference, lr=0.1), 4)
    for p in params:
        p.data, p.grad, p.buffer = p.data.astype(np.float64), None, None
    descend(params, optimizer, 2)
    for a, b in zip(params, reference):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5)
    assert optimizer.state[params[0]]["step"].item() == 4


def test_two_optimisers_over_the_same_parameters_take_turns():
    params = parameters((3,))
    first, second = optim.SGD(params, lr=0.1), optim.SGD(params, lr=0.01)
    expected = params[0].data.copy()
    for optimizer, rate in ((first, 0.1), (second, 0.01), (first, 0.1)):
        descend(params, optimizer)
        expected *= 1 - rate
    np.testing.assert_allclose(params[0].data, expected, rtol=1e-6)


def test_a_group_added_later():
    a, b = parameters((3,), (2,))
    optimizer = optim.SGD([a], lr=0.1)
    descend([a], optimizer)
    optimizer.add_param_group({"params": b, "lr": 0.5})
    before = numbers([a, b])
    descend([a, b], optimizer)
    np.testing.assert_allclose(a.data, 0.9 * before[0], rtol=1e-6)
    np.testing.assert_allclose(b.data, 0.5 * before[1], rtol=1e-6)


def test_a_parameter_used_twice_is_updated_once():
    (p,) = parameters((3,))
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([p, p], lr=0.1)
    before = p.data.copy()
    descend([p], optimizer)
    np.testing.assert_allclose(p.data, 0.9 * before, rtol=1e-6)


def test_gradients_add_up_over_backward_passes():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=1.0)
    before = p.data.copy()
    for _ in range(3):
        (p * 0.1).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(p.data, before - 0.3, rtol=1e-5)


def test_a_step_makes_an_older_graph_unusable():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=1.0)
    old = (p * p).sum()
    p.grad = minigen.ones(3)
    optimizer.step()
    with pytest.raises(errors.GradientError, match="written in place"):
        old.backward()


def test_closure():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with minigen.no_grad():
        first = optimizer.step(closure)
    assert optimizer.step(closure).item() < first.item()


def test_hooks_around_the_step():
    (p,) = parameters((3,))
    optimizer = optim.SGD([p], lr=0.1)
    seen = []
    handle = optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == ["before", "after", "after"]


def test_nothing_is_left_behind():
    gc.collect()
    gc.disable()
    try:
        params = parameters((30,), (20,))
        optimizer = optim.AdamW(params, lr=0.1)
        descend(params, optimizer, 3)
        gone = [weakref.ref(p) for p in params] + [weakref.ref(optimizer)]
        del params, optimizer
        assert [r() for r in gone] == [None] * 3
    finally:
        gc.enable()


def test_names_of_parameters_are_kept():
    a, b = parameters((3,), (2,))
    optimizer = optim.SGD([("a", a), ("b", b)], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    with pytest.raises(errors.ArgumentError, match="with/without names"):
        optimizer.add_param_group({"params": parameters((2,))})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: optim.SGD(p, lr=0.1), "iterable of Tensors"),
        (lambda p: optim.SGD([], lr=0.1), "empty"),
        (lambda p: optim.SGD([p], lr=-0.1), "Invalid lr"),
        (lambda p: optim.SGD([p], lr="0.1"), "lr is a number"),
        (lambda p: optim.SGD([p], lr=0.1, nesterov=True), "momentum"),
        (lambda p: optim.SGD([p], lr=minigen.ones(2)), "1-element"),
        (lambda p: optim.Adam([p], betas=(1.0, 0.9)), "index 0"),
        (lambda p: optim.Adam([p], betas=(0.9, minigen.tensor(0.9))), "floats"),
        (lambda p: optim.Adam([p], differentiable=True), "differentiable"),
        (lambda p: optim.Adam([p], fused_=True), "fused_"),
        (lambda p: optim.Adam([p * 2.0]), "non-leaf"),
        (lambda p: optim.Adam([3.0]), "parameter is a tensor"),
        (lambda p: optim.Adam([{"params": {p}}]), "order"),
        (lambda p: optim.Adam([{"params": p, "weight_dacay": 0.1}]), "did you mean 'weight_decay'"),
        (lambda p: optim.Adam([{"params": [p]}, {"params": [p]}]), "more than one"),
        (lambda p: optim.Adadelta([p], rho=1.1), "rho"),
        (lambda p: optim.Adagrad([p], lr_decay=-0.5), "lr_decay"),
        (lambda p: optim.Adafactor([p], d=0.0), "Clipping"),
        (lambda p: optim.NAdam([p], momentum_decay=-0.2), "momentum_decay"),
        (lambda p: optim.Muon([p]), "2D"),
        (lambda p: optim.Muon([minigen.Parameter(np.ones((2, 2)))], adjust_lr_fn="arbitrary"), "not supported"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((errors.MinigenError, TypeError), match=message):
        make(parameters((3,))[0])


def test_a_state_of_other_parameters_is_refused():
    a, b = parameters((3,), (2,))
    state = optim.Adam([a]).state_dict()
    with pytest.raises(errors.CheckpointError, match="groups"):
        optim.Adam([a, b]).load_state_dict(state)
    optimizer = optim.Adam([a])
    descend([a], optimizer)
    with pytest.raises(errors.CheckpointError, match="exp_avg"):
        optim.Adam([b]).load_state_dict(optimizer.state_dict())


def test_rows_of_neighbours():
    flat, other = np.arange(64.0), np.arange(64.0)
    a, b, c = flat[:5], flat[16:20].reshape(2, 2), flat[40:44]
    assert [row[0].size for row in merged([a, b, c])] == [20, 4]
    x, y = other[:5], other[21:25].reshape(2, 2)  # another gap: they cannot be walked together
    assert [row[0].shape for row in merged([a, b], [x, y])] == [(5,), (4,)]
    loose = np.ones((2, 3)).T
    assert merged([loose])[0][0] is loose


def test_two_parameters_over_one_memory_are_refused():
    array = np.ones((3, 3), np.float32)
    a, b = minigen.Parameter(array), minigen.Parameter(array[1:])
    assert np.shares_memory(a.data, b.data)
    with pytest.raises(errors.ArgumentError, match="share memory"):
        optim.SGD([a, b], lr=0.1)
    optim.SGD([a], lr=0.1)


def test_a_run_with_schedule_and_average_resumes_bit_for_bit():
    def fresh():
        params = parameters((3, 4), (5,))
        optimizer = optim.AdamW(params, lr=0.1)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.2, 12)
        return params, optimizer, schedule, optim.EMA(params, decay=0.9, warmup=True)

    def run(parts, steps):
        params, optimizer, schedule, ema = parts
        for _ in range(steps):
            descend(params, optimizer)
            schedule.step()
            ema.update()

    def plain(state):
        if isinstance(state, dict):
            return {k: plain(v) for k, v in state.items()}
        return state.data.copy() if isinstance(state, minigen.Tensor) else state

    whole, first, second = fresh(), fresh(), fresh()
    run(whole, 10)
    run(first, 5)
    for p, q in zip(first[0], second[0]):
        q.data[...] = p.data
    for a, b in zip(first[1:], second[1:]):
        b.load_state_dict(plain(a.state_dict()))
    run(second, 5)
    for a, b in zip(whole[0], second[0]):
        np.testing.assert_array_equal(a.data, b.data)
    for a, b in zip(whole[3].shadow, second[3].shadow):
        np.testing.assert_array_equal(a, b)


def test_gradients_are_written_where_the_optimiser_wants_them():
    """The linear layer's rule gets that memory at once; used twice, or with an old gradient kept, it must not."""
    generator = minigen.random.Generator(0)
    x = minigen.randn(5, 4, generator=generator)
    w = nn.Parameter(minigen.randn(4, 4, generator=generator))
    optimizer = optim.SGD([w], lr=0.0)

    def gradient(times):
        optimizer.zero_grad()
        y = x
        for _ in range(times):
            y = nn.functional.linear(y, w)
        y.sum().backward()
        return w.grad

    gradient(1)
    optimizer.step()
    once = gradient(1)
    assert once.data is w.buffer
    kept = once.numpy().copy()
    twice = gradient(2)  # `once` is still held: its numbers must stay
    assert np.array_equal(once.numpy(), kept)
    del once
    inner, outer = x.numpy(), x.numpy() @ w.detach().numpy().T
    g = np.ones((5, 4), np.float32)
    np.testing.assert_allclose(twice.numpy(), g.T @ outer + (g @ w.detach().numpy()).T @ inner, rtol=1e-5)
    w.sum().backward()  # adds to what is there
    np.testing.assert_allclose(w.grad.numpy(), g.T @ outer + (g @ w.detach().numpy()).T @ inner + 1, rtol=1e-5)
