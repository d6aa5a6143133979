"""Capture on the CPU: a replay gives the numbers of the step to the last bit, or says why it cannot."""

import contextlib
import random as python_random
import warnings

import numpy as np
import pytest

import minigen
from minigen import amp, nn, optim
from minigen.capture import replay
from minigen.capture.replay import Program, Replay
from minigen.errors import CaptureError
from minigen.nn import functional as F


def bits(*tensors):
    return [np.array(value(x)).tobytes() for x in tensors]


def value(x):
    return x.data if isinstance(x, minigen.Tensor) else x


def two_ways(build, calls=8):
    """`build()` gives (step, things to compare, inputs of each call). Runs it as it is and captured."""
    found = []
    for wrapped in (lambda step: step, lambda step: Replay(step, strict=True)):
        minigen.manual_seed(1)
        step, things, inputs = build()
        run = wrapped(step)
        losses = [run(*[minigen.tensor(x) for x in inputs(i)]) for i in range(calls)]
        found.append((bits(*losses), bits(*things())))
    assert isinstance(next(iter(run.programs.values())), Program)
    assert found[0] == found[1]
    return run


def batches(*shapes, classes=None):
    def inputs(i):
        random = np.random.default_rng(i)
        made = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
        return made if classes is None else [*made, random.integers(0, classes, shapes[0][0])]

    return inputs


def trained(model, optimiser):
    return lambda: [*model.state_dict().values(), *[p.grad for p in model.parameters()]]


def test_a_classifier_with_everything_a_loop_has():
    def build():
        model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.LeakyReLU(), nn.Dropout(0.3), nn.LayerNorm(16), nn.Linear(16, 4)
        )
        optimiser = optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
        average = optim.EMA(model, 0.9)

        def step(x, y):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimiser.step()
            schedule.step()
            average.update()
            return loss

        return (
            step,
            lambda: [*trained(model, optimiser)(), *average.state_dict()["shadow"].values()],
            batches((5, 6), classes=4),
        )

    two_ways(build)


def test_gradients_that_are_gathered_over_two_batches():
    def build():
        model = nn.Linear(3, 2)
        optimiser = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, z):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            loss = model(z).abs().mean()
            loss.backward()
            optimiser.step()
            return loss

        return step, trained(model, optimiser), batches((4, 3), (4, 3))

    two_ways(build)


def test_a_variational_model_draws_anew():
    def build():
        encoder, decoder = nn.Linear(5, 4), nn.Linear(2, 5)
        optimiser = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)

        def step(x):
            mean, log_variance = encoder(x).chunk(2, -1)
            z = mean + (0.5 * log_variance).exp() * minigen.randn_like(mean)
            loss = F.mse_loss(decoder(z), x) + (log_variance.exp() + mean * mean - log_variance).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return {"loss": loss, "z": z}["loss"]

        return step, lambda: [*encoder.parameters(), *decoder.parameters()], batches((3, 5))

    two_ways(build)


def test_two_networks_and_a_penalty_on_gradients():
    def build():
        maker, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        of_maker = optim.Adam(maker.parameters(), lr=1e-2)
        of_critic = optim.Adam(critic.parameters(), lr=1e-2)

        def step(real):
            fake = maker(minigen.randn(4, 2))
            part = minigen.rand(4, 1)
            between = (part * real + (1 - part) * fake.detach()).requires_grad_()
            (g,) = minigen.autograd.grad(critic(between).sum(), between, create_graph=True)
            penalty = ((g.norm(dim=1) - 1) ** 2).mean()
            loss = critic(fake.detach()).mean() - critic(real).mean() + 10 * penalty
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
            of_maker.zero_grad()
            other = -critic(fake).mean()
            other.backward()
            of_maker.step()
            return loss, other

        return step, lambda: [*maker.parameters(), *critic.parameters()], batches((4, 3))

    run = Replay(build()[0], strict=True)
    minigen.manual_seed(1)
    eager, things, inputs = build()
    want = [bits(*eager(minigen.tensor(*inputs(i)))) for i in range(8)], bits(*things())
    minigen.manual_seed(1)
    step, things, inputs = build()
    run = Replay(step, strict=True)
    found = [bits(*run(minigen.tensor(*inputs(i)))) for i in range(8)], bits(*things())
    assert found == want


