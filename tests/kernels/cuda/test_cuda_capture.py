"""Capture on the GPU, without one: a driver that writes down launches, and replays them on the emulated kernels.

While a step is captured no kernel runs, as on a card, and new memory holds NaN. So whatever of the step is not a launch
(a NumPy call) sees NaN, or numbers of another step, and the captured training comes apart from the ordinary one.
"""

import importlib
import importlib.util
import json
from contextlib import contextmanager

import numpy as np
import pytest

import minigen
from minigen import amp, kernels, nn, optim
from minigen.autograd import walk
from minigen.capture.graph import MOST, GraphStep
from minigen.errors import CaptureError
from minigen.kernels.cuda import compile, dropout, numbers, random
from minigen.kernels.cuda import optim as cuda_optim
from minigen.nn import functional as F

pytestmark = pytest.mark.kernels


class Writing:
    """A card that only writes down what it is to launch: stands for `compile.machine`."""

    def __init__(self, emulator, launches):
        self.emulator, self.launches = emulator, launches

    def __getattr__(self, name):
        return getattr(self.emulator, name)

    def place(self):
        return id(self)  # so that no function of another is found in a Source's cache

    def function(self, source, name, types):
        run = self.emulator.function(source, name, types)

        def launch(grid, block, arguments, *more):
            # Views hold the memory, as a card's pool does, but not the arrays: the engine asks who holds them.
            kept = [a.view() if isinstance(a, np.ndarray) else a for a in arguments]
            self.launches.append((run, (grid, block, kept, *more)))

        return launch


class Driver:
    """Stands for `capture.cuda.CudaDriver`: arrays are NumPy's, a graph is a list of launches."""

    arrays = np

    def __init__(self, emulator):
        self.emulator, self.copies, self.launched, self.fails, self.recording = emulator, [], 0, None, None

    def holds(self, array):
        return True

    def draws_on(self, device):
        return True

    @contextmanager
    def aside(self):
        with compile.running_on(self.emulator):
            yield

    def record(self, function):
        if self.fails is not None:
            raise self.fails
        launches, empty, empty_like = [], np.empty, np.empty_like

        def unknown(array):
            array[...] = np.nan if array.dtype.kind == "f" else 77
            return array

        np.empty = lambda *args, **kwargs: unknown(empty(*args, **kwargs))
        np.empty_like = lambda *args, **kwargs: unknown(empty_like(*args, **kwargs))
        self.recording = launches
        try:
            with compile.running_on(Writing(self.emulator, launches)):
                result = function()
        finally:
            self.recording = None
            np.empty, np.empty_like = empty, empty_like
        return launches, result

    def put(self, array, values):
        self.copies.append(values.copy())
        array[...] = values

    def launch(self, launches):
        self.launched += 1
        for run, call in launches:
            run(*call)


@pytest.fixture
def driver(emulator, monkeypatch):
    def find(array, family):
        name = f"minigen.kernels.cuda.{family}"
        if not hasattr(array, "dtype") or array.dtype != np.float32 or importlib.util.find_spec(name) is None:
            return None
        return importlib.import_module(name)

    monkeypatch.setattr(kernels, "find", find)
    with compile.running_on(emulator):
        yield Driver(emulator)


# ---- captured training is ordinary training ----


class Training:
    """A network, what trains it, and its step: every op of it is a kernel."""

    def __init__(self, make, schedule=None, decay=None, clip=None, scaler=None, seed=3, every=1):
        minigen.manual_seed(seed)
        self.generator = minigen.random.Generator(5)
        self.inner, self.outer = nn.Linear(6, 16), nn.Linear(16, 5)
        self.parameters = [*self.inner.parameters(), *self.outer.parameters()]
        self.optimizer = make(self.parameters)
        self.schedule = schedule and schedule(self.optimizer)
        self.ema = decay and optim.EMA(self.parameters, decay, warmup=True, every=every)
        self.clip, self.scaler = clip, scaler

    def step(self, x, target, share):
        self.optimizer.zero_grad()
        h = F.dropout(F.gelu(self.inner(x)), 0.25, generator=self.generator)
        losses = F.cross_entropy(self.outer(h), target, reduction="none")
        losses.backward(share)  # the mean's gradient; `.mean()` itself is no kernel of ours
        norm = None
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.clip:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        if self.ema:
            self.ema.update()
        return {"losses": losses, "norm": norm}

    def run(self, step, steps, batch=9, scale=1.0, start=0):
        """What the steps return, and all state after each."""
        found = []
        for i in range(start, start + steps):
            data = np.random.default_rng(i)
            x = minigen.tensor(data.standard_normal((batch, 6)).astype(np.float32))
            target = minigen.tensor(data.integers(0, 5, batch))
            factor = scale(i) if callable(scale) else scale
            share = minigen.tensor(np.full(batch, factor / batch, np.float32))
            result = step(x, target, share)
            shadows = self.ema.shadow if self.ema else []
            arrays = [x.data for x in (result["losses"], result["norm"]) if x is not None]
            arrays += [*(p.data for p in self.parameters), *shadows]
            rates = [group["lr"] for group in self.optimizer.param_groups]
            found.append(([a.copy() for a in arrays], rates, self.generator.counter))
        return found


