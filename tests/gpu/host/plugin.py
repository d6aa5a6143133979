"""What pytest does beside, where CuPy runs on host memory: a fault below CuPy fails the test in which it happens."""

import pytest

from . import driver


@pytest.fixture(autouse=True)
def nothing_goes_wrong_below_cupy():
    driver.faults.clear()
    yield
    driver.streams.captured.clear()
    if driver.faults:
        pytest.fail("below CuPy: " + "\n".join(dict.fromkeys(driver.faults))[:2000], pytrace=False)


def pytest_terminal_summary(terminalreporter):
    compiler = driver.own.compiler
    terminalreporter.write_line(
        f"CuPy on host memory: {len(compiler.modules)} modules, {compiler.built} of them compiled now, "
        f"{compiler.launches} launches"
    )
