"""Every layer of a flow: turned round to rounding, and its log-determinant against the dense Jacobian's."""

import numpy as np
import pytest
from exactly import check, noise, shaken

import minigen
from minigen import nn
from minigen.errors import ArgumentError, ShapeError
from minigen.models.flow.bijection import Composition, Inverse, Permutation, Reshape
from minigen.models.flow.convolution import InvertibleConvolution, LUConvolution
from minigen.models.flow.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    alternating,
    channel_halves,
    checkerboard,
)
from minigen.models.flow.multiscale import FactorOut, Squeeze
from minigen.models.flow.networks import GlowNet, ResidualNet, ZeroConv2d, mlp
from minigen.models.flow.scaling import ActNorm, BatchNorm, DiagonalScaling
from minigen.random import Generator

SHAPES = [(5, 6), (2, 4, 3, 5), (3, 2, 1, 1)]


def following(*layers):
    """Layers that move volumes before and after, so that one which does not is tested too."""
    return shaken(Composition(*layers))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layer", [ActNorm, BatchNorm, InvertibleConvolution, LUConvolution])
def test_layers_on_channels(layer, shape):
    check(shaken(layer(shape[1])), noise(*shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_diagonal_scaling_and_orders(shape):
    check(shaken(DiagonalScaling(*shape[1:])), noise(*shape))
    check(following(Permutation.shuffle(shape[1]), ActNorm(shape[1]), Permutation.reverse(shape[1])), noise(*shape))
    check(following(Inverse(ActNorm(shape[1])), Reshape(shape[1:], (np.prod(shape[1:]),))), noise(*shape))


@pytest.mark.parametrize("scale", ["exp", "tanh", "sigmoid"])
@pytest.mark.parametrize("mask", [None, "swap", "alternating"])
def test_couplings_of_vectors(scale, mask):
    mask, swap, dim = (alternating(6) if mask == "alternating" else None), mask == "swap", 6
    seen = dim if mask is not None else dim // 2
    x = noise(4, dim)
    check(shaken(AffineCoupling(mlp([seen, 8, 2 * seen]), mask, swap, scale, channels=seen)), x)
    check(following(AdditiveCoupling(mlp([seen, 8, seen]), mask, swap), DiagonalScaling(dim)), x)


@pytest.mark.parametrize(
    "mask", [None, checkerboard(4, 3), checkerboard(4, 3, flip=True), channel_halves(4, flip=True)]
)
@pytest.mark.parametrize("context", [0, 3])
def test_couplings_of_pictures(mask, context):
    seen = 4 if mask is not None else 2
    x, given = noise(2, 4, 4, 3), noise(2, context, 4, 3, seed=5) if context else None
    coupling = AffineCoupling(GlowNet(seen + context, 2 * seen, 8), mask, scale="tanh", channels=seen)
    check(shaken(coupling), x, given)
    check(shaken(AffineCoupling(ResidualNet(seen + context, 2 * seen, 6, 1), mask)), x, given)


def test_what_stays_stays_and_only_it_is_seen():
    mask, x = checkerboard(4, 4), noise(1, 1, 4, 4)
    coupling = shaken(AffineCoupling(GlowNet(1, 2, 8), mask))
    with minigen.no_grad():
        z, log_det = coupling(x)
        moved = x + minigen.tensor((1 - mask).astype(np.float64))
        other, same = coupling(moved)
    stays = mask[None] == 1
    np.testing.assert_array_equal(z.numpy()[stays], x.numpy()[stays])
    assert (np.abs(z.numpy() - x.numpy())[~stays] > 1e-6).all()
    assert same.item() == log_det.item() and (other.numpy()[stays] == z.numpy()[stays]).all()


def test_masks():
    board = checkerboard(3, 4)
    assert board.shape == (1, 3, 4) and board[0, 0].tolist() == [1, 0, 1, 0] and board[0, 1].tolist() == [0, 1, 0, 1]
    for a, b in [(checkerboard(3, 4), checkerboard(3, 4, True)), (alternating(5), alternating(5, True)),
                 (channel_halves(4), channel_halves(4, True))]:  # fmt: skip
        assert (a + b == 1).all()
    # After a squeeze, the halves of the channels are not the two colours of the checkerboard once more.
    squeezed = Squeeze()(minigen.tensor(checkerboard(4, 4)[None]))[0].numpy()[0]
    assert squeezed[:2].sum() == squeezed[2:].sum() == 4


@pytest.mark.parametrize("prior", [None, ZeroConv2d(2, 4)])
def test_squeeze_and_factor_out(prior):
    x = noise(2, 1, 4, 4)
    deeper = AffineCoupling(GlowNet(1, 2, 4))
    flow = following(Squeeze(), ActNorm(4), FactorOut(deeper, (2, 2, 2), prior))
    check(flow, x)
    with minigen.no_grad():
        assert flow(x)[0].shape == (2, 16)
        blocks = Squeeze()(x)[0]
    np.testing.assert_array_equal(blocks.numpy()[0, :, 0, 0], x.numpy()[0, 0, :2, :2].ravel())


def test_the_prior_of_what_leaves_is_a_gaussian_given_what_stays():
    prior = shaken(ZeroConv2d(1, 2))
    flow = FactorOut(Composition(), (1, 2, 2), prior)
    x = noise(3, 2, 2, 2)
    with minigen.no_grad():
        z, log_det = flow(x)
        mean, log_std = (a.numpy() for a in prior(x[:, :1]).chunk(2, 1))
    own = -0.5 * (z.numpy() ** 2).sum(1) + log_det.numpy()
    leaves, stays = x.numpy()[:, 1:], x.numpy()[:, :1]
    gaussian = -0.5 * ((leaves - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * stays**2
    np.testing.assert_allclose(own, gaussian.sum((1, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_the_lu_form_is_its_dense_matrix(channels):
    x = noise(2, channels, 3, 3)
    lu = LUConvolution(channels, Generator(3))
    with minigen.no_grad():
        w = lu.matrix().numpy()
        np.testing.assert_allclose(w @ w.T, np.eye(channels), atol=1e-5)  # it starts as a rotation
        assert abs(lu.log_determinant().item()) < 1e-5
        shaken(lu)
        w = lu.matrix().numpy()
        plain = InvertibleConvolution(channels).double()
        plain.w.copy_(minigen.tensor(w))
        for (a, b), (c, d) in [(lu(x), plain(x)), (lu.inverse(x), plain.inverse(x))]:
            np.testing.assert_allclose(a.numpy(), c.numpy(), atol=1e-10)
            np.testing.assert_allclose(b.numpy(), d.numpy(), atol=1e-10)
        np.testing.assert_allclose(lu(x)[0].numpy(), np.einsum("ij,njhw->nihw", w, x.numpy()), atol=1e-12)
        assert abs(np.linalg.slogdet(w)[1] - lu.log_determinant().item()) < 1e-12


def test_p_and_the_signs_are_no_parameters():
    assert {name for name, _ in LUConvolution(4).named_parameters()} == {"lower", "upper", "log_s"}


@pytest.mark.parametrize("shape", [(200, 3), (20, 3, 4, 4)])
def test_the_first_batch_sets_actnorm_to_unit_statistics_and_no_later_one_does(shape):
    norm = ActNorm(3)
    x = 5 + 3 * minigen.randn(*shape, generator=Generator(0))
    with minigen.no_grad():
        z, log_det = norm(x)
    dims = (0, *range(2, len(shape)))
    np.testing.assert_allclose(z.numpy().mean(dims), 0, atol=1e-5)
    np.testing.assert_allclose(z.numpy().std(dims), 1, atol=1e-4)
    s = norm.s.detach().numpy().copy()
    np.testing.assert_allclose(log_det.numpy(), np.prod(shape[2:]) * s.sum(), rtol=1e-5)
    norm(7 * x)
    np.testing.assert_array_equal(norm.s.detach().numpy(), s)
    again = ActNorm(3)
    again.load_state_dict(norm.state_dict())
    again(9 * x)  # a loaded one has seen its first batch
    np.testing.assert_array_equal(again.s.detach().numpy(), s)


def test_actnorm_is_the_identity_until_it_is_trained():
    norm, x = ActNorm(3).double().eval(), noise(4, 3)
    z, log_det = norm(x)
    assert (z.detach().numpy() == x.numpy()).all() and (log_det.detach().numpy() == 0).all()


def test_a_first_batch_in_the_middle_of_a_step_can_still_be_differentiated():
    """The optimiser keeps all parameters in one array: setting one layer's must not spoil what another has saved."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    flow = Composition(AdditiveCoupling(net, alternating(3)), ActNorm(3), AdditiveCoupling(net, alternating(3, True)))
    optimizer = minigen.optim.Adam(flow.parameters(), lr=0.01)
    before = [p.detach().numpy().copy() for p in net.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        z, log_det = flow(minigen.randn(10, 3))
        ((z * z).sum(1) - log_det).mean().backward()
        optimizer.step()
    assert all((p.detach().numpy() != b).all() for p, b in zip(net.parameters(), before))
    assert all(p.grad is not None for p in flow.parameters())


def test_batch_norm_takes_the_batch_in_training_and_all_data_after():
    norm, g = BatchNorm(2, momentum=0.2), Generator(0)
    for _ in range(60):
        x = 3 + 2 * minigen.randn(100, 2, generator=g)
        with minigen.no_grad():
            z, log_det = norm(x)
    np.testing.assert_allclose(z.numpy().mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.numpy().std(0), 1, atol=1e-3)
    np.testing.assert_allclose(log_det.numpy(), -np.log(x.numpy().std(0)).sum(), rtol=1e-4)
    np.testing.assert_allclose(norm.running_mean.numpy(), 3, atol=0.2)
    np.testing.assert_allclose(norm.running_var.numpy(), 4, rtol=0.2)


@pytest.mark.parametrize("network", [mlp([3, 8, 5]), GlowNet(3, 5, 8), ResidualNet(3, 5, 8, 2), ZeroConv2d(3, 5)])
def test_networks_start_at_zero_and_learn(network):
    x = minigen.randn(4, 3) if isinstance(network, nn.Sequential) else minigen.randn(4, 3, 4, 4)
    optimizer = minigen.optim.Adam(network.parameters(), lr=0.01)
    assert (network(x).detach().numpy() == 0).all()
    for _ in range(5):
        optimizer.zero_grad()
        loss = ((network(x) - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1 and all(np.isfinite(p.detach().numpy()).all() for p in network.parameters())


def test_mistakes_are_answered():
    with pytest.raises(ShapeError, match="cut in half"):
        AffineCoupling(mlp([1, 2]))(minigen.ones(2, 3))
    with pytest.raises(ShapeError, match="2 times as many"):
        AffineCoupling(mlp([2, 2]))(minigen.ones(2, 4))
    with pytest.raises(ArgumentError, match="scale is one of"):
        AffineCoupling(mlp([2, 4]), scale="softplus")
    with pytest.raises(ArgumentError, match="channels="):
        AffineCoupling(mlp([2, 4]), scale="tanh")
    with pytest.raises(ShapeError, match=r"x is \(N, 3, ...\)"):
        ActNorm(3)(minigen.ones(2, 4))
    with pytest.raises(ShapeError, match=r"InvertibleConvolution: x is \(N, 3"):
        InvertibleConvolution(3)(minigen.ones(2, 4))
    with pytest.raises(ArgumentError, match="each of 0"):
        Permutation([0, 0, 1])
    with pytest.raises(ShapeError, match="same number"):
        Reshape((2, 3), (5,))
