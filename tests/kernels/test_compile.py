"""The kernel cache: what is kept, what is refused, and that no damaged file ever stops a program."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
import numba

from minigen.kernels.cpu import cache as caching
from minigen.kernels.cpu.compile import inline, kernel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a memory of what was said as short as the test."""
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caching, "_said", set())
    caching.folder.cache_clear()
    yield tmp_path / "cache"
    caching.folder.cache_clear()


def doubled(factor=2.0):
    """A kernel as a new process would make it, compiled or loaded by its first call."""

    @kernel(parallel=False)
    def times(x):
        for i in range(x.size):
            x[i] *= factor

    x = np.ones(3, np.float32)
    times(x)
    return x.tolist()


def files(cache):
    return sorted(cache.rglob("*.bin"))


def test_the_second_time_nothing_is_compiled_and_nothing_said(cache, capsys):
    assert doubled() == [2, 2, 2]
    assert capsys.readouterr().err.count("minigen: compiling kernels for this machine, once") == 1
    (file,) = files(cache)
    before = file.stat().st_mtime_ns
    caching._said.clear()
    assert doubled() == [2, 2, 2]
    assert capsys.readouterr().err == ""
    assert files(cache) == [file] and file.stat().st_mtime_ns == before


def test_the_process_that_compiles_has_the_bits_of_those_that_load(cache):
    """Rows of softmax: sums in a parallel loop, whose two compiled copies order them differently."""
    code = (
        "import numpy as np; from minigen.kernels.cpu.softmax import softmax; "
        "x = np.random.default_rng(0).standard_normal((61, 303), dtype=np.float32); "
        "print(softmax(x).tobytes().hex())"
    )
    settings = {**os.environ, "MINIGEN_CACHE": str(cache)}
    run = lambda: subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
    first, second = run(), run()
    assert "compiling" in first.stderr and "compiling" not in second.stderr
    assert first.stdout == second.stdout


