"""`minigen train` and `minigen generate` with text: the folder, resuming, writing past the context, wrong words."""

import json

import numpy as np
import pytest

from minigen import checkpoint
from minigen.published import load
from minigen.recipes import find
from minigen.recipes.texts import Texts
from minigen.text import ByteBPE

SMALL = {
    "gpt": ["--set", "n_layer=1", "--set", "n_embd=16", "--set", "n_head=2"],
    "lstm": ["--set", "hidden=16", "--set", "embedding=8", "--set", "layers=1"],
}


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("the cat saw the dog. the dog saw the café.\n" * 40, encoding="utf-8")
    return path


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
@pytest.mark.parametrize("name", SMALL)
def test_a_text_file_becomes_a_writer(name, tokenizer, story, command):
    words = ["train", name, "--data", story, "--steps", 6, "--every", 3, "--batch", 4, "--context", 12]
    code, said, errors = command(*words, "--tokenizer", tokenizer, "--vocabulary", 290, *SMALL[name])
    assert code == 0, errors
    assert "to beat: " in said and f"minigen generate runs/{name}" in said and "nats/character" in errors
    run = story.parent / "runs" / name
    assert "an interpolated 5-gram" in (run / "README.md").read_text()
    assert len((run / "samples" / "step-000006.txt").read_text(encoding="utf-8")) > 100
    for more in ([], ["--temperature", 0], ["--top-k", 3, "--top-p", 0.9], ["--repetition-penalty", 1.3]):
        once, again = (command("generate", run, "--prompt", "the café", "--new", 40, *more) for _ in range(2))
        assert once[0] == 0 and once[1].startswith("the café") and len(once[1]) > 20, once
        assert once[1] == again[1]
    assert command("generate", run, "--new", 5)[0] == 0
    other = command("generate", run, "--prompt", "the café", "--new", 40, "--seed", 1)
    assert other[1] != command("generate", run, "--prompt", "the café", "--new", 40)[1]


@pytest.mark.parametrize("name", SMALL)
def test_resuming_gives_the_same_bits(name, story, command, tmp_path):
    words = ["train", name, "--data", story, "--batch", 4, "--every", 2, "--context", 12, *SMALL[name]]
    assert command(*words, "--steps", 4, "--out", "straight")[0] == 0
    assert command(*words, "--steps", 2, "--out", "stopped")[0] == 0
    assert command("train", "--resume", "stopped", "--steps", 4)[0] == 0
    ends = [checkpoint.load(tmp_path / f / "training" / "step-000004.safetensors") for f in ("straight", "stopped")]
    assert ends[0]["history"]["loss"].tolist() == ends[1]["history"]["loss"].tolist()
    files = [(tmp_path / f / "model.safetensors").read_bytes() for f in ("straight", "stopped")]
    assert files[0] == files[1]


def test_a_published_gpt2_folder_writes(command, tmp_path):
    """config.json, model.safetensors, vocab.json and merges.txt, as GPT-2 comes."""
    from minigen.models.transformer.gpt import GPT

    tokenizer = ByteBPE.train("the cat sat on the mat " * 20, 280)
    folder = tmp_path / "gpt2"
    size = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT(vocab_size=len(tokenizer), **size).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.vocabulary), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges)])
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    code, said, errors = command("generate", folder, "--prompt", "the cat", "--new", 50)
    assert code == 0 and said.startswith("the cat"), errors
    (folder / "vocab.json").unlink()
    code, _, errors = command("generate", folder, "--prompt", "x")
    assert code == 2 and "holds no tokenizer" in errors
    other = ByteBPE.train("other words, and more of them " * 20, 290)
    assert len(other) > len(tokenizer)
    other.save(folder)
    code, _, errors = command("generate", folder, "--prompt", "x")
    assert code == 2 and f"the tokenizer has {len(other)} symbols, and the model {len(tokenizer)}" in errors


def test_writing_goes_on_where_the_context_is_full():
    recipe = find("gpt")
    model = recipe.model_class(vocab_size=5, n_positions=6, n_embd=8, n_layer=1, n_head=1).eval()
    written = list(recipe.symbols(model, [1, 2], 40, temperature=0))
    assert len(written) == 40
    ids = [1, 2]  # by hand: the whole text while it fits, then at most six symbols, three of them old to begin with
    for expected in written:
        if len(ids) > 6:
            ids = ids[-3:]
        logits, _ = model.step(np.array([ids]))
        assert logits[0, -1].argmax().item() == expected
        ids.append(expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abc", "it has 3 characters"),
        (b"", "it is empty"),
        (b"only sixty symbols or so, too few for the usual context", "too few for a context of 128"),
        (b"\xff\xfea\x00b\x00", "the mark of UTF-16"),
        (b"text\x00with zeros in it, so no text", "it holds zero bytes"),
        (b"caf\xe9 in latin-1, a whole line of it", "is not utf-8"),
    ],
)
def test_texts_that_are_none(content, said, command, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    for name in SMALL:
        code, _, errors = command("train", name, "--data", path)
        assert code == 2 and said in errors and "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


def train_a_little(story, command):
    """A tiny GPT in the folder `run`."""
    sizes = ["--steps", 2, "--batch", 2, "--context", 12, *SMALL["gpt"]]
    assert command("train", "gpt", "--data", story, "--out", "run", *sizes)[0] == 0


def test_prompts_and_options_that_are_wrong(story, command):
    train_a_little(story, command)
    for more, said in [
        (["--prompt", "Ω"], "'Ω', character 0 of the text"),
        (["--temperature", -1], "temperature"),
        (["--top-p", 3], "top_p: p lies in (0, 1]"),
        (["--repetition-penalty", 0], "--repetition-penalty is above 0"),
    ]:
        code, _, errors = command("generate", "run", *more)
        assert code == 2 and said in errors, errors
    code, _, errors = command("sample", "run")
    assert code == 2 and "write  minigen generate run" in errors


def test_a_gpt2_folder_with_wrong_tensors(story, command, tmp_path):
    from minigen.tensorfile import read_safetensors, write_safetensors

    train_a_little(story, command)
    path = tmp_path / "run" / "model.safetensors"
    with read_safetensors(path) as file:
        whole = {name: file[name] for name in file}
    name = next(name for name in whole if name.endswith("ln_f.weight"))
    for change, said in [({name: None}, name), ({"extra": np.ones(3, np.float32)}, "extra"),
                         ({name: np.ones(7, np.float32)}, "(7,)")]:  # fmt: skip
        arrays = {k: v for k, v in {**whole, **change}.items() if v is not None}
        write_safetensors(path, arrays, {"format": "pt"})
        code, _, errors = command("generate", "run", "--new", 3)
        assert code == 2 and said in errors and "model.safetensors" in errors
    write_safetensors(path, whole, {"format": "pt"})
    assert load(tmp_path / "run").config.vocab_size


def test_windows_and_the_floor(story):
    from minigen.random import Generator

    data = Texts(story, context=10)
    windows = data.windows(6, Generator(0))
    assert windows.shape == (6, 11)
    whole = data.train.tobytes()
    assert all(row.tobytes() in whole for row in windows)
    held = data.held_out_windows(10_000)
    assert held.shape[1] == 11 and (held[1:, 0] == held[:-1, -1]).all()
    assert 0 < data.floor < np.log(len(data.tokenizer))
    bpe = Texts(story, "bpe", 280, 10)
    assert bpe.symbols_a_character < 1
