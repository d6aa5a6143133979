"""PixelCNN: causal, exact, and able to draw what it says."""

import itertools
import math

import numpy as np
import pytest

import minigen
from minigen.errors import ArgumentError, ShapeError
from minigen.models.autoregressive.masked_conv import Left, MaskedConv2d, above, colour_of
from minigen.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from minigen.random import Generator

LIKELIHOODS = ("bits", "softmax", "logistic_mixture")


def small(seed=0, **sizes):
    minigen.manual_seed(seed)
    usual = dict(shape=(1, 5, 5), channels=6, layers=3, first_kernel=3, levels=4, mixtures=2)
    return PixelCNN(PixelCNNConfig(**(usual | sizes))).eval()


def pictures(model, n, seed=0):
    x = Generator(seed).integers(0, model.pixel.levels, (n, *model.config.shape))
    return minigen.tensor(x.astype(np.float32))


def reach(model, f=None):
    """(outputs, C, H, W, C, H, W) bool: which inputs move the outputs at a pixel. Outputs grouped by colour."""
    C, H, W = model.config.shape
    x = minigen.tensor(Generator(1).normal((1, C, H, W)).astype(np.float64), requires_grad=True)
    model.double()
    labels = minigen.tensor([0]) if model.config.classes else None
    out = model.logits(x, labels)
    colours = model.pixel.colours
    found = np.zeros((colours, H, W, C, H, W), bool)
    groups = out.reshape(colours, -1, H, W)
    for c, i, j in np.ndindex(colours, H, W):
        weights = minigen.tensor(Generator(2).normal((groups.shape[1],)).astype(np.float64))  # none cancels another
        g = minigen.autograd.grad((groups[c, :, i, j] * weights).sum(), [x], retain_graph=True)[0]
        found[c, i, j] = g.numpy()[0] != 0
    model.float()
    return found


VARIANTS = [
    dict(gated=gated, likelihood=likelihood, shape=shape)
    for gated in (False, True)
    for likelihood in LIKELIHOODS
    for shape in ((1, 5, 5), (3, 4, 5))
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(value) for value in v.values()))
def test_no_output_depends_on_what_comes_later(variant):
    model = small(channels=12, layers=2, **variant)
    found = reach(model)
    C, H, W = model.config.shape
    order = np.arange(H * W).reshape(1, H, W)
    if model.pixel.colours > 1:
        order = order * C + np.arange(C).reshape(C, 1, 1)
    for c, i, j in np.ndindex(found.shape[:3]):
        now = order[c, i, j]
        assert not found[c, i, j][np.broadcast_to(order, (C, H, W)) >= now].any(), (c, i, j)
    if model.pixel.colours > 1:  # blue sees red and green of its own pixel, green sees red
        assert found[1, 2, 2, 0, 2, 2] and found[2, 2, 2, :2, 2, 2].all()


def test_the_plain_network_has_a_blind_spot_and_the_gated_one_has_none():
    H = W = 7
    earlier = np.arange(H * W).reshape(H, W)
    plain = reach(small(shape=(1, H, W), gated=False, layers=8, channels=8))[0, :, :, 0]
    gated = reach(small(shape=(1, H, W), gated=True, layers=8, channels=8))[0, :, :, 0]
    for i, j in np.ndindex(H, W):
        before = earlier < earlier[i, j]
        np.testing.assert_array_equal(gated[i, j], before)
        # 3x3 kernels climb one row to the right for each column: what lies further right is never seen.
        rows, columns = np.indices((H, W))
        blind = before & (columns - j > i - rows)
        np.testing.assert_array_equal(plain[i, j], before & ~blind)
    assert (plain != gated).any()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("classes", [0, 2])
def test_probabilities_of_all_binary_pictures_add_up_to_one(gated, classes):
    model = small(shape=(1, 3, 3), gated=gated, classes=classes)
    every = np.array(list(itertools.product((0, 1), repeat=9)), np.float32).reshape(-1, 1, 3, 3)
    for label in range(max(classes, 1)):
        labels = minigen.tensor(np.full(512, label)) if classes else None
        with minigen.no_grad():
            total = np.exp(model.log_prob(minigen.tensor(every), labels).numpy().astype(np.float64)).sum()
        assert abs(total - 1) < 1e-5


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("likelihood, shape, levels", [("bits", (3, 1, 2), 2), ("softmax", (1, 2, 2), 3),
                                                        ("softmax", (2, 1, 2), 3), ("logistic_mixture", (1, 2, 2), 4),
                                                        ("logistic_mixture", (3, 1, 2), 2)])  # fmt: skip
