"""Pictures to learn from: a folder of the reader's, or the bundled digits; and a grid of pictures as a file."""

import io
import math
import warnings

import numpy as np

from ..atomic import write_atomically
from ..data import ImageFolder, digits
from ..data.handwritten import INK_LEVELS
from ..errors import DataError, expect
from ..plot import tile
from ..random import Generator

HELD_OUT = 0.1  # the share of the reader's pictures that no training step sees
LEAST = 2


class Pictures:
    """Whole-number pictures in two parts: `train` and `held_out`, each (x (N, C, H, W) uint8, labels (N,) int64).

    path      a folder of images; its subfolders, if there are any, are classes. None: the bundled digits
    size      pixels a side;  channels  1 or 3. The digits come as they are, 8 x 8 and grey

    shape     (C, H, W)
    levels    a pixel is 0 to levels - 1: bytes, or the 17 levels of ink of the digits
    classes   names of the classes; empty where there are none
    notes     what the reader should hear: which files were left out, and why
    floor     nats a held-out picture, by independent pixels: what a model must beat
    about, scored   a few words for the model card: what it is, and what a score is measured on
    """

    def __init__(self, path=None, size=32, channels=3):
        self.notes = []
        if path is None:
            self.levels, self.classes = INK_LEVELS, [str(k) for k in range(10)]
            parts = [digits("train"), digits("test")]
            self.train, self.held_out = [(np.rint(x * (INK_LEVELS - 1)).astype(np.uint8), y) for x, y in parts]
            self.about = "the bundled handwritten digits (UCI, 8 x 8 pixels): 1000 to learn from, 447 held out"
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what was skipped is said in `notes`
                folder = ImageFolder(path, size=size, channels=channels)
            self.notes = [f"left out: {where}: {reason}" for where, reason in folder.skipped]
            found = f"{path}: {len(folder)} picture is too few to learn from: at least {LEAST} are needed"
            expect(len(folder) >= LEAST, found, error=DataError)
            self.levels, self.classes = 256, folder.classes
            order = Generator(0).permutation(len(folder))  # always the same parts, whatever the seed of the run
            held = max(1, round(HELD_OUT * len(folder)))
            self.held_out, self.train = [self._part(folder, rows) for rows in (order[:held], order[held:])]
            skipped = f", {len(folder.skipped)} that could not be read left out" if folder.skipped else ""
            self.about = f"{len(folder)} pictures{skipped}, one in ten of them held out"
        self.shape = self.train[0].shape[1:]
        self.floor = independent_pixels(self.train[0], self.held_out[0], self.levels)
        self.about += f"\nto beat: {self.floor:.4g} nats a picture, by independent pixels"
        self.scored = f"pictures held out, where independent pixels have {self.floor:.4g} nats"

    @staticmethod
    def _part(folder, rows):
        x, labels = folder.batch(rows)
        return np.rint(x * 255).astype(np.uint8), labels


def independent_pixels(train, held_out, levels, extra=0.1):
    """-log p of a held-out picture in nats, if each pixel has the shares of levels that it had in `train`.

    extra   is added to each count, so that a level never seen is not impossible
    """
    total = 0.0
    for seen, asked in zip(train.reshape(len(train), -1).T, held_out.reshape(len(held_out), -1).T):
        counts = np.bincount(seen, minlength=levels) + extra
        total -= np.log(counts[asked] / counts.sum()).sum()
    return float(total / len(held_out))


def save_grid(path, pictures, columns=None):
    """Pictures (N, C, H, W) in [0, 1] as one file, pixel for pixel, enlarged where they are small. Returns the path.

    The ending of `path` says what kind of file. Raises DataError where Pillow knows no such kind.
    """
    from pathlib import Path

    from PIL import Image

    path = Path(path)
    times = max(1, 64 // pictures.shape[-1])
    pictures = np.clip(pictures, 0, 1).repeat(times, 2).repeat(times, 3)
    whole = tile(pictures, columns or math.ceil(math.sqrt(len(pictures))), gap=2, fill=0.5)
    image = Image.fromarray(np.rint(whole * 255).astype(np.uint8))
    kind = Image.registered_extensions().get(path.suffix.lower())
    expect(kind in Image.SAVE, f"{path}: {path.suffix or 'no ending'} is no kind of picture that can be written",
           error=DataError, hint="write --out grid.png")  # fmt: skip
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    content = buffer.getvalue()
    write_atomically(path, [content], len(content))
    return path
