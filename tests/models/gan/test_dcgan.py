"""DCGAN: its published sizes, its labels, and its training steps."""

import math

import numpy as np
import pytest

import minigen
from minigen import nn
from minigen.errors import ArgumentError, ShapeError
from minigen.models.gan.dcgan import CONDITIONS, DCGAN, DCGANConfig
from minigen.models.gan.training import fit_gan
from minigen.random import Generator


def small(**sizes):
    minigen.manual_seed(0)
    return DCGAN(**{"shape": (1, 8, 8), "latent": 4, "width": 4, **sizes})


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_networks():
    """As the authors' Torch version and PyTorch's example of it print them, for 64x64 pictures."""
    model = DCGAN()
    assert (count(model.generator), count(model.discriminator)) == (3_576_704, 2_765_568)


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_shapes(side):
    model = DCGAN(shape=(3, side, side), latent=5, width=2)
    x = model.sample(3, generator=Generator(0))
    assert x.shape == (3, 3, side, side) and x.dtype == minigen.float32 and not x.requires_grad
    assert float(x.abs().max().item()) <= 1
    assert model.discriminator(x).shape == (3,)
    between = [tuple(p.shape[-2:]) for p in model.generator.parameters() if p.ndim == 4]
    assert set(between) == {(4, 4)} and len(between) == int(math.log2(side)) - 1


def test_weights_and_norms_begin_as_published():
    model = DCGAN(shape=(3, 32, 32), width=32)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert abs(module.weight.detach().numpy().std() - 0.02) < 0.002
        if isinstance(module, nn.BatchNorm2d):
            assert abs(module.weight.detach().numpy().mean() - 1) < 0.01 and not module.bias.detach().numpy().any()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.generator.layers) == 3
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.discriminator.layers) == 2  # none in the first layer
    assert all(m.negative_slope == 0.2 for m in model.discriminator.layers if isinstance(m, nn.LeakyReLU))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in small(batch_norm=False).modules())


def test_samples_are_settled_by_the_seed_and_do_not_depend_on_their_neighbours():
    model = small()
    model.settle(5, generator=Generator(9))
    one, again = (model.sample(6, generator=Generator(1)).numpy() for _ in range(2))
    assert (one == again).all()
    assert not np.allclose(one[0], one[1])
    model.eval()
    with minigen.no_grad():
        z = minigen.randn(6, 4, generator=Generator(1))
        np.testing.assert_allclose(model.generator(z[:1]).numpy(), one[:1], atol=1e-6)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_both_networks_see_the_label(condition):
    model = small(shape=(1, 16, 16), classes=3, condition=condition).eval()
    g = Generator(0)
    z, x = minigen.randn(2, 4, generator=g), minigen.randn(2, 1, 16, 16, generator=g)
    labels = [minigen.tensor(np.array(pair)) for pair in ((0, 1), (2, 1))]  # the first changes, the second does not
    drawn = [model.generator(z, y).detach().numpy() for y in labels]
    assert not np.allclose(drawn[0][0], drawn[1][0], atol=1e-7) and (drawn[0][1] == drawn[1][1]).all()
    if condition == "auxiliary":  # this one is not told: it has to name the label, in its loss
        score, names = model.discriminator.judge(x)
        assert score.shape == (2,) and names.shape == (2, 3)
        values = [model.discriminator_loss(x, x, y).item() for y in labels]
    else:
        values = [model.discriminator(x, y).detach().numpy() for y in labels]
        assert values[0][1] == values[1][1]
        values = [v[0] for v in values]
    assert values[0] != values[1]


def test_the_projection_is_an_inner_product_with_the_summed_features():
    model = small(shape=(1, 16, 16), classes=3, condition="projection").eval()
    d, x = model.discriminator, minigen.randn(2, 1, 16, 16, generator=Generator(0))
    scores = [d(x, minigen.tensor(np.full(2, y))).detach().numpy() for y in (0, 1)]
    features = d.layers(x).sum((2, 3)).detach().numpy()
    between = (d.embed.weight[0] - d.embed.weight[1]).detach().numpy()
    np.testing.assert_allclose(scores[0] - scores[1], features @ between, rtol=1e-4, atol=1e-6)