def test_the_folder_and_its_files_are_the_users_alone(cache):
    doubled()
    for path in [*cache.rglob("*")]:
        if path.name != "kernels":  # made by mkdir(parents=True), which takes the umask
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"garbage",
        lambda data: hashlib.sha256(b"not a pickle").digest() + b"not a pickle",
    ],
    ids=["empty", "truncated", "one bit", "garbage", "another content"],
)
def test_a_damaged_file_is_compiled_again_with_one_line(cache, capsys, damage):
    doubled()
    (file,) = files(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    capsys.readouterr()
    assert doubled() == [2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "is damaged" in said[0] and file.name in said[0]
    assert caching.read(file) is not None, "the good file is back"


def test_a_world_writable_folder_is_refused(cache, capsys):
    doubled()
    folder = files(cache)[0].parent
    folder.chmod(0o777)
    caching.folder.cache_clear()
    capsys.readouterr()
    assert doubled(3.0) == [3, 3, 3]
    assert "can be written by other users: not used" in capsys.readouterr().err
    assert len(files(cache)) == 1, "nothing was written there"


def test_a_cache_of_another_user_is_refused(cache, capsys, monkeypatch):
    doubled()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    caching.folder.cache_clear()
    capsys.readouterr()
    assert doubled() == [2, 2, 2]
    assert "belongs to another user: not used" in capsys.readouterr().err


def test_a_file_of_another_user_in_it_is_refused(cache, capsys):
    doubled()
    (file,) = files(cache)
    file.chmod(0o666)
    assert caching.read(file) is None
    assert "can be written by other users: not loaded" in capsys.readouterr().err


def test_without_a_usable_folder_kernels_work_and_one_line_says_so(cache, capsys):
    cache.write_text("a file where the folder should be")
    assert doubled() == [2, 2, 2]
    assert doubled(3.0) == [3, 3, 3]
    said = capsys.readouterr().err
    assert said.count("compiling without a cache") == 1


def test_a_folder_that_cannot_be_written_is_still_read(cache, capsys, monkeypatch):
    doubled()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caching.tempfile, "mkstemp", refuse)
    caching._said.clear()
    assert doubled() == [2, 2, 2]
    assert capsys.readouterr().err.count("\n") == 1, "only the first compilation spoke"
    assert doubled(5.0) == [5, 5, 5]
    assert "cannot keep compiled kernels" in capsys.readouterr().err


def test_a_changed_helper_or_constant_is_compiled_anew(cache):
    def build(amount):
        @inline
        def helper(x):
            return x + np.float32(amount)

        @kernel(parallel=False)
        def use(x):
            for i in range(x.size):
                x[i] = helper(x[i])

        x = np.zeros(2, np.float32)
        use(x)
        return x.tolist()

    assert build(1) == [1, 1] and build(2) == [2, 2] and build(1) == [1, 1]
    assert len(files(cache)) == 2


SCRIPT = """
import sys, numpy as np
from kernels.cpu.compile import kernel  # without the rest of minigen, to start quickly
@kernel(parallel=False)
def squares(x):
    for i in range(x.size):
        x[i] = x[i] * x[i]
x = np.arange(5, dtype=np.float32)
squares(x)
assert x.tolist() == [0, 1, 4, 9, 16]
"""


def test_four_cold_processes_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    place = str(Path(caching.__file__).resolve().parents[2])
    environment = {**os.environ, "MINIGEN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": place}
    running = [
        subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in running:
        said = process.communicate()[1]
        assert process.returncode == 0, said
    assert len(files(tmp_path / "cache")) == 1 and not list((tmp_path / "cache").rglob(".new-*"))
    warm = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert warm.returncode == 0 and warm.stderr == ""


FORK = """
import os, sys, numpy as np
from minigen import kernels, Tensor, nn
x = Tensor(np.linspace(-3, 3, 40000, dtype=np.float32))
before = x.exp().data
if os.fork() == 0:
    after = x.exp().data
    os._exit(0 if np.allclose(before, after, rtol=1e-5) else 3)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_without_kernels(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FORK)
    child = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert child.returncode == 0, child.stderr


def test_numba_itself_is_left_as_it_was(cache):
    @numba.njit(cache=False)
    def theirs(x):
        return x + 1

    doubled()
    assert theirs(1) == 2
    assert type(theirs._cache).__module__ == "numba.core.caching"
    assert str(numba.config.CACHE_DIR) == os.environ.get("NUMBA_CACHE_DIR", "")


def test_any_strides_are_one_compilation(cache):
    @kernel(parallel=False, reads=("x",))
    def copy(x, y):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = x[i, j]

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (x, x.T, x[::2, ::-1], np.broadcast_to(x[0], (3, 4))):
        y = np.empty(view.shape, np.float32)
        copy(view, y)
        assert (y == view).all()
    assert len(files(cache)) == 1


def test_threads_may_call_a_kernel_at_once():
    from minigen.kernels.cpu import reduce

    x = np.random.default_rng(0).standard_normal((4000, 50)).astype(np.float32)
    expected = reduce.sum_leading(x)
    wrong = []

    def work():
        for _ in range(20):
            if (reduce.sum_leading(x) != expected).any():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_workqueue_takes_turns(monkeypatch):
    """Numba's own pool ends the process if two threads enter it: behind our lock they wait."""
    script = """
import numpy as np, threading, sys
from minigen.kernels.cpu import reduce
import numba
x = np.ones((4000, 50), np.float32)
def work():
    for _ in range(50):
        reduce.sum_leading(x)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert numba.threading_layer() == "workqueue"
"""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_infinities_and_nan_keep_their_meaning():
    @kernel(parallel=False)
    def sums(x, y):
        total = np.float32(0)
        for i in range(x.size):
            total += x[i]
        y[0] = total
        for i in range(x.size):
            y[i + 1] = np.float32(1) / x[i]

    def run(*numbers):
        y = np.empty(len(numbers) + 1, np.float32)
        sums(np.array(numbers, np.float32), y)
        return y

    assert run(1, np.inf, 2)[0] == np.inf
    assert np.isnan(run(np.inf, -np.inf)[0]) and np.isnan(run(1, np.nan)[0])
    np.testing.assert_array_equal(run(*[np.inf, 0.0, -np.inf, 2.0] * 20)[1:5], [0, np.inf, 0, 0.5])


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path))
    assert caching.cache_root() == tmp_path
    monkeypatch.delenv("MINIGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    if sys.platform.startswith("linux"):
        assert caching.cache_root() == Path(tmp_path / "x" / "minigen")


def test_a_helper_that_a_kernel_has_compiled_is_no_function_of_python(cache):
    @inline
    def plus_two(x):
        return x + np.float32(2)

    @kernel
    def plus_two_of_all(x):
        for i in numba.prange(x.size):
            x[i] = plus_two(x[i])

    x = np.zeros(3, np.float32)
    plus_two_of_all(x)
    assert (x == 2).all()
    with pytest.raises(TypeError, match="not callable"):
        plus_two(np.float32(1))
    assert plus_two.py_func(np.float32(1)) == 3
