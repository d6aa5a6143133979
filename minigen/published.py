"""Models in folders: config.json, safetensors weights and a model card, as the published ones come.

    gpt = GPT.from_pretrained("gpt2")              # a published folder: the config and the names are translated
    vae.save_pretrained("runs/vae", card={"trained on": "digits", "score": "92.1 nats an image"})
    vae = load("runs/vae")                         # the class is found from config.json

A model class mixes in `Pretrained` and says, in its own file, what its published form is:

    class GPT(Pretrained, nn.Module):
        config_class = GPTConfig                   # all that a model of minigen's own needs

        @classmethod
        def config_from(cls, published): ...       # a PublishedConfig -> GPTConfig; refuses what it lacks, by name
        def config_to(self): ...                   # the published config.json as a dictionary
        def weight_map(self): ...                  # published names <-> ours (nn/weight_map.py)

and has a line in KNOWN, so that `load` finds it. Without these a folder holds the dataclass' fields and the state
dict. Nothing in a folder is code, and pickles (pytorch_model.bin) are never opened.
"""

import dataclasses
import importlib
import inspect
import math
import os
import re
import types
import typing
from pathlib import Path

import numpy as np

from . import folders
from .errors import CheckpointError, MinigenError, describe, expect
from .nn.module import at_most
from .nn.state import collect
from .nn.weight_map import WeightMap

__all__ = ["KNOWN", "Pretrained", "PublishedConfig", "load"]

# The name in a published config.json (diffusers: _class_name; transformers: architectures, else model_type) and where
# our class stands, below minigen.models. A name may stand for several: our class looks at the config.
KNOWN = {
    "GPT2LMHeadModel": "transformer.gpt:GPT",
    "GPT2Model": "transformer.gpt:Transformer",
    "GPT2ForSequenceClassification": "transformer.gpt:GPTClassifier",
    "gpt2": "transformer.gpt:GPT",
    "OpenAIGPTLMHeadModel": "transformer.gpt:GPT",
    "OpenAIGPTModel": "transformer.gpt:Transformer",
    "OpenAIGPTForSequenceClassification": "transformer.gpt:GPTClassifier",
    "openai-gpt": "transformer.gpt:GPT",
    "UNet2DModel": "diffusion.unet:UNet",
    "UNet2DConditionModel": "diffusion.conditional_unet:ConditionalUNet",
}


def load(folder, dtype="float32"):
    """The model in `folder`, of the class that its config.json names, in evaluation mode.

    Raises CheckpointError where the class is not known, and what `from_pretrained` raises.
    """
    config = folders.read_config(folder)
    return find_class(config, Path(folder) / "config.json").from_pretrained(folder, dtype)


def find_class(config, where="config.json"):
    """The class that a config names. Only minigen.models is looked into, whatever the file says."""
    name = config.get("minigen")
    if name is not None:
        if isinstance(name, str) and re.fullmatch(r"[a-z]\w*(\.\w+)*:[A-Za-z]\w*", name, re.ASCII):
            found = _import(name)
            if found is not None:
                return found
        raise CheckpointError(f"{where}: minigen.models has no {describe(name)}")
    names = config.get("architectures")
    names = [config.get("_class_name"), *(names if isinstance(names, list) else [names]), config.get("model_type")]
    names = [name for name in names if isinstance(name, str)]
    for name in names:
        if name in KNOWN:
            found = _import(KNOWN[name])
            expect(found is not None, f"{where}: KNOWN says {KNOWN[name]}, and it is not there", error=CheckpointError)
            return found
    said = " ".join(repr(name[:80]) for name in names) or "no class"
    raise CheckpointError(
        f"{where} names {said}, which minigen does not have\n  known are {', '.join(sorted(KNOWN))},\n"
        '  and minigen\'s own models, written {"minigen": "latent.vae:VAE", ...}'
    )


def _import(name):
    """The Pretrained class at "latent.vae:VAE"; None if there is none."""
    module, _, name = name.partition(":")
    try:
        found = getattr(importlib.import_module(f"minigen.models.{module}"), name, None)
    except ModuleNotFoundError as missing:
        if not f"minigen.models.{module}.".startswith(f"{missing.name}."):  # another module, that it needs
            raise
        return None
    return found if inspect.isclass(found) and issubclass(found, Pretrained) else None


