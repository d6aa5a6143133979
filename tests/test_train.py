"""The training loop: what it computes, what it shows, how it stops, and that it goes on where it stopped."""

import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigen
from minigen import checkpoint, nn, optim
from minigen.checkpoint import Checkpoints
from minigen.data import DataLoader, TensorDataset
from minigen.errors import ArgumentError, CheckpointError, NonFiniteError
from minigen.nn import functional as F
from minigen.random import Generator
from minigen.train import Interrupted, Run, fit
from minigen.train.batches import Batches, length
from minigen.train.screen import Screen


def data(rows=40):
    x = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0], [0.5], [3.0]], np.float32) + 0.5)


def batches(size=8):
    x, y = data()
    return [(minigen.tensor(x[i : i + size]), minigen.tensor(y[i : i + size])) for i in range(0, len(x), size)]


def squares(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def parts(lr=0.1):
    minigen.manual_seed(0)
    model = nn.Linear(4, 1)
    return model, optim.SGD(model.parameters(), lr=lr)


def by_hand(steps, clip=None, decay=None):
    """The same loop in the plainest words."""
    model, optimizer = parts()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    for step in range(steps):
        loss = squares(model, batches()[step % 5])
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if decay:
            for name, p in model.named_parameters():
                average[name] = decay * average[name] + (1 - decay) * p.detach()
        losses.append(loss.item())
    return losses, model, average


def test_it_is_the_loop_one_would_write():
    losses, by_us, _ = by_hand(12)
    model, optimizer = parts()
    run = fit(model, squares, batches(), optimizer, steps=12, progress=False)
    assert list(run.losses) == losses and run.step == 12
    np.testing.assert_array_equal(model.weight.data, by_us.weight.data)
    assert losses[-1] < 0.1 * losses[0]


def test_clipping_and_averaging():
    losses, by_us, average = by_hand(12, clip=0.5, decay=0.5)
    model, optimizer = parts()
    ema = optim.EMA(model, 0.5)
    seen = []

    def evaluate(model):
        seen.append((model.training, minigen.is_grad_enabled(), model.weight.data.copy()))
        return 0.0

    run = fit(model, squares, batches(), optimizer, steps=12, clip_norm=0.5, ema=ema, evaluate=evaluate, progress=False)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-6)
    np.testing.assert_allclose(model.weight.data, by_us.weight.data, rtol=1e-6)
    training, recording, weight = seen[-1]
    assert not training and not recording
    np.testing.assert_allclose(weight, average["weight"].data, rtol=1e-5)
    assert model.training


def test_clipping_by_value():
    model, optimizer = parts(lr=1.0)
    before = model.weight.data.copy()
    fit(model, squares, batches(), optimizer, steps=1, clip_value=1e-3, progress=False)
    assert 0 < np.abs(model.weight.data - before).max() <= 1.0001e-3


def test_the_schedule_steps_once_a_step():
    model, optimizer = parts()
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    fit(model, squares, batches(), optimizer, steps=3, scheduler=schedule, progress=False)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


def test_a_plateau_schedule_follows_the_evaluations():
    model, optimizer = parts()
    plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    numbers = iter([3.0, 2.0, 2.0, 2.0, 2.0])
    fit(model, squares, batches(), optimizer, steps=10, scheduler=plateau, every=2, progress=False,
        evaluate=lambda m: {"accuracy": 1.0, "loss": next(numbers)})  # fmt: skip
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5
    with pytest.raises(ArgumentError, match="follows an evaluation"):
        fit(model, squares, batches(), optimizer, steps=1, scheduler=plateau, progress=False)


def test_evaluation_does_not_change_training():
    """However often it is evaluated, and whatever evaluation draws, the run is the same."""

    def noisy(model, batch):
        return squares(model, (batch[0] + minigen.randn(*batch[0].shape), batch[1]))

    runs = []
    for every, drawn in [(1, 5), (4, 0), (None, 3)]:
        model, optimizer = parts()

        def evaluate(model, drawn=drawn):
            return {"drawn": minigen.randn(drawn + 1).mean(), "two": 2}

        run = fit(model, noisy, batches(), optimizer, steps=8, evaluate=evaluate, every=every, progress=False)
        runs.append((list(run.losses), model.weight.data.tolist()))
    assert runs[0] == runs[1] == runs[2]
    assert [step for step, _ in run.evaluations] == list(range(1, 9)) and run.evaluations[0][1]["two"] == 2.0


def test_more_numbers_beside_the_loss():
    model, optimizer = parts()

    def loss(model, batch):
        value = squares(model, batch)
        return {"loss": value, "root": value.sqrt(), "three": 3}

    run = fit(model, loss, batches(), optimizer, steps=4, progress=False)
    assert set(run.history) == {"loss", "root", "three"}
    np.testing.assert_allclose(np.square(run.history["root"]), run.losses, rtol=1e-5)


