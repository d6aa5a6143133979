"""Folders of the user's own pictures."""

import numpy as np
import pytest

from minigen.data import DataLoader, ImageFolder
from minigen.errors import ArgumentError, DataError
from minigen.random import Generator

Image = pytest.importorskip("PIL.Image")
RED = (255, 0, 0)


@pytest.fixture
def pictures(tmp_path):
    """cats: one red PNG 40x20; dogs: a grey JPEG and a half transparent PNG."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs" / "deep").mkdir(parents=True)
    Image.new("RGB", (40, 20), RED).save(tmp_path / "cats" / "a.PNG")
    Image.new("L", (30, 30), 128).save(tmp_path / "dogs" / "b.jpg", quality=95)
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "dogs" / "deep" / "c.png")
    (tmp_path / "dogs" / "notes.txt").write_text("not a picture")
    return tmp_path


def test_classes_shapes_and_values(pictures):
    data = ImageFolder(pictures, size=8)
    assert data.classes == ["cats", "dogs"] and data.labels.tolist() == [0, 1, 1] and len(data) == 3
    image, label = data[0]
    assert image.shape == (3, 8, 8) and image.dtype == np.float32 and label.item() == 0 and label.dtype == np.int64
    assert (image.numpy()[0] == 1).all() and (image.numpy()[1:] == 0).all()
    assert abs(data[1][0].numpy() - 128 / 255).max() < 0.02
    assert (data[2][0].numpy() == 1).all()  # transparent: on white
    assert data.skipped == []


def test_grey(pictures):
    data = ImageFolder(pictures, size=(4, 6), channels=1)
    assert data[0][0].shape == (1, 4, 6)
    np.testing.assert_allclose(data[0][0].numpy(), 76 / 255, atol=0.005)  # the luma of red, ITU-R 601


def test_batches_and_in_memory(pictures):
    kept, read_again = (ImageFolder(pictures, size=8, in_memory=keep) for keep in (True, False))
    for data in (kept, read_again):
        (images, labels), *rest = DataLoader(data, batch_size=3, shuffle=True, generator=Generator(0), num_workers=2)
        assert images.shape == (3, 3, 8, 8) and not rest
        for image, label in zip(images.numpy(), labels.numpy()):
            assert any(np.array_equal(image, kept[i][0].numpy()) and label == kept.labels[i] for i in range(3))


def test_fit(tmp_path):
    half = Image.new("RGB", (40, 20), RED)
    half.paste((0, 0, 255), (0, 0, 10, 20))  # the left quarter is blue
    half.save(tmp_path / "a.png")
    crop, pad, stretch = (ImageFolder(tmp_path, 20, fit=fit)[0][0].numpy() for fit in ("crop", "pad", "stretch"))
    assert (crop[0] > 0.95).all()  # the middle 20x20: no blue left
    assert (pad[:, 0] == 1).all() and pad[2, 10, 0] > 0.95 and pad[0, 10, 15] > 0.95  # white above, both colours inside
    assert stretch[2, 0, 0] > 0.95 and stretch[0, 0, 10] > 0.95


def test_sixteen_bits_and_palettes(tmp_path):
    Image.fromarray((np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)).save(tmp_path / "a.png")
    Image.new("P", (8, 8), 3).save(tmp_path / "b.gif")
    data = ImageFolder(tmp_path, size=8, channels=1)
    np.testing.assert_allclose(data[0][0].numpy().ravel(), np.arange(64) * 1024 / 65535, atol=0.51 / 255)
    assert data.classes == [] and data.labels.tolist() == [0, 0]


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    picture = Image.new("RGB", (40, 20), RED)
    exif = picture.getexif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    picture.paste((0, 0, 255), (0, 0, 20, 20))
    picture.save(tmp_path / "a.png", exif=exif)
    image = ImageFolder(tmp_path, size=(40, 20), fit="stretch")[0][0].numpy()
    assert image[2, 5, 10] > 0.95 and image[0, 35, 10] > 0.95  # what was left is now above


@pytest.fixture
def thousand(tmp_path):
    """A thousand pictures, of which one is cut short, one is text, and one is empty."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    picture.save(tmp_path / "0000.png")
    raw = (tmp_path / "0000.png").read_bytes()
    for i in range(1, 1000):
        (tmp_path / f"{i:04}.png").write_bytes(raw)
    (tmp_path / "0123.png").write_bytes(raw[:100])
    (tmp_path / "0456.png").write_bytes(b"<html>not found</html>")
    (tmp_path / "0789.png").write_bytes(b"")
    return tmp_path


def test_broken_pictures_are_named_and_skipped(thousand):
    with pytest.warns(UserWarning, match=r"3 of 1000 images skipped: 0123\.png: .*; 0456\.png: .*; 0789\.png"):
        data = ImageFolder(thousand, size=8)
    assert len(data) == 997 and [path.name for path, _ in data.skipped] == ["0123.png", "0456.png", "0789.png"]
    assert len(list(DataLoader(data, 100))) == 10


def test_strict_raises_at_the_first_broken_picture(thousand):
    with pytest.raises(DataError, match=r"0123\.png: the image cannot be read"):
        ImageFolder(thousand, size=8, strict=True)


def test_a_picture_too_large_to_trust(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="DecompressionBomb"):
        ImageFolder(tmp_path, strict=True)


def test_floating_point_pixels(tmp_path):
    Image.new("F", (8, 8), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="nothing says which of them is white"):
        ImageFolder(tmp_path, strict=True)


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(DataError, match=r"no image in it or below it \(\.png"):
        ImageFolder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of 1 images can be read; the first is a\.png"):
        ImageFolder(tmp_path)
    with pytest.raises(ArgumentError, match="1 or 3"):
        ImageFolder(tmp_path, channels=4)
    with pytest.raises(ArgumentError, match="crop, pad, stretch"):
        ImageFolder(tmp_path, fit="squash")
    with pytest.raises(ArgumentError, match="at least one pixel"):
        ImageFolder(tmp_path, size=0)
