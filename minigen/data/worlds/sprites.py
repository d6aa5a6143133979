"""Sprites: small pictures of one shape, made from factors that are known.

    world = Sprites()                               # 16x16: 3 shapes, 3 sizes, 8x8 places, 1% of pixels flipped
    x, factors = world.sample_with_latents(64, generator)      # (64, 1, 16, 16) of 0 and 1, and (64, 4) int64
    world.caption(factors[0])                       # "a small disc at the top left"
    world.given(shape="disc").sample(8)             # the conditional world, just as exact

    Sprites(32, colours=("red", "green", "blue"), angles=(0, 30, 60))       # (n, 3, 32, 32), six factors

Every combination of factors draws one template, and `templates.py` does the rest: exact log p(x), entropy, modes,
denoisers. Two combinations may draw the same picture (a square turned by 90 degrees); then it is one template with the
weight of both, and the posterior over factors says that they cannot be told apart.
"""

import copy
import itertools
import math

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ..arrays import as_numpy
from .templates import TemplateMixture
from .world import choose

COLOURS = {
    "white": (1, 1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "magenta": (1, 0, 1),
    "cyan": (0, 1, 1),
}
SHAPES = {  # inside or not, at u to the right and v down from the middle, for a shape of radius r
    "square": lambda u, v, r: np.maximum(abs(u), abs(v)) <= r,
    "disc": lambda u, v, r: u * u + v * v <= (r + 0.25) ** 2,
    "cross": lambda u, v, r: np.maximum(abs(u), abs(v)) <= np.where(np.minimum(abs(u), abs(v)) <= r / 4, r, 0),
    "triangle": lambda u, v, r: (abs(u) <= (v + r) / 2) & (v <= r),
    "bar": lambda u, v, r: (abs(u) <= r) & (abs(v) <= r / 3),
    "ring": lambda u, v, r: (u * u + v * v <= (r + 0.25) ** 2) & (u * u + v * v > (r / 2) ** 2),
}
SIZE_WORDS = {1: ("",), 2: ("small ", "large "), 3: ("small ", "medium ", "large ")}
ROW_WORDS, COLUMN_WORDS = ("top", "middle", "bottom"), ("left", "centre", "right")


class Sprites(TemplateMixture):
    """One shape on a black ground, with some pixels flipped.

    side     pixels, 8 to 64
    shapes   names out of SHAPES
    radii    sizes in pixels; a shape of radius r is 2 r + 1 pixels wide. 1/8, 3/16 and 1/4 of the side if None, but
             at least 2
    places   positions in each direction, at most; evenly spaced, in whole pixels, never cut by the border
    angles   degrees by which shapes are turned, clockwise
    colours  names out of COLOURS, for three channels of 0 and 1; one channel if None
    flip     the probability that a value (a pixel of one channel) is turned over

    shape         (1, side, side), or (3, side, side) with colours
    factors       what each factor may be: {"shape": (...), "size": (...), "row": (...), "column": (...)}, with "angle"
                  if there are several and "colour" if there are colours
    combinations  (T, F) int64: every combination, as indices into the values of `factors`

    Samples are (n, *shape) float32 of 0 and 1; the hidden causes are rows of factor indices, (n, F) int64.
    """

    def __init__(
        self,
        side=16,
        shapes=("square", "disc", "cross"),
        *,
        radii=None,
        places=8,
        angles=(0,),
        colours=None,
        flip=0.01,
    ):
        expect(8 <= side <= 64, "Sprites: side is 8 to 64 pixels", side, error=ArgumentError)
        for name in (*shapes, *(colours or ())):
            known = SHAPES if name in shapes else COLOURS
            expect(name in known, f"Sprites: choose from {', '.join(known)}", name, error=ArgumentError)
        usual = {max(2, side // 8), max(2, 3 * side // 16), side // 4}  # 3 pixels across, a disc is a cross
        radii = tuple(sorted(usual)) if radii is None else tuple(radii)
        self.side, self.colours = side, colours
        stamps = {key: _stamp(*key) for key in itertools.product(shapes, radii, angles)}
        line = _places(side, max(len(stamp) // 2 for stamp in stamps.values()), places)
        self.factors = {"shape": tuple(shapes), "size": radii, "angle": tuple(angles), "row": line, "column": line}
        if len(angles) == 1:
            del self.factors["angle"]
        if colours:
            self.factors["colour"] = tuple(colours)
        self.combinations = np.array(list(itertools.product(*(range(len(v)) for v in self.factors.values()))))
        self._stamps, self._only_angle = stamps, angles[0]
        pictures = self.render(self.combinations)
        seen = {}  # picture -> the number of its template
        packed = np.packbits(pictures.reshape(len(pictures), -1), axis=1)
        self._template_of = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in packed])
        self._pictures = pictures[np.unique(self._template_of, return_index=True)[1]]
        super().__init__(self._pictures, flip=flip)
        self._weigh(np.ones(len(pictures)))

    # Factors, pictures, captions

    def values(self, factors):
        """Factor indices (F,) as {"shape": "disc", "size": 3, ...}; of (n, F), a list of them."""
        factors = as_numpy(factors, np.int64)
        if factors.ndim > 1:
            return [self.values(row) for row in factors]
        expect(factors.shape == (len(self.factors),), f"Sprites: factors are {', '.join(self.factors)}", factors)
        return {name: choices[i] for (name, choices), i in zip(self.factors.items(), factors)}

    def render(self, factors):
        """The clean pictures of factor indices (n, F): (n, *shape) uint8."""
        channels = 3 if self.colours else 1
        factors = np.atleast_2d(as_numpy(factors, np.int64))
        pictures = np.zeros((len(factors), channels, self.side, self.side), np.uint8)
        for picture, value in zip(pictures, self.values(factors)):
            stamp = self._stamps[value["shape"], value["size"], value.get("angle", self._only_angle)]
            half = len(stamp) // 2
            place = tuple(slice(value[axis] - half, value[axis] + half + 1) for axis in ("row", "column"))
            for channel, lit in zip(picture, COLOURS[value["colour"]] if self.colours else (1,)):
                channel[place] = stamp * lit
        return pictures

    def caption(self, factors):
        """A sentence for factor indices (F,), or a list of them for (n, F): "a small red disc at the top left".

        The place is said in thirds, the angle and the rest exactly, so a caption is met by several combinations.
        """
        factors = as_numpy(factors, np.int64)
        if factors.ndim > 1:
            return [self.caption(row) for row in factors]
        value, sizes = self.values(factors), self.factors["size"]
        rank = sizes.index(value["size"])
        size = SIZE_WORDS[len(sizes)][rank] if len(sizes) in SIZE_WORDS else f"size-{rank + 1} "
        colour = value["colour"] + " " if self.colours else ""
        turned = f" turned by {value['angle']:g} degrees" if value.get("angle") else ""
        thirds = [3 * self.factors[axis].index(value[axis]) // len(self.factors[axis]) for axis in ("row", "column")]
        place = f"{ROW_WORDS[thirds[0]]} {COLUMN_WORDS[thirds[1]]}" if thirds != [1, 1] else "centre"
        return f"a {size}{colour}{value['shape']}{turned} at the {place}"

    # Samples and truths

    def sample_with_latents(self, n, generator=None):
        """(n, *shape) float32, and the factor indices (n, F) int64."""
        generator = generator or random.default_generator
        chosen = choose(self.prior, n, generator)
        return self._speckled(self._pictures[self._template_of[chosen]], generator), self.combinations[chosen]

    def posterior(self, x):
        """p(combination | x), (..., T), in the order of `combinations`."""
        shares = super().posterior(x)
        by_template = np.zeros((*shares.shape[:-1], len(self._pictures)))
        by_template[..., self._kept] = shares
        return by_template[..., self._template_of] * self._share

    def factor_posterior(self, x):
        """p(factor | x) for each factor by itself: {"shape": (..., 3), "size": (..., 3), ...}."""
        share = self.posterior(x)
        chosen = enumerate(self.factors.items())
        return {name: share @ np.eye(len(values))[self.combinations[:, i]] for i, (name, values) in chosen}

    def infer(self, x):
        """The most probable factor indices, (..., F) int64."""
        return self.combinations[self.posterior(x).argmax(-1)]

    def probability(self, x, **wanted):
        """p(the factors are as wanted | x), (...): `probability(x, shape="disc", size=(3, 4))`, or by `caption=`."""
        return self.posterior(x) @ self._match(wanted).astype(np.float64)

    def given(self, **wanted):
        """The world where the factors are as wanted: `given(shape="disc")`, `given(size=(3, 4))`, `given(caption=...)`.

        Everything asked of it is exact too: p(x | shape = disc), its entropy, its denoiser.
        """
        return self.reweighted(self.prior * self._match(wanted))

    def without(self, **unwanted):
        """The world where the factors are never as named: what a model trains on that is asked for them later."""
        return self.reweighted(self.prior * ~self._match(unwanted))

    def reweighted(self, prior):
        """The world with other probabilities (T,) of the combinations, zero allowed; scaled to add up to 1."""
        prior = as_numpy(prior, np.float64)
        fits = prior.shape == (len(self.combinations),) and (prior >= 0).all() and prior.sum() > 0
        expect(fits, f"Sprites: {len(self.combinations)} probabilities, not all of them 0", prior, error=ArgumentError)
        world = copy.copy(self)
        world._weigh(prior)
        return world

    # Pieces

    def _weigh(self, prior):
        """Set the probabilities of the combinations, and with them which templates there are."""
        self.prior = prior / prior.sum()
        weights = np.bincount(self._template_of, self.prior, len(self._pictures))
        self._kept = np.flatnonzero(weights)
        self._share = self.prior / np.where(weights > 0, weights, 1)[self._template_of]  # p(combination | template)
        self.weights = weights[self._kept]
        self.templates = self._pictures if len(self._kept) == len(weights) else self._pictures[self._kept]

    def _match(self, wanted):
        """Which combinations are as wanted, (T,) bool."""
        match = np.ones(len(self.combinations), bool)
        for name, value in wanted.items():
            if name == "caption":
                match &= np.array(self.caption(self.combinations)) == value
                expect(match.any(), "Sprites: no combination has this caption", value, error=ArgumentError)
                continue
            known = f"Sprites: the factors are {', '.join(self.factors)}, and caption"
            expect(name in self.factors, known, name, error=ArgumentError)
            choices = self.factors[name]
            chosen = value if isinstance(value, (tuple, list)) else (value,)
            expect(set(chosen) <= set(choices), f"Sprites: {name} is one of {choices}", value, error=ArgumentError)
            match &= np.isin(self.combinations[:, list(self.factors).index(name)], [choices.index(c) for c in chosen])
        return match


def _stamp(shape, radius, angle):
    """The shape on the smallest odd square around its middle that holds it, uint8."""
    reach = math.ceil(1.5 * radius) + 1
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    turn = math.radians(angle)
    inside = SHAPES[shape](  # a hair smaller, so that rounding does not decide what lies on the edge
        (u * math.cos(turn) + v * math.sin(turn)) * (1 - 1e-9),
        (v * math.cos(turn) - u * math.sin(turn)) * (1 - 1e-9),
        radius,
    )
    half = int(np.maximum(abs(u), abs(v))[inside].max())
    return inside[reach - half : reach + half + 1, reach - half : reach + half + 1].astype(np.uint8)


def _places(side, reach, most):
    """At most `most` evenly spaced middles, in whole pixels, from which `reach` pixels fit on both sides."""
    span = side - 1 - 2 * reach
    expect(span >= 0, f"Sprites: a shape {2 * reach + 1} pixels wide does not fit", side, error=ArgumentError)
    step = max(1, span // max(1, most - 1))
    count = min(most, span // step + 1)
    start = reach + (span - step * (count - 1)) // 2
    return tuple(range(start, start + step * count, step))
