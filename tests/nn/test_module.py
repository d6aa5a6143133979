"""Module: what it finds in itself, what it says when something is wrong, and what stays the same object."""

import copy
import gc
import traceback
import weakref

import numpy as np
import pytest

import minigen
from minigen import errors, nn


class Net(nn.Module):
    def __init__(self):
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, 2, bias=False)
        self.scale = nn.Parameter(minigen.ones(1))
        self.register_buffer("mean", minigen.zeros(4))
        self.register_buffer("scratch", minigen.zeros(1), persistent=False)
        self.plain = minigen.zeros(3)

    def forward(self, x):
        return self.head(self.encoder(x - self.mean)) * self.scale


NAMES = ["scale", "encoder.0.weight", "encoder.0.bias", "head.weight"]


def test_what_it_finds():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_buffers()] == ["mean", "scratch"]
    assert list(net.state_dict()) == ["scale", "mean", *NAMES[1:]]
    assert [name for name, _ in net.named_modules()] == ["", "encoder", "encoder.0", "encoder.1", "head"]
    assert [name for name, _ in net.named_children()] == ["encoder", "head"]
    assert net.get_submodule("encoder.0") is net.encoder[0]
    assert net.get_parameter("encoder.0.bias") is net.encoder[0].bias
    assert net.get_buffer("mean") is net.mean
    with pytest.raises(AttributeError, match="not a buffer"):
        net.get_buffer("plain")


def test_a_shared_part_is_listed_once_and_saved_twice():
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Linear(3, 3)
            self.b = self.a
            self.c = nn.Linear(3, 3)
            self.c.weight = self.a.weight

    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["a.weight", "a.bias", "c.bias"]
    assert list(tied.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias"]


def test_training_reaches_every_part():
    net = Net().eval()
    assert not any(module.training for module in net.modules())
    assert net.train().encoder[0].training
    with pytest.raises(errors.ArgumentError):
        net.train("yes")


def test_freezing_and_forgetting():
    net = Net()
    net.head.requires_grad_(False)
    net(minigen.ones(2, 4)).sum().backward()
    assert net.head.weight.grad is None and net.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.item() == 0.0
    net.zero_grad()
    assert net.scale.grad is None


def test_conversion_keeps_the_parameters():
    net = Net()
    before = list(net.parameters())
    net(minigen.ones(2, 4)).sum().backward()
    net.register_buffer("count", minigen.tensor(3))
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters()))
    assert all(p.dtype == np.float64 and p.grad.dtype == np.float64 for p in before)
    assert net.mean.dtype == np.float64 and net.count.dtype == np.int64
    assert net.to(minigen.float32).to("cpu").head.weight.dtype == np.float32
    assert net.to(minigen.zeros(1, dtype=minigen.float64)).head.weight.dtype == np.float64
    with pytest.raises(errors.DtypeError):
        net.to(minigen.int64)


def test_an_optimiser_goes_on_after_a_conversion():
    net = Net()
    optimizer = minigen.optim.SGD(net.parameters(), lr=0.1)
    net.double()
    before = net.scale.item()
    net(minigen.ones(2, 4, dtype=minigen.float64)).sum().backward()
    gradient = net.scale.grad.item()
    optimizer.step()
    assert net.scale.item() == pytest.approx(before - 0.1 * gradient, rel=1e-12)


def test_state_goes_round():
    a, b = Net(), Net()
    weight = b.head.weight
    result = b.load_state_dict(a.state_dict())
    assert result.missing_keys == result.unexpected_keys == [] and b.head.weight is weight
    np.testing.assert_array_equal(a.head.weight.data, b.head.weight.data)
    b.load_state_dict({name: x.data.astype(np.float64) for name, x in a.state_dict().items()})
    assert b.head.weight.dtype == np.float32
    partial = {"scale": minigen.tensor([5.0]), "other": minigen.zeros(1)}
    result = b.load_state_dict(partial, strict=False)
    assert b.scale.item() == 5.0 and result.unexpected_keys == ["other"] and "mean" in result.missing_keys


def test_everything_that_is_wrong_with_a_state_is_said_at_once():
    net, state = Net(), Net().state_dict()
    state["heda.weight"] = state.pop("head.weight")
    state["scale"] = minigen.zeros(7)
    state["extra"] = minigen.zeros(2)
    before = net.encoder[0].weight.data.copy()
    with pytest.raises(errors.CheckpointError) as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    assert "head.weight (2, 8)   did you mean 'heda.weight'?" in message
    assert "extra (2,)" in message and "scale: here (1,), given (7,)" in message
    np.testing.assert_array_equal(net.encoder[0].weight.data, before)  # nothing was written


