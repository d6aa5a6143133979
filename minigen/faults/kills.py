"""Row 1: SIGKILL while saving. Nothing can be caught or cleaned up; the file must be whole all the same.

A child process saves one checkpoint after another and says after each which step is safe. Up to 12 ms after the first
it is killed, and the file is read: it must be whole, and no older than what the child had called safe. A plain writer
(`open(path, "wb").write(...)`) runs beside it as the control: if that is never caught half-way, the test shows nothing.

The children are forks, which must not be made of a process with threads; so `kills` runs this file as a process.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..atomic import TEMPORARY
from ..errors import CheckpointError
from .score import Finding, scratch


def kills(count, seed=0):
    """Kill a saving process `count` times."""
    if not hasattr(os, "fork"):
        return Finding(None, "this system has no fork")
    done = subprocess.run(
        [sys.executable, "-m", "minigen.faults.kills", str(count), str(seed)], capture_output=True, text=True
    )
    if done.returncode:
        return Finding(False, done.stderr.strip()[-500:])
    return Finding(**json.loads(done.stdout))


def _run(count, seed):
    with scratch() as folder:
        careful, plain = folder / "careful", folder / "plain"
        careful.mkdir(), plain.mkdir()
        corrupted, tries = 0, 0
        while not corrupted and tries < max(count, 100):
            corrupted, tries = not _killed_once(plain, _save_plainly, seed + tries)[0], tries + 1
        if not corrupted:
            return Finding(None, f"the plain writer survived {tries} kills too: this disk cannot tell")
        last, midway = 0, 0
        for i in range(count):
            whole, safe, step = _killed_once(careful, checkpoint.save, seed + i)
            if not whole:
                return Finding(False, f"kill {i}: the checkpoint cannot be read")
            if step < max(safe, last):
                return Finding(False, f"kill {i}: step {max(safe, last)} was saved, step {step} is there")
            last = step
            left = [name for name in os.listdir(careful) if name.startswith(TEMPORARY)]
            midway += bool(left)
            if len(left) > 1:
                return Finding(False, f"kill {i}: {len(left)} temporary files, from more than one killed save")
        checkpoint.save(careful / "model.safetensors", _state(last + 1))
        left = os.listdir(careful)
        if left != ["model.safetensors"]:
            return Finding(False, f"left behind after the next save: {left}")
        if not midway:
            return Finding(None, f"none of {count} kills hit a save half-way")
    return Finding(
        True,
        f"{count} kills, {midway} of them half-way through a save: always whole, up to step {last}; "
        f"the plain writer was corrupt after {tries}",
    )


def _state(step):
    return {
        "step": step,
        "model": {"weight": np.full((256, 256), step, np.float32), "bias": np.full(256, step, np.float32)},
    }


def _save_plainly(path, state):
    """How not to do it: the old file is gone before the new one is written."""
    beside = Path(f"{path}.copy")
    checkpoint.save(beside, state)
    content = beside.read_bytes()
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(content), 65536):
            file.write(content[start : start + 65536])


def _killed_once(folder, save, seed):
    """Fork, let it save, kill it: (whether the file can be read, the step called safe, the step found)."""
    path = folder / "model.safetensors"
    try:
        start = checkpoint.load(path)["step"]
    except CheckpointError:
        start = 0
        save(path, _state(0))
    ready, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for step in range(start + 1, start + 10**6):
                save(path, _state(step))
                os.write(said, step.to_bytes(8, "little"))
        finally:
            os._exit(1)
    os.close(said)
    with open(ready, "rb", buffering=0) as pipe:
        words = pipe.read(8)  # it is at work
        time.sleep(random.Random(seed).uniform(0, 0.012))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        words += pipe.read()
    safe = int.from_bytes(words[-8:], "little")
    try:
        state = checkpoint.load(path)
    except CheckpointError:
        return False, safe, None
    step = state["step"]
    weights = state["model"].values()
    return all((array == step).all() for array in weights), safe, step


if __name__ == "__main__":
    finding = _run(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(vars(finding)))
