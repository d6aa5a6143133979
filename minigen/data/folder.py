"""A folder of the user's own pictures as a dataset.

    images = ImageFolder("photos", size=64, channels=3)
    loader = DataLoader(images, batch_size=32, shuffle=True)      # (32, 3, 64, 64) in [0, 1], and the labels

Pictures in subfolders get the subfolder's number as their label, as in torchvision.
"""

import os
import warnings
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError, expect
from ..tensor import as_tensor
from .dataset import Dataset, checked_index

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
FITS = ("crop", "pad", "stretch")


class ImageFolder(Dataset):
    """The pictures under `path` (subfolders included), each as (image, label): (channels, height, width) float32 in
    [0, 1], and an int64 number. Needs Pillow.

    size      pixels: one number for a square, or (height, width)
    channels  1 for grey, 3 for colour; transparent parts are put on white
    fit       "crop" scales until the picture covers the square and cuts the middle out; "pad" scales until it fits in
              and fills up with white; "stretch" changes its proportions
    strict    raise at the first picture that cannot be read, rather than skip it with a warning
    in_memory keep all pixels, as bytes (a 64x64 colour picture takes 12 KB); otherwise decode again at every access

    Every picture is decoded once when the folder is opened, so a broken one among a thousand is known before training
    starts: `skipped` lists (path, reason). Raises DataError when there is no picture, or none that can be read.

    classes   names of the subfolders of `path` in sorted order; the label is an index into it. Empty, with all labels
              0, where the pictures lie in `path` itself.
    samples   list of (path, label)
    """

    def __init__(self, path, size=32, channels=3, *, fit="crop", strict=False, in_memory=True):
        expect(channels in (1, 3), "ImageFolder: channels is 1 or 3", channels, error=ArgumentError)
        expect(fit in FITS, f"ImageFolder: fit is one of {', '.join(FITS)}", fit, error=ArgumentError)
        self.path = Path(path)
        self.height, self.width = (size, size) if isinstance(size, int) else size
        expect(min(self.height, self.width) >= 1, "ImageFolder: size is at least one pixel", size, error=ArgumentError)
        self.channels, self.fit = channels, fit
        self.classes, found = self._look()
        self.skipped = []
        self._pixels = None
        self._open(found, strict, in_memory)
        self.labels = np.array([label for _, label in self.samples], dtype=np.int64)
        if in_memory:
            self.batch = self._batch

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        index = checked_index(index, len(self), "ImageFolder")
        path, label = self.samples[index]
        pixels = self._decode(path) if self._pixels is None else self._pixels[index]
        return as_tensor(_to_unit(pixels)), as_tensor(np.int64(label))

    def _batch(self, indices):
        return _to_unit(self._pixels[indices]), self.labels[indices]

    def _look(self):
        """The class names, and (path, label) of every file that has a picture's ending."""
        if not self.path.is_dir():
            raise DataError(f"{self.path}: there is no such folder of images")
        found = sorted(
            Path(folder) / name
            for folder, _, names in os.walk(self.path)
            for name in names
            if name.lower().endswith(ENDINGS)
        )
        if not found:
            raise DataError(f"{self.path}: there is no image in it or below it ({', '.join(ENDINGS)} are looked for)")
        inner = [path.relative_to(self.path).parts for path in found]
        if any(len(parts) == 1 for parts in inner):
            return [], [(path, 0) for path in found]
        classes = sorted({parts[0] for parts in inner})
        return classes, [(path, classes.index(parts[0])) for path, parts in zip(found, inner)]

    def _open(self, found, strict, in_memory):
        """Decode every picture once; keep those that can be read."""
        from tqdm import tqdm

        self.samples, pixels = [], []
        for path, label in tqdm(found, desc=f"reading {self.path.name}", unit="image", leave=False, disable=None):
            try:
                decoded = self._decode(path)
            except DataError as problem:
                if strict:
                    raise
                self.skipped.append((path, str(problem).removeprefix(f"{path}: ")))
                continue
            self.samples.append((path, label))
            if in_memory:
                pixels.append(decoded)
        if not self.samples:
            path, reason = self.skipped[0]
            raise DataError(f"{self.path}: none of {len(found)} images can be read; the first is {path.name}: {reason}")
        if self.skipped:
            named = "; ".join(f"{path.relative_to(self.path)}: {reason}" for path, reason in self.skipped[:5])
            more = f"; and {len(self.skipped) - 5} more, see .skipped" if len(self.skipped) > 5 else ""
            message = f"ImageFolder: {self.path}: {len(self.skipped)} of {len(found)} images skipped: {named}{more}"
            warnings.warn(message, stacklevel=3)
        if in_memory:
            self._pixels = np.stack(pixels)

    def _decode(self, path):
        """(channels, height, width) uint8. Raises DataError for whatever Pillow cannot make a picture of."""
        from PIL import Image, ImageOps

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    picture = _opaque(ImageOps.exif_transpose(image), "L" if self.channels == 1 else "RGB")
        except MemoryError:
            raise
        except Exception as problem:  # Pillow's readers raise nearly every kind there is
            raise DataError(f"{path}: the image cannot be read ({type(problem).__name__}: {problem})") from None
        size = (self.width, self.height)
        if self.fit == "crop":
            picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        elif self.fit == "pad":
            white = 255 if self.channels == 1 else (255, 255, 255)
            picture = ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=white)
        else:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(picture, dtype=np.uint8)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


def _opaque(image, mode):
    """`image` in `mode`, "L" or "RGB", on white where it is transparent."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, and nothing says which of them is white")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion clips at 255
        image = Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def _to_unit(pixels):
    return pixels.astype(np.float32) / np.float32(255)
