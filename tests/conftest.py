"""What every test gets: fixed seeds, no network but this machine's own, and marks that skip with a reason."""

import gc
import importlib.util
import socket
import sys
from pathlib import Path

import pytest

import minigen
from minigen.autograd import modes

sys.path.append(str(Path(__file__).with_name("gpu")))  # which has the stand-in for CuPy, and CuPy on host memory
sys.path.append(str(Path(__file__).with_name("meanwhile")))
import meanwhile
import standin
from standin import passed_over

CARD = {"kernels", "capture"}  # folders whose tests marked gpu need a card, where others run on the stand-in for CuPy


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--standin", action="store_true", help="run the tests with their tensors on the stand-in for CuPy (tests/gpu)"
    )
    parser.addoption(
        "--host",
        nargs="?",
        const="plain",
        choices=("plain", "harsh", "hopper"),
        help="run the tests marked gpu over CuPy itself on host memory (tests/gpu/host)",
    )
    parser.addoption("--cases", default=None, help="a folder of parity cases to run instead of the bundled ones")


def pytest_configure(config):
    gc.disable()  # until the tests are there
    beside = meanwhile.Meanwhile()
    config.pluginmanager.register(beside, "meanwhile")
    if config.getoption("--host"):
        import host

        if host.missing() is None:
            folder = config.cache.mkdir("cupy_on_host")
            config.pluginmanager.register(host.start(folder, config.getoption("--host")))
    chosen = config.args_source is not config.ArgsSource.TESTPATHS or config.option.keyword or config.option.markexpr
    if not chosen and not config.option.collectonly and minigen.kernels.enabled():
        beside.start(*meanwhile.KERNELS)


def pytest_collection_modifyitems(config, items):
    reasons = {}
    if not config.getoption("--slow"):
        reasons["slow"] = "takes minutes: run with --slow"
    if not minigen.kernels.enabled():
        reasons["kernels"] = "is about kernels, and they are off"
    if importlib.util.find_spec("torch") is None:
        reasons["torch"] = "needs PyTorch: pip install torch"
    card, lacking = minigen.cuda_available(), None
    if config.getoption("--host"):
        import host

        lacking = host.missing()
    for item in items:
        on_gpu = item.get_closest_marker("gpu") is not None  # not `in item.keywords`, which name the folder gpu, too
        chosen = on_gpu or "device" in getattr(getattr(item, "callspec", None), "params", ())
        if config.getoption("--standin") and not chosen and "gpu" not in item.path.parts:
            item.fixturenames.insert(0, "on_the_standin")
            why = passed_over.reason(item.nodeid.partition("tests/")[2])
            if "kernels" in item.keywords:
                why = "is about kernels, and the stand-in has none"
            if why is not None:
                item.add_marker(pytest.mark.skip(reason=why))
        if on_gpu and lacking is not None:
            item.add_marker(pytest.mark.skip(reason=lacking))
        if not card and on_gpu:
            if CARD & {*item.path.parts}:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU and CuPy"))
            else:
                item.fixturenames.insert(0, "instead_of_a_card")
        for mark, reason in reasons.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    """Each of the many calls of gc.collect() would go through all that pytest holds: ten thousand tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def instead_of_a_card():
    """What a test marked gpu gets where there is no GPU: the stand-in for CuPy, kernels off."""
    with standin.installed() as cupy:
        yield cupy


@pytest.fixture
def on_the_standin(request):
    """What --standin gives the other tests: what they put into tensors lies on the stand-in's device."""
    from standin.transplant import transplanted

    with standin.installed(), transplanted(request.module):
        yield


@pytest.fixture(autouse=True)
def seeded():
    minigen.manual_seed(0)


@pytest.fixture(autouse=True)
def no_bfloat16_from_before():
    """The engine looks after bfloat16 from the first number of that type on: a test must not inherit that."""
    yield
    modes.bfloat16 = False
    modes._watch()


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """A test that reaches for the network, or asks for a name, fails, and says which address it wanted."""
    here = ("127.0.0.1", "::1", "localhost", None, "")
    originals = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(host):
        if isinstance(host, bytes):
            host = host.decode()
        if host not in here:
            raise AssertionError(f"a test reached for {host!r}: tests run without a network")

    def guarded(method):
        def call(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return method(self, address)

        return call

    def getaddrinfo(host, *args, **kwargs):
        refuse(host)
        return originals[2](host, *args, **kwargs)

    socket.socket.connect, socket.socket.connect_ex = guarded(originals[0]), guarded(originals[1])
    socket.getaddrinfo = getaddrinfo
    yield
    socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = originals
