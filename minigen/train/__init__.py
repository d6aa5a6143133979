"""Training: a loop that hides nothing, and the run around it.

    run = fit(model, loss, loader, optim.Adam(model.parameters()), steps=2000, clip_norm=1.0)
    plot.curve(run.losses)

    fit          the ordinary loop: one model, one loss, one optimiser (fit.py)
    Run          all that is not learning: counting, progress, checkpoints, resuming, Ctrl-C (run.py). A loop of
                 another shape, with two optimisers say, is written by hand over `for step in Run(...)`.
    Interrupted  what Ctrl-C ends in, after the run was saved

A run that is resumed gives the same bits as one that was never stopped: weights, optimiser, schedule, moving
average, random generators and the order of the data all stand in the checkpoint.
"""

from .fit import fit
from .run import Interrupted, Run

__all__ = ["Interrupted", "Run", "fit"]
