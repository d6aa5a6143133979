"""Row 9: a process of a group under mpirun dies, raises, hangs or goes another way. All must end soon, and resume.

ended        one rank in the middle of training is killed, raises, leaves early, hangs or says something that the others
             do not expect: every process is gone within LIMIT, and what was saved goes on to the same weights
same_losses  two ranks take the steps of one process

mpirun -n 2 python -m minigen.faults.ranks FOLDER HOW      one such run; HOW is "well" or one of FAULTS
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ..distributed.launch import MISSING, launch, launcher
from .score import Finding, scratch

FAULTS = ("kill", "raise", "leave", "hang", "stray")
STEPS, FAILS_AT, PATIENCE, LIMIT = 12, 7, 2.0, 5.0  # the last two in seconds


def run(ranks, folder, how="well"):
    """Train under mpirun: what `launched` gives; found: {"losses", "weights", "equal"} of rank 0."""
    mark = Path(folder) / "fault"
    code, found, said, end = launched(ranks, ["-m", "minigen.faults.ranks", str(folder), how])
    return code, found, said, end - float(mark.read_text()) if mark.exists() else None


def launched(ranks, words):
    """(exit status, the JSON that was printed if they came to the end, what was said, when all had ended)"""
    done = launch(ranks, words, timeout=120)
    found = next((json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")), None)
    return done.returncode, found, done.stderr, time.time()


def ended(count, seed=0, faults=FAULTS):
    """Each fault `count` times."""
    if launcher(2) is None:
        return Finding(None, MISSING)
    slowest = 0.0
    with scratch() as folder:
        _, straight, said, _ = run(2, folder / "straight")
        if straight is None:
            return Finding(False, f"two ranks alone: {_told(said)}")
        for how in faults:
            for i in range(count):
                place = folder / f"{how}-{i}"
                try:
                    code, found, said, seconds = run(2, place, how)
                except subprocess.TimeoutExpired:
                    return Finding(False, f"{how}: the other rank hangs")
                if code == 0 or found is not None or seconds is None:
                    return Finding(False, f"{how}: exit {code}, as if nothing had happened: {_told(said)}")
                slowest = max(slowest, seconds)
                (place / "fault").unlink()
                _, resumed, said, _ = run(2, place)
                if resumed is None or resumed["weights"] != straight["weights"]:
                    return Finding(False, f"{how}: the run does not go on to the same weights: {_told(said)}")
    text = f"{count} each of {', '.join(faults)}: all gone in {slowest:.1f} s, resumed to the same bits"
    return Finding(slowest < LIMIT, text)


def _told(said):
    """What a run complained of: its errors, not mpirun's words about them."""
    errors = [line for line in said.splitlines() if "Error" in line and "NBC" not in line]
    return "; ".join(errors[-2:]) or said[-300:]


def same_losses(count=None, seed=0):
    """Two ranks and one process with the same batches: losses within 1e-5, and both ranks' weights equal to the bit."""
    if launcher(2) is None:
        return Finding(None, f"1 or 2 ranks: {MISSING}")
    with scratch() as folder:
        _, one, _, _ = run(1, folder / "one")
        _, two, said, _ = run(2, folder / "two")
    if two is None or not two["equal"]:
        return Finding(False, f"1 or 2 ranks: {_told(said) if two is None else 'the ranks have other weights'}")
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

    group = distributed.join()
    minigen.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x = Generator(0).normal((96, 20))
    loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=16, shuffle=True, generator=Generator(1))
    done = []

    def loss(model, batch):
        done.append(1)
        if how != "well" and len(done) == FAILS_AT:  # by now all have started, which may take one of them long
            group.patience = PATIENCE
        if how != "well" and group.rank == 1 and len(done) > FAILS_AT:
            _fail(folder, how, group)
        return F.cross_entropy(model(batch[0]), batch[1])

    run = fit(
        model, loss, group.shard(loader), optimizer, steps=STEPS, clip_norm=1.0, every=3, checkpoints=folder / "run",
        resume=True, progress=False, group=group,
    )  # fmt: skip
    weights = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    equal = bool((group.maximum(weights) == weights).all())
    if group.is_first:
        print(json.dumps({"losses": list(run.losses), "weights": weights.tobytes().hex()[:4096], "equal": equal}))


def _fail(folder, how, group):
    (folder / "fault").write_text(str(time.time()))
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise ValueError("a fault on purpose")
    if how == "leave":
        sys.exit(0)
    if how == "stray":
        return group.wait(group.sum_begun(np.zeros(5, np.float32)), "something that the others do not expect")
    time.sleep(1000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
