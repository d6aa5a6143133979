"""Whether ops record, for this thread: `no_grad`, `enable_grad`; whether NaNs are hunted: `detect_anomaly`; and who
watches gradients arrive at the leaves."""

import contextlib
import threading


class Mode(threading.local):
    recording = True


mode = Mode()
anomaly = False  # read by every op, so for all threads at once
watcher = None  # .begin(roots) before a backward pass, .arrived(leaf) after each addition to a leaf's gradient


class Recording(contextlib.ContextDecorator):
    """Sets whether ops record, for a block or a function."""

    def __init__(self, recording):
        self.recording = recording
        self.before = []

    def __enter__(self):
        self.before.append(mode.recording)
        mode.recording = self.recording
        return self

    def __exit__(self, *_):
        mode.recording = self.before.pop()


def no_grad(function=None):
    """Inside the block, or the decorated function, ops compute without recording."""
    return Recording(False) if function is None else Recording(False)(function)


def enable_grad(function=None):
    """Inside the block ops record again."""
    return Recording(True) if function is None else Recording(True)(function)


def set_grad_enabled(recording):
    """`with set_grad_enabled(training): ...`"""
    return Recording(bool(recording))


def is_grad_enabled():
    """Whether ops record now."""
    return mode.recording


class detect_anomaly(contextlib.ContextDecorator):
    """Inside the block, the first op that makes a NaN, or whose gradient is NaN or Inf, raises NonFiniteError.

    The message names the op and the line that called it. It costs a pass over every array: use it to find a fault.
    """

    def __enter__(self):
        global anomaly
        self.before, anomaly = anomaly, True
        return self

    def __exit__(self, *_):
        global anomaly
        anomaly = self.before
