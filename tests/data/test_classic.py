"""The classic sets: formats read without pickle, and fetched from a server on this machine that stands for theirs."""

import bz2
import gzip
import hashlib
import io
import socket
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from minigen.data import classic, formats
from minigen.errors import ArgumentError, DataError, DownloadError

RANDOM = np.random.default_rng(0)
IMAGES, LABELS = RANDOM.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array, code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


# Formats


def test_idx():
    for array, code in [(IMAGES, 8), (LABELS, 8), (np.array([[1.5, -2]], ">f4"), 13), (np.array([-7], ">i4"), 12)]:
        found = formats.read_idx(idx(array, code))
        assert found.dtype.isnative and found.shape == array.shape and (found == array).all()
    raw = idx(IMAGES)
    for bad, because in [
        (raw[:-1], "header promises"),
        (raw + b"x", "header promises"),
        (b"\x1f\x8b\x08\x00", "not an idx"),
        (raw[:7], "cut short"),
        (b"", "not an idx"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "header promises"),
    ]:
        with pytest.raises(DataError, match=because):
            formats.read_idx(bad)


def test_npy():
    for array in (IMAGES, np.asfortranarray(RANDOM.normal(size=(3, 4))), np.float32(2.5), np.zeros((0, 3))):
        found = formats.read_npy(npy(np.asarray(array)))
        assert found.dtype == np.asarray(array).dtype and (found == array).all() and found.shape == np.shape(array)
        found[...] = 1  # writable
    raw = npy(IMAGES)
    for length in [*range(0, 130, 7), len(raw) - 1]:
        with pytest.raises(DataError):
            formats.read_npy(raw[:length])
    with pytest.raises(DataError, match="pickle runs code"):
        formats.read_npy(raw.replace(b"'|u1'", b"'|O' "))
    with pytest.raises(DataError, match="header promises"):
        formats.read_npy(raw.replace(b"(5, 28, 28)", b"(5, 28, 99)"))


def test_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(zipped(**{"x.npy": npy(IMAGES), "y.npy": npy(LABELS)}))
    found = formats.read_npz(tmp_path / "a.npz", ["x", "y"])
    assert (found["x"] == IMAGES).all() and (found["y"] == LABELS).all()
    with pytest.raises(DataError, match=r"no member 'z\.npy'"):
        formats.read_npz(tmp_path / "a.npz", ["z"])
    np.savez_compressed(tmp_path / "b.npz", x=IMAGES)
    assert (formats.read_npz(tmp_path / "b.npz", ["x"])["x"] == IMAGES).all()


def test_cifar_records():
    pixels = RANDOM.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    raw = b"".join(bytes([9, label]) + image.tobytes() for label, image in zip([1, 2, 3, 4], pixels))
    images, labels = formats.read_cifar(raw, label_bytes=2)
    assert (images == pixels).all() and labels.tolist() == [1, 2, 3, 4]
    for bad in (raw[:-1], b""):
        with pytest.raises(DataError, match="no whole number of records"):
            formats.read_cifar(bad, label_bytes=2)


def test_libsvm():
    x, labels = formats.read_libsvm("7 1:0.5 3:-1\n2 2:1\n", 3)
    assert x.tolist() == [[0.5, 0, -1], [0, 1, 0]] and labels.tolist() == [7, 2]
    for bad in ("7 1:0.5 4:1", "7 0:1", "seven 1:1", "7 1=1", ""):
        with pytest.raises(DataError, match="line 1"):
            formats.read_libsvm(bad, 3)


# Sets


@pytest.fixture
def hosted(server, monkeypatch):
    """Put a file where SOURCES says it is to be found, on the local server."""

    def host(name, body):
        file = classic.SOURCES[name].urls[0].rsplit("/", 1)[-1]
        server.say(f"/{name}/{file}", body)
        source = classic.Source((server.url(f"/{name}/{file}"),), sha256=hashlib.sha256(body).hexdigest())
        monkeypatch.setitem(classic.SOURCES, name, source)

    return host


@pytest.mark.parametrize("load, name", [(classic.mnist, "mnist"), (classic.fashion_mnist, "fashion-mnist")])
def test_mnist_and_fashion(hosted, load, name):
    hosted(f"{name}/test-images", gzip.compress(idx(IMAGES)))
    hosted(f"{name}/test-labels", gzip.compress(idx(LABELS)))
    images, labels = load("test")
    assert images.shape == (5, 1, 28, 28) and images.dtype == np.float32 and labels.dtype == np.int64
    np.testing.assert_array_equal((images[:, 0] * 255).round(), IMAGES)
    assert labels.tolist() == [3, 1, 4, 1, 5]
    hosted(f"{name}/train-images", gzip.compress(idx(IMAGES)))
    hosted(f"{name}/train-labels", gzip.compress(idx(LABELS[:4])))
    with pytest.raises(DataError, match="do not fit"):
        load("train")


