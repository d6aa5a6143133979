"""minigen's optimisers beside PyTorch's, on the configurations of PyTorch's own optimiser database.

    pytest tests/torch/test_optim_db.py                     every optimiser; fails with the configurations that differ
    python tests/torch/test_optim_db.py                     a table of the scores

For each configuration, in float64: a small network of fixed data is trained for 12 steps by both libraries. The
parameters stay within 1e-12 of each other, and so does the state. The database's wrong arguments are refused.
"""

import dataclasses
import functools
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's optimiser database needs it: pip install expecttest")

from beside_torch import quiet  # noqa: E402
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db  # noqa: E402

import minigen  # noqa: E402
from minigen import optim  # noqa: E402

pytestmark = pytest.mark.torch

# Optimisers that minigen does not have, and why.
ABSENT = {
    "ASGD": "averaging is optim.EMA, over any optimiser",
    "LBFGS": "calls the closure many times a step",
    "Rprop": "full batches only",
    "SparseAdam": "gradients are dense here",
}
ENTRIES = {info.name: info for info in optim_db if info.name not in ABSENT}
STEPS = 12


@dataclasses.dataclass
class Score:
    """How many configurations of an optimiser pass, of how many."""

    trajectory: list = dataclasses.field(default_factory=lambda: [0, 0])
    state: list = dataclasses.field(default_factory=lambda: [0, 0])
    refused: list = dataclasses.field(default_factory=lambda: [0, 0])
    faults: list = dataclasses.field(default_factory=list)

    def note(self, kind, fault, name):
        passed_of = getattr(self, kind)
        passed_of[1] += 1
        passed_of[0] += fault is None
        if fault is not None:
            self.faults.append(f"{kind}: {fault}\n      {name}")


def network(tensor, parameter, matrices_only):
    """y = tanh(x W + b) V, its loss as a function, and its parameters: the same numbers in both libraries."""
    random = np.random.default_rng(0)
    x, y = tensor(random.standard_normal((8, 5))), tensor(random.standard_normal((8, 3)))
    shapes = {"W": (5, 4), "V": (4, 3)} if matrices_only else {"W": (5, 4), "b": (4,), "V": (4, 3), "s": ()}
    p = {name: parameter(tensor(random.standard_normal(shape))) for name, shape in shapes.items()}

    def loss():
        hidden = x @ p["W"] if matrices_only else x @ p["W"] + p["b"]
        out = hidden.tanh() @ p["V"]
        error = (out if matrices_only else out * p["s"]) - y
        return (error * error).mean()

    return loss, list(p.values())


def ours(value):
    return minigen.tensor(value.item()) if isinstance(value, torch.Tensor) and value.numel() == 1 else converted(value)


def converted(value):
    if isinstance(value, torch.Tensor):
        return minigen.Tensor(value.detach().numpy().copy())
    if isinstance(value, tuple):
        return tuple(ours(x) for x in value)
    return value


def run(name, values, score):
    matrices = name == "Muon"
    # PyTorch's Muon multiplies a tensor's rate in float32, minigen's in double precision.
    tolerance = 1e-6 if matrices and isinstance(values.get("lr"), torch.Tensor) else 1e-12
    theirs = network(torch.tensor, torch.nn.Parameter, matrices)
    mine = network(minigen.tensor, minigen.Parameter, matrices)
    label = f"{name}({', '.join(f'{k}={v}' for k, v in values.items())})"
    reference = getattr(torch.optim, name)(theirs[1], **values)
    try:
        optimizer = getattr(optim, name)(mine[1], **{k: ours(v) for k, v in values.items()})
        fault = None
        for step in range(STEPS):
            for opt, (loss, _) in ((reference, theirs), (optimizer, mine)):
                opt.zero_grad()
                loss().backward()
                opt.step()
            gap = max(np.abs(a.data - b.detach().numpy()).max() for a, b in zip(mine[1], theirs[1]))
            if not gap < tolerance and fault is None:
                fault = f"step {step}: parameters differ by {gap:.2g}"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    score.note("trajectory", fault, label)
    score.note("state", fault or state_difference(optimizer.state_dict(), reference.state_dict(), tolerance), label)


def state_difference(a, b, tolerance):
    """None if two state dicts agree, else what is wrong."""
    if list(a["state"]) != list(b["state"]):
        return f"state of {list(a['state'])}, PyTorch's {list(b['state'])}"
    for i, state in b["state"].items():
        if set(a["state"][i]) != set(state):
            return f"state {set(a['state'][i])}, PyTorch's {set(state)}"
        for key, value in state.items():
            if not np.allclose(a["state"][i][key].data, value.detach().numpy(), rtol=1e-10, atol=tolerance):
                return f"{key} of parameter {i} differs"
    for mine, theirs in zip(a["param_groups"], b["param_groups"]):
        if set(mine) != set(theirs) or mine["params"] != theirs["params"]:
            return f"group {sorted(mine)}, PyTorch's {sorted(theirs)}"
    return None


def run_error(name, error, score):
    """An argument that the database calls wrong: it must be refused (or warned of, where PyTorch warns)."""
    given = error.optimizer_error_input
    values = {k: converted(v) for k, v in given.kwargs.items()}
    params = given.params
    if any(isinstance(p, torch.Tensor) and (p.is_complex() or p.is_sparse) for p in params or ()):
        return  # neither complex nor sparse numbers are here
    label = f"{name}: {error.error_regex}"
    try:
        optimizer = getattr(optim, name)(parameters(params), **values)
        if error.error_on == OptimizerErrorEnum.STEP_ERROR:
            optimizer.step()
    except (minigen.errors.MinigenError, TypeError, ValueError, UserWarning):
        score.note("refused", None, label)
    except Exception as fault:
        score.note("refused", f"an unexplained {type(fault).__name__}: {fault}", label)
    else:
        score.note("refused", "accepted", label)


def parameters(params, memo=None):
    """PyTorch's parameters, lists and groups of them as minigen's."""
    memo = {} if memo is None else memo
    if isinstance(params, torch.Tensor):
        return memo.setdefault(id(params), minigen.Parameter(params.detach().numpy().copy()))
    if isinstance(params, dict):
        return {k: parameters(v, memo) if k == "params" else converted(v) for k, v in params.items()}
    if isinstance(params, list | tuple):
        return type(params)(parameters(x, memo) for x in params)
    return params


@functools.cache
def score(name):
    total, info = Score(), ENTRIES[name]
    with quiet():
        for entry in info.optim_inputs_func(device="cpu"):
            run(name, dict(entry.kwargs), total)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float64):
            run_error(name, error, total)
    return total


@pytest.mark.parametrize("name", ENTRIES)
def test_optimizer(name):
    found = score(name)
    assert not found.faults, f"{name}: {len(found.faults)} faults\n    " + "\n    ".join(found.faults[:8])


def test_score():
    """At least 98% of the configurations, and every wrong argument refused."""
    scores = [score(name) for name in ENTRIES]
    passed, count = np.sum([np.add(s.trajectory, s.state) for s in scores], axis=0)
    assert passed >= 0.98 * count
    refused, count = np.sum([s.refused for s in scores], axis=0)
    assert refused >= 0.9 * count


if __name__ == "__main__":
    print(f"{'optimiser':14}{'trajectory':>12}{'state':>10}{'refused':>10}")
    for name in ENTRIES:
        found = score(name)
        counts = [f"{a}/{n}" for a, n in (found.trajectory, found.state, found.refused)]
        print(f"{name:14}{counts[0]:>12}{counts[1]:>10}{counts[2]:>10}")
        for fault in found.faults:
            print("    " + fault)
