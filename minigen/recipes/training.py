"""A run of a recipe, in a folder of its own:

    runs/vae/config.json, model.safetensors, README.md      the model, as `minigen.published.load` reads it
    runs/vae/recipe.json                                    what the run was asked to do
    runs/vae/training/step-000500.safetensors               all that is needed to go on: weights, averages, generators
    runs/vae/samples/step-000500.png                        what it drew (or wrote) then

At every evaluation the model is scored on what it has not seen, draws samples, and is saved. Each of these files is
whole at any moment, and a run that was stopped goes on to the same bits as one that was not.

Under `mpirun -n 2 minigen train vae` two processes share each batch (minigen.distributed); the first writes and shows.
Give each its own cores: NUMBA_NUM_THREADS=1 where there are two.
"""

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import minigen

from .. import distributed, random
from ..checkpoint import Checkpoints, load
from ..data import DataLoader
from ..errors import ArgumentError, CheckpointError, expect
from ..jsonfile import read_json, write_json
from . import RECIPES, find

SAMPLE_SEED = 7  # the samples of all evaluations start from the same noise, so that one sees the model change
NOTES = 10  # of the data's notes are shown
EVALUATIONS = 20  # of a run, where the reader does not say how often


@dataclass
class Options:
    """What a run is asked to do. None: what the recipe says.

    data                    a folder of images or a text file; None: bundled digits, or the standard library's source
    size, channels          of pictures: pixels a side, and 1 or 3
    context                 of texts: how many symbols the model sees at once
    tokenizer, vocabulary   of texts: "characters", or "bpe" with so many symbols
    steps, batch, lr, every, seed    of the training; `every` is between evaluations
    changes                 fields of the model's configuration that differ from the recipe's: {"latent": 32}
    """

    recipe: str
    data: str | None = None
    size: int = 32
    channels: int = 3
    context: int = 128
    tokenizer: str = "characters"
    vocabulary: int = 512
    steps: int | None = None
    batch: int | None = None
    lr: float | None = None
    every: int | None = None
    seed: int = 0
    changes: dict = field(default_factory=dict)


def options_of(folder):
    """The Options of the run in `folder`. Raises CheckpointError where there is none."""
    path = Path(folder) / "recipe.json"
    if not path.exists():
        raise CheckpointError(f"{folder} is no run of `minigen train`: it holds no recipe.json")
    found = read_json(path)
    known = {f.name for f in dataclasses.fields(Options)}
    good = set(found) <= known and found.get("recipe") in RECIPES and isinstance(found.get("changes", {}), dict)
    expect(good, f"{path} is not what `minigen train` writes", error=CheckpointError)
    return Options(**found)


def train(options, folder, *, resume=False, device="cpu", progress=True):
    """Make the run, or go on with it; returns the Run.

    resume   True: from the newest whole checkpoint in the folder; a path: from that one
    """
    folder, recipe = Path(folder), find(options.recipe)
    group = distributed.join(device=device)
    progress = progress and group.is_first
    data = recipe.read(options)
    usual = {"steps": recipe.steps, "batch": recipe.batch, "lr": recipe.lr}
    options = dataclasses.replace(options, **{k: v for k, v in usual.items() if getattr(options, k) is None})
    steps, batch, lr = options.steps, options.batch, options.lr
    every = options.every or math.ceil(steps / EVALUATIONS)
    minigen.manual_seed(options.seed)
    generator = random.Generator(options.seed)
    model = recipe.build(data, options.changes).to(device)
    batches = _rows_of_mine(group, recipe.batches(data, batch, generator), batch)
    if progress:
        for note in data.notes[:NOTES]:
            print(f"note: {note}", file=sys.stderr)
        if len(data.notes) > NOTES:
            print(f"note: and {len(data.notes) - NOTES:,} more", file=sys.stderr)
        count = sum(p.numel() for p in model.parameters())
        where = device if group.size == 1 else f"{device}, in {group.size} processes"
        print(f"{data.about}\n{type(model).__name__}, {count:,} parameters, {steps:,} steps of {batch} on {where}; "
              f"everything goes to {folder}/")  # fmt: skip
    if group.is_first:
        write_json(folder / "recipe.json", dataclasses.asdict(options))
        recipe.keep(data, folder)
    begin = _resumed_step(folder, resume)
    note = _Note(recipe, data, folder, options, begin, every, steps, f"steps of {batch}, Adam with rate {lr:g}")
    with group:
        run = recipe.fit(
            model, batches, data, lr=lr, steps=steps, every=every, evaluate=lambda model: group.first(note, model),
            checkpoints=folder / "training", resume=resume, generator=generator, progress=progress, group=group,
        )  # fmt: skip
    if progress:
        more = f"minigen sample {folder} --out grid.png" if recipe.kind == "images" else f"minigen generate {folder}"
        print(f"the model is in {folder}/; now  {more}")
    return run


def _rows_of_mine(group, batches, batch):
    """A loader's batches, or those that a function makes, without the rows of other processes."""
    if group.size == 1:
        return batches
    expect(batch % group.size == 0, f"--batch {batch}: does not divide among {group.size} processes",
           error=ArgumentError, hint=f"write a multiple of {group.size}")  # fmt: skip
    if isinstance(batches, DataLoader):
        return group.shard(batches)
    return lambda: batches()[group.rank :: group.size]


def _resumed_step(folder, resume):
    """The step after which a resumed run goes on; 0 for a new one."""
    path = Checkpoints(folder / "training").latest() if resume is True else resume
    return load(path).get("step", 0) if path else 0


class _Note:
    """What is done at each evaluation: score, draw, save. `fit` calls it with the model, the weights averaged."""

    def __init__(self, recipe, data, folder, options, begin, every, steps, how):
        self.recipe, self.data, self.folder, self.options = recipe, data, folder, options
        self.step, self.every, self.steps, self.how = begin, every, steps, how

    def __call__(self, model):
        self.step = min((self.step // self.every + 1) * self.every, self.steps)  # as Run.due has it
        numbers = self.recipe.score(model, self.data)
        path = self.folder / "samples" / f"step-{self.step:06d}"
        self.recipe.show(model, self.data, path, random.Generator(SAMPLE_SEED))
        scored = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        command = "sample" if self.recipe.kind == "images" else "generate"
        card = {
            "trained on": f"{self.data.about}.\n\n{self.step:,} {self.how}, seed {self.options.seed}.",
            "score": f"{scored}, on {self.data.scored}." if scored else "It has no likelihood to score: see samples/.",
            "use": f"`minigen {command} {self.folder}`",
        }
        model.save_pretrained(self.folder, card)
        return numbers


def check_same(options, asked):
    """Raise ArgumentError if a resumed run is asked for other options than it began with; more steps are fine."""
    for name, value in asked.items():
        began = getattr(options, name)
        if name not in ("steps", "every") and value != began:
            raise ArgumentError(
                f"--{name}: the run began with {began}, and goes on as it began, not with {value}\n"
                "  leave it out, or start another run with --out"
            )
