"""Small data of the reader's own, and the commands in this process."""

import numpy as np
import pytest
from PIL import Image

from minigen import cli


@pytest.fixture
def photos(tmp_path):
    """A folder of 24 little colour pictures in two classes, one of them broken."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name, colour in (("fire", (255, 60, 0)), ("water", (0, 60, 255))):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.zeros((20, 20, 3), np.uint8)
            y, x = random.integers(0, 12, 2)
            pixels[y : y + 8, x : x + 8] = colour
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "fire" / "broken.png").write_bytes(b"this is no picture")
    return folder


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """command("train", "vae", ...) -> (exit status, stdout, stderr), run in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
