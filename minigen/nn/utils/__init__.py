"""Tools for parameters and gradients.

clip_grad.py           gradient clipping
convert.py             all parameters as one vector
parametrizations.py    spectral and weight norm
parametrize.py         weights computed from others
weight_hooks.py        the older forms of both norms
"""

from . import parametrizations, parametrize
from .clip_grad import clip_grad_norm_, clip_grad_value_, get_total_norm
from .convert import parameters_to_vector, vector_to_parameters
from .weight_hooks import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
