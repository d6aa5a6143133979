"""A cache whose room is made at the start: the logits of the one that grows, in place, for rows of any lengths."""

import numpy as np
import pytest

import minigen
from minigen import kernels
from minigen.errors import ArgumentError, DtypeError, GradientError, ShapeError
from minigen.models.transformer.gpt import GPT, GPTConfig
from minigen.models.transformer.static_cache import StaticState
from minigen.ops import attention
from minigen.random import Generator
from minigen.sampling import decoding
from minigen.sampling.decoding import beam_search, generate, stream

SIZES = dict(vocab_size=11, n_positions=12, n_embd=16, n_layer=2, n_head=4, initializer_range=0.3)
CACHES = "growing", "static"
KINDS = {
    "gpt2": {},
    "gpt1": {"norm_first": False},
    "gpt3": {"window": 3},
    "inverse": {"scale_attn_by_inverse_layer_idx": True},
}


def small(kind="gpt2", seed=0, **more):
    minigen.manual_seed(seed)
    return GPT(**{**SIZES, **KINDS[kind], **more}).eval()


def texts(n=3, length=10, seed=0):
    return Generator(seed).integers(0, SIZES["vocab_size"], (n, length))


def as_it_is(logits, ids):
    return logits


def close(got, want, tolerance):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=tolerance)


@pytest.fixture(params=["kernels", "definitions", "float64"])
def ready(request):
    """A function that makes a model ready for one of three ways to compute, and the rounding to expect."""
    if request.param == "definitions":
        with kernels.disabled():
            yield (lambda model: model), 1e-5
    elif request.param == "float64":
        yield (lambda model: model.double()), 1e-12
    else:
        yield (lambda model: model), 1e-5


# The model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [[1] * 10, [4, 1, 5], [9, 1], [2, 3, 5]], ids=str)
@minigen.no_grad()
def test_a_text_in_pieces_gives_the_logits_of_the_whole(kind, pieces, ready):
    make, rounding = ready
    model, ids, got = make(small(kind)), texts(), []
    state = model.static_cache(3, 10)
    for piece in np.split(ids, np.cumsum(pieces)[:-1], 1):
        logits, after = model.step(piece, state)
        assert after is state
        got.append(logits.numpy())
    close(np.concatenate(got, 1), model.logits(ids).numpy(), rounding)
    assert state.length == 10 and (state.lengths == 10).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
@minigen.no_grad()
def test_padding_is_not_stored(kind, side, ready):
    """Each text of a padded batch gets the logits that it gets alone, at once, in pieces, and when it goes on."""
    make, rounding = ready
    model, lengths = make(small(kind)), [7, 3, 5]
    alone = [texts(1, n, seed=n)[0] for n in lengths]
    ids, mask = np.full((3, 7), 10), np.zeros((3, 7), np.int64)
    for row, text in enumerate(alone):
        places = slice(7 - len(text), None) if side == "left" else slice(len(text))
        ids[row, places], mask[row, places] = text, 1
    more = texts(3, 3, seed=9)
    for cuts in ([], [2]):
        state, got = model.static_cache(3, 12), []
        for piece, its_mask in zip(np.split(ids, cuts, 1), np.split(mask, cuts, 1)):
            got.append(model.step(piece, state, its_mask)[0].numpy())
        got = np.concatenate(got, 1)
        assert state.lengths.tolist() == lengths and state.length == 7
        for row, text in enumerate(alone):
            close(got[row][mask[row] == 1], model.logits(text[None]).numpy()[0], rounding)
    for t in range(3):
        logits = model.step(more[:, t : t + 1], state)[0].numpy()
        for row, text in enumerate(alone):
            longer = np.concatenate([text, more[row, : t + 1]])[None]
            close(logits[row, 0], model.logits(longer).numpy()[0, -1], rounding)
    assert state.lengths.tolist() == [n + 3 for n in lengths]


