"""Weights that are computed: spectral and weight norm in both forms, and parametrizations of one's own."""

import numpy as np
import pytest

import minigen
from minigen import errors, nn
from minigen.nn.utils import parametrizations, parametrize


def top(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[0]


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_finds_the_largest_singular_value(norm):
    layer = norm(nn.Linear(7, 5), n_power_iterations=3)
    x = minigen.ones(2, 7)
    for _ in range(60):
        layer(x)
    assert top(layer.weight.data) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_evaluation_leaves_the_vectors_alone(norm):
    layer = norm(nn.Linear(7, 5)).eval()
    before = {name: b.data.copy() for name, b in layer.named_buffers()}
    layer(minigen.ones(2, 7))
    for name, b in layer.named_buffers():
        np.testing.assert_array_equal(b.data, before[name])
    layer.train()(minigen.ones(2, 7))
    assert any((b.data != before[name]).any() for name, b in layer.named_buffers())


def test_two_forward_passes_and_one_backward():
    """A critic's loss D(real) - D(fake) turns u and v between the two passes."""
    critic = parametrizations.spectral_norm(nn.Linear(3, 1))
    (critic(minigen.ones(2, 3)).mean() - critic(minigen.zeros(2, 3)).mean()).backward()
    assert critic.parametrizations.weight.original.grad is not None


def test_gradient_of_spectral_norm():
    """d(W / (u^T W v)) with u and v held: by central differences."""
    layer = parametrizations.spectral_norm(nn.Linear(3, 4, bias=False).double()).eval()
    w = layer.parametrizations.weight.original
    c = np.random.default_rng(0).standard_normal((4, 3))
    (layer.weight * minigen.tensor(c)).sum().backward()
    direction = np.random.default_rng(1).standard_normal((4, 3))
    start, values = w.data.copy(), []
    for sign in (1, -1):
        w.data[...] = start + sign * 1e-6 * direction
        values.append((layer.weight.data * c).sum())
    assert (w.grad.data * direction).sum() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_convolutions():
    conv = parametrizations.spectral_norm(nn.Conv2d(2, 3, 3))
    assert conv.parametrizations.weight[0]._u.shape == (3,) and conv.parametrizations.weight[0]._v.shape == (18,)
    conv = parametrizations.spectral_norm(nn.ConvTranspose2d(2, 3, 3))
    assert conv.parametrizations.weight[0]._u.shape == (3,) and conv.parametrizations.weight[0]._v.shape == (18,)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_keeps_the_weight(norm, dim):
    layer = nn.Linear(4, 3)
    before = layer.weight.data.copy()
    norm(layer, dim=dim)
    layer(minigen.ones(1, 4))
    np.testing.assert_allclose(layer.weight.data, before, rtol=1e-6)
    keys = {"original0", "original1"} if norm is parametrizations.weight_norm else {"weight_g", "weight_v"}
    assert {k.rpartition(".")[2] for k in layer.state_dict()} - {"bias"} == keys
    shape = {0: (3, 1), 1: (1, 4), None: ()}[dim]
    g = next(p for name, p in layer.named_parameters() if name.endswith(("_g", "original0")))
    assert g.shape == shape
    g.data *= 2
    layer(minigen.ones(1, 4))
    np.testing.assert_allclose(layer.weight.data, 2 * before, rtol=1e-6)


def test_a_norm_is_trained_and_taken_away():
    layer = nn.Linear(4, 3)
    parametrizations.weight_norm(layer)
    optimizer = minigen.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.data.copy()
    layer(minigen.ones(2, 4)).sum().backward()
    optimizer.step()
    assert (layer.weight.data != before).any()
    value = layer.weight.data.copy()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and isinstance(layer.weight, nn.Parameter)
    np.testing.assert_allclose(layer.weight.data, value)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    for make, remove in (
        (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
        (nn.utils.weight_norm, nn.utils.remove_weight_norm),
    ):
        remove(make(layer))
        assert sorted(layer.state_dict()) == ["bias", "weight"]
        layer(minigen.ones(2, 4))


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T

    def right_inverse(self, value):
        return value.triu()


def test_a_parametrization_of_ones_own():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    np.testing.assert_array_equal(layer.weight.data, layer.weight.data.T)
    assert parametrize.is_parametrized(layer) and parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias") and repr(layer).startswith("ParametrizedLinear(")
    assert isinstance(layer, nn.Linear) and type(nn.Linear(1, 1)) is nn.Linear
    layer.weight = minigen.eye(3) * 2
    np.testing.assert_array_equal(layer.weight.data, 2 * np.eye(3))
    layer(minigen.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None


def test_one_on_top_of_another():
    class Double(nn.Module):
        def forward(self, x):
            return 2 * x

    layer = nn.Linear(3, 3)
    before = layer.weight.data.copy()
    for _ in range(2):
        parametrize.register_parametrization(layer, "weight", Double())
    np.testing.assert_array_equal(layer.weight.data, 4 * before)
    parametrize.register_parametrization(layer, "bias", Double())
    assert list(layer.parametrizations) == ["weight", "bias"]
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    np.testing.assert_array_equal(layer.weight.data, before)
    assert parametrize.is_parametrized(layer, "bias")


def test_state_goes_round():
    a, b = (parametrizations.spectral_norm(nn.Linear(4, 3)) for _ in range(2))
    b.load_state_dict(a.state_dict())
    x = minigen.ones(1, 4)
    np.testing.assert_array_equal(a.eval()(x).data, b.eval()(x).data)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda m: parametrize.register_parametrization(m, "weight", abs), errors.ArgumentError),
        (lambda m: parametrize.register_parametrization(m, "in_features", Symmetric()), errors.ArgumentError),
        (lambda m: parametrize.register_parametrization(m, "weight", nn.Flatten(0)), errors.ShapeError),
        (lambda m: parametrize.remove_parametrizations(m, "weight"), errors.ArgumentError),
        (lambda m: parametrizations.spectral_norm(m, n_power_iterations=0), errors.ArgumentError),
        (lambda m: parametrizations.spectral_norm(m, dim=5), errors.DimError),
        (lambda m: nn.utils.weight_norm(nn.utils.weight_norm(m)), (errors.ArgumentError, AttributeError)),
        (lambda m: nn.utils.remove_weight_norm(m), errors.ArgumentError),
    ],
)
def test_mistakes(call, error):
    with pytest.raises(error):
        call(nn.Linear(3, 3))
