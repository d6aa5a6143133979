"""Row 8: Ctrl-C at a random moment: exit 130, no traceback, a checkpoint that loads, and from which it goes on.

interrupts   a training process is interrupted, resumed, interrupted again and so on until it is done; it must
             have reached the same bits as a run that nobody disturbed
lessons      `minigen run vae --quick` is interrupted wherever it is
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
                begun = process.stdout.readline()  # the first step is done; or all are, if one or none was left
                if attempt < 3 and done < count:
                    time.sleep(chance.uniform(0, 0.3))
                    os.kill(process.pid, signal.SIGINT)
                code, output, errors = _finished(process, begun)
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


def lessons(count, seed=0):
    """Interrupt a lesson `count` times, at moments spread over the time that it takes."""
    chance = random.Random(seed)
    with scratch() as folder:
        start = time.perf_counter()
        code, _, errors = _finished(_lesson(folder))
        if code:
            return Finding(False, f"the lesson alone: exit {code}: {errors[-300:]}")
        takes, stopped = time.perf_counter() - start, 0
        for i in range(count):
            process = _lesson(folder)
            process.stdout.readline()  # Python has started, and the lesson with it
            time.sleep(chance.uniform(0, takes))
            os.kill(process.pid, signal.SIGINT)
            code, _, errors = _finished(process)
            if "Traceback" in errors or code not in (0, 130, -signal.SIGINT):  # 0 and -2: it was over, or nearly
                return Finding(False, f"interrupt {i + 1}: exit {code}: {errors[-300:]}")
            stopped += code == 130
    return Finding(stopped > 0, f"{count} interrupts of a lesson: {stopped} times exit 130, otherwise it was over")


def _lesson(folder):
    return _process("-m", "minigen", "run", "vae", "--quick", "--out", str(folder))


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
    return _process("-m", "minigen.faults.interrupt", str(folder))


def _process(*arguments):
    # On a busy machine threads mostly wait for each other: one is quicker.
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, **pipes)


def _finished(process, begun=""):
    """Its exit code, the last line of all that it printed, of which `begun` has been read, and its errors."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, (begun + output).strip().splitlines()[-1:], errors


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