def same(got, want, rtol=1e-5, atol=1e-6):
    assert len(got) == len(want)
    for (one, rates, counter), (other, usual, count) in zip(got, want):
        assert rates == usual and counter == count
        for a, b in zip(one, other):
            assert np.allclose(a, b, rtol=rtol, atol=atol), abs(a - b).max()


CASES = {
    "adam, cosine, ema, clipping": {
        "make": lambda p: optim.AdamW(p, lr=1e-2),
        "schedule": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 10),
        "decay": 0.9,
        "clip": 0.5,
    },
    "sgd, one cycle of rate and momentum": {
        "make": lambda p: optim.SGD(p, lr=1e-2, momentum=0.9, dampening=0.1, nesterov=False),
        "schedule": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
    },
    "amsgrad in two groups, one cycle of rate and beta, ema every 2": {
        "make": lambda p: optim.Adam([{"params": p[:2], "lr": 3e-3}, {"params": p[2:]}], lr=1e-2, amsgrad=True),
        "schedule": lambda o: optim.lr_scheduler.OneCycleLR(o, [0.1, 0.02], total_steps=12),
        "decay": 0.8,
        "every": 2,
    },
    "schedules of schedules": {
        "make": lambda p: optim.Adam(p, lr=1e-2, weight_decay=0.1),
        "schedule": lambda o: optim.lr_scheduler.SequentialLR(
            o, [optim.lr_scheduler.LinearLR(o, 0.1, total_iters=3), optim.lr_scheduler.ExponentialLR(o, 0.7)], [4]
        ),
    },
}


@pytest.mark.parametrize("name", CASES)
def test_captured_training_equals_ordinary_training(driver, name):
    ordinary, captured = Training(**CASES[name]), Training(**CASES[name])
    want = ordinary.run(ordinary.step, 8)
    got = captured.run(GraphStep(captured.step, driver=driver), 8)
    same(got, want)
    assert driver.launched == 6
    first, last = want[0][0][0], want[-1][0][0]
    assert not np.allclose(first, last)  # it moves at all


def test_attention_drops_other_weights_at_each_replay(driver):
    shapes = (2, 2, 9, 8), (2, 2, 6, 8), (2, 2, 6, 8), (2, 2, 9, 8)
    data = [np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)]

    def run(wrap):
        minigen.manual_seed(7)
        tensors, g = [minigen.tensor(x, requires_grad=True) for x in data[:3]], minigen.tensor(data[3])

        def step(g):
            y = F.scaled_dot_product_attention(*tensors, dropout_p=0.3)
            return [y, *minigen.autograd.grad(y, tensors, g)]

        call = wrap(step)
        return [[x.data.copy() for x in call(g)] for _ in range(6)]

    want, got = run(lambda step: step), run(lambda step: GraphStep(step, driver=driver))
    assert driver.launched == 4 and not np.allclose(want[-1][0], want[-2][0])
    assert all(np.array_equal(a, b) for one, other in zip(got, want) for a, b in zip(one, other))


def test_it_goes_on_as_ordinary_training_and_as_captured_training_again(driver):
    ordinary, captured = (
        Training(**CASES["adam, cosine, ema, clipping"]),
        Training(**CASES["adam, cosine, ema, clipping"]),
    )
    want = ordinary.run(ordinary.step, 9)
    step = GraphStep(captured.step, driver=driver)
    got = captured.run(step, 4)
    got += captured.run(captured.step, 2, start=4)  # the host draws and counts in between
    got += captured.run(step, 3, start=6)
    same(got, want)
    state = captured.optimizer.state_dict()["state"][0]
    assert int(state["step"].item()) == 9


