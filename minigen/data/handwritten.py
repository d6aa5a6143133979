"""Real handwriting, bundled: 1797 digits of 8x8 pixels, the reality check of every image lesson.

    images, labels = digits("train")        # (1000, 1, 8, 8) float32 in [0, 1], and (1000,) int64

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998,
doi.org/10.24432/C50P49, CC BY 4.0), as scikit-learn distributes it; `digits/LICENSE.txt` says more.
"""

import gzip
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError, expect

INK_LEVELS = 17  # a pixel counts the ink in a 4x4 block: 0 to 16
SPLITS = {"train": slice(0, 1000), "valid": slice(1000, 1350), "test": slice(1350, 1797), "all": slice(0, 1797)}

_FILE = Path(__file__).parent / "digits" / "optdigits.csv.gz"


def digits(split="train", binary=False):
    """The bundled digits as (images, labels): (N, 1, 8, 8) float32 and (N,) int64 NumPy arrays.

    split    "train" (the first 1000 in file order), "valid" (the next 350), "test" (the last 447), or "all"
    binary   False: pixels are ink / 16, in [0, 1]
             True:  a pixel is 1 where at least half of its 4x4 block is ink (ink >= 8), else 0

    `(images * 16).astype(int)` gives the 17 levels back exactly. The people who wrote the three parts are not told
    apart in the file, so a test digit may be by a hand seen in training.
    """
    expect(split in SPLITS, f"digits: split is one of {', '.join(SPLITS)}", split, error=ArgumentError)
    ink, labels = _table()
    ink, labels = ink[SPLITS[split]], labels[SPLITS[split]]
    images = (ink >= 8).astype(np.float32) if binary else ink.astype(np.float32) / 16
    return images.reshape(-1, 1, 8, 8), labels.astype(np.int64)


@cache
def _table():
    """(1797, 64) ink and (1797,) labels, read once."""
    try:
        text = gzip.decompress(_FILE.read_bytes()).decode("ascii")
    except (OSError, EOFError, ValueError) as problem:
        raise DataError(
            f"digits: {_FILE} cannot be read ({problem})\n  reinstall minigen: it ships this file"
        ) from None
    table = np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.uint8).reshape(1797, 65)
    return table[:, :64], table[:, 64]
