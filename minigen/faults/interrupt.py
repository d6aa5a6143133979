"""Row 8: Ctrl-C at a random moment of training: exit 130, a checkpoint that loads, no traceback, and it goes on.

A process trains and is sent SIGINT after a random time, is started again with resume, is interrupted again, and so on
until it is done. It must have reached the same bits as a run that nobody disturbed.
"""

import os
import random
import signal
import subprocess
import sys
import time

from .. import checkpoint
from .score import Finding, scratch

STEPS = 100


def interrupts(count, seed=0):
    """Interrupt training `count` times, in as many runs as that takes."""
    chance = random.Random(seed)
    done, runs = 0, 0
    straight = None
    while done < count:
        with scratch() as folder:
            if straight is None:
                code, straight, errors = _finished(_start(folder / "straight"))
                if code:
                    return Finding(False, f"training alone: exit {code}: {errors[-300:]}")
            while True:
                process = _start(folder / "run")
                process.stdout.readline()  # the first step is done
                time.sleep(chance.uniform(0, 0.15))
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGINT)
                code, output, errors = _finished(process)
                if code == 0:
                    if output != straight:
                        return Finding(False, f"after {done} interrupts: other bits than a run without")
                    break
                done += 1
                fault = _fault(folder / "run", code, errors)
                if fault:
                    return Finding(False, f"interrupt {done}: {fault}")
            runs += 1
    return Finding(True, f"{done} interrupts of {runs} runs: exit 130, saved, resumed to the same bits")


def _fault(folder, code, errors):
    if code != 130:
        return f"exit {code}, not 130: {errors[-300:]}"
    if "Traceback" in errors:
        return f"a traceback: {errors[-300:]}"
    if "--resume" not in errors:
        return f"it does not say how to go on: {errors[-300:]}"
    checkpoint.load(folder)
    return None


def _start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "minigen.faults.interrupt", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finished(process):
    output, errors = process.communicate(timeout=300)
    return process.returncode, output.strip().splitlines()[-1:], errors


if __name__ == "__main__":
    from . import small

    loss, calls = small.loss, []

    def announced(model, batch):
        """The loss; the second time it is asked for, the first step is done, and the parent is told."""
        calls.append(None)
        if len(calls) == 2:
            print("training", flush=True)
        return loss(model, batch)

    small.loss = announced
    print(small.train(STEPS, checkpoints=sys.argv[1], resume=True, every=25)[1])
