"""Sprites and TemplateMixture against sums over every image and every template."""

import itertools
import math

import numpy as np
import pytest

import minigen
from minigen.data.worlds import Sprites, TemplateMixture
from minigen.errors import ArgumentError, DataError, ShapeError
from minigen.random import Generator

TINY = TemplateMixture(
    [[[0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 0]], [[1, 1, 1], [0, 1, 1]]], weights=[0.5, 0.2, 0.3], flip=0.1
)
EVERY = np.array(list(itertools.product((0, 1), repeat=6)), float).reshape(-1, 2, 3)  # all 64 images of 2x3


def joint(world, x):
    """w_k p(x | k), pixel by pixel: (n, K)."""
    table = np.zeros((len(x), len(world.weights)))
    for i, image in enumerate(x):
        for k, template in enumerate(world.templates):
            same = image == template
            table[i, k] = world.weights[k] * np.prod(np.where(same, 1 - world.flip, world.flip))
    return table


def test_probabilities_are_the_sum_over_templates():
    truth = joint(TINY, EVERY)
    np.testing.assert_allclose(np.exp(TINY.log_prob(EVERY)), truth.sum(1), rtol=1e-12)
    assert np.exp(TINY.log_prob(EVERY)).sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(TINY.posterior(EVERY), truth / truth.sum(1, keepdims=True), rtol=1e-10)


def test_entropy_is_the_sum_over_images():
    p = joint(TINY, EVERY).sum(1)
    entropy = TINY.entropy()
    assert 0 < entropy.error < 0.005
    assert abs(entropy + (p * np.log(p)).sum()) < 4 * entropy.error
    assert TINY.entropy() == entropy  # the same number each time it is asked for
    ink = np.tensordot(p, EVERY, 1)
    floor = -(ink * np.log(ink) + (1 - ink) * np.log(1 - ink)).sum()
    assert TINY.independent_entropy() == pytest.approx(floor, rel=1e-12) and entropy < floor


def test_samples_follow_the_probabilities():
    x, template = TINY.sample_with_latents(100_000, Generator(0))
    assert x.dtype == np.float32 and set(np.unique(x)) == {0, 1}
    np.testing.assert_allclose(np.bincount(template) / len(x), TINY.weights, atol=0.006)
    number = x.reshape(-1, 6) @ 2.0 ** np.arange(5, -1, -1)
    found = np.bincount(number.astype(int), minlength=64) / len(x)
    np.testing.assert_allclose(found, np.exp(TINY.log_prob(EVERY)), atol=0.006)
    gap = TINY.divergence(x, TINY.log_prob(x))
    assert gap == 0 and gap.error == 0


def test_without_flips_only_templates_are_possible():
    world = TemplateMixture(TINY.templates, flip=0.0)
    possible = np.exp(world.log_prob(EVERY))
    assert sorted(possible[possible > 0]) == pytest.approx([1 / 3] * 3) and possible.sum() == pytest.approx(1)
    assert world.entropy() == pytest.approx(math.log(3)) and world.posterior(world.templates).argmax(1).tolist() == [
        0,
        1,
        2,
    ]
    assert (world.conditional(EVERY[0], np.zeros((2, 3), bool)) == world.templates.mean(0)).all()
    seen = world.conditional(world.templates[2], np.eye(2, 3, dtype=bool))
    np.testing.assert_allclose(seen, world.templates[2], atol=1e-12)  # its two pixels fit no other template
    x_t = world.templates[1] + 0.3
    np.testing.assert_allclose(world.posterior_mean(x_t, 1.0, 0.05), world.templates[1], atol=1e-6)


def test_gaussian_denoiser_is_the_sum_over_images():
    a, s = 0.8, 0.6
    y = a * TINY.sample(5, Generator(1)) + s * Generator(2).normal((5, 2, 3))
    likelihood = np.exp(-0.5 * ((y[:, None] - a * EVERY) / s) ** 2).prod((2, 3)) / (s * math.sqrt(2 * math.pi)) ** 6
    weight = likelihood * joint(TINY, EVERY).sum(1)
    truth = np.tensordot(weight / weight.sum(1, keepdims=True), EVERY, 1)
    np.testing.assert_allclose(TINY.posterior_mean(y, a, s), truth, rtol=1e-8)
    noised = TINY.noised(a, s)
    np.testing.assert_allclose(noised.log_prob(y), np.log(weight.sum(1)), rtol=1e-10)
    steps = np.eye(6).reshape(6, 2, 3) * 1e-5
    slope = np.stack([(noised.log_prob(y + e) - noised.log_prob(y - e)) / 2e-5 for e in steps], 1)
    np.testing.assert_allclose(noised.score(y).reshape(5, 6), slope, atol=1e-5)