def test_samples_are_as_frequent_as_they_are_probable(gated, likelihood, shape, levels):
    model = small(shape=shape, likelihood=likelihood, levels=levels, gated=gated, layers=2, channels=12)
    with minigen.no_grad():
        for p in model.out.parameters():
            p.mul_(4.0)  # far from uniform
    every = np.array(list(itertools.product(range(levels), repeat=math.prod(shape))), np.float32)
    with minigen.no_grad():
        p = np.exp(model.log_prob(minigen.tensor(every.reshape(-1, *shape))).numpy().astype(np.float64))
    assert abs(p.sum() - 1) < 1e-5 and p.max() / p.min() > 3
    n = 20_000
    x = model.sample(n, generator=Generator(3)).numpy().reshape(n, -1)
    which = (x @ levels ** np.arange(x.shape[1])[::-1]).astype(int)
    seen, expected = np.bincount(which, minlength=len(p)), n * p
    kept = expected > 5
    chi2 = ((seen - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("gated", [False, True])
def test_drawing_row_by_row_uses_the_numbers_of_the_whole_network(gated):
    model = small(shape=(3, 4, 4), likelihood="bits", gated=gated, classes=2)
    x, labels = pictures(model, 3), minigen.tensor([0, 1, 1])
    with minigen.no_grad():
        whole = model.logits(x, labels).numpy()
        seen = model.pixel.scaled(x)
        for i in range(4):
            features = model.stack.of_row(seen, i, labels)
            for j in range(4):
                np.testing.assert_allclose(model._head(features(j)).numpy()[:, :, 0, 0], whole[:, :, i, j], atol=1e-5)


def test_complete_keeps_what_is_known_and_draws_from_the_conditional():
    model = small(shape=(1, 2, 2))
    with minigen.no_grad():
        for p in model.out.parameters():
            p.mul_(5.0)
    mask = np.array([[1, 1], [0, 0]], bool).reshape(1, 1, 2, 2)
    x = np.tile(np.array([1, 0, 1, 1], np.float32).reshape(1, 1, 2, 2), (20_000, 1, 1, 1))
    done = model.complete(minigen.tensor(x), mask, generator=Generator(0)).numpy()
    assert (done[:, 0, 0] == [1, 0]).all() and (x[:, 0, 1] == 1).all()  # the argument is left alone
    endings = np.array(list(itertools.product((0, 1), repeat=2)), np.float32)
    every = np.concatenate([np.tile([1, 0], (4, 1)), endings], 1).reshape(-1, 1, 2, 2).astype(np.float32)
    with minigen.no_grad():
        p = np.exp(model.log_prob(minigen.tensor(every)).numpy().astype(np.float64))
    p /= p.sum()
    share = np.array([(done[:, 0, 1] == ending).all(1).mean() for ending in endings])
    np.testing.assert_allclose(share, p, atol=0.015)
    holes = np.array([[0, 1], [1, 0]], bool).reshape(1, 1, 2, 2)
    mixed = model.complete(minigen.tensor(x[:9]), holes).numpy()
    assert (mixed[:, 0, 0, 1] == 0).all() and (mixed[:, 0, 1, 0] == 1).all()


@pytest.mark.parametrize("gated", [False, True])
def test_a_class_moves_the_distribution_and_can_be_learned(gated):
    g = Generator(0)
    labels = g.integers(0, 2, (200,))
    bits = g.bernoulli(0.1, (200, 1, 3, 3)) ^ labels[:, None, None, None].astype(bool)
    x, y = minigen.tensor(bits.astype(np.float32)), minigen.tensor(labels)
    model = small(shape=(1, 3, 3), classes=2, gated=gated, dropout=0.1).train()
    optimizer = minigen.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(x, y)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    entropy = 9 * -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))  # 2.93 nats
    with minigen.no_grad():
        right, wrong = -model.log_prob(x, y).numpy().mean(), -model.log_prob(x, 1 - y).numpy().mean()
    assert right < entropy + 0.6 and wrong > right + 5
    drawn = model.sample(100, minigen.tensor(np.repeat([0, 1], 50)), Generator(1)).numpy()
    assert drawn[:50].mean() < 0.25 and drawn[50:].mean() > 0.75


