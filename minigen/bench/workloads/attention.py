"""Causal attention alone, forward and backward: batch 8, 12 heads, 1024 places, width 64.

PyTorch's side is held to its FlashAttention (Dao et al. 2022) on a GPU. There is no loss: the norm of the result
stands for the first, that of the three gradients for the last.
"""

import contextlib

import numpy as np

from . import SEED


def on_gpu(setting, batch=8, heads=12, places=1024, width=64):
    F, narrow = setting.library.nn.functional, setting.precision == "bfloat16"
    draw = np.random.default_rng(SEED + 1)
    made = [setting.put(draw.standard_normal((batch, heads, places, width), dtype=np.float32)) for _ in range(4)]
    q, k, v, g = (x.to(setting.library.bfloat16) if narrow else x for x in made)
    for x in (q, k, v):
        x.requires_grad_(True)

    def only_flash():
        if not setting.is_torch or setting.device == "cpu":
            return contextlib.nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.FLASH_ATTENTION)

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def step():
        with only_flash():
            y = attend(q, k, v)
            y.backward(g)
        q.grad = k.grad = v.grad = None
        return y.detach()

    def losses():
        y = attend(q, k, v)
        y.backward(g)
        found = [(y.float() ** 2).sum().item() ** 0.5]
        found.append(sum((x.grad.float() ** 2).sum().item() for x in (q, k, v)) ** 0.5)
        q.grad = k.grad = v.grad = None
        return found

    step.losses = losses
    return step