def test_noised_world():
    noised = TINY.noised(2.0, 0.5)
    x_t, x = noised.sample_with_latents(20_000, Generator(0))
    assert x_t.dtype == np.float32 and abs((x_t - 2 * x).std() - 0.5) < 0.01
    entropy = noised.entropy()
    assert abs(noised.divergence(x_t, np.full(20_000, -entropy.real))) < 0.1


def test_flip_denoiser_is_the_sum_over_images():
    for flip in (0.2, 0.0):
        likelihood = np.where(EVERY[:, None] == EVERY, 1 - flip, flip).prod((2, 3))  # p(y | x)
        weight = likelihood * joint(TINY, EVERY).sum(1)
        truth = np.tensordot(weight / weight.sum(1, keepdims=True), EVERY, 1)
        np.testing.assert_allclose(TINY.unflipped(EVERY, flip), truth, atol=1e-9)


def test_conditional_is_the_sum_over_images():
    known = np.array([[True, False, False], [True, True, False]])
    p = joint(TINY, EVERY).sum(1)
    for image in EVERY[::7]:
        fits = (EVERY[:, known] == image[known]).all(1)
        truth = np.tensordot(p * fits / (p * fits).sum(), EVERY, 1)
        np.testing.assert_allclose(TINY.conditional(image, known), truth, atol=1e-9)
    assert (TINY.conditional(EVERY, True) == EVERY).all()
    np.testing.assert_allclose(TINY.conditional(EVERY[5], False), np.tensordot(p, EVERY, 1), rtol=1e-9)


def test_conditionals_multiply_to_the_probability():
    """log p(x) is the sum over pixels of log p(x_i | those before): what an autoregressive model is scored by."""
    image, total = EVERY[37].ravel(), 0.0
    for i in range(6):
        one = TINY.conditional(image.reshape(2, 3), (np.arange(6) < i).reshape(2, 3)).ravel()[i]
        total += math.log(one if image[i] else 1 - one)
    assert total == pytest.approx(TINY.log_prob(EVERY[37]))


def test_large_tables_go_in_slabs(monkeypatch):
    whole = [TINY.log_prob(EVERY), TINY.posterior(EVERY), TINY.unflipped(EVERY, 0.2), TINY.independent_entropy()]
    monkeypatch.setattr("minigen.data.worlds.templates.BLOCK", 7)
    slabs = [TINY.log_prob(EVERY), TINY.posterior(EVERY), TINY.unflipped(EVERY, 0.2), TINY.independent_entropy()]
    for a, b in zip(whole, slabs):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_counting_modes():
    world = Sprites()
    x = world.sample(6000, Generator(0))
    count = world.count_modes(x)
    assert count.total == 576 == len(world.modes()) and count.hit == 576 and count.on_mode > 0.995
    assert count.kl == pytest.approx(575 / 12_000, rel=0.3)
    noise = Generator(1).bernoulli(0.5, (100, 1, 16, 16)).astype(np.float32)
    assert world.count_modes(noise).on_mode == 0
    which, distance = world.nearest(world.templates[[3, 100]])
    assert which.tolist() == [3, 100] and distance.tolist() == [0, 0]


# Factors


def test_factors_draw_what_they_say():
    world = Sprites()
    assert list(world.factors) == ["shape", "size", "row", "column"] and world.shape == (1, 16, 16)
    square = {"shape": "square", "size": 2, "row": 5, "column": 9}
    factors = [world.factors[name].index(value) for name, value in square.items()]
    picture = np.zeros((16, 16))
    picture[3:8, 7:12] = 1  # rows 5 - 2 to 5 + 2, columns 9 - 2 to 9 + 2
    assert (world.render(factors)[0, 0] == picture).all() and world.values(factors) == square


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_shapes_are_whole_distinct_and_centred(side):
    world = Sprites(side, places=2)
    pictures = world.render(world.combinations)
    assert len(world.templates) == len(world.combinations)  # all different
    lit = pictures[:, 0].astype(float)
    rows = (lit.sum(2) * np.arange(side)).sum(1) / lit.sum((1, 2))
    for value, row, area in zip(world.values(world.combinations), rows, lit.sum((1, 2))):
        assert row == pytest.approx(value["row"])  # squares, discs and crosses are symmetric, so nothing was cut
        if value["shape"] == "square":
            assert area == (2 * value["size"] + 1) ** 2


