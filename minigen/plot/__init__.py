"""Pictures of what happens: images, curves, the autograd graph; as figures, and in the terminal.

    print(plot.graph(loss))                     the recorded graph as a numbered list of steps
    plot.graph(loss, mode="figure")             the same as a drawing
    plot.image_grid(images, columns=8)          a grid of pictures
    plot.curve({"train": losses})               lines over steps
    print(plot.preview(images))                 pictures in the terminal, two rows of pixels to a line

The figures are matplotlib's `Figure` objects: `figure.savefig("out.png")` writes one, and a notebook shows it. No
window system and no global state (`pyplot`) is touched.

    graph.py      the autograd graph
    figures.py    house style, image grids, curves
    terminal.py   pictures out of characters
"""

from .figures import COLOURS, curve, image_grid, save, show_image, style, subplots, tile
from .graph import graph
from .terminal import preview

__all__ = ["COLOURS", "curve", "graph", "image_grid", "preview", "save", "show_image", "style", "subplots", "tile"]
