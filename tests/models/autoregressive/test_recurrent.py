"""Recurrent models against what is known about them."""

import math

import numpy as np
import pytest

import minigen
from minigen import checkpoint, nn, optim
from minigen.data.worlds import AutoregressiveSeries, MarkovText
from minigen.errors import ArgumentError, DataError, DtypeError, ShapeError
from minigen.models.autoregressive.recurrent import (
    Forecaster,
    ForecasterConfig,
    RecurrentConfig,
    RecurrentLM,
    gaussian_nll,
)
from minigen.random import Generator

CELLS = ["rnn", "lstm", "gru"]


def text_model(cell="lstm", **sizes):
    minigen.manual_seed(0)
    return RecurrentLM(**{"symbols": 7, "embedding": 5, "hidden": 6, "layers": 2, "cell": cell, **sizes})


def forecaster(cell="lstm", **sizes):
    minigen.manual_seed(0)
    return Forecaster(**{"hidden": 6, "layers": 2, "cell": cell, **sizes})


def symbols(n=3, length=12, seed=0):
    return Generator(seed).integers(0, 7, (n, length))


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape)


# Both kinds: a state that is all that the past has left


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_in_pieces_gives_what_it_gives_at_once(cell):
    model, ids = text_model(cell), symbols()
    whole, end = model.step(ids)
    state, pieces = None, []
    for piece in (ids[:, :1], ids[:, 1:8], ids[:, 8:]):
        logits, state = model.step(piece, state)
        pieces.append(logits)
    np.testing.assert_allclose(minigen.cat(pieces, 1).detach(), whole.detach(), atol=1e-6)
    for a, b in zip(state.parts, end.parts):
        assert a.shape == (2, 3, 6)
        np.testing.assert_allclose(a.detach(), b.detach(), atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_series_in_pieces_gives_what_it_gives_at_once(cell):
    model, x = forecaster(cell), numbers(3, 12)
    (mean, log_var), _ = model.step(x)
    (_, _), state = model.step(x[:, :5])
    (rest, rest_log_var), _ = model.step(x[:, 5:], state)
    np.testing.assert_allclose(rest.detach(), mean[:, 5:].detach(), atol=1e-6)
    np.testing.assert_allclose(rest_log_var.detach(), log_var[:, 5:].detach(), atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_select_gives_the_state_of_those_rows(cell):
    model, ids, rows = text_model(cell), symbols(), np.array([2, 0, 0])
    _, state = model.step(ids)
    chosen = model.step(ids[rows], state.select(rows))[0]
    np.testing.assert_allclose(chosen.detach(), model.step(ids, state)[0].detach()[rows], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_seen_of_the_future(cell):
    model = text_model(cell)
    x = minigen.tensor(numbers(1, 9, 5), requires_grad=True)
    y = model.recurrence(x)[0]
    for t in range(9):
        (slope,) = minigen.autograd.grad(y[:, t].sum(), [x], retain_graph=True)
        size = np.abs(slope.numpy()).sum((0, 2))
        assert (size[: t + 1] > 0).all() and (size[t + 1 :] == 0).all()
    ids = symbols(1)
    other = ids.copy()
    other[:, 6] = (ids[:, 6] + 1) % 7
    same = (model.step(ids)[0] == model.step(other)[0]).numpy().all((0, 2))
    assert same[:6].all() and not same[6:].any()


def test_detach_cuts_the_way_back_and_changes_no_number():
    model, ids = text_model(), symbols(2, 13)
    x, y = ids[:, :-1], ids[:, 1:]
    whole = model(x, y)
    first, state = model.loss(x[:, :6], y[:, :6])
    second, _ = model.loss(x[:, 6:], y[:, 6:], state.detach())
    assert whole.item() == pytest.approx((first.item() + second.item()) / 2, rel=1e-6)
    second.backward()
    read = set(x[:, 6:].ravel().tolist())
    touched = set(np.flatnonzero(np.abs(model.embedding.weight.grad.numpy()).sum(1)).tolist())
    assert touched == read


@pytest.mark.parametrize("model", [text_model(tied=True, embedding=6), text_model("gru"), forecaster()])
def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    x = numbers(2, 8) if isinstance(model, Forecaster) else symbols(2, 8)
    if isinstance(model, Forecaster):
        model.fit_scale(5 + 3 * x)
    checkpoint.save(tmp_path / "model.safetensors", {"model": model.state_dict()})
    other = type(model)(model.config)
    other.load_state_dict(checkpoint.load(tmp_path / "model.safetensors")["model"])
    a, b = model.step(x)[0], other.step(x)[0]
    for one, two in [(a, b)] if not isinstance(a, tuple) else zip(a, b):
        np.testing.assert_array_equal(one.detach(), two.detach())


# Text


def test_the_loss_is_minus_log_prob_and_targets_may_be_left_out():
    model, ids = text_model(), symbols(3, 9)
    log_p = model.log_prob(ids)
    assert log_p.shape == (3, 8) and not log_p.requires_grad
    assert model(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(-log_p.numpy().mean(), rel=1e-5)
    targets = ids[:, 1:].copy()
    targets[:, 3:] = -100
    assert model(ids[:, :-1], targets).item() == pytest.approx(-log_p.numpy()[:, :3].mean(), rel=1e-5)
    total = np.exp(model.step(ids)[0].log_softmax(-1).detach().numpy()).sum(-1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_tied_tables_are_one_parameter():
    tied, free = text_model(tied=True, embedding=6), text_model(embedding=6)
    count = lambda model: sum(p.numel() for p in model.parameters())
    assert count(free) - count(tied) == 7 * 6 and tied.head.weight is tied.embedding.weight
    tied(symbols(), symbols()).backward()
    assert tied.embedding.weight.grad is not None


@pytest.mark.parametrize("cell, gate", [("lstm", slice(6, 12)), ("gru", slice(6, 12))])
def test_keep_bias_is_that_of_the_gate_that_keeps(cell, gate):
    net = text_model(cell, keep_bias=2.5).recurrence.net
    for layer in range(2):
        bias = getattr(net, f"bias_ih_l{layer}") + getattr(net, f"bias_hh_l{layer}")
        np.testing.assert_allclose(bias.detach()[gate], 2.5)
        assert np.abs(bias.detach().numpy()[:6]).max() < 1
    plain = text_model(cell, keep_bias=None).recurrence.net
    assert np.abs(plain.bias_ih_l0.detach().numpy()[gate]).max() < 1
    # A gate that is wide open keeps what is there: the state hardly moves.
    model = text_model(cell, keep_bias=30.0, layers=1)
    _, state = model.step(symbols(2, 3))
    _, later = model.step(symbols(2, 4, seed=1), state)
    kept = (later.parts[-1] - state.parts[-1]).detach().numpy()
    assert np.abs(kept).max() < (1e-5 if cell == "gru" else 4.0)


def test_samples_follow_the_softmax():
    model = text_model()
    x = model.sample(4000, 2, prompt=[1, 2, 3], generator=Generator(1))
    assert x.shape == (4000, 2) and x.dtype == minigen.int64
    share = np.bincount(x.numpy()[:, 0], minlength=7) / 4000
    logits = model.step(np.array([[1, 2, 3]]))[0][0, -1].detach().numpy()
    np.testing.assert_allclose(share, np.exp(logits) / np.exp(logits).sum(), atol=0.03)
    cold = model.sample(50, 3, prompt=[1, 2, 3], generator=Generator(1), temperature=1e-3).numpy()
    assert (cold[:, 0] == logits.argmax()).all() and (cold == cold[0]).all()
    again = model.sample(5, 6, np.tile([1, 2], (5, 1)), Generator(3))
    np.testing.assert_array_equal(again, model.sample(5, 6, [1, 2], Generator(3)))
    assert model.sample(3, 0, [1]).shape == (3, 0)


def test_it_learns_a_markov_chain():
    world = MarkovText.random(symbols=5, order=1, seed=0)
    minigen.manual_seed(0)
    model = RecurrentLM(symbols=5, embedding=8, hidden=16, cell="gru")
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        x = world.sample(32, Generator(step), length=21)
        optimizer.zero_grad()
        model(x[:, :-1], x[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x = world.sample(500, Generator(1000), length=21)
    truth = np.log(np.take_along_axis(world.conditionals(x), x[..., None], -1))[:, 1:, 0]
    assert (truth - model.log_prob(x).numpy()).mean() < 0.02


# Numbers


def test_gaussian_nll():
    x, mean, log_var = (minigen.tensor(numbers(5, seed=i)) for i in range(3))
    std = np.exp(log_var.numpy() / 2)
    right = 0.5 * ((x.numpy() - mean.numpy()) / std) ** 2 + np.log(std * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(gaussian_nll(x, mean, log_var).numpy(), right, rtol=1e-5)


def test_the_loss_is_a_density_in_the_units_of_x():
    x = numbers(4, 10, 2)
    small, large = forecaster(features=2).fit_scale(x), forecaster(features=2).fit_scale(100 * x + 7)
    (mean, log_var), _ = small.step(x)
    (mean_large, log_var_large), _ = large.step(100 * x + 7)
    np.testing.assert_allclose(mean_large.detach(), 100 * mean.detach().numpy() + 7, rtol=1e-3)
    np.testing.assert_allclose(log_var_large.detach(), log_var.detach().numpy() + 2 * math.log(100), rtol=1e-4)
    assert large(100 * x + 7).item() == pytest.approx(small(x).item() + math.log(100), rel=1e-4)
    right = gaussian_nll(minigen.tensor(x[:, 1:]), mean[:, :-1], log_var[:, :-1]).mean()
    assert small(x).item() == pytest.approx(right.item(), rel=1e-5)


def test_samples_of_an_untaught_forecaster_are_a_random_walk():
    model = forecaster(layers=1)
    with minigen.no_grad():
        model.head.weight.fill_(0.0)
        model.head.bias.copy_(minigen.tensor([0.5, math.log(0.09)]))
    x = numbers(2, 4)
    futures = model.sample(x, steps=3, draws=20_000, generator=Generator(0)).numpy()
    assert futures.shape == (20_000, 2, 3)
    np.testing.assert_allclose(futures.mean(0), x[:, -1:] + 0.5 * np.arange(1, 4), atol=0.02)
    np.testing.assert_allclose(futures.var(0), [[0.09, 0.18, 0.27]] * 2, rtol=0.06)
    mean, variance = model.forecast(x, 3, 5000, Generator(0))
    assert mean.shape == variance.shape == (2, 3)
    assert model.forecast(x[..., None], 3, 10)[0].shape == (2, 3, 1)


@pytest.mark.parametrize("cell", CELLS)
def test_its_first_step_is_the_gaussian_that_it_says(cell):
    model, x = forecaster(cell), numbers(2, 6)
    (mean, log_var), _ = model.step(x)
    one = model.sample(x, 1, 20_000, Generator(0)).numpy()[..., 0]
    std = np.exp(log_var.detach().numpy()[:, -1, 0] / 2)
    np.testing.assert_allclose(one.mean(0), mean.detach().numpy()[:, -1, 0], atol=0.04)
    np.testing.assert_allclose(one.std(0), std, rtol=0.04)


def test_it_learns_to_forecast():
    world = AutoregressiveSeries(length=40)
    minigen.manual_seed(0)
    model = Forecaster(hidden=16, cell="gru").fit_scale(world.sample(200, Generator(0)))
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        model(world.sample(32, Generator(step))).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x = world.sample(500, Generator(1000))
    error = (model.step(x[:, :-1])[0][0].detach().numpy()[..., 0] - x[:, 1:])[:, 10:]
    assert world.innovation_variance * 0.95 < (error**2).mean() < world.innovation_variance * 1.2


def test_dropout_drops_only_while_training():
    for model, x in ((text_model(dropout=0.5), symbols()), (forecaster(dropout=0.5), numbers(3, 12))):
        out = lambda: model.step(x)[0] if isinstance(model, RecurrentLM) else model.step(x)[0][0]  # noqa: B023
        assert not (out() == out()).numpy().all()
        model.eval()
        assert (out() == out()).numpy().all()


def test_float64_and_device_of_the_model():
    model = text_model().double()
    assert model.step(symbols())[0].dtype == minigen.float64
    assert forecaster().double().step(numbers(2, 3))[0][0].dtype == minigen.float64


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="cell is one of"):
        RecurrentConfig(cell="transformer")
    with pytest.raises(ArgumentError, match="cell is one of"):
        ForecasterConfig(cell="LSTM")
    with pytest.raises(ArgumentError, match="embedding and hidden must be equal"):
        RecurrentConfig(embedding=8, hidden=16, tied=True)
    with pytest.raises(ShapeError, match=r"ids are \(N, T\)"):
        text_model().step(np.array([1, 2]))
    with pytest.raises(DtypeError, match="whole numbers"):
        text_model().step(numbers(2, 3))
    with pytest.raises(ShapeError, match="ids and targets"):
        text_model()(symbols(3, 5), symbols(3, 4))
    with pytest.raises(ShapeError, match="at least two symbols"):
        text_model().log_prob(symbols(3, 1))
    with pytest.raises(ArgumentError, match="temperature"):
        text_model().sample(1, 1, [1], temperature=0.0)
    with pytest.raises(ShapeError, match=r"the prompt is \(T,\) or \(4, T\)"):
        text_model().sample(4, 1, symbols(3, 2))
    with pytest.raises(ShapeError, match=r"x is \(N, T, 2\)"):
        forecaster(features=2).step(numbers(3, 5))
    with pytest.raises(ShapeError, match="at least two values"):
        forecaster()(numbers(3, 1))
    with pytest.raises(DataError, match="never changes"):
        forecaster().fit_scale(np.ones((2, 5), np.float32))
