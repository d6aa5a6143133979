"""Layers, losses and what trains them. A module is a function with parameters: see module.py, then linear.py.

module.py containers.py                       Module, and modules that hold others
linear.py conv.py embedding.py                layers with weights
norm.py dropout.py activation.py              what stands between them
pooling.py padding.py resampling.py           shapes of pictures
recurrent.py attention.py transformer.py      sequences
loss.py distance.py                           what is minimised
init.py utils/                                first values; clipping, spectral and weight norm
functional.py                                 the same as functions
summary.py                                    a table of shapes, parameters and FLOPs
"""

from ..tensor import Parameter
from . import functional, init, utils
from .activation import *  # noqa: F403
from .attention import MultiheadAttention
from .containers import *  # noqa: F403
from .conv import *  # noqa: F403
from .distance import CosineSimilarity, PairwiseDistance
from .dropout import *  # noqa: F403
from .embedding import Embedding
from .linear import Bilinear, Linear
from .loss import *  # noqa: F403
from .module import Buffer, Module
from .norm import *  # noqa: F403
from .padding import *  # noqa: F403
from .pooling import *  # noqa: F403
from .recurrent import *  # noqa: F403
from .resampling import *  # noqa: F403
from .transformer import *  # noqa: F403
