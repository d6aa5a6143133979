"""The same rungs on another number of threads, to compare their bits.

    one, two = (results(threads, ["sum/parallel"], 20) for threads in (1, 2))
    one == two                                  # {"sum/parallel": [20 digests of the bits of a result]}

Numba settles how many threads there can be when it starts, so each number runs in a process of its own. More threads
than cores only take turns: the bits can be compared on any machine.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

from . import load

SHAPES = {"sum": [(300_007,)], "softmax": [(61, 303)], "matmul": [(103, 301), (301, 99)]}


def draw(kernel, seed):
    """The arrays that a ladder's rungs are run on."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype=np.float32) for shape in SHAPES[kernel]]


def digests(name, repeats):
    """The SHA-256 of the bits of a rung's results, "kernel/rung", on arrays of seeds 0, 1, ..."""
    kernel, rung = name.split("/")
    run = load(kernel)[rung]
    results = (np.asarray(run(*draw(kernel, seed))) for seed in range(repeats))
    return [hashlib.sha256(result.tobytes()).hexdigest() for result in results]


def results(threads, names, repeats):
    """{name: digests} of the rungs `names`, computed on so many threads in a process of its own."""
    settings = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    words = [sys.executable, "-c", f"from {__name__} import main; main()", str(repeats), *names]
    done = subprocess.run(words, env=settings, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main():
    repeats, *names = sys.argv[1:]
    print(json.dumps({name: digests(name, int(repeats)) for name in names}))
