"""DCGAN beside the same layers in PyTorch: the published networks, their outputs, and the slopes of both losses."""

import itertools

import numpy as np
import pytest

import minigen
from minigen.models.gan.dcgan import DCGAN
from minigen.random import Generator

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def published(channels=3, latent=100, width=64):
    """The networks for 64x64 as they stand in the paper's Torch version: generator, discriminator without sigmoid."""
    nn = torch.nn
    g, sizes = [], [latent, 8 * width, 4 * width, 2 * width, width]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        g += [nn.ConvTranspose2d(a, b, 4, *((2, 1) if i else (1, 0)), bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    g += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    d, sizes = [], [channels, width, 2 * width, 4 * width, 8 * width]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        d += [nn.Conv2d(a, b, 4, 2, 1, bias=False), *([nn.BatchNorm2d(b)] if i else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*g), nn.Sequential(*d, nn.Conv2d(8 * width, 1, 4, bias=False), nn.Flatten(0))


def test_one_step_of_both_networks():
    minigen.manual_seed(0)
    ours = DCGAN(latent=10, width=8)
    theirs = published(latent=10, width=8)
    for mine, other in zip((ours.generator, ours.discriminator), theirs):
        state = [torch.from_numpy(np.array(v.numpy())) for v in mine.state_dict().values()]
        other.load_state_dict(dict(zip(other.state_dict(), state)))
    g, d = theirs
    z, x = Generator(1).normal((6, 10)), np.tanh(Generator(2).normal((6, 3, 64, 64)))

    fake = ours.generator(minigen.tensor(z))
    their_fake = g(torch.from_numpy(z)[:, :, None, None])
    np.testing.assert_allclose(fake.detach().numpy(), their_fake.detach().numpy(), atol=1e-5)

    binary = torch.nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones(6), torch.zeros(6)
    d_loss = ours.discriminator_loss(minigen.tensor(x), fake.detach())
    their_d_loss = binary(d(torch.from_numpy(x)), one) + binary(d(their_fake.detach()), zero)
    g_loss, their_g_loss = ours.generator_loss(fake), binary(d(their_fake), one)
    for loss, other in [(d_loss, their_d_loss), (g_loss, their_g_loss)]:
        assert loss.item() == pytest.approx(other.item(), rel=1e-5)
        loss.backward()
        other.backward()
    for mine, other in zip((ours.generator, ours.discriminator), theirs):
        for p, q in zip(mine.parameters(), other.parameters()):
            right = q.grad.numpy()
            np.testing.assert_allclose(p.grad.numpy(), right, atol=2e-4 * np.abs(right).max())
    for p, q in zip(ours.buffers(), [b for net in theirs for b in net.buffers()]):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-6)
