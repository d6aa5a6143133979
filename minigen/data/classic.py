"""The classic data sets, for `--full` runs: fetched once, checked against their hashes, cached, parsed without pickle.

    images, labels = mnist("train")         # (60000, 1, 28, 28) float32 in [0, 1], (60000,) int64
    text = tiny_shakespeare("train")

`SOURCES` says where each comes from and what its bytes must hash to. Where the keepers publish only MD5, that is what
is checked: it guards against damage, not against an attacker. Nothing here can be fetched without a network; the error
then names the bundled data to use instead.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, DataError, DownloadError, expect
from . import archive, formats
from .download import cache_dir, download
from .text import cut

OFFLINE_IMAGES = "the bundled digits, minigen.data.digits()"
OFFLINE_TEXT = "minigen.data.standard_library_text(), or --data PATH"
GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """One file: its addresses (the same bytes at each), its hash, and its length where it is known."""

    urls: tuple
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None


def _mnist(part, md5):
    return Source((f"https://ossci-datasets.s3.amazonaws.com/mnist/{part}-ubyte.gz",), md5=md5)


def _fashion(part, md5):
    return Source((f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{part}-ubyte.gz",), md5=md5)


def _multi30k(part, sha256):
    return Source((f"{GITHUB}/multi30k/dataset/master/data/task1/raw/{part}.gz",), sha256=sha256)


SOURCES = {
    "mnist/train-images": _mnist("train-images-idx3", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "mnist/train-labels": _mnist("train-labels-idx1", "d53e105ee54ea40749a09fcbcd1e9432"),
    "mnist/test-images": _mnist("t10k-images-idx3", "9fb629c4189551a2d022fa330f9573f3"),
    "mnist/test-labels": _mnist("t10k-labels-idx1", "ec29112dd5afa0611ce80d1b7f02629c"),
    "mnist.npz": Source(
        ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
        sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    ),
    "fashion-mnist/train-images": _fashion("train-images-idx3", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "fashion-mnist/train-labels": _fashion("train-labels-idx1", "25c81989df183df01b3e8a0aad5dffbe"),
    "fashion-mnist/test-images": _fashion("t10k-images-idx3", "bef4ecab320f06d8554ea6380940ec79"),
    "fashion-mnist/test-labels": _fashion("t10k-labels-idx1", "bb300cfdad3c16e7a12a480ee83cd310"),
    # The binary version: the better known Python version is pickle, which runs code. MD5 as published beside it.
    "cifar-10": Source(
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",), md5="c32a1d4ab5d03f1284b67883e8d87530"
    ),
    "cifar-100": Source(
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",), md5="03b5dce01913d631647c71ecec9e9cb8"
    ),
    "usps/train": Source(
        ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.bz2",),
        md5="ec16c51db3855ca6c91edd34d0e9b197",
    ),
    "usps/test": Source(
        ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.t.bz2",),
        md5="8ea070ee2aca1ac39742fdd1ef5ed118",
    ),
    "omniglot/train": Source(
        (f"{GITHUB}/brendenlake/omniglot/master/python/images_background.zip",), md5="68d2efa1b9178cc56df9314c21c6e718"
    ),
    "omniglot/test": Source(
        (f"{GITHUB}/brendenlake/omniglot/master/python/images_evaluation.zip",), md5="6b91aef0f799c5bb55b94e3f2daec811"
    ),
    "moving-mnist": Source(
        ("http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy",),
        md5="be083ec986bfe91a449d63653c411eb2",
    ),
    "tiny-shakespeare": Source(
        (f"{GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
    ),
    "names": Source(
        (f"{GITHUB}/karpathy/makemore/master/names.txt",),
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        size=228_145,
    ),
    "multi30k/train.en": _multi30k("train.en", "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "multi30k/train.de": _multi30k("train.de", "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "multi30k/valid.en": _multi30k("val.en", "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
    "multi30k/valid.de": _multi30k("val.de", "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "multi30k/test.en": _multi30k(
        "test_2016_flickr.en", "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"
    ),
    "multi30k/test.de": _multi30k(
        "test_2016_flickr.de", "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"
    ),
    "sst-2": Source(("https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",), md5="9f81648d4199384278b86e315dac217c"),
}


def fetch(name, instead=OFFLINE_IMAGES):
    """The path of a file in SOURCES, downloaded if it is not in the cache. Raises DownloadError."""
    expect(name in SOURCES, "classic.fetch: there is no such file in classic.SOURCES", name, error=ArgumentError)
    source = SOURCES[name]
    file = source.urls[0].rsplit("/", 1)[-1]
    folder = cache_dir() / name.split("/")[0]
    return download(
        source.urls, sha256=source.sha256, md5=source.md5, size=source.size, name=file, folder=folder, instead=instead
    )


# Images: (images, labels), float32 (N, C, H, W) in [0, 1] and int64 (N,), NumPy arrays


def mnist(split="train"):
    """Handwritten digits, 28x28 (LeCun, Cortes & Burges 1998): 60,000 for "train", 10,000 for "test"."""
    try:
        return _idx_pair("mnist", split)
    except DownloadError:  # the same digits are kept in another place, in another format
        arrays = formats.read_npz(fetch("mnist.npz"), [f"x_{split}", f"y_{split}"])
        return _image_pair("mnist.npz", *arrays.values())


def fashion_mnist(split="train"):
    """Pictures of clothes in ten classes, in MNIST's format (Xiao, Rasul & Vollgraf 2017)."""
    return _idx_pair("fashion-mnist", split)


