"""The DataLoader: the order, the state, the workers."""

import json
import threading
import time
import traceback

import numpy as np
import pytest

import minigen
from minigen.data import DataLoader, Dataset, Subset, TensorDataset
from minigen.errors import ArgumentError
from minigen.random import Generator


class Squares(Dataset):
    """Rows that are fetched one by one, now and then slowly."""

    def __init__(self, n=23, wait=0.0):
        self.n, self.wait, self.fetched = n, wait, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.fetched += 1
        if self.wait and i % 3 == 0:
            time.sleep(self.wait)
        return np.float32(i * i), i


def epoch(loader):
    return [[x.item() if x.ndim == 0 else x.tolist() for x in batch] for batch in loader]


def rows(loader):
    return [i for batch in loader for i in batch[1].tolist()]


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("minigen-loader")]


def test_batches_in_order():
    loader = DataLoader(Squares(), batch_size=5)
    batches = list(loader)
    assert len(loader) == len(batches) == 5 and [len(b[1].data) for b in batches] == [5, 5, 5, 5, 3]
    assert all(isinstance(b[0], minigen.Tensor) and b[0].dtype == np.float32 for b in batches)
    assert rows(loader) == list(range(23))
    short = DataLoader(Squares(), batch_size=5, drop_last=True)
    assert len(short) == len(list(short)) == 4
    assert list(DataLoader(Squares(0), batch_size=5)) == []


def test_shuffling_is_fixed_by_the_generator():
    first = DataLoader(Squares(), 5, shuffle=True, generator=Generator(1))
    second = DataLoader(Squares(), 5, shuffle=True, generator=Generator(1))
    epochs = [rows(first) for _ in range(3)]
    assert epochs == [rows(second) for _ in range(3)]
    assert all(sorted(e) == list(range(23)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = DataLoader(Squares(), 5, shuffle=True, generator=Generator(2))
    assert rows(other) != epochs[0]


def test_the_default_generator_decides_and_is_not_watched():
    def run(between):
        minigen.manual_seed(3)
        loader = DataLoader(Squares(), 5, shuffle=True)
        seen = []
        for batch in loader:
            seen.append(batch[1].tolist())
            minigen.random.default_generator.normal((between,))  # what others draw does not matter
        return seen

    assert run(1) == run(1000)
    minigen.manual_seed(3)
    assert rows(DataLoader(Squares(), 5, shuffle=True)) != rows(DataLoader(Squares(), 5, shuffle=True))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing_but_the_speed(num_workers):
    plain = DataLoader(Squares(), 4, shuffle=True, generator=Generator(0))
    ahead = DataLoader(Squares(wait=0.002), 4, shuffle=True, generator=Generator(0), num_workers=num_workers)
    for _ in range(2):
        assert epoch(plain) == epoch(ahead)
    assert workers() == []


def test_workers_fetch_ahead_but_not_too_far():
    data = Squares(100)
    loader = iter(DataLoader(data, 10, num_workers=1, prefetch_factor=2))
    next(loader)
    time.sleep(0.1)
    assert 20 <= data.fetched <= 40  # two batches ahead of the one in hand
    loader.close()


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_gives_the_same(fast):
    x, y = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32), np.arange(23)
    data = TensorDataset(x, y) if fast else [(x[i], y[i]) for i in range(23)]
    batches = list(DataLoader(data, 5, shuffle=True, generator=Generator(0)))
    order = np.concatenate([b[1].numpy() for b in batches])
    np.testing.assert_array_equal(np.concatenate([b[0].numpy() for b in batches]), x[order])
    np.testing.assert_array_equal(order, DataLoader(data, 5, shuffle=True, generator=Generator(0)).order(0))
    batches[0][0].data[:] = 99
    assert not (x == 99).any()  # a batch is a copy


def test_the_fast_path_is_taken():
    data = TensorDataset(np.zeros((10, 2)), np.arange(10))
    type_of_row = type(data).__getitem__
    try:
        type(data).__getitem__ = None  # one row at a time would now fail
        assert rows(DataLoader(data, 4)) == list(range(10))
        assert rows(DataLoader(Subset(data, [3, 1]), 4)) == [3, 1]
    finally:
        type(data).__getitem__ = type_of_row


def test_collate_fn():
    loader = DataLoader(Squares(), 4, collate_fn=lambda rows: [i for _, i in rows])
    assert next(iter(loader)) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_resume_in_the_middle_of_an_epoch(stop, num_workers):
    """Two epochs straight through, against a stop after `stop` batches, a new process's loader, and the rest."""
    options = {"shuffle": True, "num_workers": num_workers}
    straight = DataLoader(Squares(), 4, generator=Generator(5), **options)
    expected = [epoch(straight) for _ in range(3)]

    before = DataLoader(Squares(), 4, generator=Generator(5), **options)
    epoch(before)
    loop = iter(before)
    seen = [next(loop) for _ in range(stop)]
    state = json.loads(json.dumps(before.state_dict()))
    assert state["epoch"] == 1 and state["batch"] == stop

    data = Squares()
    after = DataLoader(data, 4, generator=Generator(99), **options)
    after.load_state_dict(state)
    seen = [[x.tolist() for x in batch] for batch in seen] + epoch(after)
    assert seen == expected[1] and epoch(after) == expected[2]
    assert data.fetched == 23 * 2 - 4 * stop if stop < 6 else 23  # what was seen is not fetched again


def test_leaving_a_loop_early_starts_a_new_epoch():
    loader = DataLoader(Squares(), 4, shuffle=True, generator=Generator(0))
    for _ in loader:
        break
    assert rows(loader) == loader.order(1).tolist()
    assert loader.state_dict()["epoch"] == 2


class Faulty(Squares):
    def __getitem__(self, i):
        if i == 13:
            raise ValueError(f"row {i} is broken")
        return super().__getitem__(i)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_workers_exception_comes_out_with_its_traceback(num_workers):
    seen = []
    with pytest.raises(ValueError, match="row 13 is broken") as caught:
        for batch in DataLoader(Faulty(), 4, num_workers=num_workers):
            seen.append(batch)
    assert len(seen) == 3  # the batches before it came
    assert "__getitem__" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    del caught
    assert workers() == []


def test_no_thread_is_left_when_a_loop_ends_early():
    for batch in DataLoader(Squares(wait=0.01), 4, num_workers=2):
        assert len(batch) == 2
        break
    assert workers() == []
    loop = iter(DataLoader(Squares(), 4, num_workers=2))
    next(loop)
    assert workers() != []
    del loop
    assert workers() == []


def test_errors_say_what_to_write():
    for bad in ({"batch_size": 0}, {"batch_size": 2.5}, {"num_workers": -1}, {"prefetch_factor": 0}):
        with pytest.raises(ArgumentError, match=f"{next(iter(bad))} is a whole number"):
            DataLoader(Squares(), **bad)
    with pytest.raises(ArgumentError, match="a length and an index"):
        DataLoader(iter([1, 2]))
    loader = DataLoader(Squares(), 4)
    with pytest.raises(ArgumentError, match="seed, epoch and batch"):
        loader.load_state_dict({"epoch": 1})
    with pytest.raises(ArgumentError, match="6 batches an epoch; the state is of another"):
        loader.load_state_dict({"seed": 0, "epoch": 0, "batch": 7})
