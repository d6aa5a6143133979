"""Bars of ratios: how many times as fast as PyTorch, workload by workload."""

import io

from .. import plot
from ..plot import COLOURS


def bars(title, names, ratios, notes, targets=None):
    """A figure of horizontal bars, the first name on top, with a line where both sides are equally fast.

    ratios    PyTorch's time over minigen's
    notes     a few words beside each bar
    targets   a mark on each bar, if given
    """
    figure, axes = plot.subplots(size=(6.4, 0.32 * len(names) + 1.1))
    places, targets = range(len(names)), targets or [0] * len(names)
    with plot.style():
        colours = [COLOURS["ours"] if ratio >= 1 else COLOURS["second"] for ratio in ratios]
        axes.barh(places, ratios, color=colours, height=0.62)
        axes.axvline(1, color=COLOURS["truth"], linewidth=1)
        right = 1.38 * max([1.0, *ratios, *targets])
        for y, ratio, note in zip(places, ratios, notes):
            clear = max(ratio, 1, targets[y])  # of the line and of the mark
            axes.text(clear + 0.012 * right, y, f"{ratio:.2f}   {note}", va="center", fontsize=8)
        marked = [(target, y) for y, target in zip(places, targets) if target]
        if marked:
            x, y = zip(*marked)
            axes.plot(x, y, linestyle="none", marker="|", markersize=15, markeredgewidth=2, color="white")
            axes.plot(x, y, linestyle="none", marker="|", markersize=15, color=COLOURS["truth"], label="target")
            axes.legend(loc="lower right")
        axes.set_yticks(places, names)
        axes.set(xlim=(0, right), ylim=(len(names) - 0.4, -0.6), title=title, xlabel="PyTorch's time / minigen's time")
        axes.grid(axis="y", visible=False)
    return figure


def png(figure):
    """The figure as the bytes of a PNG file, without date and version: the same figure, the same bytes."""
    content = io.BytesIO()
    with plot.style():
        figure.savefig(content, format="png", bbox_inches="tight", pad_inches=0.06, metadata={"Software": None})
    return content.getvalue()