def test_another_shape_is_captured_anew(driver):
    ordinary, captured = (
        Training(**CASES["adam, cosine, ema, clipping"]),
        Training(**CASES["adam, cosine, ema, clipping"]),
    )
    step, want, got = GraphStep(captured.step, driver=driver), [], []
    for i, batch in enumerate([9, 9, 9, 4, 4, 9, 4, 4, 9]):
        want += ordinary.run(ordinary.step, 1, batch, start=i)
        got += captured.run(step, 1, batch, start=i)
    same(got, want)
    assert len(step.graphs) == 2 and driver.launched == 5


def test_an_overflow_is_skipped_and_the_scale_halved_inside_the_graph(driver):
    def scaled():
        scaler = amp.GradScaler(init_scale=64.0, growth_interval=3)
        case = {**CASES["adam, cosine, ema, clipping"], "clip": None}
        return Training(**case, scaler=scaler)

    ordinary, captured = scaled(), scaled()
    factor = lambda training: lambda i: np.inf if i in (1, 4) else training.scaler.get_scale()
    want = ordinary.run(ordinary.step, 8, scale=factor(ordinary))
    got = captured.run(GraphStep(captured.step, driver=driver), 8, scale=factor(captured))
    same(got, want)
    assert json.dumps(captured.scaler.state_dict()) == json.dumps(ordinary.scaler.state_dict())
    assert captured.scaler.get_scale() == 32.0  # 64, halved twice, doubled once
    assert int(captured.optimizer.state_dict()["state"][0]["step"].item()) == 6
    for before, after in ((0, 1), (3, 4)):
        assert np.array_equal(got[before][0][1], got[after][0][1])  # the weights stay


def test_what_is_not_a_kernel_is_detected(driver):
    """The test of the tests: one NumPy call in the step, and the training comes apart."""

    class Wrong(Training):
        def step(self, x, target, share):
            return super().step(x * 2.0, target, share)

    case = CASES["adam, cosine, ema, clipping"]
    ordinary, captured = Wrong(**case), Wrong(**case)
    want = ordinary.run(ordinary.step, 5)
    got = captured.run(GraphStep(captured.step, driver=driver), 5)
    same(got[:3], want[:3])  # the captured step saw the right numbers once
    with pytest.raises(AssertionError):
        same(got, want)


# ---- what the host does ----


def test_numbers_are_copied_only_where_they_changed(driver):
    training = Training(lambda p: optim.Adam(p, lr=1e-2), decay=0.9)
    training.ema.warmup = False
    step = GraphStep(training.step, driver=driver)
    training.run(step, 3)
    copied = len(driver.copies)
    training.run(step, 4, start=3)
    assert len(driver.copies) == copied  # the random stream moves on by itself
    training.optimizer.param_groups[0]["lr"] = 1e-3
    training.run(step, 1, start=7)
    assert len(driver.copies) == copied + 1
    training.generator.normal(100)  # somebody else draws
    training.run(step, 1, start=8)
    assert len(driver.copies) == copied + 2


def test_a_changed_constant_or_memory_is_captured_anew(driver):
    case = {"make": lambda p: optim.AdamW(p, lr=1e-2)}
    ordinary, captured = Training(**case), Training(**case)
    step = GraphStep(captured.step, driver=driver)
    want, got = ordinary.run(ordinary.step, 4), captured.run(step, 4)
    for training in (ordinary, captured):
        training.optimizer.param_groups[0]["weight_decay"] = 0.3
    want, got = want + ordinary.run(ordinary.step, 4, start=4), got + captured.run(step, 4, start=4)
    for training in (ordinary, captured):
        training.optimizer.load_state_dict(training.optimizer.state_dict())  # which moves everything
        training.generator.manual_seed(8)
    want, got = want + ordinary.run(ordinary.step, 4, start=8), got + captured.run(step, 4, start=8)
    same(got, want)
    assert driver.launched == 2 + 2 + 2


def test_a_nan_is_hunted_in_the_step_itself(driver):
    training = Training(lambda p: optim.SGD(p, lr=0.1))
    step = GraphStep(training.step, driver=driver)
    training.run(step, 4)
    launched = driver.launched
    with minigen.detect_anomaly(), pytest.raises(minigen.errors.NonFiniteError, match="cross_entropy"):
        training.run(step, 1, scale=np.nan)
    assert driver.launched == launched
    training.run(step, 1)
    assert driver.launched == launched + 1


