"""Figures in one quiet style: grids of pictures, and curves.

`subplots` gives matplotlib's own axes, so anything that matplotlib can draw can be drawn; `image_grid` and `curve` are
the two drawings that nearly every lesson needs.
"""

import contextlib
import math

import numpy as np

from ..device import xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import value

# One colour, one role, in every lesson. Told apart with any kind of colour blindness (Okabe & Ito 2008).
COLOURS = {
    "ours": "#0072B2",
    "truth": "#222222",
    "floor": "#999999",
    "second": "#D55E00",
    "third": "#009E73",
    "fourth": "#CC79A7",
    "fifth": "#E69F00",
}

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 130,
    "figure.facecolor": "white",
}


@contextlib.contextmanager
def style():
    """Inside the block matplotlib draws in the style of the lessons."""
    import matplotlib
    from cycler import cycler

    order = ["ours", "second", "third", "fourth", "fifth", "floor"]
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler(color=[COLOURS[name] for name in order])}):
        yield


def subplots(rows=1, columns=1, size=None, **options):
    """(figure, axes) in the style of the lessons; `size` in inches, `options` as of `Figure.subplots`.

    axes is one Axes, or an array of them where there are several.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=size or (3.4 * columns, 2.6 * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def save(figure, path):
    """Write `figure` as a PNG (or what the ending of `path` says) and return the path. Folders are made."""
    from pathlib import Path

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        # Without the date and the version, the same picture is the same file.
        figure.savefig(
            path, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None} if path.suffix == ".png" else None
        )
    return path


def tile(images, columns=None, gap=1, fill=None):
    """Many pictures as one: (N, H, W) or (N, 1, H, W) -> (rows, width); (N, 3, H, W) -> (rows, width, 3).

    columns   pictures in a row; the square root of N if None
    gap       pixels between pictures, of the value `fill` (None: the middle of the range of the images)
    """
    images = as_pictures(images)
    n, height, width = images.shape[:3]
    expect(n > 0, "tile: there is no picture to show", images, error=ArgumentError)
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    if fill is None:
        fill = 0.5 * (float(images.min()) + float(images.max()))
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:]), fill, np.float32)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        whole[top : top + height, left : left + width] = image
    return whole


def as_pictures(images):
    """Pictures as a NumPy array (N, H, W) or (N, H, W, 3) of float32; from tensors or arrays, a single one too."""
    images = value(images)
    images = np.asarray(images if xp(images) is np else images.get(), dtype=np.float32)
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    fits = images.ndim == 3 or images.ndim == 4 and images.shape[3] == 3
    expect(fits, "pictures are (H, W), (N, H, W), (N, 1, H, W) or (N, 3, H, W)", images, error=ShapeError)
    return images


def show_image(axes, image, title=None, low=None, high=None, **options):
    """Draw one picture, or a tiling of them, into `axes`: no ticks, no smoothing, ink dark on a light ground."""
    options = {"cmap": "gray_r", "interpolation": "nearest", **options}
    axes.imshow(np.asarray(image), vmin=low, vmax=high, **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title is not None:
        axes.set_title(title)


def image_grid(images, columns=None, title=None, row_labels=None, low=None, high=None, scale=None):
    """A figure of many pictures in a grid.

    images       (N, H, W), (N, 1, H, W) or (N, 3, H, W), tensors or arrays
    row_labels   a word for each row, on the left
    low, high    the values drawn white and black; the extremes of the images if None
    scale        inches for each picture's width
    """
    pictures = as_pictures(images)
    n, height, width = pictures.shape[:3]
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    scale = scale or min(0.6, 9.0 / columns)
    figure, axes = subplots(size=(scale * columns + (1.2 if row_labels else 0.1), scale * rows * height / width + 0.35))
    whole = tile(pictures, columns, fill=np.nan)
    with style():
        show_image(axes, np.nan_to_num(whole, nan=1.0) if whole.ndim == 3 else whole, title, low, high)
    if row_labels:
        axes.set_yticks([i * (height + 1) + height / 2 for i in range(rows)], row_labels)
        axes.tick_params(length=0)
    return figure


def curve(lines, *, title=None, x_label="step", y_label=None, smooth=0.0, log=False, levels=None, size=(5.0, 3.0)):
    """A figure of one or more curves.

    lines    a sequence of numbers, or {name: numbers}, or {name: (xs, ys)}
    smooth   0 to 1: draw an exponential moving average of this memory over the faint raw curve
    log      a logarithmic vertical axis
    levels   {name: y}: dashed horizontal lines, for what is known (an entropy, a baseline)
    """
    lines = lines if isinstance(lines, dict) else {None: lines}
    figure, axes = subplots(size=size)
    with style():
        for name, line in lines.items():
            xs, ys = line if isinstance(line, tuple) else (np.arange(1, len(line) + 1), line)
            xs, ys = np.asarray(xs, float), np.asarray(ys, float)
            if smooth and len(ys) > 2:
                colour = axes.plot(xs, ys, alpha=0.2, linewidth=0.8)[0].get_color()
                axes.plot(xs, moving_average(ys, smooth), color=colour, label=name)
            else:
                axes.plot(xs, ys, label=name)
        for i, (name, level) in enumerate((levels or {}).items()):
            axes.axhline(level, color=COLOURS["truth"], linestyle=["--", ":", "-."][i % 3], linewidth=1, label=name)
        if log:
            axes.set_yscale("log")
        axes.set(xlabel=x_label, ylabel=y_label or "", title=title or "")
        if levels or any(name is not None for name in lines):
            axes.legend()
    return figure


def moving_average(ys, memory):
    """y_t = memory y_(t-1) + (1 - memory) x_t, divided by the weight so far, as in Adam (no pull towards 0)."""
    total, weight, smoothed = 0.0, 0.0, np.empty(len(ys))
    for i, y in enumerate(ys):
        total, weight = memory * total + (1 - memory) * y, memory * weight + (1 - memory)
        smoothed[i] = total / weight
    return smoothed