def test_auxiliary_losses_add_the_cross_entropies_of_the_names():
    model = small(classes=3, condition="auxiliary").eval()
    x = minigen.randn(4, 1, 8, 8, generator=Generator(0))
    y = minigen.tensor(np.array([0, 1, 2, 1]))
    score, names = model.discriminator.judge(x)
    name_loss = nn.functional.cross_entropy(names, y).item()
    sp = lambda s: np.logaddexp(0, s).mean()
    s = score.detach().numpy()
    assert model.discriminator_loss(x, x, y).item() == pytest.approx(sp(-s) + sp(s) + 2 * name_loss, rel=1e-5)
    assert model.generator_loss(x, y).item() == pytest.approx(sp(-s) + name_loss, rel=1e-5)
    model.config.name_fakes = False
    assert model.discriminator_loss(x, x, y).item() == pytest.approx(sp(-s) + sp(s) + name_loss, rel=1e-5)


def test_noise_falls_on_what_the_discriminator_sees_while_it_trains():
    model = small(noise=0.5)
    x = minigen.zeros(3, 1, 8, 8)
    losses = [model.discriminator_loss(x, x, None, Generator(i)).item() for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_a_step_moves_one_network_at_a_time_and_leaves_the_other():
    model = small()
    x = minigen.rand(8, 1, 8, 8, generator=Generator(0))
    fake = model.generate(8, generator=Generator(1))
    model.discriminator_loss(x, fake.detach()).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())
    run = fit_gan(model, lambda: x, steps=1, progress=False, generator=Generator(2))
    assert all(p.requires_grad for p in model.parameters()) and not model.training
    assert set(run.history) == {"loss", "discriminator"}


def test_it_learns_a_world_of_two_pictures():
    g = Generator(0)
    pictures = np.ones((2, 1, 8, 8), np.float32)
    pictures[0, :, :4], pictures[1, :, 4:] = -1, -1
    model = small(width=8, noise=0.5)
    batch = lambda: minigen.tensor(pictures[g.integers(0, 2, (32,))])
    fit_gan(model, batch, steps=300, lr=3e-3, ema=0.97, progress=False, generator=g)
    x = model.sample(200, generator=g).numpy()
    wrong = ((x[:, None] > 0) != (pictures > 0)).mean((2, 3, 4))  # share of pixels, (200, 2)
    assert wrong.min(1).mean() < 0.12  # 0.02 to 0.07 with three seeds; grey pictures have 0.5
    assert 0.25 < (wrong.argmin(1) == 0).mean() < 0.75


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    def batch(g):
        x = g.normal((8, 1, 8, 8))
        return minigen.tensor(np.tanh(x)), minigen.tensor(g.integers(0, 3, (8,)))

    def train(steps, folder, resume):
        model, g = small(classes=3, noise=0.1), Generator(0)
        run = fit_gan(model, lambda: batch(g), steps=steps, ema=0.9, every=3, checkpoints=folder, resume=resume,
                      generator=g, progress=False)  # fmt: skip
        return model, run

    whole, run = train(6, tmp_path / "a", False)
    train(3, tmp_path / "b", False)
    resumed, again = train(6, tmp_path / "b", True)
    assert list(run.losses) == list(again.losses)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()):
        assert (a.numpy() == b.numpy()).all()


def test_settling_gives_plain_means_of_the_batches():
    model = small()
    norm = next(m for m in model.generator.modules() if isinstance(m, nn.BatchNorm2d))
    model.settle(3, 10, Generator(4))
    g, means = Generator(4), []
    with minigen.no_grad():
        for _ in range(3):
            z = minigen.randn(10, 4, generator=g).reshape(10, 4, 1, 1)
            means.append(model.generator.layers[0](z).mean((0, 2, 3)).numpy())
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean(means, 0), atol=1e-6)
    assert norm.momentum == 0.1 and model.training


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="side"):
        DCGANConfig(shape=(1, 28, 28))
    with pytest.raises(ArgumentError, match="condition"):
        DCGANConfig(classes=3, condition="film")
    with pytest.raises(ArgumentError, match="loss"):
        DCGANConfig(loss="bce")
    with pytest.raises(ArgumentError, match="classes"):
        DCGANConfig(classes=1)
    with pytest.raises(ShapeError, match=r"z is \(N, 4\)"):
        small().generator(minigen.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"x is \(N, 1, 8, 8\)"):
        small().discriminator(minigen.zeros(2, 1, 16, 16))
    with pytest.raises(ShapeError, match="labels are"):
        small(classes=3).generator(minigen.zeros(2, 4))
    with pytest.raises(ArgumentError, match="takes no labels"):
        small().sample(2, labels=1)
    with pytest.raises(ArgumentError, match="d_steps"):
        fit_gan(small(), lambda: minigen.zeros(2, 1, 8, 8), steps=1, d_steps=0)
    with pytest.raises(ArgumentError, match="two losses"):
        small()(minigen.zeros(2, 1, 8, 8))