@minigen.no_grad()
def test_no_place_looks_ahead_and_all_before_it_count():
    """What stands after a row's length may be anything; what stands before it may not."""
    model, ids = small(), texts()
    state = model.static_cache(3, 12)
    model.step(ids[:, :6], state)
    want = None
    for at, same in ((None, True), (7, True), (11, True), (5, False), (0, False)):
        for array in [x for pair in state.layers for x in pair]:
            if at is not None:
                array[:, :, at] += 3
        logits = model.step(ids[:, 6:7], state)[0].numpy()
        want = logits if want is None else want
        assert np.allclose(logits, want, atol=1e-5) is same, at
        for array in [x for pair in state.layers for x in pair]:
            if at is not None and not same:
                array[:, :, at] -= 3
        state.lengths -= 1
        state.length -= 1


@minigen.no_grad()
def test_nothing_moves_and_the_step_reads_no_number_of_the_host():
    """What a CUDA graph needs: the same arrays at every step, and a place that only the device knows."""
    model, ids = small(), texts()
    state = model.static_cache(3, 12)
    model.step(ids[:, :4], state)
    addresses = [x.ctypes.data for pair in state.layers for x in pair] + [state.lengths.ctypes.data]
    for t in range(4, 10):
        logits, _ = model.step(ids[:, t : t + 1], state)
        state.length = 4  # as if the host had not run: a replayed step must not notice
        close(logits.numpy()[:, 0], model.logits(ids[:, : t + 1]).numpy()[:, -1], 1e-5)
    assert addresses == [x.ctypes.data for pair in state.layers for x in pair] + [state.lengths.ctypes.data]


@pytest.mark.parametrize("rows", [[2, 0, 0, 1], [2, 0, 0], [0, 1, 2], [1, 2, 0], [1]], ids=str)
@minigen.no_grad()
def test_rows_of_a_state_go_on_like_their_texts(rows):
    model, ids, rows = small(), texts(), np.array(rows)
    mask = np.arange(6) < np.array([[6], [2], [4]])
    whole = [np.concatenate([ids[row, : mask[row].sum()], ids[row, 6:]]) for row in rows]
    state = model.static_cache(3, 12)
    model.step(ids[:, :6], state, mask)
    before = [x.copy() for pair in state.layers for x in pair]
    chosen = state.select(rows)
    logits = model.step(ids[rows, 6:], chosen)[0].numpy()
    for row, text in zip(logits, whole):
        close(row, model.logits(text[None]).numpy()[0, -4:], 1e-5)
    assert (chosen is state) is (len(rows) == 3)
    if chosen is not state:
        assert all((x == y).all() for x, y in zip(before, [x for pair in state.layers for x in pair]))


@minigen.no_grad()
def test_weights_are_shown_with_a_cache_too():
    model, ids = small(), texts()
    _, whole = model.transformer(ids, look=True)
    state = model.static_cache(3, 10)
    model.step(ids[:, :9], state)
    _, last = model.transformer(ids[:, 9:], state=state, look=True)
    for share, all_of_it in zip(last, whole):
        close(share.numpy()[:, :, 0], all_of_it.numpy()[:, :, -1], 1e-6)


def test_what_a_cache_refuses():
    model, ids = small(), texts()
    with minigen.no_grad():
        state = model.static_cache(3, 5)
        model.step(ids[:, :4], state)
        with pytest.raises(ShapeError, match=r"2 symbols after 4 that were read before do not fit into its 5 places"):
            model.step(ids[:, :2], state)
        model.step(ids[:, :1], state)
        assert state.length == 5
        with pytest.raises(ShapeError, match="13 symbols are more than its n_positions=12"):
            model.step(np.zeros((3, 13), np.int64), model.static_cache(3))
        with pytest.raises(ShapeError, match="made for 3 rows"):
            model.step(ids[:2, :1], model.static_cache(3))
        with pytest.raises(ShapeError, match=r"attention_mask is \(N, T\)"):
            model.step(ids[:, :4], model.static_cache(3), np.ones((3, 5)))
        assert model.static_cache(1, 99).capacity == 12
    for rows, capacity in ((0, 5), (2, 0), (2.5, 3)):
        with pytest.raises(ArgumentError, match="whole numbers above 0"):
            model.static_cache(rows, capacity)
    with pytest.raises(GradientError, match="no_grad"):
        model.step(ids, model.static_cache(3))


# Attention of one query