def test_the_vertical_stack_is_heard_from_the_start():
    # The usual start of a convolution would leave a quarter of the signal after each layer: 0.004 after the fourth.
    model = small(shape=(1, 8, 8), channels=24, layers=4, likelihood="bits")
    with minigen.no_grad():
        told = model.stack.vertical(model.pixel.scaled(pictures(model, 200)), None)
    spread = [down.numpy().std(0).mean() for down in told]
    assert all(0.1 < s < 3 for s in spread), spread


def test_masked_convolution_is_the_masked_kernel_of_the_paper():
    minigen.manual_seed(0)
    for mask, colours in (("A", 1), ("B", 1), ("A", 3), ("B", 3)):
        conv = MaskedConv2d(6, 9, 5, mask, colours)
        kernel = np.zeros((9, 6, 5, 5), np.float32)
        kernel[:, :, :2] = conv.above.weight.detach().numpy()
        left = conv.left.weight.detach().numpy() * (1 if conv.left.mask is None else conv.left.mask.numpy())
        kernel[:, :, 2, : left.shape[3]] = left[:, :, 0]
        x = minigen.randn(2, 6, 7, 6, generator=Generator(0))
        with minigen.no_grad():
            whole = minigen.nn.functional.conv2d(x, minigen.tensor(kernel), padding=2).numpy()
            whole += (conv.above.bias + conv.left.bias).numpy()[:, None, None]
            np.testing.assert_allclose(conv(x).numpy(), whole, atol=1e-5)
        if colours == 1:
            assert sum(p.numel() for p in conv.parameters() if p.ndim == 4) == 54 * (12 + (mask == "B"))
    np.testing.assert_array_equal(colour_of(12, 3, halves=2), [0, 0, 1, 1, 2, 2] * 2)


def test_samples_come_from_the_generator_and_leave_the_mode():
    model = small(dropout=0.5, likelihood="softmax").train()
    a, b = (model.sample(4, generator=Generator(7)).numpy() for _ in range(2))
    assert (a == b).all() and model.training and a.dtype == np.float32 and set(np.unique(a)) <= set(range(4))
    seen = []
    model.sample(2, watch=lambda i, j, x: seen.append((i, j)))
    assert seen == list(np.ndindex(5, 5))


def test_state_is_saved_and_masks_are_no_part_of_it(tmp_path):
    model, other = small(shape=(3, 4, 4), channels=6), small(1, shape=(3, 4, 4), channels=6)
    assert not any("mask" in name for name in model.state_dict())
    other.load_state_dict(model.state_dict())
    x = pictures(model, 2)
    np.testing.assert_array_equal(other.log_prob(x).detach().numpy(), model.log_prob(x).detach().numpy())
    model.save_pretrained(tmp_path / "net")
    again = PixelCNN.from_pretrained(tmp_path / "net")
    np.testing.assert_array_equal(again.log_prob(x).detach().numpy(), model.log_prob(x).detach().numpy())


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="likelihood is one of"):
        small(likelihood="gaussian")
    with pytest.raises(ArgumentError, match="3 colours"):
        small(shape=(3, 5, 5), channels=8)
    with pytest.raises(ArgumentError, match="odd"):
        small(first_kernel=4)
    with pytest.raises(ArgumentError, match="1 channel or 3"):
        small(shape=(2, 5, 5), likelihood="logistic_mixture")
    with pytest.raises(ArgumentError, match='"A" or "B"'):
        Left(1, 1, 3, "C")
    with pytest.raises(ArgumentError, match="sees nothing"):
        Left(1, 1, 1, "A")
    with pytest.raises(ArgumentError, match="no row above"):
        above(1, 1, 1)
    model = small()
    with pytest.raises(ShapeError, match=r"x is \(N, 1, 5, 5\)"):
        model(minigen.ones(2, 1, 4, 4))
    with pytest.raises(ArgumentError, match="no classes"):
        model(minigen.ones(1, 1, 5, 5), minigen.tensor([0]))
    with pytest.raises(ArgumentError, match="give labels"):
        small(classes=3)(minigen.ones(1, 1, 5, 5))
    with pytest.raises(ShapeError, match="mask broadcasts"):
        model.complete(minigen.ones(1, 1, 5, 5), np.ones((5, 5), bool))
