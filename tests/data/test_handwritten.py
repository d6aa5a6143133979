"""The bundled digits are the UCI digits, unchanged."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import minigen.data
from minigen.data import digits, handwritten
from minigen.errors import ArgumentError, DataError


def test_shapes_types_and_splits():
    images, labels = digits("all")
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32 and labels.dtype == np.int64
    parts = [digits(split) for split in ("train", "valid", "test")]
    assert [len(part[0]) for part in parts] == [1000, 350, 447]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as UCI lists them
    assert images.min() == 0 and images.max() == 1 and set(np.unique(images * 16)) == set(range(17))


def test_the_numbers_are_the_originals():
    """The hash of the numbers as text, as UCI and scikit-learn distribute them."""
    images, labels = digits("all")
    table = np.concatenate([images.reshape(-1, 64) * 16, labels[:, None]], 1).astype(int)
    text = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    )


def test_binary():
    images, _ = digits("test")
    binary, _ = digits("test", binary=True)
    assert binary.dtype == np.float32 and set(np.unique(binary)) == {0, 1}
    np.testing.assert_array_equal(binary, images >= 0.5)


def test_the_caller_owns_what_it_gets():
    digits("train")[0][:] = 0
    digits("train")[1][:] = 0
    assert digits("train")[0].max() == 1 and digits("train")[1].max() == 9


def test_the_licence_is_there_and_the_file_is_small():
    folder = Path(minigen.data.__file__).parent / "digits"
    licence = (folder / "LICENSE.txt").read_text()
    assert "CC BY 4.0" in licence and "10.24432/C50P49" in licence and "Alpaydin" in licence
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000


def test_errors(monkeypatch, tmp_path):
    with pytest.raises(ArgumentError, match="train, valid, test, all"):
        digits("validation")
    handwritten._table.cache_clear()
    monkeypatch.setattr(handwritten, "_FILE", tmp_path / "missing.gz")
    with pytest.raises(DataError, match="reinstall minigen"):
        digits()
    (tmp_path / "missing.gz").write_bytes(b"garbage")
    with pytest.raises(DataError, match="cannot be read"):
        digits()