class Arrivals:
    """Stands for walk.accumulate: the copy of a gradient, and the addition to one that is there, are launches too."""

    def __init__(self, driver, monkeypatch):
        self.driver = driver
        monkeypatch.setattr(walk, "accumulate", self)

    def __call__(self, leaf, g):
        if leaf.grad is None:
            array = np.empty_like(leaf.data)
            leaf.grad = minigen.Tensor(array)
            self.run(np.copyto, array, g)
        else:
            self.run(np.add, leaf.grad.data, g, leaf.grad.data)

    def run(self, function, *arrays):
        if self.driver.recording is None:
            function(*arrays)
        else:
            self.driver.recording.append((function, arrays))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_gradients_are_gathered_over_calls_and_dropped_between(driver, monkeypatch, every):
    """A leaf's first gradient is written, the next ones are added: which of the two a graph does is settled in it."""
    Arrivals(driver, monkeypatch)
    training = Training(lambda p: None)

    def step(x, target, share):
        h = F.gelu(training.inner(x))
        F.cross_entropy(training.outer(h), target, reduction="none").backward(share)

    captured = GraphStep(step, driver=driver)
    for i in range(20):
        if i % every == 0:
            for p in training.parameters:
                p.grad = None
        before = [None if p.grad is None else p.grad.clone() for p in training.parameters]
        x, target, share = arguments(batch=7)
        x = minigen.tensor(np.random.default_rng(i).standard_normal(x.shape).astype(np.float32))
        captured(x, target, share)
        found = [(p.grad, p.grad.data.copy()) for p in training.parameters]
        for p, g in zip(training.parameters, before):
            p.grad = g
        step(x, target, share)
        for p, (gradient, want) in zip(training.parameters, found):
            np.testing.assert_allclose(p.grad.data, want, rtol=1e-5, atol=1e-6)
            p.grad = gradient
    # one that writes and one that adds, and some that add to the gradients of ordinary steps
    assert min(every, 2) <= len(*captured.graphs.values()) <= MOST and driver.launched >= 8


def test_a_weight_of_no_module_that_is_frozen_is_captured_anew(driver, monkeypatch):
    Arrivals(driver, monkeypatch)
    draw = np.random.default_rng(0).standard_normal
    one, two = (nn.Parameter(draw(shape).astype(np.float32)) for shape in ((6, 6), (5, 6)))
    x, target, share = arguments(batch=7)

    def step(x, target, share):
        one.grad = two.grad = None
        F.cross_entropy(F.linear(F.linear(x, one), two), target, reduction="none").backward(share)

    captured = GraphStep(step, driver=driver)
    for _ in range(4):
        captured(x, target, share)
    assert one.grad is not None and driver.launched == 2
    one.requires_grad_(False)
    for launched in (2, 2, 3, 4):
        captured(x, target, share)
        assert one.grad is None and two.grad is not None and driver.launched == launched


def test_the_result_is_the_same_memory_at_each_call(driver):
    training = Training(lambda p: optim.SGD(p, lr=0.1))
    step = GraphStep(training.step, driver=driver)
    training.run(step, 3)
    one = step(*arguments())["losses"]
    kept = one.clone().numpy()
    two = step(*arguments())["losses"]
    assert two is one and not one.requires_grad and not np.array_equal(kept, one.numpy())


def arguments(batch=9):
    x = np.random.default_rng(7).standard_normal((batch, 6)).astype(np.float32)
    share = minigen.tensor(np.full(batch, 1 / batch, np.float32))
    return minigen.tensor(x), minigen.tensor(np.arange(batch) % 5), share


def test_a_written_parameter_is_known_to_be_written(driver):
    training = Training(lambda p: optim.SGD(p, lr=0.1))
    step = GraphStep(training.step, driver=driver)
    training.run(step, 3)
    y = training.outer(training.inner(arguments()[0]))  # keeps weights for its gradient
    step(*arguments())
    with pytest.raises(minigen.errors.GradientError, match="written in place"):
        y.backward(minigen.tensor(np.ones(y.shape, np.float32)))


# ---- what is refused ----

