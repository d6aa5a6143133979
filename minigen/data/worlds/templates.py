"""Binary images that are one of K templates with some pixels flipped: the mathematics under `Sprites`.

An image is drawn by picking template k with probability w_k and flipping each of its D pixels with probability e. So
p(x) = sum_k w_k e^d (1 - e)^(D - d) with d the number of pixels in which x and template k differ: a mixture, and with
all K distances in hand everything about it is exact.
"""

import math

import numpy as np

from ... import random
from ...errors import ArgumentError, DataError, expect
from ..arrays import as_numpy
from .world import Estimate, ModeCount, World, choose, entropy_of, logsumexp, mean_estimate, truth_generator

BLOCK = 1 << 22  # numbers in one slab of the images-by-templates table
WORK = 4e9  # multiplications that an entropy may cost: a second or two
IMPOSSIBLE = -1e4  # stands for log 0 where -inf would be multiplied by 0


class TemplateMixture(World):
    """Noisy copies of known binary images.

    templates   (K, *shape) of 0 and 1, all different
    weights     (K,) probabilities, equal if None
    flip        the probability that a pixel is turned over, in [0, 1/2)

    Samples are (n, *shape) float32 of 0 and 1; the hidden cause is the template's index. Questions about images that
    hold anything but 0 and 1 raise DataError.
    """

    def __init__(self, templates, weights=None, flip=0.01):
        templates = as_numpy(templates)
        expect(templates.ndim >= 2 and len(templates), "TemplateMixture: templates (K, *shape)", templates)
        expect(_is_binary(templates), "TemplateMixture: templates hold 0 and 1", templates, error=DataError)
        expect(0 <= flip < 0.5, "TemplateMixture: flip is a probability under 1/2", flip, error=ArgumentError)
        self.shape = templates.shape[1:]
        self.flip = float(flip)
        self.templates = templates.astype(np.uint8, copy=False)
        weights = np.ones(len(templates)) if weights is None else as_numpy(weights, np.float64)
        expect(
            weights.shape == (len(templates),) and (weights > 0).all(),
            "TemplateMixture: one positive weight a template",
            weights,
            error=ArgumentError,
        )
        self.weights = weights / weights.sum()

    @property
    def pixels(self):
        """D, the number of values in an image."""
        return math.prod(self.shape)

    # Samples and probabilities

    def sample_with_latents(self, n, generator=None):
        generator = generator or random.default_generator
        template = choose(self.weights, n, generator)
        return self._speckled(self.templates[template], generator), template

    def log_prob(self, x):
        rows, lead = self._rows(x, "log_prob")
        return np.concatenate([logsumexp(joint) for joint in self._joints(rows)]).reshape(lead)

    def posterior(self, x):
        """p(template | x), (..., K)."""
        rows, lead = self._rows(x, "posterior")
        shares = [np.exp(joint - logsumexp(joint)[:, None]) for joint in self._joints(rows)]
        return np.concatenate(shares).reshape(*lead, len(self.weights))

    def entropy(self, samples=None):
        """-E[log p], an Estimate, as H(template) + D h(flip) - E[H(template | x)]. Only the last term is sampled, and
        it is small, so the error is far below that of averaging -log p. `samples` is 20,000 where that takes less than
        a second."""
        n = samples or int(min(20_000, max(200, WORK / (self.pixels * len(self.weights)))))
        rows, _ = self._rows(self.sample(n, truth_generator()), "entropy")
        shares = (np.exp(joint - logsumexp(joint)[:, None]) for joint in self._joints(rows))
        ambiguity = mean_estimate(np.concatenate([entropy_of(share) for share in shares]))
        certain = entropy_of(self.weights) + self.pixels * _entropy_of_bit(self.flip)
        return Estimate(certain - ambiguity, ambiguity.error)

    def independent_entropy(self):
        """The loss, in nats an image, of the best model with independent pixels: the floor that a model must beat."""
        ink = self._ink(self.weights[None])
        return Estimate(_entropy_of_bit(self.flip + (1 - 2 * self.flip) * ink).sum())

    # Modes

    def modes(self):
        """The templates, (K, *shape) uint8."""
        return self.templates

    def nearest(self, x):
        """The nearest template's index, and the number of pixels in which it differs: two int64 arrays (...)."""
        rows, lead = self._rows(x, "nearest")
        found = [(d.argmin(1), d.min(1)) for d in self._distances(rows)]
        which, distance = (np.concatenate(part).reshape(lead) for part in zip(*found))
        return which, distance.astype(np.int64)

    def count_modes(self, x, within=None):
        """Which templates the images x reach, a ModeCount. An image counts for its nearest template if at most `within`
        pixels differ; if None, as many as flips explain: D flip + 4 sqrt(D flip (1 - flip))."""
        expected = self.pixels * self.flip
        limit = int(expected + 4 * math.sqrt(expected * (1 - self.flip))) if within is None else within
        which, distance = self.nearest(x)
        return ModeCount.of(which.reshape(-1), distance.reshape(-1) <= limit, self.weights)

    # What a damaged image tells about the whole one

    def posterior_mean(self, x_t, a, s):
        """E[x | a x + s n = x_t], (..., *shape): the best possible denoiser of Gaussian noise.

        For images scaled to -1..1, ask about x_t + a with 2 a: a (2 x - 1) + s n + a is 2 a x + s n. The answer is
        still the mean of x in 0..1.
        """
        return self.expected(*_gaussian(self._checked(x_t, "posterior_mean"), a, s))

    def unflipped(self, y, flip):
        """E[x | y], (..., *shape), where y is x with every pixel turned over with probability `flip` once more."""
        expect(0 <= flip <= 1, "unflipped: flip is a probability", flip, error=ArgumentError)
        rows, lead = self._rows(y, "unflipped")
        kept, turned = _log(1 - flip), _log(flip)
        mean = self.expected(np.where(rows == 0, kept, turned), np.where(rows == 1, kept, turned))
        return mean.reshape(*lead, *self.shape)

    def conditional(self, x, known):
        """P(pixel is 1 | the pixels of x where `known` is true), (..., *shape).

        With the pixels before i known this is what an autoregressive model should say of pixel i; with a hole unknown,
        what an inpainter should paint on average. Known pixels come back as they are.
        """
        x = self._checked(x, "conditional")
        known = np.broadcast_to(as_numpy(known, bool), x.shape)
        return self.expected(np.where(known & (x == 1), -np.inf, 0.0), np.where(known & (x == 0), -np.inf, 0.0))

    def expected(self, log_off, log_on):
        """E[x | y], in the shape of the arguments, for any damage y that acts on each pixel by itself, given as
        log p(y_i | x_i = 0) and log p(y_i | x_i = 1)."""
        means = []
        for off, on, joint in self._evidence(log_off, log_on):
            share = np.exp(joint - logsumexp(joint)[:, None])
            ink = self._ink(share)  # P(the template has ink here | y)
            means.append((1 - ink) * _pixel_is_one(self.flip, off, on) + ink * _pixel_is_one(1 - self.flip, off, on))
        return np.concatenate(means).reshape(np.shape(log_off))

    def noised(self, a, s):
        """The law of x_t = a x + s n with n ~ N(0, I): a NoisedTemplates, with its density and score."""
        return NoisedTemplates(self, a, s)

    # Pieces

    def _rows(self, x, name):
        """Binary images as (N, D) float32, and the dimensions before: (N, D), (...)."""
        x = self._checked(x, name)
        if not _is_binary(x):
            raise DataError(
                f"{type(self).__name__}.{name}: the pixels of this world are 0 and 1, and x holds others\n"
                f"  write (x > 0.5), or draw from the probabilities: (rand_like(x) < x)"
            )
        return x.reshape(-1, self.pixels).astype(np.float32), x.shape[: x.ndim - len(self.shape)]

    def _speckled(self, templates, generator):
        """The templates with pixels turned over, float32."""
        turned = generator.bernoulli(self.flip, templates.shape)
        return (templates ^ turned).astype(np.float32)

    def _slabs(self, count):
        """Slices of `count` rows, such that a table of rows by templates has at most BLOCK numbers."""
        size = max(1, BLOCK // len(self.weights))
        return [slice(i, i + size) for i in range(0, count, size)] or [slice(0, 0)]

    def _matrix(self, dtype):
        """The templates as (index of the first, (k, D) matrix), a slab at a time."""
        size = max(1, BLOCK // self.pixels)
        for j in range(0, len(self.templates), size):
            yield j, self.templates[j : j + size].reshape(-1, self.pixels).astype(dtype)

    def _distances(self, rows):
        """Slabs of (n, K): the number of pixels in which each image and template differ. Exact: float32 holds 2^24."""
        for part in self._slabs(len(rows)):
            x = rows[part]
            columns = [x.sum(1)[:, None] + t.sum(1) - 2 * (x @ t.T) for _, t in self._matrix(np.float32)]
            yield np.concatenate(columns, 1)

    def _joints(self, rows):
        """Slabs of (n, K): log w_k p(x | k)."""
        stays, turns = math.log1p(-self.flip), _log(self.flip)
        for d in self._distances(rows):
            d = d.astype(np.float64)
            with np.errstate(invalid="ignore"):  # 0 flips of probability 0: 0 * -inf
                flipped = np.where(d > 0, d * turns, 0.0)
            yield np.log(self.weights) + flipped + (self.pixels - d) * stays

    def _evidence(self, log_off, log_on):
        """Slabs of (off, on, joint): the two pixel log likelihoods (n, D), the larger of each pair brought to 0, and
        log w_k p(y | k) (n, K) less what was taken off."""
        log_off, log_on = (as_numpy(array, np.float64).reshape(-1, self.pixels) for array in (log_off, log_on))
        stays, turns = math.log1p(-self.flip), _log(self.flip)
        for part in self._slabs(len(log_off)):
            top = np.maximum(log_off[part], log_on[part])
            off, on = log_off[part] - top, log_on[part] - top
            if self.flip == 0:  # otherwise the flips keep everything below finite
                off, on = (np.where(np.isneginf(array), IMPOSSIBLE, array) for array in (off, on))
            blank = np.logaddexp(stays + off, turns + on)  # log p(y_i | the template is 0 here)
            inked = np.logaddexp(turns + off, stays + on)
            gain = inked - blank
            columns = [gain @ t.T for _, t in self._matrix(np.float64)]
            yield off, on, np.log(self.weights) + np.concatenate(columns, 1) + blank.sum(1)[:, None]

    def _ink(self, share):
        """(n, K) probabilities of templates -> (n, D) probabilities that the template has ink."""
        return sum(share[:, j : j + len(t)] @ t for j, t in self._matrix(np.float64))


class NoisedTemplates(World):
    """x_t = a x + s n, with x from a TemplateMixture and n ~ N(0, I): the world a diffusion model passes through.

    The hidden cause is the clean image x.
    """

    def __init__(self, clean, a, s):
        expect(s > 0, "noised: s, the strength of the noise, is positive", s, error=ArgumentError)
        self.clean, self.a, self.s = clean, a, s
        self.shape = clean.shape

    def sample_with_latents(self, n, generator=None):
        generator = generator or random.default_generator
        x = self.clean.sample(n, generator)
        return (self.a * x + self.s * generator.normal(x.shape)).astype(np.float32), x

    def log_prob(self, x):
        x_t = self._checked(x, "log_prob")
        log_off, log_on = _gaussian(x_t, self.a, self.s)
        taken_off = np.maximum(log_off, log_on).reshape(-1, self.clean.pixels).sum(1)
        found = [logsumexp(joint) for _, _, joint in self.clean._evidence(log_off, log_on)]
        return (np.concatenate(found) + taken_off).reshape(x_t.shape[: x_t.ndim - len(self.shape)])

    def score(self, x):
        """The gradient of log p at x_t, (..., *shape), by Tweedie's formula: (a E[x | x_t] - x_t) / s^2."""
        x_t = self._checked(x, "score")
        return (self.a * self.clean.posterior_mean(x_t, self.a, self.s) - x_t) / self.s**2

    def entropy(self, samples=2000):
        """An Estimate: -log p averaged over samples."""
        return mean_estimate(-self.log_prob(self.sample(samples, truth_generator())))


def _is_binary(x):
    return bool(((x == 0) | (x == 1)).all())


def _gaussian(x_t, a, s):
    """log N(x_t; 0, s^2) and log N(x_t; a, s^2)."""
    constant = -math.log(s) - 0.5 * math.log(2 * math.pi)
    return constant - 0.5 * (x_t / s) ** 2, constant - 0.5 * ((x_t - a) / s) ** 2


def _pixel_is_one(prior, log_off, log_on):
    """P(x_i = 1 | y_i) where P(x_i = 1) is `prior`."""
    one, zero = _log(prior) + log_on, _log(1 - prior) + log_off
    return np.exp(one - np.logaddexp(one, zero))


def _log(probability):
    return math.log(probability) if probability > 0 else -math.inf


def _entropy_of_bit(p):
    p = np.asarray(p, dtype=np.float64)
    return entropy_of(np.stack([p, 1 - p], -1))
