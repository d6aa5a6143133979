"""A VAE of 784-400-(20, 20)-400-784, batch 128: binary cross-entropy plus KL, in nats an image."""

import numpy as np

from . import SEED, activated, adam, plain, training, weights_into

BATCH, PIXELS, HIDDEN, LATENT = 128, 784, 400, 20


def network(library):
    nn, F = library.nn, library.nn.functional

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(PIXELS, HIDDEN)
            self.mean = nn.Linear(HIDDEN, LATENT)
            self.log_variance = nn.Linear(HIDDEN, LATENT)
            self.decoder = nn.Linear(LATENT, HIDDEN)
            self.pixels = nn.Linear(HIDDEN, PIXELS)

        def forward(self, x, noise):
            h = activated(library, self.encoder, x, "relu")
            mean, log_variance = self.mean(h), self.log_variance(h)
            noise = library.randn_like(mean) if noise is None else noise
            z = mean + (0.5 * log_variance).exp() * noise
            logits = self.pixels(activated(library, self.decoder, z, "relu"))
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = -0.5 * (1 + log_variance - mean * mean - log_variance.exp()).sum()
            return (reconstruction + kl) / x.shape[0]

    return VAE()


def build(library, captured=plain):
    model = network(library)
    params = weights_into(library, model)
    optimiser = adam(library, model)
    random = np.random.default_rng(SEED + 1)
    x = library.from_numpy(random.random((BATCH, PIXELS)).astype(np.float32))
    noises = [library.from_numpy(random.standard_normal((BATCH, LATENT)).astype(np.float32)) for _ in range(20)]

    return training(optimiser, lambda noise=None: model(x, noise), captured, noises), params


def on_gpu(setting):
    from .setting import training

    model = setting.network(network(setting.library))
    x = setting.put(np.random.default_rng(SEED + 1).random((BATCH, PIXELS)).astype(np.float32))
    return training(setting, setting.adam(model), lambda: model(x, setting.normal(BATCH, LATENT)))
