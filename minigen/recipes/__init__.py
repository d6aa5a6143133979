"""Recipes: models trained on the reader's own data, from the command line.

    minigen train diffusion --data photos/          # a folder of images, or a text file for the language models
    minigen train diffusion --resume                # after Ctrl-C, a crash or a power cut
    minigen sample runs/diffusion --n 64 --out grid.png
    minigen generate runs/gpt --prompt "Once"

A recipe says how one family turns data into its input, which configuration suits it, and how it is scored. Everything
else is the same for all: `training.py` makes the run, `pictures.py` and `texts.py` read the data.

    image_recipes.py   vae, dcgan, pixelcnn, glow, diffusion
    text_recipes.py    gpt, lstm
    training.py        a run: progress, samples while it trains, checkpoints, resuming, the model's folder and card
    commands.py        the command lines of train, sample and generate
"""

import difflib
import importlib

from ..errors import ArgumentError

RECIPES = {
    "vae": "image_recipes:VAERecipe",
    "dcgan": "image_recipes:DCGANRecipe",
    "pixelcnn": "image_recipes:PixelCNNRecipe",
    "glow": "image_recipes:GlowRecipe",
    "diffusion": "image_recipes:DiffusionRecipe",
    "gpt": "text_recipes:GPTRecipe",
    "lstm": "text_recipes:LSTMRecipe",
}


def find(name):
    """The recipe called `name`. Raises ArgumentError, with the nearest name."""
    if name is None:
        raise ArgumentError(f"which recipe? There are {', '.join(RECIPES)}\n  write  minigen train vae --data photos/")
    if name not in RECIPES:
        near = difflib.get_close_matches(str(name), RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}"
        raise ArgumentError(f"there is no recipe {name!r}\n  {hint}")
    module, _, kind = RECIPES[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), kind)()


def of_model(model):
    """The recipe that a trained model belongs to. Raises ArgumentError where it has none."""
    for name in RECIPES:
        recipe = find(name)
        if isinstance(model, recipe.model_class):
            return recipe
    raise ArgumentError(f"no recipe knows what to do with a {type(model).__name__}")