class Pretrained:
    """Mixed into an nn.Module that has a `config`: reading it from a folder and writing it there.

    config_class  the dataclass of its configuration; the class is called with one to build the model
    """

    config_class = None

    @classmethod
    def from_pretrained(cls, folder, dtype="float32"):
        """The model in `folder`, in evaluation mode, its weights as `dtype` whatever type they have in the file.

        Raises CheckpointError for a folder that is not whole, for a configuration that the class does not implement,
        and for weights that do not fit it: one error that lists all that is missing, unexpected or misshapen.
        """
        read = PublishedConfig(folders.read_config(folder), Path(folder) / "config.json")
        with folders.read_weights(folder) as file:
            elements = sum(math.prod(layout[1]) for layout in file.layout.values())
            try:
                with at_most(16 * elements + 2**20):  # shared and absent ones count too
                    model = cls(cls.config_from(read))
                model.to(dtype=np.dtype(dtype))
            except CheckpointError as error:
                raise CheckpointError(str(error) if read.name in str(error) else f"{read.name}: {error}") from error
            except (
                MinigenError,
                TypeError,
                ValueError,
                ArithmeticError,
                LookupError,
                MemoryError,
                RecursionError,
                AttributeError,
            ) as cause:  # fmt: skip - a hostile value may trip anything
                raise CheckpointError(f"{read.name}: no {cls.__name__} can be built from it: {cause}") from cause
            model.weight_map().load(model, file, file.where)
        return model.eval()

    def save_pretrained(self, folder, card=None):
        """Save the model as `folder`: config.json, the weights and README.md. Returns the path.

        card  the README: a string, or {"trained on": ..., "score": ..., "sampling": ...} to be put under what is
              known anyhow. If None, a README.md that stands there is kept.

        Whoever is killed while saving leaves the old model or the new one whole. Raises CheckpointError.
        """
        config = self.config_to()
        state = collect(self, keep_vars=True)
        first = {id(tensor): name for name, tensor in reversed(state.items())}
        arrays = self.weight_map().published(
            {name: tensor.cpu().detach().numpy() for name, tensor in state.items()}, set(first.values())
        )
        weights = folders.WEIGHTS[1 if "_class_name" in config else 0]
        files = {"config.json": config, weights: arrays}
        if card is not None or not os.path.exists(Path(folder) / "README.md"):
            files["README.md"] = card if isinstance(card, str) else _card(self, config, card or {})
        return folders.write(folder, files)

    @classmethod
    def config_from(cls, published):
        """The configuration, from a PublishedConfig. A model of minigen's own: the fields of its dataclass."""
        said = published.get("minigen")
        expect(said == _own_name(cls), f"{published.name}: it is a {describe(said)}, not a {_own_name(cls)}",
               error=CheckpointError)  # fmt: skip
        return published.fields_of(cls.config_class)

    def config_to(self):
        """What config.json is to hold."""
        return {"minigen": _own_name(type(self)), **dataclasses.asdict(self.config)}

    def weight_map(self):
        """How the file's tensors become the model's (see nn/weight_map.py). A model of minigen's own: as they are."""
        return WeightMap()


def _own_name(cls):
    return f"{cls.__module__.removeprefix('minigen.models.')}:{cls.__qualname__}"


def _card(model, config, notes):
    """A model card (Mitchell et al. 2019): what it is, what it learned from, how it scored, how to use it."""
    cls = type(model)
    about = (inspect.getmodule(cls).__doc__ or cls.__doc__ or "").strip().partition("\n")[0]
    count = sum(parameter.numel() for parameter in model.parameters())
    shown = "\n".join(f"- `{key}`: {value!r}" for key, value in dataclasses.asdict(model.config).items())
    notes = {"trained on": "Not noted.", "score": "Not noted."} | notes
    sections = "".join(f"\n## {title[:1].upper()}{title[1:]}\n\n{text}\n" for title, text in notes.items())
    kind = config.get("minigen") or _own_name(cls)
    head = f"# {cls.__name__}\n\n{about}\n\n`{kind}`, {count:,} parameters.\n\n{shown}\n"
    how = "```python\nfrom minigen.published import load\n\nmodel = load(folder)\n```\n"
    return f"{head}{sections}\n## Loading\n\n{how}"