# Batches


def test_batches_from_a_function_a_list_and_a_loader():
    drawn = iter(range(100))
    assert [next(Batches(lambda: next(drawn))) for _ in range(3)] == [0, 1, 2]
    stream = Batches([1, 2, 3])
    assert [next(stream) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    loader = DataLoader(TensorDataset(np.arange(6)), batch_size=4, shuffle=True)
    stream = Batches(loader)
    rows = np.concatenate([next(stream)[0].data for _ in range(4)])
    assert sorted(rows[:6]) == sorted(rows[6:]) == list(range(6))


@pytest.mark.parametrize("source", [[1, 2, 3], (1, 2, 3), range(3)])
@pytest.mark.parametrize("used", range(8))
def test_a_stream_goes_on_where_it_was(source, used):
    first = Batches(source)
    for _ in range(used):
        next(first)
    second = Batches(source)
    second.load_state_dict(first.state_dict())
    assert [next(first) for _ in range(5)] == [next(second) for _ in range(5)]


@pytest.mark.parametrize(
    ("source", "said"),
    [(3, "neither"), ([], "no more after 0"), (iter([1, 2]), "not a generator"), ((x for x in [1, 2]), "after 2")],
)
def test_streams_that_end(source, said):
    with pytest.raises(ArgumentError, match=said):
        stream = Batches(source)
        for _ in range(3):
            next(stream)


def test_length_of_a_batch():
    x = minigen.zeros(5, 3)
    assert [length(x), length((x, 1)), length({"x": [x]}), length(3), length(minigen.tensor(1.0)), length(())] == [
        5, 5, 5, None, None, None,
    ]  # fmt: skip


# NaN


class Broken(nn.Module):
    """log(w x): fine until w goes below zero."""

    def __init__(self, first_bad):
        self.weight = nn.Parameter(minigen.ones(1).data)
        self.register_buffer("seen", minigen.zeros(1))
        self.first_bad = first_bad

    def forward(self, x):
        self.seen.data += 1
        x = x * self.weight + 0 * minigen.rand(1)
        if self.seen.item() >= self.first_bad:
            x = x - 100.0
        return x.log()


def broken_run(tmp_path, **options):
    minigen.manual_seed(0)
    model = Broken(first_bad=6)
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    x = minigen.ones(3)
    return model, lambda: fit(
        model,
        lambda model, x: model(x).mean(),
        [x],
        optimizer,
        steps=20,
        every=2,
        checkpoints=tmp_path,
        progress=False,
        **options,
    )


def test_a_nan_stops_the_run_and_names_the_op(tmp_path):
    model, train = broken_run(tmp_path)
    with pytest.raises(NonFiniteError) as error:
        train()
    text = str(error.value)
    assert text.startswith("step 6: log: its result of shape (3,) has a NaN")
    last = Checkpoints(tmp_path).latest()
    assert str(last) in text and last.name == "step-000004.safetensors"
    assert np.isfinite(model.weight.data).all()
    assert all(np.isfinite(x).all() for x in checkpoint.load(last)["parts"]["model"].values())


def test_a_bad_gradient_under_a_good_loss():
    """sqrt at 0 has the value 0 and the gradient Inf: the loss alone shows nothing."""
    weight = nn.Parameter(np.zeros(2, np.float32))
    model = nn.Module()
    model.weight = weight
    with pytest.raises(NonFiniteError, match=r"step 1: sqrt: the gradient of its argument 'x' has an Inf"):
        fit(model, lambda m, _: m.weight.sqrt().sum(), [0], optim.SGD([weight], lr=0.1), steps=3, progress=False)
    assert (weight.data == 0).all()


def test_a_step_that_ruined_the_weights():
    model, optimizer = parts(lr=1e39)
    with pytest.raises(NonFiniteError, match=r"weight was NaN or Inf before the step began.*smaller lr"):
        fit(model, squares, batches(), optimizer, steps=9, progress=False)


def test_the_same_numbers_are_drawn_when_the_step_is_run_again():
    """The NaN depends on what was drawn; the second look draws the same."""
    weight = nn.Parameter(np.ones(1, np.float32))
    model = nn.Module()
    model.weight = weight
    own = Generator(3)

    def loss(model, _):
        return (model.weight * minigen.rand(1) * minigen.rand(1, generator=own) - 0.01).log().sum()

    with pytest.raises(NonFiniteError, match="log: its result"):
        fit(model, loss, [0], optim.SGD([weight], lr=0.0), steps=2000, generator=own, progress=False)


def test_nan_weights_never_replace_a_good_checkpoint(tmp_path):
    model, _ = parts()
    run = Run(3, checkpoints=tmp_path, every=1, model=model, progress=False)
    steps = iter(run)
    next(steps), next(steps)
    good = Checkpoints(tmp_path).latest().read_bytes()
    model.weight.data[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"model.weight is NaN or Inf, so nothing is saved"):
        next(steps)
    assert Checkpoints(tmp_path).steps() == [1] and Checkpoints(tmp_path).latest().read_bytes() == good


def test_a_causal_mask_of_inf_may_be_saved(tmp_path):
    model, _ = parts()
    model.register_buffer("mask", minigen.tensor(np.triu(np.full((3, 3), -np.inf, np.float32), 1)))
    assert checkpoint.find_non_finite(model) is None
    model.mask.data[0, 0] = np.nan
    assert checkpoint.find_non_finite(model) == "mask"


# Resuming


def train_some(tmp_path, steps, seed=0, **options):
    minigen.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    own = Generator(seed)
    loader = DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True)

    def loss(model, batch):
        return squares(model, (batch[0] + 0.1 * minigen.randn(*batch[0].shape, generator=own), batch[1]))

    run = fit(
        model, loss, loader, optimizer, steps=steps, scheduler=optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        ema=optim.EMA(model, 0.9), generator=own, evaluate=lambda m: minigen.randn(1), every=3, progress=False,
        **options,
    )  # fmt: skip
    return run, [p.data.tolist() for p in model.parameters()], minigen.randn(3).tolist()


