"""Grids of pictures, curves, and pictures in the terminal."""

import io
import sys

import numpy as np
import pytest

import minigen
from minigen import plot
from minigen.errors import ShapeError


def test_tile_puts_pictures_in_rows_with_a_gap():
    images = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((2, 3))
    whole = plot.tile(images, columns=3, gap=1, fill=-1)
    assert whole.shape == (5, 11)
    assert (whole[:2, 4:7] == 1).all() and (whole[3:, :3] == 3).all() and (whole[2] == -1).all()


def test_tile_takes_tensors_channels_and_colours():
    assert plot.tile(minigen.ones(4, 1, 2, 2)).shape == (5, 5)
    assert plot.tile(minigen.ones(2, 3, 4, 4), columns=2).shape == (4, 9, 3)
    with pytest.raises(ShapeError, match="pictures are"):
        plot.tile(np.ones((2, 2, 4, 4)))


def test_image_grid_draws_and_labels_rows():
    figure = plot.image_grid(np.random.default_rng(0).random((6, 8, 8)), columns=3, row_labels=["a", "b"])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert axes.images[0].get_array().shape == (17, 26)


def test_curve_draws_lines_and_levels():
    figure = plot.curve({"train": [3, 2, 1], "test": ([0, 10], [3, 2])}, levels={"entropy": 0.5}, smooth=0.9)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert set(legend) == {"train", "test", "entropy"}


def test_the_moving_average_is_not_pulled_to_zero():
    from minigen.plot.figures import moving_average

    np.testing.assert_allclose(moving_average([2.0] * 5, 0.9), 2.0)


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in "ab":
        plot.save(plot.curve([1, 2, 3]), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


class Screen(io.StringIO):
    """An output with an encoding, a terminal or not."""

    def __init__(self, encoding="utf-8", terminal=False):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return self._terminal


@pytest.fixture
def screen(monkeypatch):
    def use(**kind):
        monkeypatch.setattr(sys, "stdout", Screen(**kind))

    return use


def test_preview_shows_two_rows_of_pixels_a_line(screen):
    screen()
    picture = np.array([[1, 0, 1, 0], [1, 0, 0, 1]])
    assert plot.preview(picture) == "█ ▀▄"


def test_preview_shows_as_many_columns_as_fit(screen):
    screen()
    text = plot.preview(np.ones((20, 4, 4)) * np.eye(4), columns=10, width=14)
    assert [len(line) <= 14 for line in text.splitlines()] == [True] * 5  # 2 rows of 4 pixels and the gap between


def test_preview_shrinks_wide_pictures(screen):
    screen()
    assert max(map(len, plot.preview(np.random.default_rng(0).random((64, 64)), width=20).splitlines())) <= 20


def test_preview_without_block_characters(screen):
    screen(encoding="cp1252")
    assert set(plot.preview(np.eye(4))) <= set(" .'#\n")


def test_preview_in_a_terminal_is_grey_and_ends_its_colours(screen, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen(terminal=True)
    lines = plot.preview(np.linspace(0, 1, 16).reshape(4, 4)).splitlines()
    assert len(lines) == 2 and all(line.count("▀") == 4 and line.endswith("\x1b[0m") for line in lines)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in plot.preview(np.eye(4))
