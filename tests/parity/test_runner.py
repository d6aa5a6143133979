"""The runner itself: wrong numbers fail, what is not known is not covered, and nothing in a case is evaluated."""

import json
import shutil

import numpy as np
import pytest
from kinds import NotCovered, run_case
from kinds.case import Case
from kinds.describing import find, read
from test_parity import BUNDLED

from minigen import nn


def changed(tmp_path, name, array, by=1e-6, rename=None):
    """A copy of a bundled case with one number of one array moved."""
    folder = tmp_path / (rename or name)
    shutil.copytree(BUNDLED / name, folder)
    with np.load(folder / "case.npz") as file:
        arrays = {key: file[key].copy() for key in file.files}
    arrays[array].reshape(-1)[-1] += by
    np.savez(folder / "case.npz", **arrays)
    return Case(folder)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("op_conv2d_1", "out__0"),
        ("op_conv2d_1", "gin__0"),
        ("op_conv2d_1", "gp__weight"),
        ("op_batchnorm_train", "buf_after__running_var"),
        ("fn_gelu", "gin__0"),
        ("loss_huber", "out__0"),
        ("double_r1", "gp__0.weight"),
        ("optim_adam", "out__traj"),
        ("optim_sched_step", "out__lr"),
    ],
)
def test_one_wrong_number_fails(tmp_path, name, array):
    run_case(changed(tmp_path, name, array, by=0.0))
    with pytest.raises(AssertionError, match=array.split("__")[0]):
        run_case(changed(tmp_path, name, array, rename=name + "_x" if name.startswith("op_conv2d") else "y/" + name))


def test_a_guess_must_fit_the_gradient_too(tmp_path):
    case = changed(tmp_path, "fn_gelu", "gin__0", rename="fn_gelu_variant")
    with pytest.raises(AssertionError, match="gin__0"):
        run_case(case)


def test_what_is_not_computed_is_a_difference():
    case = Case(BUNDLED / "fn_gelu")
    with pytest.raises(AssertionError, match="gin__0: not computed"):
        case.compare({"out__0": case["out__0"]}).require()
    assert case.compare({"out__0": case["out__0"]}, partly=True).fits


def test_what_is_not_known_is_not_covered(tmp_path):
    for name, says in [("new_kind", "no kind"), ("fn_frobnicate", "no function"), ("optim_sched_wavy", "no schedule")]:
        with pytest.raises(NotCovered, match=says):
            run_case(changed(tmp_path, "fn_gelu", "out__0", rename=name))
    folder = tmp_path / "op_strange"
    shutil.copytree(BUNDLED / "op_linear", folder)
    (folder / "meta.json").write_text(json.dumps({"name": "op_strange", "note": "Strange(3, 4)"}))
    with pytest.raises(NotCovered, match="no Strange"):
        run_case(Case(folder))


def test_written_forms():
    conv = find("a critic. Conv2d(2, 4, kernel_size=(3, 5), stride=(1, 1), padding=same, padding_mode=circular)")
    assert conv.args == [2, 4] and conv.kwargs["kernel_size"] == (3, 5) and conv.kwargs["padding"] == "same"
    nested = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.LayerNorm(3)))
    text = (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True)\n  (1): Sequential(\n    (0): ReLU()\n"
        "    (1): LayerNorm((3,), eps=1e-05, elementwise_affine=True)\n  )\n)"
    )
    assert list(read(text).build().state_dict()) == list(nested.state_dict())
    many = read("ModuleList(\n  (0-2): 3 x Linear(in_features=2, out_features=2, bias=False)\n)")
    assert len(many.build()) == 3
    for code in ("Linear(__import__('os').getpid(), 2)", "Linear(2, 2", "Linear(2, [x for x in (1,)])", "nothing"):
        with pytest.raises(NotCovered):
            find(code)
