"""Rows 7 and 16: memory. It runs out, or it must not grow.

exhaustion   an address space with ever less room: a sentence with the size, and the engine works afterwards
flat         200 training steps with the garbage collector off: no tensor is left behind
soak         a million tiny steps with the collector off: under 1 byte a step; files and threads constant
deep         a chain of 100,000 ops goes backward
"""

import contextlib
import gc
import os
import subprocess
import sys
import threading

from .score import Finding

SPARE = 128 * 1024  # bytes: a process's memory comes and goes in pages and blocks


@contextlib.contextmanager
def no_collector():
    """The garbage collector is off inside: only reference counts free memory."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def live_tensors():
    """How many tensors and graph nodes exist."""
    from ..autograd.graph import Node
    from ..tensor import Parameter, Tensor

    return sum(type(x) in (Tensor, Parameter, Node) for x in gc.get_objects())


def resident():
    """Bytes of this process in memory; None where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def flat(count=200, seed=0):
    """`count` training steps of a real network, first-order, and 20 with a second derivative in the loss."""
    from minigen import autograd, optim

    from . import small

    model = small.network()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, quarter = small.pictures(16)

    def first_order():
        optimizer.zero_grad()
        small.loss(model, batch).backward()
        optimizer.step()

    def second_order():
        optimizer.zero_grad()
        value = small.loss(model, batch)
        weight = model.out.weight
        (g,) = autograd.grad(value, [weight], create_graph=True)
        ((g * g).sum() + value).backward()
        optimizer.step()

    from minigen import tensor

    batch = tensor(x), tensor(quarter)
    for name, step, steps in [("step", first_order, count), ("second-order step", second_order, max(count // 10, 1))]:
        for _ in range(3):
            step()
        with no_collector():
            tensors, bytes_ = live_tensors(), resident()
            for _ in range(steps):
                step()
            left = live_tensors() - tensors
            grown = (resident() or 0) - (bytes_ or 0)
        if left:
            return Finding(False, f"{left} tensors and nodes are left after {steps} {name}s without the collector")
        if grown > 4 << 20:
            return Finding(False, f"{grown:,} bytes more after {steps} {name}s without the collector")
    return Finding(True, f"{count} steps, and {max(count // 10, 1)} with second derivatives: nothing left behind")


def soak(count=10**6, seed=0):
    """`count` tiny steps with the collector off."""
    import numpy as np

    from minigen import nn, optim, tensor

    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    x = tensor(np.ones((4, 2), np.float32))

    def steps(n):
        for _ in range(n):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()

    def state():
        counts = live_tensors(), threading.active_count(), _open_files()  # before the memory that this itself takes
        return resident(), counts

    with no_collector():
        steps(max(count // 20, 1000))
        before, counts = state()
        steps(count)
        after, counts_after = state()
    if before is None:
        return Finding(None, "this system does not say how much memory a process has")
    a_step = max(after - before - SPARE, 0) / count
    text = f"{count:,} steps: {a_step:.3f} bytes a step; tensors, threads, files {counts} and then {counts_after}"
    return Finding(counts == counts_after and a_step < 1, text)


def _open_files():
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def deep(count=100_000, seed=0):
    """A chain of `count` ops, forward and backward."""
    from minigen import tensor

    x = tensor(1.0, requires_grad=True)
    y = x
    for _ in range(count):
        y = y + 1.0
    y.backward()
    good = x.grad.item() == 1.0
    del y
    return Finding(good, f"{count:,} ops in a chain, gradient {x.grad.item()}")


_STARVED = """
import resource, sys
import numpy as np
import minigen
from minigen import nn, optim
from minigen.errors import MinigenError
from minigen.faults import small

room = [int(x) for x in sys.argv[1].split(",")]
minigen.manual_seed(0)
model = small.network()
x, quarter = small.pictures(128)
batch = minigen.tensor(x), minigen.tensor(quarter)

def step():
    model.zero_grad()
    value = small.loss(model, batch)
    value.backward()
    return value.item()

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize"))

expected = step()
minigen.manual_seed(0)
for extra in room:
    resource.setrlimit(resource.RLIMIT_AS, (peak() + extra, -1))
    said = ""
    try:
        big = minigen.zeros(1 << 14, 1 << 14) @ minigen.zeros(1 << 14, 1 << 14)
    except MemoryError as error:
        said = str(error)
    try:
        step()
    except MemoryError as error:
        said = said and str(error)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    print(repr(said))
    small_again = step()
    assert np.isfinite(small_again), small_again
"""


def exhaustion(count=12, seed=0):
    """With 0 to 64 MB of room left, a large product and then a training step are tried; then the limit is lifted."""
    if not sys.platform.startswith("linux"):
        return Finding(None, "only Linux limits the address space")
    room = ",".join(str((i * 64 << 20) // count) for i in range(count))
    done = subprocess.run([sys.executable, "-c", _STARVED, room], capture_output=True, text=True, timeout=600)
    if done.returncode:
        return Finding(False, f"the process did not survive: {done.stderr.strip()[-400:]}")
    said = done.stdout.splitlines()
    weak = [line for line in said if not any(unit in line for unit in ("GiB", "MiB", "KiB", "bytes"))]
    if weak:
        return Finding(False, f"no size in the message: {weak[0]}")
    return Finding(True, f"{len(said)} times out of memory, each with its size, and the engine worked afterwards")
