"""Worlds with known truth: data whose density, entropy, modes and conditionals can be computed exactly.

    GaussianMixture       bumps in any number of dimensions: density, score, noised score, integrals, W1
    Rings                 blurred circles in the plane: the same, and the radius law
    Sprites               small pictures with known factors: log p, entropy, modes, captions, exact denoisers
    TemplateMixture       the mathematics under Sprites, for templates of your own
    MarkovText            a Markov chain of any order: entropy rate, next-symbol and masked conditionals
    HiddenMarkovText      a hidden Markov chain: the same
    GrammarText           stories by a probabilistic grammar: the same, a parser, and the entropy of a story
    AutoregressiveSeries  a linear recurrence with noise: density, autocovariance, the best forecasts and their errors

`world.py` says what all of them have in common, and `text_world.py` what the worlds of text have.
"""

from .autoregressive_series import AutoregressiveSeries
from .gaussian_mixture import GaussianMixture
from .grammar_text import GrammarText
from .hidden_markov_text import HiddenMarkovText
from .markov_text import MarkovText
from .rings import Rings
from .sprites import Sprites
from .templates import NoisedTemplates, TemplateMixture
from .text_world import TextWorld
from .world import Estimate, ModeCount, World

__all__ = [
    "AutoregressiveSeries",
    "Estimate",
    "GaussianMixture",
    "GrammarText",
    "HiddenMarkovText",
    "MarkovText",
    "ModeCount",
    "NoisedTemplates",
    "Rings",
    "Sprites",
    "TemplateMixture",
    "TextWorld",
    "World",
]
