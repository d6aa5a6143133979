"""The command lines of `minigen train`, `minigen sample` and `minigen generate`."""

import argparse
import contextlib
import dataclasses
import json
from pathlib import Path

from .. import random
from ..device import cuda_available
from ..errors import ArgumentError, CheckpointError, expect
from . import RECIPES, find, of_model


def train(argv):
    """Train a model on your own pictures or text."""
    parser = argparse.ArgumentParser(prog="minigen train", description=train.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help=f"what to train: {', '.join(RECIPES)}")
    add("--data", metavar="PATH", help="a folder of images, or a text file (bundled digits, or Python's own source)")
    add("--out", metavar="DIR", help="the run's folder (runs/NAME)")
    add("--resume", nargs="?", const=True, default=False, metavar="PATH",
        help="go on where the run stopped: from its newest checkpoint, or from this one")  # fmt: skip
    add("--steps", type=_positive, help="how many training steps in all")
    add("--batch", type=_positive, help="pictures, or pieces of text, a step")
    add("--lr", type=float, help="learning rate")
    add("--every", type=_positive, help="steps between scores, samples and checkpoints")
    add("--seed", type=int, help="another seed, other dice")
    add("--size", type=_positive, help="pictures: pixels a side (32)")
    add("--channels", type=int, choices=(1, 3), help="pictures: 1 for grey, 3 for colour (3)")
    add("--context", type=_positive, help="text: symbols the model sees at once (128)")
    add("--tokenizer", choices=("characters", "bpe"), help="text: what a symbol is (characters)")
    add("--vocabulary", type=_positive, help="text: how many symbols bpe makes (512)")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the configuration")
    add("--device", default="cpu", help="cpu or cuda")
    add("--no-progress", dest="progress", action="store_false", help="no bar, no lines")
    options = parser.parse_args(argv)
    from .training import Options, check_same, options_of
    from .training import train as run

    names = {field.name for field in dataclasses.fields(Options)}
    asked = {key: value for key, value in vars(options).items() if key in names and value is not None}
    if options.data is not None:
        asked["data"] = str(Path(options.data).resolve())
    if options.set:
        asked["changes"] = dict(map(_change, options.set))
    expect(options.device == "cpu" or cuda_available(), f"--device {options.device}: CuPy finds no GPU here",
           error=ArgumentError)  # fmt: skip
    if options.name is not None or not options.resume:
        find(options.name)
    folder, resume = _folder(options.out, options.name, options.resume)
    if resume:
        began = options_of(folder)
        check_same(began, asked | ({"recipe": options.name} if options.name else {}))
        began = dataclasses.replace(began, **{k: v for k, v in asked.items() if k in ("steps", "every")})
    else:
        began = Options(options.name, **asked)
    run(began, folder, resume=resume, device=options.device, progress=options.progress)
    return 0


def sample(argv):
    """Draw pictures from a trained model."""
    parser = argparse.ArgumentParser(prog="minigen sample", description=sample.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the folder of a run or of a model")
    add("--n", type=_positive, default=64, help="how many (64)")
    add("--out", default="grid.png", metavar="FILE", help="the file for the grid (grid.png)")
    add("--class", dest="label", help="only this class, by name or number")
    add("--steps", type=_positive, help="of a diffusion model's sampler (50)")
    add("--columns", type=_positive, help="pictures a row")
    add("--seed", type=int, default=0, help="another seed, other pictures")
    add("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(argv)
    from .pictures import save_grid

    model, recipe = _model(options.checkpoint, options.device)
    if recipe.kind != "images":
        raise ArgumentError(f"{options.checkpoint} is a model of text\n  write  minigen generate {options.checkpoint}")
    label = None if options.label is None else _class(options.label, recipe.classes(model), options.checkpoint)
    pictures = recipe.draw(model, options.n, label, options.steps, random.Generator(options.seed))
    print(save_grid(options.out, pictures, options.columns))
    return 0


def generate(argv):
    """Write text with a language model, as it comes."""
    parser = argparse.ArgumentParser(prog="minigen generate", description=generate.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the folder of a run, or of a published GPT-2")
    add("--prompt", default="", help="how the text begins")
    add("--new", type=_positive, default=400, help="how many symbols to write (400)")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest symbol always (0.8)")
    add("--top-k", type=_positive, help="only the K likeliest symbols")
    add("--top-p", type=float, help="only the likeliest symbols that together have probability P")
    add("--repetition-penalty", type=float, default=1.0, help="above 1: what was said is less likely (1)")
    add("--seed", type=int, default=0, help="another seed, another text")
    add("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(argv)
    model, recipe = _model(options.checkpoint, options.device)
    if recipe.kind != "text":
        raise ArgumentError(
            f"{options.checkpoint} is a model of pictures\n  write  minigen sample {options.checkpoint}"
        )
    tokenizer = recipe.tokenizer(options.checkpoint)
    print(options.prompt, end="", flush=True)
    for piece in recipe.write(model, tokenizer, options.prompt, options.new, options.temperature, options.top_k,
                              options.top_p, options.repetition_penalty, random.Generator(options.seed)):  # fmt: skip
        print(piece, end="", flush=True)
    print()
    return 0


def _folder(out, name, resume):
    """(the run's folder, how to resume): `--resume runs/vae/training/step-000500.safetensors` names both."""
    if isinstance(resume, str):
        path = Path(resume)
        if path.is_dir() and (path / "recipe.json").exists():
            return path, True
        run = next((folder for folder in path.parents if (folder / "recipe.json").exists()), None)
        expect(run is not None, f"--resume {resume}: neither a run's folder nor a checkpoint in one",
               error=CheckpointError, hint="write --resume runs/vae")  # fmt: skip
        return (run, True) if path.is_dir() else (run, resume)
    expect(out is not None or name is not None, "--resume: which run?", error=ArgumentError,
           hint="write  minigen train --resume runs/vae")  # fmt: skip
    return Path(out or f"runs/{name}"), resume


def _model(folder, device):
    """The model in a folder, and its recipe."""
    from ..published import load

    path = Path(folder)
    if path.is_dir() and (path / "recipe.json").exists() and not (path / "config.json").exists():
        raise CheckpointError(
            f"{folder}: the run has not come to its first evaluation, so it has saved no model yet\n"
            f"  go on with  minigen train --resume {folder}  (a smaller --every saves sooner)"
        )
    model = load(folder).to(device)
    return model, of_model(model)


def _class(label, classes, folder):
    """The number of a class, from its number or name."""
    expect(classes, "--class: this model was trained without classes", error=ArgumentError,
           hint="train it on a folder with one subfolder for each class")  # fmt: skip
    path = Path(folder) / "classes.json"
    names = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if label in names:
        return names.index(label)
    number = int(label) if label.isdecimal() else -1
    known = ", ".join(names) if names else f"0 to {classes - 1}"
    expect(0 <= number < classes, f"--class {label}: the model knows {known}", error=ArgumentError)
    return number


def _change(text):
    """`latent=32` as ("latent", 32); what is no JSON is a string, a list a tuple."""
    name, equals, value = text.partition("=")
    expect(bool(equals and name.isidentifier()), f"--set {text}: write --set field=value", error=ArgumentError)
    with contextlib.suppress(ValueError):
        value = json.loads(value)
    return name, value


def _positive(text):
    try:
        number = int(text.replace(",", "").replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is wanted, not {text}")
    return number
