"""Checkpoints: everything a run needs to go on, in one file that is always whole.

    save("runs/vae/step-000400.safetensors", {"step": 400, "model": model.state_dict(), "optimizer": ...})
    state = load("runs/vae/step-000400.safetensors")
    model.load_state_dict(state["model"])

A checkpoint is one safetensors file. Its arrays are named by where they stand (`model.encoder.weight`), so any
safetensors reader can open it; the numbers, strings and lists stand as JSON in its header. Nothing in it is code.

    save, load        a nested mapping to a file and back
    Checkpoints       a folder that keeps the last few steps of a run, and finds the newest whole one
    find_non_finite   what must be asked before a checkpoint replaces a good one
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .device import FLOATS, is_array, xp
from .errors import ArgumentError, CheckpointError, describe
from .tensorfile import read_safetensors, write_safetensors

__all__ = ["Checkpoints", "find_non_finite", "load", "save"]

MAX_DEPTH = 100  # a state dict nests about six deep; a mapping that contains itself nests for ever
_NOTE = "minigen"  # the key of the header's metadata under which the JSON stands


def save(path, mapping):
    """Save `mapping` as the file `path`: entirely, or not at all.

    mapping  nested dictionaries, lists and tuples of arrays, tensors, numbers of any size, strings, booleans and None.

    The file is written beside, flushed to the disk and renamed, so whoever is killed while saving leaves the file that
    was there before. Raises CheckpointError if the disk refuses, ArgumentError for a value of another kind.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"save: {describe(path)} is not a path\n  write save(path, mapping): the path comes first")
    if not isinstance(mapping, Mapping):
        raise ArgumentError(
            f'save: {describe(mapping)} is not a mapping\n  write save(path, {{"model": model.state_dict()}})'
        )
    arrays = {}
    tree = _encode(mapping, "", arrays, 0)
    write_safetensors(path, arrays, {_NOTE: json.dumps({"version": 1, "tree": tree}, allow_nan=False)})