def plain(q, k, v, length, scale):
    """The formula, row by row, in float64."""
    y = np.zeros((*q.shape[:3], v.shape[3]))
    for n, h in np.ndindex(q.shape[:2]):
        g = h // (q.shape[1] // k.shape[1])
        scores = scale * k[n, g, : length[n]].astype(float) @ q[n, h, 0].astype(float)
        weights = np.exp(scores - scores.max())
        y[n, h, 0] = weights @ v[n, g, : length[n]] / weights.sum()
    return y


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1, 1), (3, 4, 2, 9, 5, 7), (2, 12, 12, 300, 64, 64), (0, 2, 2, 3, 4, 4)]
)
def test_one_query_sees_as_many_keys_as_its_row_has(shape):
    N, H, G, S, D, E = shape
    draw = np.random.default_rng(0)
    q, k, v = (draw.standard_normal(s).astype("f4") for s in ((N, 1, H, D), (N, G, S, D), (N, G, S, E)))
    q, length = q.swapaxes(1, 2), draw.integers(1, S + 1, N)
    k[:, :, -1] *= 30  # one key takes nearly everything
    for scale in (None, 0.3):
        want = plain(q, k, v, length, 1 / np.sqrt(D) if scale is None else scale)
        got = attention.attention_decode(q, k, v, length, scale)
        assert got.dtype == np.float32
        close(got, want, 2e-5)
        with kernels.disabled():
            close(attention.attention_decode(q, k, v, length.astype(np.int32), scale), want, 2e-5)
        got = attention.attention_decode(q.astype(float), k.astype(float), v.astype(float), length, scale)
        close(got, want, 1e-12)
    for past in np.flatnonzero(length < S):
        k[past, :, length[past] :] = np.nan
    close(attention.attention_decode(q, k, v, length, scale), want, 2e-5)


def test_keys_that_do_not_lie_in_one_piece():
    draw = np.random.default_rng(1)
    k, v = (draw.standard_normal((2, 7, 4, 6)).astype("f4").swapaxes(1, 2) for _ in range(2))
    q, length = draw.standard_normal((2, 4, 1, 6)).astype("f4"), np.array([3, 7])
    close(attention.attention_decode(q, k, v, length, 0.5), plain(q, k, v, length, 0.5), 1e-5)


def test_attention_decode_refuses():
    x, length = np.zeros((2, 4, 1, 6), np.float32), np.ones(2, np.int64)
    for q, k, v, n in (
        (x[0], x, x, length),
        (x, x[:, :3], x[:, :3], length),
        (x, x, x[:, :2], length),
        (x, x, x, length[:1]),
        (np.zeros((2, 4, 3, 6), np.float32), x, x, length),
        (x[..., :5], x, x, length),
    ):
        with pytest.raises(ShapeError, match=r"query \(N, H, 1, D\)"):
            attention.attention_decode(q, k, v, n)
    for q, k, v, n in ((x, x.astype(float), x, length), (x, x, x, length + 0.5)):
        with pytest.raises(DtypeError, match="one floating type"):
            attention.attention_decode(q, k, v, n)


@pytest.mark.parametrize("way", ["kernel", "definition"])
def test_new_keys_go_to_their_places(way):
    draw = np.random.default_rng(0)
    k, v = draw.standard_normal((2, 3, 5, 4)).astype("f4"), draw.standard_normal((2, 3, 5, 6)).astype("f4")
    keys, values = np.zeros((2, 3, 9, 4), np.float32), np.zeros((2, 3, 9, 6), np.float32)
    places = np.array([[8, -1, 0, 2, 1], [3, 4, 5, 6, -1]])
    if way == "kernel":
        attention.cache_write(keys, values, k, v, places)
    else:
        with kernels.disabled():
            attention.cache_write(keys, values, k, v, places)
    for cache, new in ((keys, k), (values, v)):
        want = np.zeros_like(cache)
        for n, t in np.ndindex(2, 5):
            if places[n, t] >= 0:
                want[n, :, places[n, t]] = new[n, :, t]
        np.testing.assert_array_equal(cache, want)