def test_resuming_gives_the_same_bits(tmp_path):
    straight = train_some(tmp_path, 10)
    train_some(tmp_path, 5, checkpoints=tmp_path)
    resumed = train_some(tmp_path, 10, seed=1, checkpoints=tmp_path, resume=True)
    assert straight[1:] == resumed[1:]
    assert straight[0].losses == resumed[0].losses
    assert [step for step, _ in resumed[0].evaluations] == [3, 5, 6, 9, 10]


def test_resuming_from_a_path_sets_later_checkpoints_aside(tmp_path):
    straight = train_some(tmp_path, 12, checkpoints=tmp_path, keep=9)
    third = Checkpoints(tmp_path).path(3)
    again = train_some(tmp_path, 6, seed=1, checkpoints=tmp_path, resume=third)
    assert list(again[0].losses) == list(straight[0].losses[:6])
    assert Checkpoints(tmp_path).steps() == [3, 6]
    assert Checkpoints(tmp_path / "previous").steps() == [6, 9, 12]


def test_resuming_from_a_folder(tmp_path):
    train_some(tmp_path, 4, checkpoints=tmp_path / "a")
    again = train_some(tmp_path, 8, seed=1, checkpoints=tmp_path / "b", resume=tmp_path / "a")
    assert again[1] == train_some(tmp_path, 8)[1]
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        Run(3, resume=tmp_path)


def test_resuming_a_finished_or_an_empty_run(tmp_path):
    first = train_some(tmp_path, 4, checkpoints=tmp_path / "x", resume=True)
    again = train_some(tmp_path, 4, seed=1, checkpoints=tmp_path / "x", resume=True)
    assert first[0].step == again[0].step == 4 and first[1] == again[1]


def test_starting_anew_keeps_what_was_there(tmp_path):
    train_some(tmp_path, 4, checkpoints=tmp_path)
    train_some(tmp_path, 2, checkpoints=tmp_path)
    assert Checkpoints(tmp_path).steps() == [2] and Checkpoints(tmp_path / "previous").steps() == [3, 4]


def test_resuming_skips_what_is_not_whole(tmp_path):
    train_some(tmp_path, 6, checkpoints=tmp_path)
    os.truncate(Checkpoints(tmp_path).path(6), 100)
    run, weights, _ = train_some(tmp_path, 6, seed=1, checkpoints=tmp_path, resume=True)
    assert weights == train_some(tmp_path, 6)[1] and len(run.losses) == 6


def test_what_does_not_fit_is_said(tmp_path):
    train_some(tmp_path, 2, checkpoints=tmp_path)
    model, optimizer = parts()
    with pytest.raises(CheckpointError, match="of a run with the parts model, optimizer, scheduler, ema, data"):
        fit(model, squares, batches(), optimizer, steps=3, checkpoints=tmp_path, resume=True, progress=False)
    checkpoint.save(tmp_path / "x", {"step": 1})
    with pytest.raises(CheckpointError, match="is not the checkpoint of a run: it holds step"):
        fit(model, squares, batches(), optimizer, steps=3, resume=tmp_path / "x", progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"steps": 2, "every": 0}, "every=0"),
        ({"steps": 2, "resume": True}, "resume=True: from where"),
        ({"steps": 2, "model": 3}, "a int has no state_dict"),
    ],
)
def test_wrong_arguments_of_a_run(options, said):
    with pytest.raises(ArgumentError, match=said):
        Run(**options)


