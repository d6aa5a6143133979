"""What the two players of a GAN minimise, given the discriminator's scores: numbers before any sigmoid.

The game of Goodfellow et al. (2014, arXiv:1406.2661, eq. 1) is min over G, max over D of

    E[log D(x)] + E[log(1 - D(G(z)))],        D = sigmoid(score)

For a fixed generator the best discriminator is D* = p / (p + q), so its score is log p - log q, and the game's value
is 2 JS(p, q) - 2 log 2. Since log(1 - sigmoid(s)) = -softplus(s), nothing here takes the logarithm of a small number.

    "minimax"          that game itself. Where D is sure that a sample is false, G's slope is 0: it saturates
    "non-saturating"   G minimises -E[log D(G(z))] in its place: the same fixed point, steep where D is sure (sec. 3)
    "hinge"            D is content with scores beyond +-1; G lowers -E[score] (Lim & Ye 2017, arXiv:1705.02894)
    "wasserstein"      a difference of means; D must be kept Lipschitz by other means (Arjovsky et al. 2017)
    "least-squares"    half the squared distance to 1 for real and 0 for false (Mao et al. 2017, arXiv:1611.04076)
"""

from ...errors import ArgumentError, expect
from ...ops.activations import relu, softplus

# By name: (the discriminator's loss from real and false scores, the generator's from those of its own samples).
LOSSES = {
    "minimax": (
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda fake: -softplus(fake).mean(),
    ),
    "non-saturating": (
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda fake: softplus(-fake).mean(),
    ),
    "hinge": (
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda fake: -fake.mean(),
    ),
    "wasserstein": (
        lambda real, fake: fake.mean() - real.mean(),
        lambda fake: -fake.mean(),
    ),
    "least-squares": (
        lambda real, fake: 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(),
        lambda fake: 0.5 * ((fake - 1) ** 2).mean(),
    ),
}


def discriminator_loss(real, fake, kind="non-saturating"):
    """What the discriminator minimises, a tensor of one number, from its scores of real and of false samples.

    The scores may have any shape. Raises ArgumentError for a `kind` that is not in LOSSES.
    """
    return _known(kind)[0](real, fake)


def generator_loss(fake, kind="non-saturating"):
    """What the generator minimises, a tensor of one number, from the discriminator's scores of its samples."""
    return _known(kind)[1](fake)


def _known(kind):
    expect(kind in LOSSES, f"GAN losses: kind is one of {', '.join(LOSSES)}", kind, error=ArgumentError)
    return LOSSES[kind]