# The driver


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 0.8, "top_k": 5}, {"eos": 3, "top_p": 0.9}], ids=str
)
def test_what_is_written_does_not_depend_on_the_cache(kind, options):
    model = small(kind, n_positions=40)
    for prompts in (texts(3, 4), [[1], [2, 3, 4], [5, 6]], [7, 8]):
        found = [generate(model, prompts, 20, cache=cache, generator=Generator(3), **options) for cache in CACHES]
        assert all(np.array_equal(a, b) for a, b in zip(*found))
    shown = [list(stream(model, texts(2, 3), 9, cache=cache, generator=Generator(3), **options)) for cache in CACHES]
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize("kind", KINDS)
def test_beams_do_not_depend_on_the_cache(kind):
    model = small(kind, n_positions=40)
    for options in ({}, {"eos": 3, "early_stopping": True, "length_penalty": 0.5}):
        found = [
            beam_search(model, texts(2, 3), 15, beams=4, best=3, scores=True, cache=cache, **options)
            for cache in CACHES
        ]
        np.testing.assert_array_equal(found[0][0], found[1][0])
        close(found[0][1], found[1][1], 1e-5)


@pytest.mark.kernels
def test_a_text_may_end_before_the_places_do():
    """Room for more symbols than the model has places: it is refused where they are used up, and not before."""
    model = small(n_positions=8)
    ids = texts(1, 4)
    first = int(generate(model, ids, 1, temperature=0)[0, -1])
    assert generate(model, ids, 50, temperature=0, eos=first).shape == (1, 5)
    assert generate(model, ids, 5, temperature=0).shape == (1, 9)  # the last symbol is not read
    with pytest.raises(ShapeError, match="n_positions=8"):
        generate(model, ids, 6, temperature=0)
    with pytest.raises(ShapeError, match="do not fit into its 8 places"):  # where the step is captured
        generate(model, ids, 50, temperature=0)


def test_the_cache_is_made_once_for_what_is_asked(monkeypatch):
    model, made, steps = small(n_positions=40), [], []
    make, original = model.static_cache, model.step

    def cache(rows, capacity):
        made.append((rows, capacity))
        return make(rows, capacity)

    def step(ids, state):
        steps.append((ids.shape, type(state).__name__))
        return original(ids, state)

    monkeypatch.setattr(model, "static_cache", cache)
    monkeypatch.setattr(model, "step", step)
    generate(model, [[1], [2, 3, 4]], 6, temperature=0)
    assert made == [(2, 8)] and steps == [((2, 1), "StaticState")] * 8
    del steps[:]
    with minigen.no_grad():
        _, state = original(np.array([[1, 2]]))
    generate(model, [3, 4], 3, temperature=0, state=state)  # what came before is kept, in its own kind of cache
    assert len(made) == 1 and {kind for _, kind in steps} == {"State"}
    generate(model, [3, 4], 0)
    assert len(made) == 1


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_cache_that_is_given_goes_on(temperature):
    """Symbols before the prompt, and more after what was written: the host's count stays right through replays."""
    model, found = small(n_positions=60), []
    for state in (None, model.static_cache(2, 50)):
        with minigen.no_grad():
            _, state = model.step(texts(2, 5), state)
        text = generate(model, texts(2, 3, seed=1), 30, temperature=temperature, state=state, generator=Generator(2))
        if hasattr(state, "capacity"):
            assert state.length == 5 + 3 + 29 and (state.lengths == 37).all()  # the last symbol is not read
            with minigen.no_grad():
                after = model.step(text[:, -1:], state)[0].numpy()
            close(after, model.logits(np.concatenate([texts(2, 5), text], 1)).detach().numpy()[:, -1:], 1e-5)
        found.append(text)
    np.testing.assert_array_equal(*found)


def test_a_cache_that_is_given_may_be_too_small():
    model = small(n_positions=60)
    for new in (10, 40):  # without and with a captured step
        state = model.static_cache(1, 8)
        with minigen.no_grad():
            model.step(np.array([[1, 2]]), state)
        with pytest.raises(ShapeError, match="1 symbols after 8 that were read before do not fit into its 8 places"):
            generate(model, [3], new, temperature=0, state=state)


def test_a_model_without_a_static_cache():
    class Other:
        def step(self, ids, state=None):
            return minigen.tensor(np.eye(5, dtype=np.float32)[(ids.data + 1) % 5]), state

    assert generate(Other(), [0], 6, temperature=0).tolist() == [0, 1, 2, 3, 4, 0, 1]
    with pytest.raises(ArgumentError, match="Other has no static_cache"):
        generate(Other(), [0], 6, cache="static")
    with pytest.raises(ArgumentError, match='"auto", "static" or "growing"'):
        generate(Other(), [0], 6, cache="paged")


