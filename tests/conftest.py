"""What every test gets: fixed seeds, no network but this machine's own, and marks that skip with a reason."""

import socket

import pytest

import minigen


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--cases", default=None, help="a folder of parity cases to run instead of the bundled ones")


def pytest_collection_modifyitems(config, items):
    reasons = {}
    if not config.getoption("--slow"):
        reasons["slow"] = "takes minutes: run with --slow"
    if not minigen.cuda_available():
        reasons["gpu"] = "needs a CUDA GPU and CuPy"
    try:
        import torch  # noqa: F401
    except ImportError:
        reasons["torch"] = "needs PyTorch: pip install torch"
    for item in items:
        for mark, reason in reasons.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seeded():
    minigen.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """A test that reaches for the network fails, and says which address it wanted."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else address
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test opened a connection to {address}: tests run without a network")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect
