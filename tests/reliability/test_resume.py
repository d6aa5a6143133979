"""Row 10 of the scorecard: a run that was interrupted ends in the same bits."""

import pytest

from minigen.faults import resume

OPTIMISERS, SCHEDULES = list(resume.optimisers()), list(resume.schedules())


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser(name):
    """Each with one schedule, a different one for each."""
    plan = SCHEDULES[OPTIMISERS.index(name) % len(SCHEDULES)]
    assert resume.broken(resume.optimisers()[name], resume.schedules()[plan]) is None


@pytest.mark.parametrize("plan", SCHEDULES)
def test_every_schedule(plan):
    assert resume.broken(resume.optimisers()["Adam"], resume.schedules()[plan]) is None


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "ema", "data"])
def test_the_check_can_fail(part, monkeypatch):
    """If a part is not restored, the bits differ, and the check says where."""
    from minigen.train.run import Run

    resumed = Run._resume

    def forgetful(self, path):
        forgotten = self.parts[part]
        monkeypatch.setattr(type(forgotten), "load_state_dict", lambda self, state: None)
        resumed(self, path)
        monkeypatch.undo()

    monkeypatch.setattr(Run, "_resume", forgetful)
    fault = resume.broken(resume.optimisers()["Adam"], resume.schedules()["exponential"])
    assert fault is not None
