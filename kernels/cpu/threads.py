"""The threads that kernels run on: how they wait, who may start them, and what a forked child does without them.

Numba takes TBB or OpenMP where there is one, both of which may be entered by several threads at once. Its own
"workqueue" may not (it ends the process), so there the kernels take turns.
"""

import os
import sys
import threading
from contextlib import contextmanager
from functools import cache, wraps

from numba.core import config

from .cache import say

_turn = threading.RLock()


# GNU's OpenMP lets a waiting thread spin for milliseconds. On a machine that does anything else besides, that is the
# time slice of the thread it waits for: a training step took 73 ms, 14 with this limit (2 cores, 8 processes).
SPINS = "5000"  # some 120 us, which bridges the time between two kernels


@contextmanager
def briefly_spinning():
    """Inside the block OpenMP, if it is loaded there for the first time, reads SPINS, unless the user has chosen."""
    chosen = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ)
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


@cache
def pool_takes_many_callers():
    """Whether Numba will run on TBB or OpenMP; asked without starting its threads, or choosing for the user."""
    layer = str(config.THREADING_LAYER).lower()
    if layer in ("tbb", "omp", "workqueue"):
        return layer != "workqueue"
    try:
        with briefly_spinning():
            from numba.np.ufunc import omppool  # noqa: F401

        return layer != "forksafe"
    except ImportError:
        pass
    try:
        from numba.np.ufunc import tbbpool  # noqa: F401

        return True
    except ImportError:
        return False


def one_at_a_time(function):
    """`function` behind a lock that all kernels share."""

    @wraps(function)
    def call(*arguments):
        with _turn:
            return function(*arguments)

    return call


class _Forked(dict):
    """Stands for `kernels._found` in a forked child: the threads did not come along, so there are no kernels."""

    def __missing__(self, key):
        say("forked from a process whose threads run kernels; here the definitions run instead (use spawn)")
        return None


def _after_fork():
    # GNU's OpenMP cannot be used in the child of a process that has used it: Numba would end the child.
    from numba.np.ufunc import parallel

    if parallel._is_initialized and parallel._threading_layer == "omp" and sys.platform.startswith("linux"):
        sys.modules[__name__.rsplit(".", 2)[0]]._found = _Forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
