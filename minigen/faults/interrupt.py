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
    """Interrupt training `count` times; each run is resumed until it is done, three interrupts later at most."""
    chance = random.Random(seed)
    done = runs = 0
    with scratch() as folder:
        code, straight, errors = _finished(_start(folder / "straight"))
        if code:
            return Finding(False, f"training alone: exit {code}: {errors[-300:]}")
        while done < count:
            runs += 1
            for attempt in range(4):
                process = _start(folder / f"run-{runs}")
                process.stdout.readline()  # the first step is done
                if attempt < 3 and done < count:
                    time.sleep(chance.uniform(0, 0.3))
                    os.kill(process.pid, signal.SIGINT)
                code, output, errors = _finished(process)
                if output == straight:  # it was done already (a signal may still find Python on its way out)
                    break
                if code == 0:
                    return Finding(False, f"after {done} interrupts: other bits than a run without")
                done += 1
                fault = _fault(folder / f"run-{runs}", code, errors)
                if fault:
                    return Finding(False, f"interrupt {done}: {fault}")
            else:
                return Finding(False, f"after {done} interrupts: other bits than a run without")
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
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},  # on a busy machine threads mostly wait for each other
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