@pytest.mark.parametrize("kind", ["lstm", "gpt", "conv", "checkpointed"])
def test_layers(kind):
    def build():
        if kind == "lstm":
            network = nn.LSTM(3, 5, batch_first=True)
            compute, shape = (lambda x: network(x)[0]), (2, 4, 3)
        elif kind == "gpt":
            network = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
            compute, shape = (lambda x: network(x, is_causal=True, src_mask=mask)), (2, 5, 8)
            mask = nn.Transformer.generate_square_subsequent_mask(5)
        elif kind == "conv":
            network = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.MaxPool2d(2),
                nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Upsample(scale_factor=2),
            )  # fmt: skip
            compute, shape = network, (2, 2, 6, 6)
        else:
            network = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 3))
            compute, shape = (lambda x: minigen.autograd.checkpoint(network, x, preserve_random=False)), (4, 3)
        optimiser = optim.SGD(network.parameters(), lr=1e-2)

        def step(x):
            optimiser.zero_grad()
            loss = compute(x).square().mean()
            loss.backward()
            optimiser.step()
            return loss

        return step, trained(network, optimiser), batches(shape)

    two_ways(build, 5)


def test_writes_in_place_and_plain_computing():
    def build():
        memory = minigen.zeros(3)
        weights = minigen.ones(3)

        def step(x):
            with minigen.no_grad():
                memory.mul_(0.5)
                memory[1:] = x[1:]
                weights.data = weights.data
            return (memory * weights + x.abs()).cumsum(0)

        return step, lambda: [memory], batches((3,))

    two_ways(build)


def test_of_mixed_types():
    def build():
        def step(x):
            return (x * (x > 0) + minigen.arange(3)).sum()

        return step, list, batches((2, 3))

    two_ways(build)


def test_another_shape_is_another_program():
    model = nn.Linear(3, 2)
    run = Replay(lambda x: model(x).sum(), strict=True)
    for n in (2, 2, 5, 2, 5, 5, 2):
        x = minigen.randn(n, 3)
        assert run(x).item() == model(x).sum().item()
    assert len(run.programs) == 2


def test_the_blocks_around_a_call_are_part_of_it():
    """A replay in float16, or by kernels, must not stand for a call outside of that block."""
    model = nn.Linear(3, 2)
    run = Replay(lambda x: model(x), strict=True)
    blocks = [contextlib.nullcontext, lambda: amp.autocast("cpu", "float16"), minigen.kernels.disabled, minigen.no_grad]
    for _ in range(3):
        for block in blocks:
            with block():
                found, want = run(X), model(X)
                assert found.dtype == want.dtype and bits(found) == bits(want)
    assert len(run.programs) == (len(blocks) if minigen.kernels.enabled() else len(blocks) - 1)


def test_a_nan_is_hunted_in_the_step_itself():
    run = Replay(lambda x: x.log().sum(), strict=True)
    for _ in range(3):
        run(X)
    with minigen.detect_anomaly(), pytest.raises(minigen.errors.NonFiniteError, match="log"):
        run(-X)


def test_nothing_is_kept_of_the_last_step():
    minigen.manual_seed(0)
    model = nn.Linear(300, 300)
    run = Replay(lambda x: model(x).relu().sum(), strict=True)
    for _ in range(4):
        run(minigen.randn(200, 300))
    (program,) = run.programs.values()
    large = [v for v in program.values if isinstance(v, np.ndarray) and v.size == 200 * 300]
    assert len(large) <= 1  # the input


# ---- what cannot be captured ----


def refused(step, *arguments, calls=3):
    """The sentence that says why `step` runs as it is."""
    run = Replay(step)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(calls):
            run(*arguments)
    assert len(said) == 1, [str(s.message) for s in said]
    with pytest.raises(CaptureError):
        strict = Replay(step, strict=True)
        for _ in range(calls):
            strict(*arguments)
    return str(said[0].message)


X = minigen.tensor(np.ones((2, 3), np.float32))


def read(x):
    if x.sum().item() > 0:
        x = x + 1
    return x


def from_numpy(x):
    return x + minigen.tensor(np.random.default_rng().random(3).astype(np.float32))


def python_number(x):
    return x * python_random.random()


def new_batch(x):
    return x + minigen.Tensor(np.zeros(3, np.float32))


def ragged(x):
    return x[x > 0]


def own_draws(x):
    return x * float(minigen.random.default_generator.uniform() < 0.5)


def number(x):
    return float(x.sum().data)


@pytest.mark.parametrize(
    "step, line, why",
    [
        (read, "x.sum().item() > 0", "item() hands a number to Python"),
        (from_numpy, "return x + minigen.tensor(np", "no op made it"),
        (python_number, "return x * python_random", "one call"),
        (new_batch, "return x + minigen.Tensor(np", "no op made it"),
        (ragged, "return x[x > 0]", "depends on the numbers"),
        (own_draws, "return x * float(minigen.random", "random numbers are drawn outside of ops"),
        (number, "", "return tensors"),
    ],
)
def test_what_cannot_be_captured_says_why(step, line, why):
    message = refused(step, X)
    assert why in message and line in message