def test_a_prefix_on_every_key_is_recognised():
    state = {f"module.{name}": x for name, x in Net().state_dict().items()}
    with pytest.raises(errors.CheckpointError, match=r"begins with 'module\.'"):
        Net().load_state_dict(state)
    with pytest.raises(errors.CheckpointError, match=r"'0.' \+ k"):
        nn.Sequential(Net()).load_state_dict(Net().state_dict())


def test_loading_spoils_an_older_graph():
    net = Net()
    loss = net(minigen.ones(2, 4)).sum()
    net.load_state_dict(Net().state_dict())
    with pytest.raises(errors.GradientError, match="written in place"):
        loss.backward()


def test_a_typo_raises_and_says_what_was_meant():
    with pytest.raises(AttributeError, match="did you mean 'encoder'"):
        Net().encodr  # noqa: B018
    assert not hasattr(Net(), "decoder")


def test_a_property_that_fails_says_why():
    class Broken(nn.Module):
        @property
        def width(self):
            return self.missing_thing

    with pytest.raises(AttributeError, match="missing_thing"):
        Broken().width  # noqa: B018


@pytest.mark.parametrize(
    "assign, message",
    [
        (lambda net: setattr(net, "layers", [nn.ReLU()]), "ModuleList"),
        (lambda net: setattr(net, "layers", {"a": nn.ReLU()}), "ModuleDict"),
        (lambda net: setattr(net, "weights", [nn.Parameter([1.0])]), "ParameterList"),
        (lambda net: setattr(net, "scale", minigen.ones(1)), "Parameter"),
        (lambda net: setattr(net, "head", 3), "is a Module"),
        (lambda net: setattr(net, "mean", 3.0), "buffer"),
        (lambda net: net.register_buffer("head", minigen.ones(1)), "already"),
        (lambda net: net.register_buffer("a.b", minigen.ones(1)), "dot"),
        (lambda net: net.register_parameter("forward", nn.Parameter([1.0])), "already"),
        (lambda net: net.register_parameter("p", minigen.ones(1)), "not a Parameter"),
        (lambda net: net.add_module("m", minigen.ones(1)), "not a Module"),
        (lambda net: net.load_state_dict([1, 2]), "mapping"),
        (lambda net: net.load_state_dict({"scale": 3.0}), "neither a tensor"),
    ],
)
def test_mistakes(assign, message):
    with pytest.raises(errors.MinigenError, match=message):
        assign(Net())


def test_a_tuple_hides_on_purpose():
    net = Net()
    net.teacher = (nn.Linear(2, 2),)
    assert [name for name, _ in net.named_parameters()] == NAMES


def test_a_part_can_be_taken_away_and_replaced():
    net = Net()
    net.head = nn.Linear(8, 3)
    assert net(minigen.ones(1, 4)).shape == (1, 3)
    del net.mean
    assert "mean" not in net.state_dict()
    net.scale = None
    assert "scale" not in net.state_dict()


def test_no_super_init_is_needed_and_one_does_no_harm():
    class Old(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(1, 1)

    assert len(list(Old().parameters())) == 2


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(minigen.ones(1))


def test_an_error_says_in_which_layer():
    with pytest.raises(errors.ShapeError) as caught:
        Net().encoder(minigen.ones(2, 5))
    assert "in 0: Linear(in_features=4" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(errors.ShapeError) as caught:
        nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 1)))(minigen.ones(2, 4))
    assert "in 0.1: Linear(in_features=9" in "".join(traceback.format_exception(caught.value))


def test_apply_goes_from_the_leaves_up():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential", "Linear", "Net"]


def test_copies_are_apart():
    net = Net()
    other = copy.deepcopy(net)
    other.scale.data[...] = 9.0
    assert net.scale.item() == 1.0 and list(other.state_dict()) == list(net.state_dict())


def test_how_it_looks():
    assert repr(Net()) == (
        "Net(\n"
        "  (encoder): Sequential(\n"
        "    (0): Linear(in_features=4, out_features=8, bias=True)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (head): Linear(in_features=8, out_features=2, bias=False)\n"
        ")"
    )


def test_buffer_as_attribute():
    net = Net()
    net.extra = nn.Buffer(minigen.ones(2))
    net.passing = nn.Buffer(minigen.ones(2), persistent=False)
    assert "extra" in net.state_dict() and "passing" not in net.state_dict()
    assert [name for name, _ in net.named_buffers()][-2:] == ["extra", "passing"]


def test_nothing_is_left_behind():
    gc.collect()
    gc.disable()
    try:
        net = Net()
        net.register_full_backward_hook(lambda *_: None)
        net(minigen.ones(2, 4)).sum().backward()
        gone = weakref.ref(net.head.weight)
        del net
        assert gone() is None
    finally:
        gc.enable()


