"""MADE, MAF and IAF: what depends on what, which direction takes one pass, and both exact."""

import numpy as np
import pytest
from exactly import check, dense_jacobian, noise, shaken

import minigen
from minigen.errors import ArgumentError
from minigen.models.flow.bijection import Inverse
from minigen.models.flow.masked_autoregressive import (
    MADE,
    MAF,
    InverseAutoregressive,
    MAFConfig,
    MaskedAutoregressive,
)

LAYERS = {
    "maf": MaskedAutoregressive,
    "iaf": InverseAutoregressive,
    "iaf, gated": lambda made: InverseAutoregressive(made, gate=True),
}


class Counting(MADE):
    passes = 0

    def forward(self, x, context=None):
        self.passes += 1
        return super().forward(x, context)


@pytest.mark.parametrize("hidden", [(20,), (7, 9), (4, 30, 5)])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_made_sees_only_what_came_before(dim, hidden):
    made = shaken(MADE(dim, hidden))
    for k in range(2):
        jacobians = np.stack([dense_jacobian(lambda x: made(x)[k], noise(1, dim, seed=i)) for i in range(8)])  # noqa: B023
        assert (np.triu(jacobians) == 0).all()
        seen = np.abs(jacobians).max(0)  # a ReLU may be shut at one place
        assert (seen[np.tril_indices(dim, -1)] > 0).all()  # and all of that


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exact(name, dim):
    made = MADE(dim, (12,), context=3)
    check(shaken(LAYERS[name](made)), noise(3, dim), noise(3, 3, seed=4))


@pytest.mark.parametrize("name, forward, inverse", [("maf", 1, 6), ("iaf", 6, 1), ("iaf, gated", 6, 1)])
def test_one_direction_takes_one_pass_and_the_other_as_many_as_there_are_dimensions(name, forward, inverse):
    layer, x = LAYERS[name](Counting(6)), minigen.randn(4, 6)
    layer(x)
    assert layer.made.passes == forward
    layer.inverse(x)
    assert layer.made.passes == forward + inverse


def test_the_jacobian_is_triangular():
    maf = shaken(MaskedAutoregressive(MADE(5)))
    jacobian = dense_jacobian(lambda x: maf(x)[0], noise(1, 5))
    assert (np.triu(jacobian, 1) == 0).all()


def test_an_iaf_is_a_maf_the_other_way_round():
    made, x = shaken(MADE(4, (9,))), noise(3, 4)
    with minigen.no_grad():
        iaf, turned = InverseAutoregressive(made)(x), Inverse(MaskedAutoregressive(made))(x)
    # MAF's forward subtracts and shrinks, IAF's inverse adds and stretches: x -> z of one is z -> x of the other.
    back = Inverse(InverseAutoregressive(made)).inverse(iaf[0])
    assert abs(iaf[0] - x).max().item() > 1e-3 and turned[0].shape == iaf[0].shape
    with minigen.no_grad():
        np.testing.assert_allclose(MaskedAutoregressive(made).inverse(x)[0].numpy(), turned[0].numpy(), atol=1e-12)
        np.testing.assert_allclose(back[0].detach().numpy(), InverseAutoregressive(made)(iaf[0])[0].numpy(), atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "act", "none"])
@pytest.mark.parametrize("direction", ["maf", "iaf"])
def test_whole_flows(direction, norm):
    check(shaken(MAF(shape=(4,), layers=3, hidden=(10,), norm=norm, direction=direction), 0.2).bijection, noise(3, 4))


def test_every_made_is_told_the_class():
    model = shaken(MAF(shape=(1, 2, 2), layers=2, hidden=(8,), classes=3, levels=5))
    x = minigen.tensor(np.full((3, 1, 2, 2), 2.5))
    with minigen.no_grad():
        log_p = model.log_density(x, [0, 1, 2]).numpy()
    assert len(set(log_p.round(6))) == 3
    assert model.sample(3, [0, 1, 2]).shape == (3, 1, 2, 2)
    with pytest.raises(ArgumentError, match="needs the labels"):
        model(x)


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="direction is one of"):
        MAFConfig(direction="both")
    with pytest.raises(ArgumentError, match="hidden layer"):
        MAFConfig(hidden=())
    with pytest.raises(ArgumentError, match="given none"):
        MADE(3, context=2)(minigen.ones(1, 3))