def test_a_number_that_is_another_at_each_call_is_said():
    run, calls = Replay(lambda x, i: x * i), replay.ONCE + 5
    with pytest.warns(UserWarning, match="give what changes from call to call as a tensor") as said:
        for i in range(calls):
            assert run(X, i).sum().item() == 6 * i
    assert len(said) == 1 and len(run.first) <= replay.ONCE


def test_another_thread_writes_on_no_tape():
    import threading

    def step(x):
        other = threading.Thread(target=lambda: minigen.ones(3).mul(2.0).sum().item())
        other.start(), other.join()
        return x + 1

    run = Replay(step, strict=True)
    for _ in range(3):
        run(X)
    (program,) = run.programs.values()
    assert [entry.name for entry in program.tape.entries] == ["add"]


def test_a_number_that_changes_later_is_found(monkeypatch):
    monkeypatch.setattr(replay, "EVERY", 5)
    state = {"calls": 0}

    def step(x):
        state["calls"] += 1
        return x * (1.0 if state["calls"] < 3 else 2.0)

    run = Replay(step)
    with pytest.raises(CaptureError, match="no longer the one"):
        for _ in range(12):
            run(X)


def changed_memory(model, loose):
    model[0].weight.data = model[0].weight.data * 2


def changed_loose_tensor(model, loose):
    loose.data = loose.data + 1


def changed_mode(model, loose):
    model.eval()


def changed_hooks(model, loose):
    model[0].register_forward_hook(lambda module, args, y: y * 3)


def frozen_layer(model, loose):
    model[0].requires_grad_(False)


def frozen_tensor(model, loose):
    loose.requires_grad_(False)


CHANGES = [changed_memory, changed_loose_tensor, changed_mode, changed_hooks, frozen_layer, frozen_tensor]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("before", [1, 4], ids=["after the first call", "after replays"])
def test_what_a_step_finds_changed_is_captured_anew(change, before):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    loose = minigen.ones(2, requires_grad=True)

    def step(x):
        for p in (*model.parameters(), loose):
            p.grad = None
        y = model(x) * loose
        y.sum().backward()
        return y, [None if p.grad is None else p.grad.clone() for p in (*model.parameters(), loose)]

    run = Replay(lambda x: step(x)[0], strict=True)
    for calls in (before, 5):
        for _ in range(calls):
            minigen.manual_seed(3)
            y = run(X)
            found = [None if p.grad is None else bits(p.grad) for p in (*model.parameters(), loose)]
            minigen.manual_seed(3)
            want, gradients = step(X)
            assert bits(y) == bits(want) and found == [None if g is None else bits(g) for g in gradients]
        if change is not None:
            change(model, loose)
            change = None
    (program,) = run.programs.values()
    assert type(program) is Program


def test_gradients_are_set_and_read_by_the_program():
    """Gradient descent by hand: the gradients are dropped as attributes, and used as tensors."""

    def build():
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))

        def step(x, y):
            for p in model.parameters():
                p.grad = None
            loss = F.mse_loss(model(x), y)
            loss.backward()
            with minigen.no_grad():
                for p in model.parameters():
                    p.copy_(p - 0.1 * p.grad)
            return loss

        return step, lambda: [*model.parameters(), *[p.grad for p in model.parameters()]], batches((5, 3), (5, 2))

    two_ways(build)


def test_gradients_are_gathered_over_calls_and_dropped_between():
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    run = Replay(lambda x: model(x).sum().backward(), strict=True)
    for i in range(12):
        x = minigen.tensor(np.random.default_rng(i).standard_normal((4, 3)).astype(np.float32))
        if i % 3 == 0:
            model.zero_grad(), twin.zero_grad()
        run(x), twin(x).sum().backward()
        assert bits(model.weight.grad, model.bias.grad) == bits(twin.weight.grad, twin.bias.grad)
    assert next(iter(run.programs.values())).calls > 5


def test_a_step_may_change_modes_itself():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))

    def step(x):
        model.eval()
        y = model(x)
        model.train()
        return y

    run = Replay(step, strict=True)
    for _ in range(4):
        assert bits(run(X)) == bits(step(X))
    (program,) = run.programs.values()
    assert program.calls == 2


def test_a_mode_that_changes_at_every_call_is_said():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    run = Replay(lambda x: model.train(not model.training)(x))
    with pytest.warns(UserWarning, match="again and again"):
        for _ in range(replay.ONCE + 3):
            minigen.manual_seed(3)
            y = run(X)
            model.train(not model.training)
            minigen.manual_seed(3)
            assert bits(y) == bits(model.train(not model.training)(X))


def test_a_step_that_raises_leaves_no_tape():
    from minigen.autograd import modes

    def step(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Replay(step)(X)
    assert modes.tape is None and not modes.watched and minigen.tensor(1.0).item() == 1.0
