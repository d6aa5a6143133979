"""The U-Net of Ho et al. 2020 for 3 x 32 x 32, 35.7 million parameters, batch 128: widths 128, 256, 256, 256.

Two residual blocks a level, attention at 16 x 16 and in the middle. Without dropout, so that losses can be compared.
"""

import math

import numpy as np

from . import SEED, activated
from .setting import training

STEPS = 1000


def on_gpu(setting, batch=128, width=128, multiples=(1, 2, 2, 2), blocks=2, side=32, attends=(16,), groups=32):
    library, nn, F = setting.library, setting.library.nn, setting.library.nn.functional
    time_width = 4 * width

    class Residual(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, 1e-6), nn.GroupNorm(groups, outputs, 1e-6)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.time = nn.Linear(time_width, outputs)
            self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

        def forward(self, x, t):
            h = self.conv1(activated(library, self.norm1, x, "silu")) + self.time(F.silu(t))[:, :, None, None]
            return self.skip(x) + self.conv2(activated(library, self.norm2, h, "silu"))

    class Attention(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.GroupNorm(groups, width, 1e-6)
            self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

        def forward(self, x):
            n, c, h, w = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, 3, 1, c, h * w).permute(1, 0, 2, 4, 3)
            mixed = F.scaled_dot_product_attention(q, k, v)
            return x + self.out(mixed.reshape(n, h * w, c).transpose(1, 2).reshape(n, c, h, w))

    class Level(nn.Module):
        """A residual block, with attention if asked for."""

        def __init__(self, inputs, outputs, attend):
            super().__init__()
            self.residual = Residual(inputs, outputs)
            self.attention = Attention(outputs) if attend else nn.Identity()

        def forward(self, x, t):
            return self.attention(self.residual(x, t))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.time1, self.time2 = nn.Linear(width, time_width), nn.Linear(time_width, time_width)
            self.stem = nn.Conv2d(3, width, 3, padding=1)
            self.down, self.up = nn.ModuleList(), nn.ModuleList()
            kept, now, size, last = [width], width, side, len(multiples) - 1
            for i, multiple in enumerate(multiples):
                for _ in range(blocks):
                    self.down.append(Level(now, width * multiple, size in attends))
                    now = width * multiple
                    kept.append(now)
                if i < last:
                    self.down.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                    kept.append(now)
                    size //= 2
            self.middle1, self.middle2 = Level(now, now, True), Residual(now, now)
            for i, multiple in reversed(list(enumerate(multiples))):
                for _ in range(blocks + 1):
                    self.up.append(Level(now + kept.pop(), width * multiple, size in attends))
                    now = width * multiple
                if i > 0:
                    self.up.append(nn.Conv2d(now, now, 3, padding=1))
                    size *= 2
            self.norm, self.head = nn.GroupNorm(groups, now, 1e-6), nn.Conv2d(now, 3, 3, padding=1)

        def forward(self, x, angles):
            t = self.time2(activated(library, self.time1, library.cat([angles.sin(), angles.cos()], 1), "silu"))
            h = self.stem(x)
            kept = [h]
            for block in self.down:
                h = block(h, t) if isinstance(block, Level) else block(h)
                kept.append(h)
            h = self.middle2(self.middle1(h, t), t)
            for block in self.up:
                if isinstance(block, Level):
                    h = block(library.cat([h, kept.pop()], 1), t)
                else:
                    h = block(F.interpolate(h, scale_factor=2))
            return self.head(activated(library, self.norm, h, "silu"))

    model = setting.network(UNet())
    pictures = setting.put(np.random.default_rng(SEED + 1).standard_normal((batch, 3, side, side), dtype=np.float32))
    half = width // 2
    rates = setting.put(np.exp(-math.log(10000) * np.arange(half) / (half - 1)).astype(np.float32))
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, STEPS))
    signal, noise_level = (setting.put(np.sqrt(x).astype(np.float32)) for x in (kept, 1 - kept))

    def loss():
        t, noise = setting.integers(STEPS, batch), setting.normal(batch, 3, side, side)
        mixed = signal[t][:, None, None, None] * pictures + noise_level[t][:, None, None, None] * noise
        return F.mse_loss(model(mixed, t[:, None].float() * rates).float(), noise)

    return training(setting, setting.adam(model, 2e-4), loss)
