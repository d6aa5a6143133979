"""A model's folder: reading config.json and its weights without trust, replacing all its files at once.

    config = read_config("gpt2")
    with read_weights("gpt2") as weights:           # one file, or the shards of an index: nothing is read yet
        weights["wte.weight"]                       # now this array is
    write("runs/vae", {"config.json": {...}, "model.safetensors": {name: array}, "README.md": "..."})

Several files cannot be renamed as one. So each is written in full as `.minigen-next-NAME`; then a list of the names,
`.minigen-commit`, is renamed into place, and from that moment the folder holds the new model; then the files take
their places. A reader that finds the list, because the writer was killed, looks for the `next` files first.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from .atomic import write_atomically
from .errors import ArgumentError, CheckpointError, describe, expect
from .jsonfile import json_bytes, read_json
from .tensorfile import read_safetensors, write_safetensors

WEIGHTS = "model.safetensors", "diffusion_pytorch_model.safetensors"
COMMIT, NEXT = ".minigen-commit", ".minigen-next-"
NAME = r"[A-Za-z0-9][\w.\-]{0,200}"  # a file of the folder itself: no slash, no leading dot
PICKLES = ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx"


def read_config(folder, name="config.json"):
    """The folder's config.json as a dictionary. Raises CheckpointError, which says what a folder without one is."""
    folder = _folder(folder)
    path = place(folder, name)
    if name == "config.json" and not path.exists() and (folder / "model_index.json").exists():
        parts = sorted(p.parent.name for p in folder.glob("*/config.json"))
        raise CheckpointError(
            f"{folder} is a pipeline of several models, not one model\n"
            f"  load its parts: {', '.join(repr(str(folder / part)) for part in parts)}"
        )
    return read_json(path)


def read_weights(folder):
    """The folder's tensors as a mapping that reads each when it is asked for; close it, or use `with`.

    `.layout` holds {name: (type, shape, ...)}, `.where` the path for messages. Looked for are model.safetensors,
    diffusion_pytorch_model.safetensors, and the index of either. Raises CheckpointError.
    """
    folder = _folder(folder)
    for name in WEIGHTS:
        if (path := place(folder, name)).exists():
            return Weights([read_safetensors(path)], path)
        if (path := place(folder, name + ".index.json")).exists():
            return _sharded(folder, path)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder} has {pickles[0]} and no safetensors file\n"
            "  such a file can hold code that runs when it is opened, so minigen never opens one. Where you trust it:\n"
            "  load it with the library that wrote it and save with safetensors.torch.save_file(state_dict,\n"
            '  "model.safetensors"), or download the folder with its safetensors file'
        )
    raise CheckpointError(f"{folder} holds no weights: {WEIGHTS[0]}, {WEIGHTS[1]} or the index of either is wanted")


class Weights(Mapping):
    """The tensors of one or several safetensors files; see `read_weights`."""

    def __init__(self, files, where):
        self.files, self.where = files, str(where)
        self._file_of = {name: file for file in files for name in file}
        self.layout = {name: file.layout[name] for name, file in self._file_of.items()}

    def __getitem__(self, name):
        return self._file_of[name][name]

    def __iter__(self):
        return iter(self.layout)

    def __len__(self):
        return len(self.layout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self.files:
            file.close()


def _sharded(folder, path):
    """The shards that an index names. It may name only files of its own folder."""
    shard_of = read_json(path).get("weight_map")
    good = isinstance(shard_of, dict) and shard_of and all(isinstance(name, str) for name in shard_of.values())
    expect(good, f"{path}: weight_map must give each tensor's file", error=CheckpointError)
    names = sorted(set(shard_of.values()))
    for name in names:
        plain = re.fullmatch(NAME, name, re.ASCII) and name.endswith(".safetensors")
        rule = f"{path} names {name[:200]!r}: a shard is a .safetensors file of the folder itself"
        expect(plain, rule, error=CheckpointError)
    with contextlib.ExitStack() as opened:
        files = {name: opened.enter_context(read_safetensors(folder / name)) for name in names}
        wrong = [f"{tensor} is not in {name}" for tensor, name in shard_of.items() if tensor not in files[name]]
        wrong += [f"{tensor} stands in {name} and not in the index" for name in names for tensor in files[name]
                  if shard_of.get(tensor) != name]  # fmt: skip
        more = f"\n  and {len(wrong) - 20:,} more" if len(wrong) > 20 else ""
        expect(not wrong, f"{path} and its files disagree\n  " + "\n  ".join(wrong[:20]) + more, error=CheckpointError)
        opened.pop_all()
    return Weights(list(files.values()), path)


# Writing all files at once


def write(folder, files):
    """Put `files` into `folder`, all or none: {name: a string, a dictionary (JSON) or, for safetensors, arrays}.

    What else is in the folder stays. Returns the path. Raises CheckpointError; then the folder is as it was.
    """
    expect(isinstance(folder, (str, os.PathLike)), f"save: {describe(folder)} is not a path", error=ArgumentError)
    folder = Path(folder)
    if folder.exists():
        expect(folder.is_dir(), f"{folder} is a file: a model is saved as a folder", error=CheckpointError)
        _finish(folder)
        for litter in folder.glob(f"{NEXT}*"):  # of a save that was killed before it was committed
            _remove(litter)
    try:
        for name, content in files.items():
            _write_next(folder / f"{NEXT}{name}", content)
        commit = json_bytes(sorted(files))
        write_atomically(folder / COMMIT, [commit], len(commit))
    except BaseException:
        _remove(folder / COMMIT)  # first: from then on the rest is litter
        for path in folder.glob(f"{NEXT}*"):
            _remove(path)
        raise
    _finish(folder)
    return folder


def _write_next(path, content):
    if path.suffix == ".safetensors":
        return write_safetensors(path, content, {"format": "pt"})  # what the published readers ask for
    content = content.encode() if isinstance(content, str) else json_bytes(content)
    write_atomically(path, [content], len(content))


def _remove(path):
    with contextlib.suppress(OSError):
        path.unlink()


def place(folder, name):
    """Where the folder's file `name` stands: under its own name, or `.minigen-next-NAME` if a save was cut short."""
    later = folder / f"{NEXT}{name}"
    return later if name in _pending(folder) and later.exists() else folder / name


def _pending(folder):
    """Names of the files that a save that was cut short has committed."""
    path = folder / COMMIT
    if not path.exists():
        return []
    names = read_json(path, list)
    good = all(isinstance(name, str) and re.fullmatch(NAME, name, re.ASCII) for name in names)
    expect(good, f"{path} is not minigen's", error=CheckpointError)
    return names


def _finish(folder):
    """Do what a committed save has left to do: the files take their places, and the list goes."""
    names = _pending(folder)
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it took its place before
                os.replace(folder / f"{NEXT}{name}", folder / name)
        if names:
            (folder / COMMIT).unlink(missing_ok=True)
    except OSError as cause:
        raise CheckpointError(f"{folder}: a file cannot be renamed: {cause.strerror}") from cause


def _folder(folder):
    expect(isinstance(folder, (str, os.PathLike)), f"load: {describe(folder)} is not a path", error=ArgumentError)
    folder = Path(folder)
    with contextlib.suppress(OSError, ValueError):
        if folder.is_dir():
            return folder
    raise CheckpointError(
        f"{folder} is not a folder on this machine\n"
        "  minigen downloads no models: give the folder that holds config.json and model.safetensors"
    )
