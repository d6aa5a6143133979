"""Folders of models: round trips, translated names, every fault, and kills in the middle of a save."""

import json
import os
import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigen
from minigen import folders, nn, published
from minigen.errors import ArgumentError, CheckpointError
from minigen.models.latent.vae import VAE
from minigen.nn.weight_map import WeightMap, joined, reshaped, split, transposed
from minigen.published import Pretrained, PublishedConfig, load


@dataclass
class TinyConfig:
    width: int = 4
    layers: int = 2
    words: int = 7
    tied: bool = True


class Block(nn.Module):
    def __init__(self, width):
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)


class Tiny(Pretrained, nn.Module):
    """A model with a published form that uses every kind of rule."""

    config_class = TinyConfig

    def __init__(self, config):
        self.config = config
        self.embedding = nn.Embedding(config.words, config.width)
        self.blocks = nn.ModuleList([Block(config.width) for _ in range(config.layers)])
        self.head = nn.Linear(config.width, config.words, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    @classmethod
    def config_from(cls, published):
        published.only("add_cross_attention", False)
        published.choice("activation", ["gelu"], "gelu")
        return TinyConfig(
            width=published.integer("n_embd", least=2, most=1024),
            layers=published.integer("n_layer", 2),
            words=published.integer("vocab_size"),
            tied=published.flag("tie_word_embeddings", True),
        )

    def config_to(self):
        c = self.config
        sizes = {"n_embd": c.width, "n_layer": c.layers, "vocab_size": c.words, "tie_word_embeddings": c.tied}
        return {"architectures": ["TinyLM"], **sizes}

    def weight_map(self):
        d = self.config.width
        return WeightMap(
            ("wte.weight", "embedding.weight"),
            ("lm_head.*", "head.*"),
            ("h.*.ln.*", "blocks.*.norm.*"),
            (["h.*.q.weight", "h.*.k.weight", "h.*.v.weight"], "blocks.*.attention.in_proj_weight", joined(d, d, d)),
            ("h.*.c_attn.bias", "blocks.*.attention.in_proj_bias"),
            ("h.*.c_proj.weight", "blocks.*.attention.out_proj.weight", transposed),
            ("h.*.c_proj.bias", "blocks.*.attention.out_proj.bias", reshaped((1, d), (d,))),
            ("h.*.qk.*", ["blocks.*.query.*", "blocks.*.key.*"], split(d, d)),
            optional=["h.*.qk.bias"],
            ignored=["h.*.mask"],
            renamed={r"^transformer\.": "", r"\.gamma$": ".weight"},
        )


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(published.KNOWN, "TinyLM", "tiny:Tiny")
    own = published._import
    monkeypatch.setattr(published, "_import", lambda name: Tiny if name == "tiny:Tiny" else own(name))


def tiny(**sizes):
    minigen.manual_seed(0)
    model = Tiny(TinyConfig(**sizes))
    for p in model.parameters():
        nn.init.normal_(p)
    return model


def vae(seed=0, **sizes):
    minigen.manual_seed(seed)
    return VAE(shape=(1, 4, 4), latent=2, hidden=(8,), **sizes)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all((a[k].numpy() == b[k].numpy()).all() for k in a)


def edit(folder, **changes):
    """Change the weights file: a tensor per name, None to remove it. Dots are written `__`."""
    path = folder / "model.safetensors"
    arrays = load_file(path)
    for name, array in changes.items():
        arrays.pop(name.replace("__", "."), None)
        if array is not None:
            arrays[name.replace("__", ".")] = array
    save_file(arrays, path)


def reconfigure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


# Round trips


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_own_models_come_back(tmp_path, likelihood):
    model = vae(likelihood=likelihood, dropout=0.25)
    assert model.save_pretrained(tmp_path / "vae", card={"score": "92.1 nats"}) == tmp_path / "vae"
    back = load(tmp_path / "vae")
    assert type(back) is VAE and same(model, back) and back.config == model.config and not back.training
    assert sorted(os.listdir(tmp_path / "vae")) == ["README.md", "config.json", "model.safetensors"]
    card = (tmp_path / "vae" / "README.md").read_text()
    assert "variational autoencoder" in card and "92.1 nats" in card and "Not noted." in card
    assert same(VAE.from_pretrained(str(tmp_path / "vae")), model)


@pytest.mark.parametrize("tied", [True, False])
def test_published_names_and_layouts(tmp_path, tied):
    model = tiny(tied=tied)
    model.save_pretrained(tmp_path)
    file = load_file(tmp_path / "model.safetensors")
    assert ("lm_head.weight" in file) == (not tied)
    ours = {name: x.numpy() for name, x in model.state_dict().items()}
    stacked = np.concatenate([file[f"h.1.{x}.weight"] for x in "qkv"])
    np.testing.assert_array_equal(stacked, ours["blocks.1.attention.in_proj_weight"])
    np.testing.assert_array_equal(file["h.0.c_proj.weight"].T, ours["blocks.0.attention.out_proj.weight"])
    np.testing.assert_array_equal(file["h.0.qk.bias"][4:], ours["blocks.0.key.bias"])
    assert file["h.0.c_proj.bias"].shape == (1, 4)
    back = load(tmp_path)
    assert same(model, back) and (back.head.weight is back.embedding.weight) == tied


def test_other_spellings_what_may_be_absent_and_what_means_nothing(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    arrays = {"transformer." + name.replace("ln.weight", "ln.gamma"): x for name, x in arrays.items()}
    del arrays["transformer.h.0.qk.bias"]
    arrays |= {"h.0.mask": np.ones((3, 3), bool), "lm_head.weight": np.full((7, 4), 9, np.float32)}
    save_file(arrays, tmp_path / "model.safetensors")
    back = load(tmp_path)
    wanted, found = model.state_dict(), back.state_dict()
    for name in ("embedding.weight", "blocks.1.query.bias", "blocks.0.norm.weight"):
        np.testing.assert_array_equal(found[name].numpy(), wanted[name].numpy())
    assert (found["head.weight"].numpy() != 9).all()  # tied: the file's copy is not looked at
    edit(tmp_path, wte__weight=np.zeros((7, 4), np.float32))
    with pytest.raises(CheckpointError, match="two names of one tensor"):
        load(tmp_path)


def test_a_tied_tensor_may_stand_under_its_other_name(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    arrays["lm_head.weight"] = arrays.pop("wte.weight")
    save_file(arrays, tmp_path / "model.safetensors")
    assert same(model, load(tmp_path))


def test_transforms_compose():
    both = transposed.then(split(2, 3))
    x = np.arange(20.0).reshape(4, 5)
    parts = both.read(x)
    np.testing.assert_array_equal(parts[1], x.T[2:])
    np.testing.assert_array_equal(both.write(*parts), x)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_floating_point_types_are_read_as_asked(tmp_path, kind):
    model = vae()
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    if kind == "bfloat16":  # the upper half of a float32
        rounded = {k: v.view(np.uint32) & 0xFFFF0000 for k, v in arrays.items()}
        _write_bfloat16(tmp_path / "model.safetensors", {k: (v >> 16).astype(np.uint16) for k, v in rounded.items()})
        wanted = {k: v.view(np.float32) for k, v in rounded.items()}
    else:
        wanted = {k: v.astype(kind) for k, v in arrays.items()}
        save_file(wanted, tmp_path / "model.safetensors")
    back = load(tmp_path).state_dict()
    assert all(x.dtype == minigen.float32 for x in back.values())
    for name, x in back.items():
        np.testing.assert_array_equal(x.numpy(), wanted[name].astype(np.float32))
    assert load(tmp_path, dtype="float64").state_dict()["encoder.1.weight"].dtype == minigen.float64


def _write_bfloat16(path, halves):
    header, data = {}, b""
    for name, x in halves.items():
        header[name] = {"dtype": "BF16", "shape": x.shape, "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# Faults


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    tiny().save_pretrained(tmp_path)
    edit(
        tmp_path,
        h__0__q__weight=None,
        h__1__ln__bias=None,
        wte__weight=np.zeros((7, 5), np.float32),
        h__0__k__weight=np.zeros((4, 4), np.int64),
        strange=np.zeros((2, 3), np.float32),
    )
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    said = str(caught.value)
    for line in (
        str(tmp_path / "model.safetensors"),
        "2 missing",
        "h.0.q.weight (4, 4), which gives blocks.0.attention.in_proj_weight",
        "h.1.ln.bias (4,), which gives blocks.1.norm.bias",
        "1 unexpected",
        "strange (2, 3)",
        "wte.weight: the file has (7, 5), the model wants (7, 4)",
    ):
        assert line in said
    edit(tmp_path, h__0__q__weight=np.zeros((4, 4), np.float32))
    with pytest.raises(CheckpointError, match=r"h\.0\.k\.weight: the file has int64, the model float32"):
        load(tmp_path)


def test_a_cut_file_a_broken_config_and_an_empty_folder(tmp_path):
    vae().save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for n in (0, 7, 100, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match="cut short"):
            load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(whole)
    config = (tmp_path / "config.json").read_text()
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    twice = config.replace('"latent": 2', '"latent": 2, "latent": 3')
    for text in ("", "{", config[:-5], "[]", "3", "null", twice, deep, '{"latent": ' + "9" * 5000 + "}", "{'a': 1}"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="not an ordinary file"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="downloads no models"):
        load(tmp_path / "gpt2")
    with pytest.raises(ArgumentError, match="not a path"):
        load(3)


HOSTILE = [
    ("latent", 10**9, "more parameters than the weights hold"),
    ("shape", [10**9, 10**9], "more parameters than the weights hold"),
    ("hidden", [300] * 1000, "more parameters than the weights hold"),
    ("latent", -1, "no VAE can be built"),
    ("latent", "2", "int is wanted"),
    ("latent", True, "int is wanted"),
    ("latent", 2.5, "int is wanted"),
    ("latent", None, "int is wanted"),
    ("hidden", ["8"], "no VAE can be built"),
    ("hidden", 8, "tuple is wanted"),
    ("dropout", float("nan"), "float is wanted"),
    ("activation", "__import__('os')", "one of"),
    ("colour", "red", "has no colour"),
    ("minigen", "latent.vae:Nobody", "minigen.models has no"),
    ("minigen", "latent.vae:VAEConfig", "minigen.models has no"),
    ("minigen", "..cli:main", "minigen.models has no"),
    ("minigen", "os:system", "minigen.models has no"),
    ("minigen", ["latent.vae:VAE"], "minigen.models has no"),
]


@pytest.mark.parametrize(("key", "value", "says"), HOSTILE, ids=[f"{k}={str(v)[:20]}" for k, v, _ in HOSTILE])
def test_hostile_values(tmp_path, key, value, says):
    vae().save_pretrained(tmp_path)
    reconfigure(tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path)


def test_a_class_that_is_not_known_is_answered_by_those_that_are(tmp_path):
    named = {"architectures": ["Mamba3"], "model_type": "mamba"}
    for config in (named, {"_class_name": "Mamba3"}, {"architectures": [3]}, {}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=r"known are .*GPT2LMHeadModel") as caught:
            load(tmp_path)
        assert ("Mamba3" in str(caught.value)) == ("Mamba3" in str(config))


def test_another_class_than_the_folder_holds(tmp_path):
    tiny().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"not a latent\.vae:VAE"):
        VAE.from_pretrained(tmp_path)


def test_options_that_are_not_implemented_are_refused_by_name(tmp_path):
    tiny().save_pretrained(tmp_path)
    good = {"n_embd": 4, "n_layer": 2, "add_cross_attention": False, "activation": "gelu", "tie_word_embeddings": True}
    for changes, says in [
        ({"add_cross_attention": True}, "add_cross_attention is True: minigen implements only False"),
        ({"activation": "swish"}, "activation is 'swish': minigen implements 'gelu'"),
        ({"n_embd": 1}, "n_embd is 1: a whole number from 2 to 1,024"),
        ({"n_embd": None}, "n_embd is None: it must be there"),
        ({"n_layer": 10**9}, "more parameters than the weights hold"),
        ({"n_layer": "2"}, "whole number"),
        ({"tie_word_embeddings": 1}, "true or false"),
    ]:
        reconfigure(tmp_path, **(good | changes))
        with pytest.raises(CheckpointError, match=says):
            load(tmp_path)


def test_published_config():
    config = PublishedConfig({"a": 3, "b": 0.5, "c": "x", "d": [1, 2], "e": None, "f": 1e400, "g": [True]})
    assert config.integer("a") == 3 and config.number("a") == 3.0 and config.integer("e", 7) == 7
    assert config.integer("missing", None) is None and config.string("c") == "x" and config.integers("d") == (1, 2)
    assert config.choice("c", {"x": "ours"}) == "ours" and config.choice("missing", ["p"], "p") == "p"
    for ask in (
        lambda: config.integer("b"),
        lambda: config.integer("missing"),
        lambda: config.integer("a", most=2),
        lambda: config.number("f"),
        lambda: config.number("c"),
        lambda: config.string("a"),
        lambda: config.integers("g"),
        lambda: config.choice("a", {True: 1}),
        lambda: config.only("a", 3.0),
    ):
        with pytest.raises(CheckpointError, match=r"config\.json: "):
            ask()


@dataclass
class Inner:
    size: int = 3


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    many: tuple[int, ...] = (1,)
    maybe: int | None = None
    rate: float = 0.1


def test_nested_configurations():
    given = {"inner": {"size": 5}, "many": [1, [2, 3]], "maybe": 4, "rate": 1}
    assert PublishedConfig(given).fields_of(Outer) == Outer(Inner(5), (1, (2, 3)), 4, 1.0)
    assert PublishedConfig({"maybe": None}).fields_of(Outer) == Outer()
    with pytest.raises(CheckpointError, match=r"inner.*Inner has no length"):
        PublishedConfig({"inner": {"length": 5}}).fields_of(Outer)
    with pytest.raises(CheckpointError, match="int or NoneType is wanted"):
        PublishedConfig({"maybe": "4"}).fields_of(Outer)


def test_a_pickle_is_not_opened(tmp_path):
    vae().save_pretrained(tmp_path)
    os.replace(tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"code that runs when it is opened.*\n.*save_file"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(tmp_path)


def test_a_pipeline_names_its_parts(tmp_path):
    vae().save_pretrained(tmp_path / "unet")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"pipeline.*\n.*unet"):
        load(tmp_path)


def test_a_map_that_forgets_a_name_says_which():
    with pytest.raises(ArgumentError, match=r"no rule.*\n.*head\.bias"):
        WeightMap(("wte", "embedding.weight")).links(["embedding.weight", "head.bias"])
    with pytest.raises(ArgumentError, match="as many stars"):
        WeightMap(("h.*.ln.*", "blocks.*.norm"))


def test_parts_of_ones_own_are_not_saved_as_if_the_config_knew_them(tmp_path):
    model = VAE(shape=(1, 4, 4), latent=2, decoder=nn.Sequential(nn.Linear(2, 16)))
    with pytest.raises(ArgumentError, match="of your own"):
        model.save_pretrained(tmp_path / "vae")
    assert not (tmp_path / "vae").exists()


# Shards


def shard(folder, index=None):
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(arrays)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in parts.items():
        save_file({name: arrays[name] for name in inside}, folder / file)
    shard_of = {name: file for file, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    return shard_of


def test_shards(tmp_path):
    model = vae()
    model.save_pretrained(tmp_path)
    shard(tmp_path)
    assert same(model, load(tmp_path))


def test_hostile_and_broken_indices(tmp_path):
    vae().save_pretrained(tmp_path / "vae")
    vae().save_pretrained(tmp_path / "other")
    folder = tmp_path / "vae"
    good = shard(folder)
    first = next(iter(good))
    outside = ["../other/model.safetensors", "..", "", ".hidden.safetensors", "a/b.safetensors", "config.json"]
    outside += ["..\\model.safetensors", "pytorch_model.bin", "model.safetensors\0", "x" * 5000]
    outside.append(str(tmp_path / "other" / "model.safetensors"))
    for weight_map, says in [
        *(({**good, first: path}, "of the folder itself") for path in outside),
        ({**good, first: 3}, "must give each tensor's file"),
        ({}, "must give each tensor's file"),
        ([], "must give each tensor's file"),
        ({**good, "ghost": good[first]}, "ghost is not in model-0000"),
        ({k: v for k, v in good.items() if k != first}, f"{first} stands in .* and not in the index"),
        ({**good, first: "model-00003-of-00003.safetensors"}, "does not exist"),
    ]:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=says):
            load(folder)


# Saving over what is there


def test_saving_again_replaces_the_model_and_keeps_other_files(tmp_path):
    vae(0).save_pretrained(tmp_path, card="# My notes\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "samples").mkdir()
    second = vae(1, dropout=0.5)
    second.save_pretrained(tmp_path)
    assert same(load(tmp_path), second) and load(tmp_path).config.dropout == 0.5
    assert sorted(os.listdir(tmp_path)) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples",
        "tokenizer.json",
    ]
    assert (tmp_path / "README.md").read_text() == "# My notes\n"
    (tmp_path / "a file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        second.save_pretrained(tmp_path / "a file")


class Killed(BaseException):
    pass


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_model_whole(tmp_path, monkeypatch):
    """Stop the save before and after each of its renames and removals: 2 moments each, 5 files and a list."""
    old, new = vae(0), vae(1, dropout=0.5)
    calls = count = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == calls:
                raise Killed
            result = function(*args, **kwargs)
            count += 1
            if count == calls:
                raise Killed
            return result

        return call

    outcomes = []
    while True:
        folder, count = tmp_path / str(calls), 0
        calls += 1
        old.save_pretrained(folder)
        with monkeypatch.context() as patch:
            patch.setattr(folders, "_remove", lambda path: None)  # a killed process cleans nothing up
            for module, name in ((os, "replace"), (os, "unlink")):
                patch.setattr(module, name, dying(getattr(module, name)))
            count = 0
            try:
                new.save_pretrained(folder, card="new")
                finished = True
            except Killed:
                finished = False
        back = load(folder)
        outcome = "new" if back.config.dropout else "old"
        assert same(back, {"new": new, "old": old}[outcome])
        outcomes.append(outcome)
        new.save_pretrained(folder)  # and the next save goes through
        assert same(load(folder), new) and len(os.listdir(folder)) == 3
        if finished:
            break
    assert outcomes == sorted(outcomes, reverse=True) and outcomes.count("old") >= 6 and outcomes.count("new") >= 6


def test_a_full_disk_leaves_the_old_model_and_no_litter(tmp_path, monkeypatch):
    vae(0).save_pretrained(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    monkeypatch.setattr(folders, "write_safetensors", lambda *_: (_ for _ in ()).throw(CheckpointError("disk full")))
    with pytest.raises(CheckpointError, match="disk full"):
        vae(1).save_pretrained(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
