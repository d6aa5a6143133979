"""Row 17 of the scorecard: nothing that is read can become code."""

import pytest

from minigen.faults import supply


def test_nothing_banned_is_used():
    finding = supply.banned_code()
    assert finding.passed, finding.text


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, marshal as m",
        "importlib.import_module('pickle')",
        "eval(text)",
        "exec(open(path).read())",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "tarfile.open(path).extractall(folder)",
        "shutil.unpack_archive(path)",
        "torch.load(path)",
        "__import__(name)",
    ],
)
def test_each_banned_thing_is_seen(source):
    assert len(list(supply.violations(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "np.load(path, allow_pickle=False)", "re.compile(x)", "'import pickle'", "run(a, shell=False)"],
)
def test_what_is_allowed_is_not_seen(source):
    assert list(supply.violations(source)) == []
