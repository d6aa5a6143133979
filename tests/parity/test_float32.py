"""The bundled cases once more in float32, where the kernels run: test_parity.py is in float64, on definitions."""

import numpy as np
import pytest
from kinds import run_case
from kinds.case import Case
from test_parity import BUNDLED, folders

CASES = [
    path for path in folders(BUNDLED) if not path.name.startswith("optim_")
]  # optimisers are given float64 weights


@pytest.mark.parametrize("folder", CASES, ids=[path.name for path in CASES])
def test_case_in_float32(folder):
    run_case(Case(folder, np.float32))