def test_mnist_from_its_other_place(hosted, server, monkeypatch):
    monkeypatch.setitem(classic.SOURCES, "mnist/test-images", classic.Source((server.url("/gone"),), md5="0" * 32))
    server.say("/gone", status=404)
    hosted("mnist.npz", zipped(**{"x_test.npy": npy(IMAGES), "y_test.npy": npy(LABELS)}))
    images, labels = classic.mnist("test")
    assert images.shape == (5, 1, 28, 28) and labels.tolist() == [3, 1, 4, 1, 5]


@pytest.mark.parametrize("load, name, labels, folder", [
    (classic.cifar10, "cifar-10", 1, "cifar-10-batches-bin"), (classic.cifar100, "cifar-100", 2, "cifar-100-binary")
])  # fmt: skip
def test_cifar(hosted, load, name, labels, folder):
    pixels = RANDOM.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    parts = {"test_batch": 0, "test": 0, "train": 1} | {f"data_batch_{i}": i for i in range(1, 6)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for part, label in parts.items():
            body = b"".join(bytes([label] * labels) + image.tobytes() for image in pixels)
            info = tarfile.TarInfo(f"{folder}/{part}.bin")
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    hosted(name, file.getvalue())
    images, found = load("test")
    np.testing.assert_array_equal((images * 255).round(), pixels)
    assert images.dtype == np.float32 and found.tolist() == [0, 0]
    assert load("train")[1].tolist() == ([1, 1, 2, 2, 3, 3, 4, 4, 5, 5] if name == "cifar-10" else [1, 1])


def test_usps(hosted):
    hosted("usps/test", bz2.compress(b"10 1:1 2:-1\n1 256:1\n"))
    images, labels = classic.usps("test")
    assert images.shape == (2, 1, 16, 16) and labels.tolist() == [9, 0]
    assert images[0, 0, 0, :3].tolist() == [1.0, 0.0, 0.5] and images[1, 0, 15, 15] == 1


def test_omniglot(hosted):
    hosted("omniglot/test", zipped(**{"images_evaluation/Angelic/character01/0965_01.png": b"pixels"}))
    folder = classic.omniglot("test")
    assert (folder / "images_evaluation" / "Angelic" / "character01" / "0965_01.png").read_bytes() == b"pixels"
    assert classic.omniglot("test") == folder  # unpacked once


def test_moving_mnist(hosted):
    films = RANDOM.integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    hosted("moving-mnist", npy(films))
    assert (classic.moving_mnist() == films.transpose(1, 0, 2, 3)).all()


def test_texts(hosted):
    hosted("tiny-shakespeare", b"To be, or not to be")
    assert classic.tiny_shakespeare("train") + classic.tiny_shakespeare("valid") == "To be, or not to be"
    hosted("names", b"emma\nolivia\n")
    assert classic.names() == ["emma", "olivia"]
    hosted("multi30k/valid.en", gzip.compress(b"A dog.\nA cat.\n"))
    hosted("multi30k/valid.de", gzip.compress("Ein Hund.\nEine Kätzin.\n".encode()))
    assert classic.multi30k("valid") == (["A dog.", "A cat."], ["Ein Hund.", "Eine Kätzin."])
    hosted("sst-2", zipped(**{"SST-2/dev.tsv": b"sentence\tlabel\nfine \t1\ndull\t0\n"}))
    sentences, labels = classic.sst2("valid")
    assert sentences == ["fine ", "dull"] and labels.tolist() == [1, 0]


def test_every_source_is_checked_and_reachable_by_http():
    for name, source in classic.SOURCES.items():
        assert source.urls and all(url.startswith(("https://", "http://")) for url in source.urls), name
        assert len(source.sha256 or "") == 64 or len(source.md5 or "") == 32, name


def test_without_a_network_the_offline_data_is_offered(monkeypatch):
    def nowhere(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(DownloadError, match="there is no network") as caught:
        classic.mnist()
    assert str(caught.value).endswith("without the network: the bundled digits, minigen.data.digits()")
    with pytest.raises(DownloadError, match="standard_library_text"):
        classic.tiny_shakespeare()


def test_errors():
    for load in (classic.mnist, classic.cifar10, classic.usps, classic.omniglot):
        with pytest.raises(ArgumentError, match="train, test"):
            load("valid")
    with pytest.raises(ArgumentError, match="no such file"):
        classic.fetch("imagenet")
