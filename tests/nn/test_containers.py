"""Containers: order, names, slices, and how they look."""

from collections import OrderedDict

import numpy as np
import pytest

import minigen
from minigen import errors, nn


class Add(nn.Module):
    def __init__(self, n):
        self.n = n

    def forward(self, x):
        return x * 10 + self.n


def called(container):
    return [m.n for m in container]


def test_sequential_runs_in_order():
    net = nn.Sequential(Add(1), Add(2), Add(3))
    assert net(minigen.tensor(0)).item() == 123
    assert len(net) == 3 and net[1].n == 2 and net[-1].n == 3
    assert called(net[:2]) == [1, 2] and isinstance(net[:2], nn.Sequential)
    net.append(Add(4)).insert(0, Add(9))
    assert called(net) == [9, 1, 2, 3, 4] and [name for name, _ in net.named_children()] == list("01234")
    assert net.pop(0).n == 9 and called(net) == [1, 2, 3, 4]
    del net[1]
    net[0] = Add(7)
    assert called(net) == [7, 3, 4]
    assert called(net + nn.Sequential(Add(5))) == [7, 3, 4, 5] and called(nn.Sequential(Add(1)) * 3) == [1, 1, 1]


def test_one_layer_twice():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    x = minigen.ones(1, 2)
    np.testing.assert_array_equal(net(x).data, layer(layer(x)).data)
    assert len(list(net.parameters())) == 2 and len(net) == 2


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), second=nn.Linear(3, 1)))
    assert net.first.out_features == 3 and next(iter(net.state_dict())) == "first.weight"
    assert list(net[1:].state_dict()) == ["second.weight", "second.bias"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Sequential([nn.ReLU()]), r"Sequential\(\*layers\)"),
        (lambda: nn.Sequential(nn.ReLU)(minigen.ones(1)), "not a Module"),
        (lambda: nn.Sequential(nn.ReLU())[1], "index 1 of a container of 1"),
        (lambda: nn.Sequential(nn.ReLU())["a"], "integer"),
        (lambda: nn.ModuleDict({"keys": nn.ReLU()}), "already"),
        (lambda: nn.ParameterList([1.0]), "not a tensor"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(errors.MinigenError, match=message):
        make()


def test_module_list():
    layers = nn.ModuleList([Add(1), Add(2)])
    layers += [Add(3)]
    layers.extend([Add(4)])
    assert called(layers) == [1, 2, 3, 4] and called(layers[1:3]) == [2, 3]
    assert isinstance(layers[1:3], nn.ModuleList) and called(layers + [Add(5)]) == [1, 2, 3, 4, 5]
    assert "(0-1): 2 x Linear" in repr(nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU()]))
    with pytest.raises(NotImplementedError):
        layers(minigen.ones(1))


def test_module_dict():
    parts = nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.ReLU()})
    parts["c"] = nn.Linear(2, 1)
    assert list(parts) == ["a", "b", "c"] and len(parts) == 3 and "b" in parts
    assert list(parts.state_dict()) == ["a.weight", "a.bias", "c.weight", "c.bias"]
    assert parts.pop("a").out_features == 2 and parts.get("a") is None
    with pytest.raises(KeyError, match="it has"):
        parts["a"]
    assert [name for name, _ in parts.items()] == ["b", "c"]


def test_parameter_containers():
    values = nn.ParameterList([minigen.ones(2), nn.Parameter([3.0])])
    values.append(minigen.zeros(1))
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "2"] and values[1].item() == 3.0
    values[1] = minigen.tensor([4.0])
    assert values[-2].item() == 4.0 and len(values[:2]) == 2
    named = nn.ParameterDict({"a": minigen.ones(2)})
    named["b"] = nn.Parameter([1.0])
    assert list(named.state_dict()) == ["a", "b"] and isinstance(named["a"], nn.Parameter)
    assert "Parameter of (2,)" in repr(named) and "Parameter of (1,)" in repr(values)


def test_shapes():
    x = minigen.ones(2, 6, 3)
    assert nn.Flatten()(x).shape == (2, 18) and nn.Flatten(0, 1)(x).shape == (12, 3)
    assert nn.Unflatten(1, (2, 3))(x).shape == (2, 2, 3, 3) and nn.Unflatten(1, (2, -1))(x).shape == (2, 2, 3, 3)
    assert nn.Identity(3, unused=True)(x) is x
