"""Text written by a hidden Markov chain: the next symbol depends on everything before, and is still known exactly.

    world = HiddenMarkovText.random(states=12, symbols=16, seed=0)
    x = world.sample(64, generator)                 # (64, length) int64
    world.conditionals(x)                           # p(x_t | x_before t), (64, length, 16)
    world.masked_conditionals(x, mask)              # p(x_t | what is not masked)

A state z_t moves by the transition table A and writes x_t by the emission table B. Sums over all paths of states are
done by forward-backward (Rabiner 1989), scaled at every step so that nothing underflows.
"""

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ..arrays import as_numpy
from .text_world import TextWorld, named_symbols, probability_rows, random_rows
from .world import Estimate, entropy_of, mean_estimate, truth_generator


class HiddenMarkovText(TextWorld):
    """Symbols emitted by a Markov chain that is not seen.

    transition  (S, S), row z is p(z_(t+1) | z_t = z)
    emission    (S, V), row z is p(x_t | z_t = z)
    start       (S,) p(z_0); the stationary law if None, which makes every stretch of text alike
    length      symbols in a text, where none is asked for
    symbols     V letters to write them with

    The hidden causes are the states, (n, length) int64. Raises ArgumentError for rows that are no probabilities.
    """

    def __init__(self, transition, emission, start=None, length=64, symbols=None):
        self.transition = probability_rows(transition, "HiddenMarkovText: transition")
        self.emission = probability_rows(emission, "HiddenMarkovText: emission")
        states = len(self.transition)
        fits = self.transition.shape == (states, states) and self.emission.ndim == 2 and len(self.emission) == states
        expect(fits, "HiddenMarkovText: transition (S, S), emission (S, V)", self.transition, self.emission)
        self.stationary = stationary_law(self.transition) if start is None else None
        self.start = self.stationary if start is None else probability_rows(start, "HiddenMarkovText: start")
        expect(self.start.shape == (states,), "HiddenMarkovText: start (S,)", self.start, self.transition)
        super().__init__(named_symbols(symbols, self.emission.shape[1]), length)

    @classmethod
    def random(cls, states=12, symbols=16, contrast=5.0, seed=0, length=64):
        """Random tables; the larger `contrast`, the fewer choices a state really has, and the lower the entropy.

        The transitions are balanced so that every state is visited equally often: a random table would now and then
        have a state that the chain hardly leaves, and its text would be dull.
        """
        generator = random.Generator(seed)
        transition = random_rows(generator, states, states, contrast)
        for _ in range(500):  # Sinkhorn (1964): scale columns and rows in turn until both add up to 1
            transition = transition / transition.sum(0)
            transition = transition / transition.sum(1, keepdims=True)
        return cls(transition, random_rows(generator, states, symbols, contrast), length=length)

    def sample_with_latents(self, n, generator=None, length=None):
        """(n, length) symbols and (n, length) states, int64."""
        length = self.length if length is None else length
        u = (generator or random.default_generator).uniform((length, 2, n), dtype=np.float64)
        moves, writes = self.transition.cumsum(1), self.emission.cumsum(1)
        x, z = np.zeros((2, n, length), np.int64)
        for t in range(length):
            z[:, t] = _pick(moves[z[:, t - 1]] if t else self.start.cumsum()[None], u[t, 0])
            x[:, t] = _pick(writes[z[:, t]], u[t, 1])
        return x, z

    def conditionals(self, x):
        """p(x_t = v | x_0 ... x_(t-1)), (..., length) -> (..., length, V). NaN after an impossible symbol."""
        x = self._symbols(x, "conditionals")
        return self._filter(self._evidence(x), self.start) @ self.emission

    def masked_conditionals(self, x, mask):
        """p(x_t = v | every symbol that is not masked, x_t itself left out), (..., length) -> (..., length, V).

        `mask` (..., length) is true where the symbol is hidden; what x holds there is not looked at. At masked places
        this is what a masked language model should say; at the others, what it should say if they were masked as well.
        """
        before, after, _ = self._forward_backward(x, mask, "masked_conditionals")
        joint = (before * after) @ self.emission
        return joint / joint.sum(-1, keepdims=True)

    def posterior(self, x, mask=None):
        """p(z_t | the whole text), (..., length) -> (..., length, S); masked symbols count as not seen."""
        before, after, evidence = self._forward_backward(x, mask, "posterior")
        joint = before * after * evidence
        return joint / joint.sum(-1, keepdims=True)

    def entropy_rate(self):
        """Nats a symbol, an Estimate: midway between `entropy_rate_bounds`; `error` covers both bounds and sampling."""
        lower, upper = self.entropy_rate_bounds()
        return Estimate((lower + upper) / 2, upper.error + (upper - lower) / 2)

    def entropy_rate_bounds(self, depth=64, samples=500, length=320):
        """Below and above the entropy rate, two Estimates (Cover & Thomas 2006, theorem 4.5.1):

            H(x_t | x_0 ... x_(t-1), z_0)  <=  rate  <=  H(x_t | x_0 ... x_(t-1))

        for every t, ever closer. Averaged over the places t from `depth` to `length` of the same sampled texts.
        """
        settled = HiddenMarkovText(self.transition, self.emission, symbols=self.symbols)
        x, z = settled.sample_with_latents(samples, truth_generator(), length)
        evidence, known_start = self._evidence(x), np.eye(len(self.transition))[z[:, 0]]
        bounds = []
        for start in (known_start, settled.start):
            ahead = self._filter(evidence, start) @ self.emission
            bounds.append(mean_estimate(entropy_of(ahead[:, depth:]).mean(-1)))
        return tuple(bounds)

    # Forward and backward

    def _evidence(self, x, mask=None):
        """p(x_t | z_t = z) for every state, (..., length, S); 1 where masked."""
        evidence = np.moveaxis(self.emission[:, x], 0, -1)
        return evidence if mask is None else np.where(mask[..., None], 1.0, evidence)

    def _filter(self, evidence, start):
        """p(z_t | the evidence before t), (..., length, S)."""
        ahead = np.empty_like(evidence)
        now = np.broadcast_to(start, evidence.shape[:-2] + start.shape[-1:])
        with np.errstate(invalid="ignore"):  # 0 / 0 after an impossible symbol
            for t in range(evidence.shape[-2]):
                ahead[..., t, :] = now
                seen = now * evidence[..., t, :]
                now = (seen / seen.sum(-1, keepdims=True)) @ self.transition
        return ahead

    def _forward_backward(self, x, mask, name):
        """p(z_t | evidence before t), p(evidence after t | z_t) up to a factor, and the evidence: (..., length, S)."""
        x = as_numpy(x)
        mask = None if mask is None else np.broadcast_to(as_numpy(mask, bool), x.shape)
        if mask is not None:
            x = np.where(mask, 0, x)
        evidence = self._evidence(self._symbols(x, name), mask)
        after = np.ones_like(evidence)
        with np.errstate(invalid="ignore"):
            for t in range(evidence.shape[-2] - 1, 0, -1):
                back = (evidence[..., t, :] * after[..., t, :]) @ self.transition.T
                after[..., t - 1, :] = back / back.sum(-1, keepdims=True)
        return self._filter(evidence, self.start), after, evidence


def stationary_law(transition):
    """The distribution that a step of the chain leaves as it is. Raises ArgumentError if there are several."""
    states = len(transition)
    stays = np.vstack([transition.T - np.eye(states), np.ones(states)])  # (A^T - I) law = 0, and it adds up to 1
    law, _, rank, _ = np.linalg.lstsq(stays, np.r_[np.zeros(states), 1.0], rcond=None)
    rule = "the chain falls into parts that never meet, so where it settles depends on where it starts"
    expect(rank == states, rule, transition, error=ArgumentError, hint="give start=")
    law = np.maximum(law, 0.0)
    return law / law.sum()


def _pick(cumulative, u):
    """For each row of cumulative probabilities, the index that u in [0, 1) falls on."""
    return np.minimum((u[:, None] >= cumulative / cumulative[:, -1:]).sum(1), cumulative.shape[1] - 1)
