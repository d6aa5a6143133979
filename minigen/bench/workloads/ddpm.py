"""A DDPM U-Net on 1 x 32 x 32, batch 16: widths 32, 64, 64, a residual block a level, attention at 8 x 8."""

import numpy as np

from . import SEED, adam, normal, plain, training, weights_into

BATCH, SIDE, WIDTH, TIME, GROUPS = 16, 32, 32, 128, 8


def build(library, captured=plain):
    nn, F = library.nn, library.nn.functional

    class Residual(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.time = nn.Linear(TIME, outputs)
            self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

        def forward(self, x, t):
            h = self.conv1(F.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
            return self.conv2(F.silu(self.norm2(h))) + self.skip(x)

    class Attention(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.GroupNorm(GROUPS, width)
            self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

        def forward(self, x):
            n, c, h, w = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).permute(1, 0, 3, 2)
            mixed = F.scaled_dot_product_attention(q, k, v)
            return x + self.out(mixed.transpose(1, 2).reshape(n, c, h, w))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            w = WIDTH
            self.time1, self.time2 = nn.Linear(w, TIME), nn.Linear(TIME, TIME)
            self.stem = nn.Conv2d(1, w, 3, padding=1)
            self.down1, self.down2, self.down3 = Residual(w, w), Residual(w, 2 * w), Residual(2 * w, 2 * w)
            self.shrink1 = nn.Conv2d(w, w, 3, stride=2, padding=1)
            self.shrink2 = nn.Conv2d(2 * w, 2 * w, 3, stride=2, padding=1)
            self.attention, self.middle = Attention(2 * w), Residual(2 * w, 2 * w)
            self.up3, self.up2, self.up1 = Residual(4 * w, 2 * w), Residual(4 * w, w), Residual(2 * w, w)
            self.grow2 = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
            self.grow1 = nn.Conv2d(w, w, 3, padding=1)
            self.norm, self.head = nn.GroupNorm(GROUPS, w), nn.Conv2d(w, 1, 3, padding=1)

        def forward(self, x, t):
            angles = t[:, None] * library.exp(-9.2 * library.arange(WIDTH // 2) / (WIDTH // 2))
            t = self.time2(F.silu(self.time1(library.cat([angles.sin(), angles.cos()], 1))))
            stem = self.stem(x)
            wide = self.down1(stem, t)
            half = self.down2(self.shrink1(wide), t)
            low = self.middle(self.attention(self.down3(self.shrink2(half), t)), t)
            h = self.up3(library.cat([low, low], 1), t)
            h = self.up2(library.cat([self.grow2(F.interpolate(h, scale_factor=2)), half], 1), t)
            h = self.up1(library.cat([self.grow1(F.interpolate(h, scale_factor=2)), wide], 1), t)
            return self.head(F.silu(self.norm(h)))

    model = UNet()
    params = weights_into(library, model)
    optimiser = adam(library, model)
    x, noise = normal(library, BATCH, 1, SIDE, SIDE), normal(library, BATCH, 1, SIDE, SIDE, seed=SEED + 2)
    t = library.from_numpy(np.random.default_rng(SEED + 3).integers(0, 1000, BATCH).astype(np.float32))

    return training(optimiser, lambda: F.mse_loss(model(x, t), noise), captured), params