@pytest.mark.parametrize("size, millions", [("small", 124.4), ("medium", 354.8), ("large", 774.0), ("xl", 1557.6)])
def test_gpt2_has_the_published_sizes(size, millions):
    config = GPTConfig.gpt2(size, n_positions=1024)
    width, layers = config.n_embd, config.n_layer
    layer = 12 * width**2 + 13 * width  # four projections with biases, two norms
    assert (config.vocab_size + 1024) * width + layers * layer + 2 * width == pytest.approx(1e6 * millions, rel=5e-4)


def test_gpt2_small_is_the_default():
    config = GPTConfig()
    assert config == GPTConfig.gpt2()
    with pytest.raises(ArgumentError, match="small, medium, large, xl"):
        GPTConfig.gpt2("tiny")
    assert (config.n_layer, config.n_head, config.n_embd, config.vocab_size, config.n_positions) == (
        12,
        12,
        768,
        50257,
        1024,
    )


# The step as it is captured


@pytest.fixture
def replayed(monkeypatch):
    """Captures steps, and forgets at each replay what the host counted: on a GPU it does not even run them."""
    captured = []

    def capture(step, device):
        (state,) = [x.cell_contents for x in step.__closure__ if isinstance(x.cell_contents, StaticState)]
        captured.append(state)

        def replay():
            assert step() is None
            state.length = -100

        return replay

    monkeypatch.setattr(StaticState, "replays", True)
    monkeypatch.setattr("minigen.sampling.decoding.never_waits", lambda logits, temperature: True)
    monkeypatch.setattr("minigen.capture.capture", capture)
    return captured


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.8, "top_k": 5}, {"eos": [3, 7]}], ids=str)
def test_a_replayed_step_writes_what_an_ordinary_one_does(replayed, options):
    model = small(n_positions=40)
    for prompts in (texts(3, 4), [[1], [2, 3, 4], [5, 6]], [7, 8]):
        want = generate(model, prompts, 20, cache="growing", generator=Generator(3), **options)
        assert not replayed
        found = generate(model, prompts, 20, generator=Generator(3), **options)
        assert all(np.array_equal(a, b) for a, b in zip(found, want)) and len(replayed) == 1
        replayed.clear()
    shown = [list(stream(model, [1, 2], 30, cache=cache, generator=Generator(3), **options)) for cache in CACHES]
    assert shown[0] == shown[1] and len(replayed) == 1
    generate(model, [1, 2], decoding.FEW, **options)  # too few to pay
    assert len(replayed) == 1


@pytest.mark.kernels
def test_on_the_cpu_the_step_is_replayed_too(monkeypatch):
    """Two steps are written down as they run; after that nobody calls the model, but for a check now and then."""
    model, calls = small(n_positions=1100), []
    original = model.step
    monkeypatch.setattr(model, "step", lambda ids, state: calls.append(state.length) or original(ids, state))
    for options in ({"temperature": 0}, {"temperature": 0.9, "top_p": 0.8}):
        found = generate(model, [[1, 2], [3, 4]], 1020, generator=Generator(1), **options)
        assert calls[:3] == [0, 2, 3] and len(calls) == 4
        calls.clear()
        want = generate(model, [[1, 2], [3, 4]], 1020, generator=Generator(1), processors=[as_it_is], **options)
        np.testing.assert_array_equal(found, want)
        assert len(calls) == 1020
        calls.clear()


def test_a_step_that_others_take_part_in_is_not_captured(replayed):
    model = small(n_positions=40)
    generate(model, [1, 2], 30, temperature=0, processors=[as_it_is])
    generate(model, [1, 2], 30, temperature=0, cache="growing")
    assert not replayed


@pytest.mark.kernels
def test_masked_scores_are_not_replayed_on_the_cpu():
    with minigen.no_grad():
        for kind, replays in (("gpt2", True), ("gpt3", False)):
            state = small(kind).static_cache(3)
            assert not state.replays  # nothing is known yet
            small(kind).step(texts(), state)
            assert state.replays is replays
        state = small().double().static_cache(3)
        small().double().step(texts(), state)
        assert not state.replays  # no kernels