class PublishedConfig(dict):
    """A config.json, read with suspicion: each getter checks the type and the range and names the option.

    published.integer("n_layer", 12, least=1)
    published.choice("activation_function", {"gelu_new": "gelu_tanh", "relu": "relu"}, "gelu_new")
    published.only("add_cross_attention", False)       # any other value: an option that is not implemented

    An option that is absent, or null, has its default; without a default it must be there. All raise CheckpointError.
    """

    def __init__(self, mapping, name="config.json"):
        super().__init__(mapping)
        self.name = str(name)

    def _value(self, key, default):
        value = self.get(key)
        value = default if value is None else value
        self._expect(value is not ..., key, "it must be there")
        return value

    def _expect(self, fits, key, rule):
        expect(fits, f"{self.name}: {key} is {describe(self.get(key))}: {rule}", error=CheckpointError)

    def integer(self, key, default=..., least=0, most=2**31):
        value = self._value(key, default)
        good = value is default or type(value) is int and least <= value <= most
        self._expect(good, key, f"a whole number from {least:,} to {most:,} is wanted")
        return value

    def number(self, key, default=..., least=-1e30, most=1e30):
        value = self._value(key, default)
        good = value is default or type(value) in (int, float) and least <= value <= most
        self._expect(good, key, f"a number from {least:g} to {most:g} is wanted")
        return value if value is None else float(value)

    def flag(self, key, default=...):
        value = self._value(key, default)
        self._expect(value is default or type(value) is bool, key, "true or false is wanted")
        return value

    def string(self, key, default=...):
        value = self._value(key, default)
        self._expect(value is default or type(value) is str, key, "a string is wanted")
        return value

    def integers(self, key, default=..., least=0, most=2**31):
        """A list of whole numbers, as a tuple."""
        value = self._value(key, default)
        good = value is default or type(value) is list and all(type(v) is int and least <= v <= most for v in value)
        self._expect(good, key, f"a list of whole numbers from {least:,} to {most:,} is wanted")
        return value if value is None else tuple(value)

    def choice(self, key, choices, default=...):
        """What `choices`, a mapping from published values to ours (or a sequence of both), has for the value."""
        value = self._value(key, default)
        known = next((known for known in choices if known == value and type(known) is type(value)), ...)
        self._expect(known is not ..., key, f"minigen implements {', '.join(map(repr, choices))}")
        return choices[known] if isinstance(choices, typing.Mapping) else known

    def only(self, key, *values):
        """The option must be absent or have one of `values`, the first of which is its default."""
        value = self._value(key, values[0])
        good = any(value == known and type(value) is type(known) for known in values)
        self._expect(good, key, f"minigen implements only {' and '.join(map(repr, values))}")
        return value

    def fields_of(self, kind):
        """The dataclass `kind` from the keys of the same names. What it has no field for is refused by name."""
        return _fields(kind, {key: value for key, value in self.items() if key != "minigen"}, self.name)


def _fields(kind, given, where):
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = [key for key in given if key not in fields]
    expect(not unknown, f"{where}: {kind.__name__} has no {', '.join(unknown)[:300]}", error=CheckpointError)
    values = {key: _field(fields[key], value, f"{where}: {key}") for key, value in given.items()}
    try:
        return kind(**values)
    except (MinigenError, TypeError, ValueError, ArithmeticError) as cause:  # its own checks in __post_init__
        raise CheckpointError(f"{where}: {cause}") from cause


def _field(field, value, where):
    """A JSON value as the field wants it: lists as tuples, nested dataclasses built, anything else refused."""
    kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    for kind in kinds:
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return _fields(kind, value, where)
        if (typing.get_origin(kind) or kind) is tuple and isinstance(value, list):
            return _tuples(value)
        if kind is float:
            if type(value) in (int, float) and math.isfinite(value):
                return float(value)
        elif kind in (type(value), type(None) if value is None else ..., typing.Any):
            return value
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise CheckpointError(f"{where} is {describe(value)}, and {wanted} is wanted")


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