def load(path):
    """The mapping that `save` was given, with NumPy arrays in the place of arrays and tensors.

    A folder stands for the newest whole checkpoint in it (see `Checkpoints`). A safetensors file that minigen did not
    write gives the flat mapping of its arrays. Raises CheckpointError if the file is not a whole checkpoint.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"load: {describe(path)} is not a path")
    path = Path(path)
    if path.is_dir():
        path = Checkpoints(path).latest(required=True)
    try:
        with read_safetensors(path) as file:
            arrays = {name: file[name] for name in file}
            note = file.metadata.get(_NOTE)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_where_to_go_on(path)}") from error.__cause__
    if note is None:
        return arrays
    try:
        note = json.loads(note, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        if note["version"] != 1:
            raise CheckpointError(f"{path} is a checkpoint of version {note['version']}, this minigen reads version 1")
        mapping = _decode(note["tree"], arrays, 0)
        if type(mapping) is not dict:
            raise ValueError("it is not a mapping")
        return mapping
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as cause:
        raise CheckpointError(
            f"{path}: its arrays are whole, but what minigen noted about them is not: {str(cause)[:200]}\n"
            f"  minigen.tensorfile.read_safetensors reads the arrays alone{_where_to_go_on(path)}"
        ) from cause


# A mapping as JSON. What JSON has stands as itself; the rest stands as an object with one key that starts with "$":
#
#     {"$array": name}   an array of the file        {"$tuple": [...]}          a tuple
#     {"$scalar": name}  a NumPy scalar              {"$items": [[k, v], ...]}  a dictionary whose keys JSON lacks
#     {"$int": "0x1f"}   an integer over 63 bits     {"$float": "nan"}          a float that JSON lacks


def _encode(value, where, arrays, depth):
    if depth > MAX_DEPTH:
        raise ArgumentError(f"save: {where[:60]}... is nested deeper than {MAX_DEPTH}, or contains itself")
    if value is None or isinstance(value, (bool, str)) and not isinstance(value, np.generic):
        return value
    if is_array(value) or isinstance(value, np.generic) or hasattr(value, "requires_grad"):
        return _encode_array(value, where, arrays)
    if isinstance(value, int):
        value = int(value)
        return value if value.bit_length() < 64 else {"$int": hex(value)}
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, Mapping):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {k: _encode(v, f"{where}.{k}" if where else k, arrays, depth + 1) for k, v in value.items()}
        items = []
        for key, v in value.items():
            if not _can_be_key(key):
                raise ArgumentError(
                    f"save: {where or 'the mapping'} has the key {describe(key)}, which cannot be saved"
                )
            inner = f"{where}.{key}" if where else str(key)
            items.append([_encode(key, inner, arrays, depth + 1), _encode(v, inner, arrays, depth + 1)])
        return {"$items": items}
    if isinstance(value, (list, tuple)):
        inner = [_encode(v, f"{where}.{i}", arrays, depth + 1) for i, v in enumerate(value)]
        return inner if isinstance(value, list) else {"$tuple": inner}
    raise ArgumentError(
        f"save: {where} is a {type(value).__name__}, which cannot be saved\n"
        f"  a checkpoint holds dictionaries, lists, tuples, arrays, tensors, numbers, strings, booleans and None"
    )


def _encode_array(value, where, arrays):
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.generic):
        value, kind = np.asarray(value), "$scalar"
    else:
        kind = "$array"
    name = where.encode("ascii", "backslashreplace").decode()
    while name in arrays or name == "__metadata__":  # {"a": {"b": x}, "a.b": y} both want to be called a.b
        name += "'"
    arrays[name] = value
    return {kind: name}


def _can_be_key(key):
    return (
        key is None
        or isinstance(key, (bool, int, float, str))
        or (isinstance(key, tuple) and all(map(_can_be_key, key)))
    )


def _decode(value, arrays, depth):
    if depth > 3 * MAX_DEPTH:  # an object of one key and its list count as well
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [_decode(v, arrays, depth + 1) for v in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {k: _decode(v, arrays, depth + 1) for k, v in value.items()}
    (content,) = value.values()
    if tag == "$array":
        return arrays[content]
    if tag == "$scalar":
        return arrays[content].reshape(())[()]
    if tag == "$int":
        return int(content, 16)
    if tag == "$float":
        return float(content)
    content = _decode(content, arrays, depth + 1)
    if tag == "$tuple":
        return tuple(content)
    if tag == "$items":
        return dict(map(tuple, content))
    raise ValueError(f"unknown kind of value {tag!r}")


def _no_duplicates(pairs):
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice")
    return mapping


def _no_constant(text):
    raise ValueError(f"{text} is not JSON")


# A folder of checkpoints


class Checkpoints:
    """The checkpoints of one run: `runs/vae/step-000400.safetensors` and so on, of which the last `keep` are kept.

    checkpoints = Checkpoints("runs/vae", keep=3)
    checkpoints.save(400, {"model": ...})
    state = load(checkpoints.latest())
    """

    def __init__(self, folder, keep=3):
        if not isinstance(keep, int) or keep < 1:
            raise ArgumentError(f"Checkpoints: keep={keep!r} must be at least 1")
        self.folder, self.keep = Path(folder), keep

    def path(self, step):
        """Where the checkpoint of `step` stands."""
        return self.folder / f"step-{step:06d}.safetensors"

    def steps(self):
        """The steps that have a file, oldest first. Whether a file is whole is another question."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as cause:
            raise CheckpointError(f"{self.folder} cannot be listed: {cause}") from cause
        found = (re.fullmatch(r"step-(\d{6,18})\.safetensors", name) for name in names)
        return sorted(int(match[1]) for match in found if match and match[0] == self.path(int(match[1])).name)

    def save(self, step, mapping):
        """Save `mapping` as the checkpoint of `step` and remove all but the last `keep`. Returns the path."""
        path = self.path(step)
        save(path, mapping)
        older = [s for s in self.steps() if s < step]
        for old in older[: max(len(older) + 1 - self.keep, 0)]:
            with contextlib.suppress(OSError):  # what matters is saved; the old file can stay
                self.path(old).unlink()
        return path

    def set_aside(self, after=-1):
        """Move the checkpoints of steps after `after` to `<folder>/previous`, in the place of what was there.

        Returns the steps that were moved.
        """
        later = [step for step in self.steps() if step > after]
        if not later:
            return []
        previous = Checkpoints(self.folder / "previous", self.keep)
        try:
            for step in previous.steps():
                previous.path(step).unlink()
            previous.folder.mkdir(exist_ok=True)
            for step in later:
                os.replace(self.path(step), previous.path(step))
        except OSError as cause:
            raise CheckpointError(
                f"{self.folder}: its checkpoints cannot be moved to {previous.folder}: {cause}"
            ) from cause
        return later

    def latest(self, required=False):
        """The newest checkpoint that is whole; None (or, if `required`, CheckpointError) where there is none."""
        for step in reversed(self.steps()):
            if is_whole(self.path(step)):
                return self.path(step)
        if required:
            raise CheckpointError(f"{self.folder} holds no whole checkpoint (step-NNNNNN.safetensors)")
        return None


def is_whole(path):
    """Whether `path` is a sound safetensors file. Only its header is read."""
    try:
        read_safetensors(path).close()
        return True
    except CheckpointError:
        return False


def _where_to_go_on(path):
    """A line that names the newest whole checkpoint beside a bad one."""
    try:
        whole = Checkpoints(path.parent).latest()
    except CheckpointError:
        return ""
    if whole is None or whole == path:
        return ""
    return f"\n  the newest whole save is {whole}. Continue from there with  --resume {whole}"


def find_non_finite(model):
    """The name of the first parameter with a NaN or an Inf, or buffer with a NaN, in a module; None if there is none.

    A buffer may hold an Inf on purpose (a causal mask does), a parameter may not.
    """
    for name, parameter in model.named_parameters():
        if not bool(xp(parameter.data).isfinite(parameter.data).all()):
            return name
    for name, buffer in model.named_buffers():
        array = buffer.data
        if array.dtype.kind in FLOATS and bool(xp(array).isnan(array).any()):
            return name
    return None
