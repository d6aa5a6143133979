"""Optimisers, learning rate schedules and averages of weights, over flat arrays (flat.py).

optimizer = optim.AdamW(model.parameters(), lr=3e-4)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
...
optimizer.zero_grad(); loss.backward(); optimizer.step(); schedule.step()
"""

from . import lr_scheduler
from .adafactor import Adafactor
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .adaptive import Adadelta, Adagrad, RMSprop
from .ema import EMA
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD, Lion

__all__ = [
    "EMA",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
]
