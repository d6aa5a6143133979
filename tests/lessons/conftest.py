"""Each lesson is run under --quick in a process of its own. They begin with the session, beside the other tests, and
what they did is looked at in the end.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "lessons"
QUICK_RUNS = pytest.StashKey()


def runs_a_lesson(item):
    return item.name.startswith("test_quick[")


def pytest_collection_modifyitems(items):
    items.sort(key=runs_a_lesson)


def pytest_collection_finish(session):
    names = [item.callspec.params["name"] for item in session.items if runs_a_lesson(item)]
    if names and not session.config.option.collectonly:
        out = TemporaryDirectory()
        session.config.add_cleanup(out.cleanup)
        beside, flags = session.config.pluginmanager.get_plugin("meanwhile"), ("--quick", "--out", out.name)
        runs = {name: beside.start(sys.executable, f"{name}.py", *flags, folder=FOLDER) for name in names}
        session.config.stash[QUICK_RUNS] = runs, Path(out.name)


@pytest.fixture
def quick_run(request):
    """Of a lesson's name: the exit status of its run, its stdout and stderr, and the folder of its figures."""
    runs, out = request.config.stash[QUICK_RUNS]
    return lambda name: (*runs[name].result(), out / name)
