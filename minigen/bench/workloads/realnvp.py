"""RealNVP in two dimensions: 8 couplings, each with a network of 1-64-64-2 for scale and shift; batch 256."""

from . import adam, normal, plain, training, weights_into

BATCH, HIDDEN, COUPLINGS = 256, 64, 8


def build(library, captured=plain):
    nn = library.nn

    class RealNVP(nn.Module):
        def __init__(self):
            super().__init__()
            self.couplings = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
                )
                for _ in range(COUPLINGS)
            )  # fmt: skip

        def forward(self, x):
            a, b = x[:, :1], x[:, 1:]
            log_determinant = 0
            for network in self.couplings:
                out = network(a)
                scale = library.tanh(out[:, :1])
                b = b * library.exp(scale) + out[:, 1:]
                log_determinant = log_determinant + scale.sum(1)
                a, b = b, a
            return (0.5 * (a * a + b * b).sum(1) - log_determinant).mean()

    model = RealNVP()
    params = weights_into(library, model)
    optimiser = adam(library, model)
    x = normal(library, BATCH, 2)

    return training(optimiser, lambda: model(x), captured), params