def cifar10(split="train"):
    """Photographs in ten classes, 3x32x32 (Krizhevsky 2009): 50,000 for "train", 10,000 for "test"."""
    return _cifar("cifar-10", split, 1, "cifar-10-batches-bin", [f"data_batch_{i}" for i in range(1, 6)], "test_batch")


def cifar100(split="train"):
    """Photographs in a hundred classes, 3x32x32 (Krizhevsky 2009); the labels are the fine ones."""
    return _cifar("cifar-100", split, 2, "cifar-100-binary", ["train"], "test")


def usps(split="train"):
    """Digits from envelopes, 16x16 (Hull 1994): 7,291 for "train", 2,007 for "test"."""
    import bz2  # here, because some builds of Python lack it

    _one_of(split, ("train", "test"))
    path = fetch(f"usps/{split}")
    try:
        text = bz2.decompress(path.read_bytes()).decode("ascii")
    except (OSError, ValueError) as problem:
        raise DataError(f"{path}: it is not bzip2 text ({problem})") from None
    x, labels = formats.read_libsvm(text, 256, str(path))
    return (x.reshape(-1, 1, 16, 16) + 1) / 2, labels - 1  # the file has -1..1, and classes from 1


def omniglot(split="train"):
    """Where the characters of 50 alphabets lie (Lake, Salakhutdinov & Tenenbaum 2015): a folder for `ImageFolder`,
    of PNG files by alphabet and character; "train" is the background set, "test" the evaluation set."""
    _one_of(split, ("train", "test"))
    path = fetch(f"omniglot/{split}")
    folder = path.with_suffix("")
    return folder if folder.exists() else archive.extract(path, folder)


def moving_mnist():
    """10,000 films of two bouncing digits (Srivastava et al. 2015): (10000, 20, 64, 64) uint8."""
    path = fetch("moving-mnist", instead="the moving sprites of minigen.data.worlds")
    return np.moveaxis(formats.read_npy(path.read_bytes(), str(path)), 0, 1)


# Text


def tiny_shakespeare(split="train"):
    """A million characters of Shakespeare (Karpathy 2015): the first nine tenths for "train", the rest for "valid"."""
    _one_of(split, ("train", "valid", "all"))
    return cut(fetch("tiny-shakespeare", OFFLINE_TEXT).read_text(encoding="utf-8"), split)


def names():
    """32,033 first names in lower case (Karpathy's makemore, from ssa.gov for 2018)."""
    return fetch("names", OFFLINE_TEXT).read_text(encoding="utf-8").split()


def multi30k(split="train"):
    """Captions in English and German (Elliott et al. 2016) as two lists of sentences; "train", "valid" or "test"."""
    _one_of(split, ("train", "valid", "test"))
    paths = [fetch(f"multi30k/{split}.{language}", OFFLINE_TEXT) for language in ("en", "de")]
    english, german = (archive.gunzip(path).decode("utf-8").strip().split("\n") for path in paths)
    if len(english) != len(german):
        raise DataError(f"{paths[0]}: {len(english)} English sentences and {len(german)} German ones are no pairs")
    return english, german


def sst2(split="train"):
    """Sentences of film reviews, 1 for praise and 0 for blame (Socher et al. 2013): (list of str, (N,) int64).

    "train" or "valid": the test set's labels were never published.
    """
    _one_of(split, ("train", "valid"))
    path = fetch("sst-2", OFFLINE_TEXT)
    member = f"SST-2/{'train' if split == 'train' else 'dev'}.tsv"
    rows = archive.read(path, [member])[member].decode("utf-8").strip().split("\n")[1:]
    pairs = [row.split("\t") for row in rows]
    if any(len(pair) != 2 or pair[1] not in ("0", "1") for pair in pairs):
        raise DataError(f"{path}: {member} does not hold lines of a sentence, a tab, and 0 or 1")
    return [sentence for sentence, _ in pairs], np.array([int(label) for _, label in pairs], dtype=np.int64)


# Pieces


def _idx_pair(name, split):
    _one_of(split, ("train", "test"))
    images, labels = (
        formats.read_idx(archive.gunzip(path), str(path))
        for path in (fetch(f"{name}/{split}-images"), fetch(f"{name}/{split}-labels"))
    )
    return _image_pair(name, images, labels)


def _image_pair(name, images, labels):
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{name}: {images.shape} images and {labels.shape} labels do not fit each other")
    return images[:, None].astype(np.float32) / 255, labels.astype(np.int64)


def _cifar(name, split, label_bytes, folder, train, test):
    _one_of(split, ("train", "test"))
    path = fetch(name)
    members = [f"{folder}/{part}.bin" for part in (train if split == "train" else [test])]
    found = archive.read(path, members)
    parts = [formats.read_cifar(found[member], label_bytes, f"{path}, {member}") for member in members]
    images, labels = (np.concatenate(part) for part in zip(*parts))
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def _one_of(split, splits):
    expect(split in splits, f"split is one of {', '.join(splits)}", split, error=ArgumentError)
