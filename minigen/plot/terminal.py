"""Pictures out of characters: two pixels, one above the other, share a character cell, so pixels come out square.

In a terminal with colours each cell is the upper half block in the upper pixel's grey on the lower pixel's; elsewhere
(a pipe, a log file, NO_COLOR) the cell is one of `█▀▄` or a space, dark where a pixel has more than half the ink.
"""

import os
import sys

import numpy as np

from .figures import as_pictures, tile

HALVES = " ▄▀█"  # by (upper, lower): 00, 01, 10, 11
ASCII = " .'#"  # where the terminal's encoding has no block characters


def preview(images, columns=None, width=None, colour=None, gap=1):
    """Pictures as lines of characters, to print.

    images    (H, W), (N, H, W), (N, 1, H, W) or (N, 3, H, W): tensors or arrays; colours are shown as greys
    columns   pictures in a row, of which those are shown that fit; all are wrapped to the width if None
    width     characters in a line, at most; wider pictures are made smaller by averaging. The terminal's if None
    colour    grey levels by terminal codes; None asks whether the output is a terminal that takes them
    """
    pictures = as_pictures(images)
    if pictures.ndim == 4:
        pictures = pictures.mean(-1)
    width = width or max(20, min(terminal_width(), 160))
    shrink = max(1, int(np.ceil(pictures.shape[2] / width)))
    if shrink > 1:
        pictures = shrunk(pictures, shrink)
    fit = max(1, (width + gap) // (pictures.shape[2] + gap))
    if columns is not None and columns > fit:
        shown = [i for i in range(len(pictures)) if i % columns < fit]
        pictures, columns = pictures[shown], fit
    columns = min(len(pictures), columns or fit)
    low, high = float(pictures.min()), float(pictures.max())
    ink = (tile(pictures, columns, gap, fill=low) - low) / (high - low or 1.0)
    if len(ink) % 2:
        ink = np.vstack([ink, np.zeros_like(ink[:1])])
    colour = takes_colour() if colour is None else colour
    return "\n".join((_grey_line if colour else _plain_line)(upper, lower) for upper, lower in zip(ink[::2], ink[1::2]))


def _plain_line(upper, lower):
    cells = HALVES if takes_blocks() else ASCII
    return "".join(cells[2 * (u > 0.5) + (l > 0.5)] for u, l in zip(upper, lower)).rstrip()


def _grey_line(upper, lower):
    """Ink is bright: most terminals are dark. 232 to 255 are the 24 greys of the 256-colour palette."""
    greys = [(232 + np.round(23 * row)).astype(int) for row in (upper, lower)]
    return "".join(f"\x1b[38;5;{u};48;5;{l}m▀" for u, l in zip(*greys)) + "\x1b[0m"


def shrunk(pictures, factor):
    """Averages of factor x factor blocks; what is left over at the right and bottom edge is cut."""
    n, height, width = pictures.shape
    height, width = max(height // factor, 1), max(width // factor, 1)
    blocks = pictures[:, : height * factor, : width * factor]
    return blocks.reshape(n, height, -1, width, factor).mean((2, 4))


def terminal_width():
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def takes_colour():
    """Whether the output is a terminal that takes colours (https://no-color.org)."""
    wanted = "NO_COLOR" not in os.environ and os.environ.get("TERM", "") not in ("", "dumb")
    return wanted and takes_blocks() and sys.stdout.isatty()


def takes_blocks():
    """Whether the output's encoding has block characters (the old Windows code pages do not)."""
    try:
        HALVES.encode(getattr(sys.stdout, "encoding", None) or "ascii")
        return True
    except (UnicodeEncodeError, LookupError):
        return False