def test_a_loss_that_is_not_a_tensor():
    model, optimizer = parts()
    with pytest.raises(ArgumentError, match=r"return the loss itself \(not loss.item\(\)\)"):
        fit(model, lambda m, b: squares(m, b).item(), batches(), optimizer, steps=1, progress=False)


# Stopping


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_saves(tmp_path, capsys, number, code):
    model, optimizer = parts()
    before = signal.getsignal(number)

    def loss(model, batch):
        if len(optimizer.state) is not None and next(count) == 3:
            signal.raise_signal(number)
        return squares(model, batch)

    count = iter(range(1, 100))
    with pytest.raises(Interrupted) as stop:
        fit(model, loss, batches(), optimizer, steps=50, checkpoints=tmp_path, progress=False)
    assert stop.value.code == code and signal.getsignal(number) is before
    assert Checkpoints(tmp_path).steps() == [3]
    said = capsys.readouterr().err
    assert f"stopped after step 3 of 50, saved as {Checkpoints(tmp_path).path(3)}" in said and "--resume" in said
    again = fit(model, squares, batches(), optimizer, steps=6, checkpoints=tmp_path, resume=True, progress=False)
    assert list(again.losses) == by_hand(6)[0]


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    model, optimizer = parts()

    def loss(model, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        fit(model, loss, batches(), optimizer, steps=5, checkpoints=tmp_path, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_a_notebook_the_kernel_lives(monkeypatch):
    monkeypatch.setattr("minigen.train.run.in_notebook", lambda: True)
    model, optimizer = parts()

    def loss(model, batch):
        signal.raise_signal(signal.SIGINT)
        return squares(model, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(model, loss, batches(), optimizer, steps=5, progress=False)


def test_training_in_another_thread():
    """No signal handler can be set there; the loop runs all the same."""
    results = []
    model, optimizer = parts()
    thread = threading.Thread(
        target=lambda: results.append(fit(model, squares, batches(), optimizer, steps=3, progress=False))
    )
    thread.start()
    thread.join()
    assert list(results[0].losses) == by_hand(3)[0]


def test_an_error_or_a_break_gives_the_signals_back():
    model, _ = parts()
    with pytest.raises(ZeroDivisionError):
        for _ in Run(3, model=model, progress=False):
            1 / 0  # noqa: B018
    for _ in Run(3, model=model, progress=False):
        break
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_script_exits_with_130(tmp_path):
    code = (
        "import os, signal; from minigen.train import Run\n"
        "for step in Run(9, checkpoints=os.sys.argv[1], progress=False):\n"
        "    os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert "stopping after this step" in done.stderr and "stopped after step 1 of 9" in done.stderr
    assert Checkpoints(tmp_path).steps() == [1]


# A loop of one's own, and the screen


def test_a_hand_written_loop_of_two_optimisers(tmp_path):
    def train(steps, seed, resume):
        minigen.manual_seed(seed)
        g, d = nn.Linear(2, 2), nn.Linear(2, 1)
        g_optimizer, d_optimizer = optim.Adam(g.parameters()), optim.Adam(d.parameters())
        run = Run(
            steps, checkpoints=tmp_path, resume=resume, g=g, d=d, g_optimizer=g_optimizer, d_optimizer=d_optimizer,
            progress=False,
        )  # fmt: skip
        for _ in run:
            for optimizer, sign in [(d_optimizer, 1), (g_optimizer, -1)]:
                loss = sign * d(g(minigen.randn(4, 2))).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            run.log(loss=loss)
        return g.weight.data.tolist(), list(run.losses)

    straight = train(6, 0, False)
    train(3, 0, False)
    assert train(6, 1, True) == straight


def test_the_bar(monkeypatch):
    """On a terminal: step, loss, samples a second, time left. Elsewhere only the lines of the evaluations."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, bar in [(Terminal(), True), (io.StringIO(), False)]:
        monkeypatch.setattr(sys, "stderr", stream)
        clock = iter(np.arange(0, 100, 0.25))
        monkeypatch.setattr("minigen.train.screen.time.perf_counter", lambda clock=clock: next(clock))
        screen = Screen(20, 0, True)
        for step in range(20):
            screen.step({"loss": 3.0 - step / 10}, 64)
            if step == 9:
                screen.line("step 10   nll 2.5")
        screen.close()
        shown = stream.getvalue()
        assert "step 10   nll 2.5" in shown
        assert ("samples/s" in shown and "loss" in shown and "20/20" in shown) == bar
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    screen = Screen(2, 0, False)
    screen.step({"loss": 1.0}, 1), screen.line("x"), screen.close()
    assert stream.getvalue() == ""
