"""Row 4: the other readers. Pictures, text, archives, configurations, tokenizers, the classic sets' formats.

Each reader is given a good file of its kind, so that it is known to read, and then damaged ones. It may read them or
refuse them, with an error of minigen's that names the file.
"""

import gzip
import io
import random
import tarfile
import zipfile

import numpy as np

from ..errors import MinigenError
from .files import mutate, put
from .score import Finding, scratch


def spoilt_files(count, seed=0):
    """`count` damaged files of every kind."""
    chance, told = random.Random(seed), []
    with scratch() as folder:
        for kind, (name, content, read) in kinds(folder).items():
            path = folder / name
            path.write_bytes(content)
            read(path)
            refused = 0
            for i in range(count):
                bad = content[: chance.randrange(len(content))] if i % 5 == 0 else mutate(content, chance)
                put(path, bad)
                try:
                    read(path)
                except MinigenError as error:
                    refused += 1
                    if name not in str(error):
                        return Finding(False, f"{kind}, damage {i} (seed {seed}): the error names no file: {error}")
                except Exception as error:
                    return Finding(False, f"{kind}, damage {i} (seed {seed}): a bare {type(error).__name__}: {error}")
            path.unlink()
            told.append(f"{kind} {refused}")
    return Finding(True, f"{count} damaged files of each kind; refused: {', '.join(told)}")


def kinds(folder):
    """{kind: (file name, good content, reader)}."""
    from ..data import ImageFolder, archive, formats, text_file
    from ..jsonfile import json_bytes, read_json
    from ..models.latent.vae import VAE
    from ..published import PublishedConfig
    from ..text import ByteBPE

    def picture(path):
        return ImageFolder(path.parent, size=8, strict=True)[0]

    def unpacked(path):
        return [(name, b"".join(body)) for name, body in archive.members(path)]

    def configured(path):
        return VAE.config_from(PublishedConfig(read_json(path), path))

    def parsed(read):
        return lambda path: read(path.read_bytes(), name=str(path))

    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    idx = b"\0\0\x08\x02" + (4).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(12))
    tokenizer = ByteBPE.train("to be or not to be, " * 9, 270).save(folder)
    lines = "".join(f"{i} 1:{i}.5 3:-1\n" for i in range(9))
    return {
        "png": ("picture.png", _image(pixels, "PNG"), picture),
        "jpeg": ("picture.jpg", _image(pixels, "JPEG"), picture),
        "bmp": ("picture.bmp", _image(pixels, "BMP"), picture),
        "text": ("notes.txt", "Grüße, and some more text.\n".encode() * 4, text_file),
        "zip": ("set.zip", _zip({"a.txt": b"hello " * 20, "b/c.txt": b"x"}), unpacked),
        "tar": ("set.tar.gz", _tar({"a.txt": b"hello " * 20, "b/c.txt": b"x"}), unpacked),
        "gz": ("numbers.gz", gzip.compress(bytes(range(200)), mtime=0), archive.gunzip),
        "npy": ("array.npy", _npy(pixels), parsed(formats.read_npy)),
        "npz": ("arrays.npz", _zip({"x.npy": _npy(pixels)}), lambda path: formats.read_npz(path, ["x"])),
        "idx": ("images.idx", idx, parsed(formats.read_idx)),
        "config": ("config.json", json_bytes(VAE(shape=(1, 4, 4)).config_to()), configured),
        "tokenizer": ("tokenizer.json", tokenizer.read_bytes(), ByteBPE.from_file),
        "libsvm": (
            "rows.libsvm",
            lines.encode(),
            lambda path: formats.read_libsvm(path.read_text("latin-1"), 3, name=str(path)),
        ),
    }


def _image(pixels, kind):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _zip(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()