READS = {
    "item": lambda y: y[0].item(),
    "float": lambda y: float(y[0]),
    "int": lambda y: int(y[0]),
    "if": lambda y: 1 if y[0] > 0 else 0,
    "tolist": lambda y: y.tolist(),
    "numpy": lambda y: y.numpy(),
    "print": lambda y: f"{y}",
    "format": lambda y: f"{y[0]:.3f}",
}


@pytest.mark.parametrize("name", READS)
def test_a_number_that_goes_to_python_is_refused_with_its_line(driver, name):
    training = Training(lambda p: optim.SGD(p, lr=0.1))

    def step(*given):
        result = training.step(*given)
        READS[name](result["losses"].detach())
        return result

    step = GraphStep(step, driver=driver)
    training.run(step, 2)
    with pytest.raises(
        CaptureError, match=r"(?s)runs once only.*test_cuda_capture\.py:\d+: .*lambda y: .*return the tensor"
    ):
        training.run(step, 1)


@pytest.mark.parametrize("when", ["at the end", "before the update"])
@pytest.mark.parametrize("name", ["adam, cosine, ema, clipping", "schedules of schedules"])
def test_what_failed_leaves_the_host_as_it_was(driver, name, when):
    case = {**CASES[name], "clip": None}
    ordinary, captured = [Training(**case, scaler=amp.GradScaler(init_scale=4.0)) for _ in range(2)]
    looks = set()

    def look(place):
        if place in looks:
            print(captured.outer.weight[0, 0].item())

    def step(*given):
        result = captured.step(*given)
        look("at the end")
        return result

    captured.optimizer.register_step_pre_hook(lambda *_: look("before the update"))
    want = ordinary.run(ordinary.step, 7, scale=4.0)
    step = GraphStep(step, driver=driver)
    got = captured.run(step, 2, scale=4.0)
    looks.add(when)
    with pytest.raises(CaptureError, match=r"print\(captured\.outer\.weight\[0, 0\]\.item\(\)\)"):
        captured.run(step, 1, scale=4.0, start=2)
    looks.clear()
    got += captured.run(step, 5, scale=4.0, start=2)
    same(got, want)
    assert driver.launched == 3


def test_other_threads_draw_and_read_as_ever(driver):
    import threading

    training, drawn = Training(lambda p: optim.SGD(p, lr=0.1)), []

    def load():
        drawn.append((minigen.random.Generator(1).normal(4), minigen.tensor([2.0]).item()))

    def step(*given):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        return training.step(*given)

    training.run(GraphStep(step, driver=driver), 3)
    assert len(drawn) == 3 and all(np.array_equal(z, drawn[0][0]) and x == 2.0 for z, x in drawn)


def test_a_schedule_that_looks_at_the_loss_is_refused(driver):
    training = Training(lambda p: optim.SGD(p, lr=0.1))
    schedule = optim.lr_scheduler.ReduceLROnPlateau(training.optimizer)

    def step(*given):
        result = training.step(*given)
        schedule.step(result["losses"][0])
        return result

    with pytest.raises(CaptureError, match=r"(?s)ReduceLROnPlateau.*schedule\.step.*after the captured step"):
        training.run(GraphStep(step, driver=driver), 1)


@pytest.mark.parametrize("new", [optim.SGD, optim.Adam, optim.EMA, amp.GradScaler])
def test_state_that_is_new_is_refused(driver, new):
    training, late = Training(lambda p: optim.SGD(p, lr=0.1)), []

    def step(*given):
        result = training.step(*given)
        late.append(1)
        if len(late) > 2:
            if new is amp.GradScaler:
                new().unscale_(training.optimizer)
            elif new is optim.EMA:
                new([training.inner.weight])
            else:
                new([training.inner.weight], lr=0.1).step()
        return result

    step = GraphStep(step, driver=driver)
    training.run(step, 2)
    with pytest.raises(CaptureError, match=r"(?s)no ordinary step before.*test_cuda_capture\.py"):
        training.run(step, 1)


def test_an_error_of_the_card_names_the_line(driver):
    training = Training(lambda p: optim.SGD(p, lr=0.1))

    def step(*given):
        result = training.step(*given)
        if driver.launched is None:
            raise RuntimeError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")  # as a copy to the host gives it
        return result

    step = GraphStep(step, driver=driver)
    training.run(step, 2)
    driver.launched = None
    with pytest.raises(CaptureError, match=r"test_cuda_capture\.py:\d+: raise RuntimeError(?s:.)*no graph can hold"):
        training.run(step, 1)


