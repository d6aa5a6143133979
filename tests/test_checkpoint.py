"""Checkpoints come back as they went in, are whole or absent, and say plainly what is wrong."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import checkpoint, tensorfile
from minigen.atomic import TEMPORARY, write_atomically
from minigen.checkpoint import Checkpoints
from minigen.errors import ArgumentError, CheckpointError
from minigen.tensor import Parameter, Tensor
from minigen.tensorfile import read_safetensors, write_safetensors


def same(a, b):
    """Equal, and of equal types all the way down; NaN equals NaN."""
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return type(a) is type(b) and (str(a) == str(b))  # "-0.0" and "nan" included
    return type(a) is type(b) and a == b


def round_trip(folder, mapping):
    path = folder / "state.safetensors"
    checkpoint.save(path, mapping)
    return checkpoint.load(path)


@pytest.mark.parametrize(
    "value",
    [
        {
            "step": 400,
            "model": {"fc.weight": np.ones((2, 3), np.float32)},
            "optimizer": {"state": {0: {"m": np.zeros(3)}}},
        },
        {
            "numbers": [0, -1, 2**63 - 1, -(2**63), 2**64, -(2**100), 7**10000],
            "floats": [0.1, -0.0, 1e-320, 1e308, 3.0],
        },
        {"floats": [float("inf"), float("-inf"), float("nan")]},
        {"others": (True, False, None, "", "x", ("nested", ("tuple",), []), {}, ())},
        {"text": "\0 \ud800 é 漢 \n \" ' \\ $"},
        {True: "a bool", None: 3, 2.5: 4, (1, ("a", None)): 5, "1": 6, -1: {2: {3: 4}}},
        {"$array": 1, "$": {"$tuple": 2, "a": np.ones(1)}, "a.b": np.ones(2), "a": {"b": np.zeros(3)}},
        {"": {"": np.ones(1)}, "\0": np.ones(2), "\ud800": np.ones(3), "__metadata__": np.ones(4), "../x": np.ones(5)},
        {
            "scalars": [
                np.float32(0.1),
                np.float64(0.1),
                np.int8(-3),
                np.uint64(2**64 - 1),
                np.bool_(True),
                np.float16(2),
            ]
        },
        {},
    ],
    ids=lambda value: next(iter(value), "empty") if isinstance(next(iter(value), ""), str) else "keys",
)
def test_what_goes_in_comes_back(tmp_path, value):
    assert same(round_trip(tmp_path, value), value)


@pytest.mark.parametrize("dtype", sorted(set(tensorfile._TYPES.values()) - set(tensorfile._SIZES)))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (2, 1, 3, 2)])
def test_every_type_and_shape(tmp_path, dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
    assert same(round_trip(tmp_path, {"x": array})["x"], array)


def test_strides_views_and_byte_order(tmp_path):
    flat = np.arange(24, dtype=np.float32)
    views = {
        "one": flat[:12].reshape(3, 4),
        "two": flat[12:].reshape(4, 3).T,
        "nhwc": flat.reshape(1, 2, 3, 4).transpose(0, 3, 1, 2),
        "every second": flat[::2],
        "backwards": flat[::-1],
        "spread": np.broadcast_to(flat[:3], (4, 3)),
        "big-endian": flat.astype(">f4"),
        "fortran": np.asfortranarray(flat.reshape(4, 6)),
    }
    back = round_trip(tmp_path, views)
    for name, view in views.items():
        np.testing.assert_array_equal(back[name], view, err_msg=name)
        assert back[name].flags.owndata or back[name].base is not flat
        assert back[name].flags.writeable and back[name].dtype == np.float32


def test_tensors_are_saved_as_their_arrays(tmp_path):
    model = {"w": Parameter(np.ones((2, 2), np.float32)), "b": Tensor(np.zeros(2, np.float32), requires_grad=True)}
    back = round_trip(tmp_path, model)
    assert same(back, {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    scalars | st.integers(0, 5).map(lambda n: np.arange(n, dtype=np.int16)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=5) | st.integers(), values, max_size=5))
def test_any_mapping(tmp_path_factory, mapping):
    assert same(round_trip(tmp_path_factory.getbasetemp(), mapping), mapping)


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        ({"model": {"f": print}}, "model.f is a builtin_function_or_method"),
        ({"a": [1, {2, 3}]}, "a.1 is a set"),
        ({"a": np.array(["text"])}, "an array of <U4"),
        ({"a": np.array([None])}, "an array of object"),
        ({"a": np.ones(2, np.complex128)}, "an array of complex128"),
        ({"a": {frozenset(): 1}}, "has the key frozenset()"),
        ([("a", 1)], "is not a mapping"),
    ],
)
def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path, mapping, named):
    path = tmp_path / "x"
    checkpoint.save(path, {"step": 1})
    before = path.read_bytes()
    with pytest.raises(ArgumentError) as error:
        checkpoint.save(path, mapping)
    assert named in str(error.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x"]


def test_a_mapping_that_contains_itself(tmp_path):
    mapping = {}
    mapping["me"] = mapping
    with pytest.raises(ArgumentError, match="contains itself"):
        checkpoint.save(tmp_path / "x", mapping)
    deep = nested = {}
    for _ in range(95):
        nested["d"] = nested = {} if len(nested) else {"t": ((1,),)}
    assert same(round_trip(tmp_path, deep), deep)


def test_arguments_in_pytorchs_order(tmp_path):
    with pytest.raises(ArgumentError, match="the path comes first"):
        checkpoint.save({"step": 1}, tmp_path / "x")
    with pytest.raises(ArgumentError, match="is not a path"):
        checkpoint.load({"step": 1})


# Writing


def test_save_makes_folders_and_ordinary_permissions(tmp_path):
    path = tmp_path / "runs" / "vae" / "x"
    before = os.umask(0o027)
    try:
        checkpoint.save(path, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_is_replaced_not_written_through(tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    checkpoint.save(link, {"step": 1})
    assert target.read_text() == "precious" and not link.is_symlink() and checkpoint.load(link) == {"step": 1}


@pytest.mark.parametrize("path", ["", "folder", "file/inside", "a\0b", "/dev/null/x"])
def test_paths_that_cannot_be_saved_at(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("")
    with pytest.raises(CheckpointError, match="could not be saved"):
        checkpoint.save(path, {"x": np.ones(3)})
    assert sorted(os.listdir()) == ["file", "folder"] and os.listdir("folder") == []


def test_a_save_in_progress_is_not_taken_for_stale(tmp_path):
    """Two threads save into one folder: neither removes the other's temporary file, a dead process's is removed."""
    half_way, go_on = threading.Event(), threading.Event()

    def slow_pieces():
        yield b"first"
        half_way.set()
        go_on.wait()
        yield b"second"

    slow = threading.Thread(target=write_atomically, args=(tmp_path / "slow", slow_pieces(), 11))
    slow.start()
    try:
        assert half_way.wait(60)
        stale = tmp_path / (TEMPORARY + "0123456789abcdef")
        stale.write_bytes(b"half")
        write_atomically(tmp_path / "quick", [b"x"], 1)
        left = [name for name in os.listdir(tmp_path) if name.startswith(TEMPORARY)]
        assert len(left) == 1 and left != [stale.name]
    finally:
        go_on.set()
        slow.join()
    assert (tmp_path / "slow").read_bytes() == b"firstsecond"
    assert sorted(os.listdir(tmp_path)) == ["quick", "slow"]


def test_an_interrupt_while_saving_leaves_the_old_file(tmp_path):
    def pieces():
        yield b"some"
        raise KeyboardInterrupt

    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, pieces(), 8)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


# Reading


def test_another_reader_opens_a_checkpoint(tmp_path):
    from safetensors.numpy import load_file

    path = tmp_path / "x.safetensors"
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    checkpoint.save(path, {"model": {"fc.weight": weight.T, "on": np.array([True])}, "step": 3})
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["model.fc.weight"], weight.T)
    assert arrays.keys() == {"model.fc.weight", "model.on"}


def test_a_file_of_another_writer_is_a_flat_mapping(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"b": np.ones((2, 2), np.float16), "a": np.arange(3)}
    save_file(arrays, tmp_path / "x", metadata={"format": "pt"})
    back = checkpoint.load(tmp_path / "x")
    assert back.keys() == arrays.keys() and all(same(back[k], arrays[k]) for k in arrays)
    with read_safetensors(tmp_path / "x") as weights:
        assert weights.metadata == {"format": "pt"} and len(weights) == 2 and "a" in weights
        assert weights.layout["b"][:2] == ("float16", (2, 2))
        assert weights["a"] is not weights["a"]


def test_weights_are_read_one_by_one(tmp_path):
    """Opening a file reads its header alone, and closes by itself."""
    path = tmp_path / "x"
    write_safetensors(path, {"big": np.zeros(10**6), "small": np.ones(3)})
    weights = read_safetensors(path)
    position = weights._file.tell()
    assert position < 1000
    np.testing.assert_array_equal(weights["small"], np.ones(3))
    path.unlink()  # the open file stays readable
    assert weights["big"].sum() == 0
    file = weights._file
    del weights
    assert file.closed


@pytest.mark.parametrize("ml_dtypes", [True, False])
def test_bfloat16(tmp_path, monkeypatch, ml_dtypes):
    if ml_dtypes:
        pytest.importorskip("ml_dtypes")
    else:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    import struct

    header = b'{"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    numbers = np.array([[1.0, -2.5], [3e38, 0.0]], np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype("<u2")
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + halves.tobytes())
    read = checkpoint.load(tmp_path / "x")["w"]
    expected = (halves.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(read.astype(np.float32), expected)
    if ml_dtypes:
        assert read.dtype.name == "bfloat16"
        assert round_trip(tmp_path, {"w": read})["w"].dtype == read.dtype


@pytest.mark.torch
def test_pytorchs_files(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    weights = {"h": torch.randn(3, 2, dtype=torch.bfloat16), "w": torch.randn(2, 3), "n": torch.arange(3)}
    save_file(weights, tmp_path / "x")
    for name, array in checkpoint.load(tmp_path / "x").items():
        np.testing.assert_array_equal(array.astype(np.float32), weights[name].float().numpy())
    write_safetensors(tmp_path / "y", {"w": weights["w"].numpy().T})
    assert torch.equal(load_file(tmp_path / "y")["w"], weights["w"].T)


def test_a_file_cut_short_names_sizes_and_a_whole_one(tmp_path):
    folder = Checkpoints(tmp_path)
    whole = folder.save(400, {"step": 400, "w": np.zeros(1000, np.float32)})
    path = folder.save(500, {"step": 500, "w": np.zeros(1000, np.float32)})
    size = path.stat().st_size
    os.truncate(path, 1048)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert str(error.value).splitlines() == [
        f"{path} is cut short: the header promises {size:,} bytes, the file has 1,048",
        f"  the newest whole save is {whole}. Continue from there with  --resume {whole}",
    ]


@pytest.mark.parametrize(
    "what", ["missing", "folder", "empty folder", "pipe", "device", "loop of links", "unreadable", "nul"]
)
def test_what_cannot_be_read(tmp_path, what):
    path = tmp_path / "x"
    if what in ("folder", "empty folder"):
        path.mkdir()
        if what == "folder":
            (path / "step-000001.safetensors").mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop of links":
        path.symlink_to(path)
    elif what == "unreadable":
        checkpoint.save(path, {})
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
    elif what == "nul":
        path = "a\0b"
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_reading_while_it_is_replaced(tmp_path):
    """A reader beside a writer sees one whole checkpoint or the next, never a mixture."""
    path = tmp_path / "x"
    checkpoint.save(path, {"step": 0, "w": np.zeros(1000)})
    code = (
        "import sys, numpy as np; from minigen import checkpoint\n"
        "for i in range(1, 10**9): checkpoint.save(sys.argv[1], {'step': i, 'w': np.full(1000 + i % 7, float(i))})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        seen = set()
        while len(seen) < 50 and writer.poll() is None:
            state = checkpoint.load(path)
            assert (state["w"] == state["step"]).all()
            seen.add(state["step"])
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) == 50


def test_headers_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorfile, "MAX_HEADER", 1000)
    with pytest.raises(ArgumentError, match="put long lists of numbers into arrays"):
        checkpoint.save(tmp_path / "x", {"history": list(range(1000))})
    checkpoint.save(tmp_path / "x", {"history": np.arange(1000)})
    monkeypatch.setattr(tensorfile, "MAX_HEADER", 50)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "x")


# A folder


def test_a_folder_keeps_the_last_few(tmp_path):
    folder = Checkpoints(tmp_path / "run", keep=2)
    assert folder.steps() == [] and folder.latest() is None
    for step in (1, 5, 30, 1234567):
        assert folder.save(step, {"step": step}) == folder.path(step)
    assert folder.steps() == [30, 1234567]
    assert checkpoint.load(tmp_path / "run") == {"step": 1234567}
    os.truncate(folder.path(1234567), 20)
    assert folder.latest() == folder.path(30) and checkpoint.load(tmp_path / "run") == {"step": 30}
    os.truncate(folder.path(30), 0)
    assert folder.latest() is None
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        checkpoint.load(tmp_path / "run")


def test_a_folder_of_one(tmp_path):
    folder = Checkpoints(tmp_path, keep=1)
    folder.save(1, {}), folder.save(2, {})
    assert folder.steps() == [2]
    with pytest.raises(ArgumentError, match="at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_setting_aside(tmp_path):
    folder = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, {"step": step})
    folder.set_aside(after=1)
    assert folder.steps() == [1] and Checkpoints(tmp_path / "previous").steps() == [2, 3]
    folder.set_aside()
    assert folder.steps() == [] and Checkpoints(tmp_path / "previous").steps() == [1]
    folder.set_aside()
    assert Checkpoints(tmp_path / "previous").steps() == [1]


def test_memory(tmp_path):
    """Saving copies nothing, loading takes the size of the arrays once."""
    import tracemalloc

    state = {"model": {str(i): np.ones((256, 1024), np.float32) for i in range(8)}}
    size = 8 << 20
    checkpoint.save(tmp_path / "x", {})  # what is imported on the way is imported
    tracemalloc.start()
    try:
        checkpoint.save(tmp_path / "x", state)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        checkpoint.load(tmp_path / "x")
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert saving < 0.05 * size and loading < 1.05 * size
