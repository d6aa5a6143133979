"""Mixed precision: products in 16 bits, everything that needs its digits in float32 (Micikevicius et al. 2018).

    scaler = amp.GradScaler()                       # float16 only: bfloat16 has float32's range and needs none
    for batch in loader:
        optimizer.zero_grad()
        with amp.autocast("float16"):
            loss = model(batch)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

The weights stay in float32, and so do their gradients and the optimiser: a small step would vanish beside a weight of
16 bits. What computes in which type is one table: `policy.py`.
"""

from .autocast import autocast, is_autocast_enabled
from .grad_scaler import GradScaler
from .policy import POLICY

__all__ = ["POLICY", "GradScaler", "autocast", "is_autocast_enabled"]
