"""`minigen train` and `minigen sample` with pictures: the run's folder, resuming, and everything that can be wrong."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from minigen import checkpoint
from minigen.published import load
from minigen.recipes.pictures import Pictures, save_grid

FAMILIES = ["vae", "dcgan", "pixelcnn", "glow", "diffusion"]
SMALL = {
    "vae": ["hidden=[16]", "latent=4"],
    "dcgan": ["width=8", "latent=8"],
    "pixelcnn": ["channels=6", "layers=2", "mixtures=2"],
    "glow": ["steps=1", "hidden=8"],
    "diffusion": ["channels=[8,8]", "groups=4", "layers=1", "attention=[false,false]"],
}


def small(name):
    return [word for change in SMALL[name] for word in ("--set", change)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_of_images_becomes_samples(name, photos, command):
    code, said, errors = command(
        "train", name, "--data", photos, "--size", 8, "--steps", 4, "--every", 2, "--batch", 4, *small(name)
    )
    assert code == 0, errors
    assert "24 pictures, 1 that could not be read left out" in said and "note: left out" in errors
    assert "broken.png" in errors and f"minigen sample runs/{name}" in said
    run = photos.parent / "runs" / name
    card = (run / "README.md").read_text()
    assert "24 pictures" in card and "4 steps of 4" in card
    assert json.loads((run / "classes.json").read_text()) == ["fire", "water"]
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["step-000002.png", "step-000004.png"]
    model = load(run)
    assert model.config.shape == (3, 8, 8)
    steps = ["--steps", 3] if name == "diffusion" else []
    code, said, errors = command("sample", run, "--n", 4, "--out", "grid.png", *steps)
    assert code == 0 and said.strip() == "grid.png", errors
    assert Image.open(photos.parent / "grid.png").size == (2 * 64 + 2, 2 * 64 + 2)
    if name != "vae":
        a = command("sample", run, "--n", 4, "--out", "a.png", "--class", "water", *steps)
        b = command("sample", run, "--n", 4, "--out", "b.png", "--class", "1", *steps)
        assert a[0] == b[0] == 0
        assert (photos.parent / "a.png").read_bytes() == (photos.parent / "b.png").read_bytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_resuming_gives_the_same_bits(name, command, tmp_path):
    words = ["train", name, "--batch", 8, "--every", 2, *small(name)]
    assert command(*words, "--steps", 4, "--out", "straight")[0] == 0
    assert command(*words, "--steps", 2, "--out", "broken-off")[0] == 0
    code, _, errors = command("train", "--resume", "broken-off", "--steps", 4)
    assert code == 0 and "after step 2 of 4" in errors, errors
    ends = [checkpoint.load(tmp_path / f / "training" / "step-000004.safetensors") for f in ("straight", "broken-off")]
    for a, b in zip(*(sorted(_flat(end)) for end in ends)):
        assert a == b
    files = [(tmp_path / f / "model.safetensors").read_bytes() for f in ("straight", "broken-off")]
    assert files[0] == files[1]


def _flat(tree, name=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{name}.{key}")
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from _flat(value, f"{name}.{i}")
    else:
        yield name, np.asarray(tree).tobytes()


def test_a_run_that_is_killed_and_one_that_is_interrupted_go_on(tmp_path):
    words = [sys.executable, "-m", "minigen", "train", "vae", "--every", "5", "--batch", "8", *small("vae")]
    start = lambda *more: subprocess.Popen(
        [*words, *more], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        process = start("--steps", "1000000", "--out", f"run{number}")
        path = tmp_path / f"run{number}" / "training"
        while not list(path.glob("step-*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code and "Traceback" not in errors
        load(tmp_path / f"run{number}")
        done = checkpoint.Checkpoints(path).steps()[-1]
        resumed = subprocess.run(
            [*words[:4], "--resume", f"run{number}", "--steps", str(done + 5)], cwd=tmp_path, capture_output=True
        )
        assert resumed.returncode == 0, resumed.stderr.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "which recipe? There are vae"),
        (["train", "vea"], "did you mean vae?"),
        (["train", "vae", "--set", "latnt=3"], "did you mean latent?"),
        (["train", "vae", "--set", "latent"], "write --set field=value"),
        (["train", "vae", "--data", "nowhere"], "there is no such folder of images"),
        (["train", "vae", "--resume"], "no run of `minigen train`"),
        (["train", "--resume", "nowhere"], "neither a run's folder nor a checkpoint"),
        (["train", "dcgan", "--set", "shape=[1,9,9]"], "a side of (8, 16, 32, 64, 128)"),
        (["sample", "nowhere"], "is not a folder on this machine"),
        (["generate", "nowhere"], "is not a folder on this machine"),
    ],
)
def test_wrong_words(words, said, command):
    code, _, errors = command(*words)
    assert code == 2 and said in errors and "Traceback" not in errors


def test_wrong_words_about_a_run(command, tmp_path):
    assert command("train", "vae", "--steps", 2, "--batch", 8, "--out", "run", *small("vae"))[0] == 0
    for words, said in [
        (["train", "--resume", "run", "--batch", 9], "the run began with 8"),
        (["train", "dcgan", "--out", "run", "--resume"], "the run began with vae"),
        (["sample", "run", "--class", 3], "was trained without classes"),
        (["sample", "run", "--steps", 3], "draws without steps to choose"),
        (["sample", "run", "--out", "grid.xyz"], "no kind of picture"),
        (["generate", "run"], "write  minigen sample run"),
    ]:
        code, _, errors = command(*words)
        assert code == 2 and said in errors, (words, errors)
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    code, _, errors = command("sample", "run")
    assert code == 2 and "model.safetensors is cut short" in errors


def test_a_run_without_a_model_yet(command, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text('{"recipe": "vae"}')
    code, _, errors = command("sample", "run")
    assert code == 2 and "has not come to its first evaluation" in errors


def test_pictures_are_whole_numbers_in_two_parts(photos):
    data = Pictures(photos, size=10, channels=1)
    assert len(data.notes) == 1 and "broken.png" in data.notes[0]
    assert data.shape == (1, 10, 10) and data.levels == 256 and data.classes == ["fire", "water"]
    assert len(data.train[0]) == 22 and len(data.held_out[0]) == 2 and data.train[0].dtype == np.uint8
    digits = Pictures()
    assert digits.floor == pytest.approx(106.306, abs=0.01)  # as in the lessons
    assert digits.levels == 17 and digits.train[0].max() == 16 and len(digits.held_out[0]) == 447


def test_a_grid_is_written_pixel_for_pixel(tmp_path):
    x = np.zeros((2, 3, 32, 32), np.float32)
    x[1, 0] = 1.0
    save_grid(tmp_path / "g.png", x, columns=2)
    pixels = np.asarray(Image.open(tmp_path / "g.png"))
    assert pixels.shape == (64, 2 * 64 + 2, 3)
    assert (pixels[:, :64] == 0).all() and (pixels[:, 66:, 0] == 255).all() and (pixels[:, 66:, 1:] == 0).all()
