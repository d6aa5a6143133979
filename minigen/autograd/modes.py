"""Whether ops record, for this thread: `no_grad`, `enable_grad`; in what types of number they compute: `amp.autocast`;
whether NaNs are hunted: `detect_anomaly`; who watches gradients arrive at the leaves; and whether a step is written
down to be run again: `tape`, and which modules it calls: `called`."""

import contextlib
import threading


class Mode(threading.local):
    recording = True
    autocast = None  # gives an op its arguments in the types to compute in: a region of amp/autocast.py


mode = Mode()
anomaly = False  # read by every op, so for all threads at once
watcher = None  # .begin(roots) before a backward pass, .arrived(leaf) after each addition to a leaf's gradient
tape = None  # a Tape (tape.py) that writes down what a step computes
called = None  # {id: module}, to which each module that is called adds itself: see capture/found.py
autocasting = 0  # how many blocks of `autocast` are entered, in all threads
bfloat16 = False  # whether there are numbers of this type, which ops must keep: see bfloat16.py
watched = False  # whether `anomaly`, `tape`, `autocasting` or `bfloat16` is set: what ops ask


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
        _watch()
        return self

    def __exit__(self, *_):
        global anomaly
        anomaly = self.before
        _watch()


def use_tape(new):
    """Write down what follows on this Tape (None: no more). Returns the one before."""
    global tape
    before, tape = tape, new
    _watch()
    return before


def use_autocast(region, entered):
    """Let this thread's ops compute in the types that `region` gives (None: as they are). Returns the one before.

    entered  1 on entering a block, -1 on leaving it
    """
    global autocasting
    before, mode.autocast = mode.autocast, region
    with _lock:
        autocasting += entered
        _watch()
    return before


def use_bfloat16():
    """There are numbers of this type from now on."""
    global bfloat16
    bfloat16 = True
    _watch()


def tape_here():
    """The tape that this thread writes on, if there is one."""
    return tape if tape is None or tape.thread == threading.get_ident() else None


def _watch():
    global watched
    watched = anomaly or tape is not None or autocasting > 0 or bfloat16


_lock = threading.Lock()