def test_an_error_of_the_step_is_its_own(driver):
    def step(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        GraphStep(step, driver=driver)(arguments()[0])
    from minigen import device
    from minigen.tensor import clock

    assert device.capturing is None and clock.reader is None


# ---- the kernels of numbers ----


@pytest.mark.parametrize("t", [1, 2, 10, 1000, 100000])
def test_numbers_of_a_step_are_those_of_the_host(on_gpu, t):
    one = lambda x, dtype=np.float64: np.array(x, dtype)
    beta1, beta2, lr = 0.9, 0.999, 3e-4
    for given in (beta1, one(beta1)):
        got = on_gpu(numbers.adam_numbers, one(float(t)), one(lr), given, beta2, 0.1)
        want = [lr / (1 - beta1**t), (1 - beta2**t) ** -0.5, 1 - lr * 0.1, beta1, 1 - beta1]
        assert np.allclose(got, want, rtol=3e-7)
    got = on_gpu(numbers.sgd_numbers, one(float(t)), one(lr), 0.8, 0.25)
    assert np.allclose(got, [lr, 1.0 if t == 1 else 0.75, 0.8], rtol=1e-7)


def test_random_numbers_from_a_place_in_memory(on_gpu):
    base, offset = 2**32 - 3, 5
    x = np.random.default_rng(0).standard_normal(103).astype(np.float32)
    for function, before, after in (
        (random.bits, (), (41,)),
        (random.normal, (), (41,)),
        (dropout.dropout, (x, 2**31, 2.0), ()),
    ):
        want = on_gpu(function, *before, 7, 3, base + offset, *after)
        place = on_gpu.there(np.array(base, np.uint64))
        got = on_gpu(function, *before, 7, 3, (offset, place), *after)
        assert np.array_equal(got, want)
        numbers.advance(place, 2)
        again = on_gpu(function, *before, 7, 3, (offset - 2, place), *after)
        assert np.array_equal(again, want)


@pytest.mark.parametrize("bad", [None, 0, 300])
def test_gradients_are_unscaled_and_overflows_found(on_gpu, dtype, bad):
    g = np.random.default_rng(0).standard_normal(301).astype(dtype)
    if bad is not None:
        g[bad] = np.inf if bad else np.nan
    scale, found = np.array(8.0, np.float32), np.zeros(1, np.float32)
    got, _, overflow = on_gpu.in_place(numbers.unscale, g, scale, found)
    assert overflow[0] == (bad is not None)
    fine = np.isfinite(g.astype(np.float32))
    assert np.array_equal(
        got[fine].astype(np.float32), (g[fine].astype(np.float32) / 8).astype(dtype).astype(np.float32)
    )


def test_the_factor_of_clipping(on_gpu):
    for squares, most, factor in (([9.0, 16.0], 1.0, 0.2), ([9.0, 16.0], 10.0, 1.0), ([np.nan, 1.0], 1.0, np.nan)):
        norm, got = on_gpu(numbers.clip_factor, np.array(squares), most)
        assert np.allclose([norm, got], [np.sqrt(sum(squares)), factor], rtol=1e-6, equal_nan=True)


def test_a_skipped_step_and_a_weight_of_nothing_change_nothing(on_gpu):
    p, g, m, v = (np.random.default_rng(i).random(100).astype(np.float32) for i in range(4))
    step, lr = np.array(3.0), np.array(0.1)
    for skip in (0.0, 1.0):
        flag = np.array(skip, np.float32)
        run = lambda p, g, m, v, step, lr, flag: cuda_optim.adam(
            p, g, m, v, None, step, lr, 0.9, 0.999, 1e-8, 0.1, True, skip=flag
        )
        got = on_gpu.in_place(run, p, g, m, v, step, lr, flag)
        assert np.array_equal(got[0], p) == np.array_equal(got[2], m) == (skip == 1.0)
    nans = np.full(100, np.nan, np.float32)
    assert np.array_equal(on_gpu.in_place(cuda_optim.lerp, p, nans, 0.0)[0], p)
    zeros = np.zeros(100, np.float32)
    assert np.array_equal(on_gpu.in_place(cuda_optim.scale, zeros, np.array(np.nan, np.float32))[0], zeros)