# Hooks


def test_forward_hooks_see_and_replace():
    layer = nn.Linear(2, 2)
    seen = []
    first = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    layer.register_forward_hook(lambda m, args, y: seen.append(args[0].data.copy()))
    second = layer.register_forward_hook(lambda m, args, y: y * 0)
    assert not layer(minigen.ones(1, 2)).data.any()
    np.testing.assert_array_equal(seen[0], [[2.0, 2.0]])
    first.remove()
    second.remove()
    assert layer(minigen.ones(1, 2)).data.any()
    np.testing.assert_array_equal(seen[1], [[1.0, 1.0]])


def test_hooks_with_keywords_and_order():
    class Add(nn.Module):
        def forward(self, x, *, more=0.0):
            return x + more

    add, order = Add(), []
    add.register_forward_pre_hook(lambda m, args, kwargs: (args, {"more": kwargs["more"] * 10}), with_kwargs=True)
    add.register_forward_hook(lambda m, args, y: order.append("second"))
    add.register_forward_hook(lambda m, args, kwargs, y: order.append(kwargs["more"]), with_kwargs=True, prepend=True)
    assert add(minigen.zeros(1), more=2.0).item() == 20.0
    assert order == [20.0, "second"]


def test_backward_hooks_see_the_gradients():
    class Two(nn.Module):
        def forward(self, a, b):
            return a * b, a + b

    two, seen = Two(), []
    two.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    a, b = minigen.tensor([2.0], requires_grad=True), minigen.tensor([5.0], requires_grad=True)
    x, y = two(a, b)
    (3 * x + 7 * y).sum().backward()
    (gi, go) = seen[0]
    assert [g.item() for g in go] == [3.0, 7.0] and [g.item() for g in gi] == [22.0, 13.0]
    assert a.grad.item() == 22.0


def test_backward_hooks_replace_the_gradients():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0,))
    x = minigen.ones(1, 2, requires_grad=True)
    layer(x).sum().backward()
    assert not x.grad.data.any() and layer.weight.grad.data.any()
    layer.register_full_backward_pre_hook(lambda m, go: (go[0] * 0,))
    layer.zero_grad()
    layer(x).sum().backward()
    assert not layer.weight.grad.data.any()


def test_a_backward_hook_on_the_first_layer():
    layer, seen = nn.Linear(2, 2), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    layer(minigen.ones(3, 2)).sum().backward()
    assert seen == [((None,), (3, 2))]


def test_backward_hooks_and_second_derivatives():
    layer = nn.Linear(2, 1).double()
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    x = minigen.ones(1, 2, dtype=minigen.float64, requires_grad=True)
    (g,) = minigen.autograd.grad((layer(x) ** 2).sum(), [x], create_graph=True)
    (h,) = minigen.autograd.grad(g.sum(), [x])
    w = layer.weight.data
    np.testing.assert_allclose(h.data, 2 * 2 * w * w.sum() * 2, rtol=1e-10)


# The table


def test_summary():
    net = Net()
    table = net.summary(minigen.ones(5, 4))
    rows = {row.name: row for row in table.rows}
    assert rows["0"].shape == (5, 8) and rows["0"].flops == 2 * 5 * 4 * 8 + 5 * 8
    assert rows["head"].flops == 2 * 5 * 8 * 2 and rows["1"].flops == 40
    assert table.flops == 360 + 40 + 160 and table.parameters == 40 + 16 + 1
    assert "Sequential" in str(table) and "560" in str(table)
    assert net.training and all(part._hooks is None for part in net.modules())
    assert net.summary().flops is None


def test_summary_says_what_it_did_not_count():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    table = nn.Sequential(nn.Linear(2, 2), Square()).summary(minigen.ones(1, 2))
    assert "not counted: Square" in str(table)

    class Counted(Square):
        def flops(self, inputs, output):
            return output.numel()

    table = nn.Sequential(nn.Linear(2, 2), Counted()).summary(minigen.ones(1, 2))
    assert table.flops == 2 * 4 + 2 + 2 and not table.uncounted


@pytest.mark.parametrize(
    "layer, shape, flops",
    [
        (lambda: nn.LayerNorm(8), (3, 8), 8 * 24),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), 2 * (4 * 10 * 64 + 2 * 2 * 25 * 8)),
        (lambda: nn.Embedding(5, 4), None, 0),
    ],
)
def test_formulas(layer, shape, flops):
    x = minigen.tensor([[1, 2]]) if shape is None else minigen.ones(*shape)
    layer = layer()
    arguments = (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)
    assert layer.summary(*arguments).flops == flops