def test_colours_and_angles():
    world = Sprites(
        16, shapes=("square", "triangle"), radii=(3,), places=2, angles=(0, 45, 90), colours=("red", "cyan")
    )
    assert world.shape == (3, 16, 16) and list(world.factors) == ["shape", "size", "angle", "row", "column", "colour"]
    red = world.given(colour="red").sample(50, Generator(0))
    assert red[:, 0].sum() > 5 * red[:, 1:].sum()
    # A square turned by 90 degrees is the same picture; a triangle is not.
    assert len(world.combinations) == 2 * 3 * 4 * 2 and len(world.templates) == (2 + 3) * 4 * 2
    assert sorted(set(np.round(world.weights * 48, 6))) == [1, 2]
    belief = world.factor_posterior(world.render([0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(belief["angle"], [[0.5, 0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(belief["shape"], [[1, 0]], atol=1e-6)


def test_posterior_over_factors_is_the_sum_over_combinations():
    world = Sprites(8, shapes=("square", "cross"), radii=(1, 2), places=2, flip=0.1)
    x = world.sample(20, Generator(0))
    pictures = world.render(world.combinations)
    flips = (x[:, None] != pictures).sum((2, 3, 4))
    table = 0.1**flips * 0.9 ** (64 - flips)
    table /= table.sum(1, keepdims=True)
    np.testing.assert_allclose(world.posterior(x), table, rtol=1e-9)
    by_factor = world.factor_posterior(x)
    np.testing.assert_allclose(by_factor["size"][:, 1], table[:, world.combinations[:, 1] == 1].sum(1), rtol=1e-9)
    np.testing.assert_allclose(world.probability(x, size=2), by_factor["size"][:, 1], rtol=1e-12)
    assert (world.infer(x) == world.combinations[table.argmax(1)]).all()
    np.testing.assert_allclose(world.factor_posterior(x[0])["shape"], by_factor["shape"][0], rtol=1e-12)


def test_given_is_bayes():
    """p(x) is the sum over shapes of p(shape) p(x | shape)."""
    world = Sprites(8, flip=0.05)
    x = world.sample(30, Generator(0))
    parts = [np.exp(world.given(shape=shape).log_prob(x)) / 3 for shape in world.factors["shape"]]
    np.testing.assert_allclose(np.exp(world.log_prob(x)), sum(parts), rtol=1e-10)
    assert (world.given(shape="disc").sample_with_latents(50, Generator(1))[1][:, 0] == 1).all()
    assert (world.without(shape="disc").sample_with_latents(50, Generator(1))[1][:, 0] != 1).all()
    np.testing.assert_allclose(world.given(shape="disc").infer(x)[:, 0], 1)
    assert world.given(shape=("disc", "cross")).entropy() > world.given(shape="disc").entropy()


def test_captions():
    world = Sprites(shapes=("square", "cross"), colours=("red", "blue"), angles=(0, 45), places=3)
    factors = [world.factors[n].index(v) for n, v in [("shape", "cross"), ("size", 4), ("angle", 0)]] + [0, 2, 1]
    assert world.caption(factors) == "a large blue cross at the top right"
    factors[2:5] = [1, 1, 1]
    assert world.caption(np.array(factors)) == "a large blue cross turned by 45 degrees at the centre"
    x, causes = world.sample_with_latents(5, Generator(0))
    captions = world.caption(causes)
    assert world.given(caption=captions[0]).caption(world.given(caption=captions[0]).infer(x[0])) == captions[0]
    np.testing.assert_allclose([world.probability(x[i], caption=c) for i, c in enumerate(captions)], 1, atol=1e-3)


def test_tensors_and_shapes_are_taken():
    world = Sprites(8)
    x = world.sample(6, Generator(0))
    np.testing.assert_array_equal(world.log_prob(minigen.tensor(x)), world.log_prob(x))
    assert world.log_prob(x.reshape(2, 3, 1, 8, 8)).shape == (2, 3) and world.log_prob(x[0]).shape == ()
    np.testing.assert_array_equal(world.posterior(minigen.tensor(x)), world.posterior(x))
    assert world.posterior(x[0]).shape == (len(world.combinations),)
    assert world.posterior_mean(x, 1.0, 0.5).shape == x.shape and world.log_prob(x[:0]).shape == (0,)


def test_errors_say_what_to_write():
    world = Sprites(8)
    with pytest.raises(DataError, match=r"write \(x > 0\.5\)"):
        world.log_prob(np.full((2, 1, 8, 8), 0.5))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 1, 8, 8\)"):
        world.log_prob(np.zeros((2, 8, 8)))
    with pytest.raises(ArgumentError, match="the factors are shape, size, row, column"):
        world.given(colour="red")
    with pytest.raises(ArgumentError, match="shape is one of"):
        world.given(shape="star")
    with pytest.raises(ArgumentError, match="no combination has this caption"):
        world.given(caption="a cat")
    with pytest.raises(ArgumentError, match="choose from square"):
        Sprites(8, shapes=("star",))
    with pytest.raises(ArgumentError, match="does not fit"):
        Sprites(8, radii=(5,))
    with pytest.raises(ArgumentError, match="8 to 64"):
        Sprites(100)
    with pytest.raises(DataError, match="templates hold 0 and 1"):
        TemplateMixture([[0.0, 0.5]])
    with pytest.raises(ArgumentError, match="flip is a probability"):
        world.unflipped(np.zeros((1, 1, 8, 8)), 1.5)
    with pytest.raises(ArgumentError, match="under 1/2"):
        Sprites(8, flip=0.5)
    with pytest.raises(ArgumentError, match="positive"):
        world.noised(1.0, 0.0)
