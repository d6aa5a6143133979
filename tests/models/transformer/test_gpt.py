"""GPT: causal, the same with and without a cache, initialised as published, and its published form."""

import itertools
import math

import numpy as np
import pytest

import minigen
from minigen import autograd
from minigen.errors import ArgumentError, CheckpointError, DimError, ShapeError
from minigen.models.transformer.gpt import GPT, GPTClassifier, GPTConfig, Transformer
from minigen.published import load
from minigen.random import Generator
from minigen.tensorfile import read_safetensors, write_safetensors

SIZES = dict(vocab_size=11, n_positions=12, n_embd=16, n_layer=2, n_head=4, initializer_range=0.3)
KINDS = {"gpt2": {}, "gpt1": {"norm_first": False}, "gpt3": {"window": 3}}
OPTIONS = KINDS | {
    "inverse_layer": {"scale_attn_by_inverse_layer_idx": True},
    "unscaled": {"scale_attn_weights": False},
    "untied": {"tie_word_embeddings": False, "n_inner": 24, "activation_function": "relu"},
    "upcast": {"reorder_and_upcast_attn": True},
}


def small(kind="gpt2", cls=GPT, seed=0, **more):
    minigen.manual_seed(seed)
    return cls(**{**SIZES, **OPTIONS[kind], **more}).eval()


def texts(n=3, length=10, seed=0):
    return Generator(seed).integers(0, SIZES["vocab_size"], (n, length))


def close(got, want, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_no_place_looks_ahead_and_all_before_it_count(kind):
    """By the whole Jacobian, in float64: d vectors[t] / d first vectors[s]."""
    trunk = small(kind, Transformer).double()
    x = minigen.tensor(Generator(1).normal((1, 7, 16)).astype(np.float64), requires_grad=True)
    y, _ = trunk(embeddings=x)
    mixed = (y * minigen.tensor(Generator(2).normal((16,)).astype(np.float64))).sum(-1)[0]
    rows = [autograd.grad(mixed[t], [x], retain_graph=True)[0].numpy()[0] for t in range(7)]
    size = np.abs(np.stack(rows)).sum(-1)
    assert (size[np.triu_indices(7, 1)] == 0).all()
    assert (size[np.tril_indices(7)] > 0).all()


@pytest.mark.parametrize("kind", OPTIONS)
def test_weights_written_out_give_what_the_kernel_gives(kind):
    model, ids = small(kind), texts()
    with minigen.no_grad():
        plain, _ = model.transformer(ids)
        stream, weights = model.transformer(ids, look=True)
    close(stream[-1].numpy(), plain.numpy(), 1e-4)
    assert len(stream) == 3 and len(weights) == 2
    for i, share in enumerate(weights):
        share = share.numpy()
        close(share.sum(-1), np.ones(share.shape[:-1]), 1e-5)
        window = model.config.window if i % 2 else None
        ages = np.subtract.outer(np.arange(10), np.arange(10))
        seen = (ages >= 0) & (ages < (window or 99))
        assert (share[..., ~seen] == 0).all() and (share[..., seen] > 0).all()


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("pieces", [[1] * 10, [4, 1, 5], [9, 1], [2, 3, 5]], ids=str)
def test_a_text_in_pieces_gives_the_logits_of_the_whole(kind, pieces):
    model, ids = small(kind).double(), texts()
    with minigen.no_grad():
        whole, state, got = model.logits(ids).numpy(), None, []
        for piece in np.split(ids, np.cumsum(pieces)[:-1], 1):
            logits, state = model.step(piece, state)
            got.append(logits.numpy())
    close(np.concatenate(got, 1), whole)
    assert state.length == 10


def test_rows_of_a_state_go_on_like_their_texts():
    model, ids = small().double(), texts()
    rows = np.array([2, 0, 0, 1])
    with minigen.no_grad():
        _, state = model.step(ids[:, :6])
        logits, after = model.step(ids[rows, 6:], state.select(rows))
        close(logits.numpy(), model.logits(ids[rows]).numpy()[:, 6:])
    assert after.length == 10 and state.length == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(kind, side):
    """Each text of a padded batch gets the logits that it gets alone, at once and in pieces."""
    model, lengths = small(kind).double(), [7, 3, 5]
    alone = [texts(1, n, seed=n)[0] for n in lengths]
    ids, mask = np.zeros((3, 7), np.int64), np.zeros((3, 7), np.int64)
    for row, text in enumerate(alone):
        places = slice(7 - len(text), None) if side == "left" else slice(len(text))
        ids[row, places], mask[row, places] = text, 1
    more = texts(3, 3, seed=9)
    with minigen.no_grad():
        logits, state = model.step(ids, None, mask)
        first, between = model.step(ids[:, :2], None, mask[:, :2])
        second, _ = model.step(ids[:, 2:], between, mask[:, 2:])
        close(np.concatenate([first.numpy(), second.numpy()], 1)[mask == 1], logits.numpy()[mask == 1])
        after, _ = model.step(more, state)
        for row, text in enumerate(alone):
            close(logits.numpy()[row][mask[row] == 1], model.logits(text[None]).numpy()[0])
            longer = np.concatenate([text, more[row]])[None]
            close(after.numpy()[row], model.logits(longer).numpy()[0, -3:])
        some = state.select(np.array([1]))
        close(model.step(more[1:2], some)[0].numpy(), after.numpy()[1:2])


def test_probabilities_of_all_texts_add_up_to_one():
    model = small(vocab_size=3)
    every = np.array(list(itertools.product(range(3), repeat=4)))
    with minigen.no_grad():
        log_p = minigen.log_softmax(model.logits(every).double(), -1).numpy()
    total = np.take_along_axis(log_p[:, :-1], every[:, 1:, None], -1)[..., 0].sum(1)
    assert abs(np.exp(total).sum() - 3) < 1e-5  # one for each first symbol


def test_the_first_weights_are_the_published_ones():
    model = GPT(vocab_size=101, n_positions=64, n_embd=96, n_layer=8, n_head=4)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            std = 0.02 / math.sqrt(16) if name.endswith("c_proj.weight") else 0.02
            assert abs(p.data.std() / std - 1) < 0.05 and abs(p.data.mean()) < 5 * std / math.sqrt(p.numel()), name
        else:
            assert (p.data == (".ln_" in name and name.endswith("weight"))).all(), name
    assert model.lm_head.weight is model.transformer.wte.weight
    loss = model.eval()(*np.split(texts(4, 62), 2, 1)).item()
    assert abs(loss - math.log(101)) < 0.2  # nothing is known yet


def test_the_loss_is_the_mean_over_the_targets_that_count():
    model, ids = small(), texts()
    targets = ids[:, 1:].copy()
    targets[0, :4] = -100
    with minigen.no_grad():
        log_p = minigen.log_softmax(model.logits(ids[:, :-1]), -1).numpy()
        nll = -np.take_along_axis(log_p, ids[:, 1:, None], -1)[..., 0]
        assert abs(model(ids[:, :-1], ids[:, 1:]).item() - nll.mean()) < 1e-6
        assert abs(model(ids[:, :-1], targets).item() - nll[targets >= 0].mean()) < 1e-6


def test_it_learns_what_only_the_first_symbol_says():
    g = Generator(0)
    model = small(embd_pdrop=0, attn_pdrop=0, resid_pdrop=0, initializer_range=0.2).train()
    optimizer = minigen.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        ids = g.integers(0, 3, (32, 4))
        ids[:, 3] = ids[:, 0]
        optimizer.zero_grad()
        loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 2 / 3 * math.log(3) + 0.06  # two symbols are dice, the third is known


def test_a_classifier_reads_the_last_symbol_that_is_no_padding():
    model = small(cls=GPTClassifier, num_labels=3, pad_token_id=0)
    ids = 1 + texts(3, 6) % 10
    short = ids.copy()
    short[1, 4:] = 0
    with minigen.no_grad():
        alone = model(ids[1:2, :4]).numpy()
        close(model(short, (short != 0)).numpy()[1:2], alone, 1e-5)
        assert model(ids).shape == (3, 3)
    with pytest.raises(ArgumentError, match="pad_token_id"):
        small(cls=GPTClassifier)(ids)


# The published form


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("cls", [GPT, Transformer, GPTClassifier])
def test_saved_and_loaded_it_is_the_same(kind, cls, tmp_path):
    model, ids = small(kind, cls, num_labels=3, pad_token_id=0), 1 + texts(2, 5) % 10
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert type(again) is cls and not again.training
    assert again.config == model.config
    call = {GPT: lambda m: m.logits(ids), Transformer: lambda m: m(ids)[0], GPTClassifier: lambda m: m(ids)}[cls]
    with minigen.no_grad():
        assert (call(again).numpy() == call(model).numpy()).all()


def test_the_file_is_the_published_one(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    file = read_safetensors(tmp_path / "model.safetensors")
    assert file["transformer.h.1.attn.c_attn.weight"].shape == (16, 48)
    assert (file["transformer.h.0.mlp.c_fc.weight"] == model.transformer.h[0].mlp.c_fc.weight.data.T).all()
    assert "lm_head.weight" not in file and len(file) == 2 + 2 * 12 + 2


def rewritten(folder, change):
    """The weights in a folder, changed and written again."""
    arrays = dict(read_safetensors(folder / "model.safetensors"))
    change(arrays)
    write_safetensors(folder / "model.safetensors", arrays)


def bare(arrays):
    """As in the first published file: no prefix, and the masks as buffers."""
    for name in list(arrays):
        arrays[name.removeprefix("transformer.")] = arrays.pop(name)
    for i in range(2):
        arrays[f"h.{i}.attn.bias"] = np.tri(12, dtype=np.float32)[None, None]
        arrays[f"h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)


def test_older_files_without_a_prefix_and_with_masks(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    rewritten(tmp_path, bare)
    again = GPT.from_pretrained(tmp_path)
    trunk = Transformer.from_pretrained(tmp_path)
    with minigen.no_grad():
        assert (again.logits(texts()).numpy() == model.logits(texts()).numpy()).all()
        assert (trunk(texts())[0].numpy() == model.transformer(texts())[0].numpy()).all()


def one_more(arrays):
    arrays["transformer.h.2.ln_1.bias"] = np.zeros(16, np.float32)


def wrong_shape(arrays):
    arrays["transformer.h.0.attn.c_attn.weight"] = arrays["transformer.h.0.attn.c_attn.weight"].T


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda arrays: arrays.pop("transformer.ln_f.bias"), r"1 missing:\s+transformer\.ln_f\.bias \(16,\)"),
        (one_more, r"1 unexpected:\s+transformer\.h\.2\.ln_1\.bias"),
        (wrong_shape, r"c_attn\.weight: the file has \(48, 16\), the model wants \(16, 48\)"),
    ],
    ids=["missing", "extra", "misshapen"],
)  # fmt: skip
def test_a_fault_in_the_file_is_named(change, said, tmp_path):
    small().save_pretrained(tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("add_cross_attention", True, "add_cross_attention"),
        ("activation_function", "prelu", "activation_function"),
        ("n_head", 3, "n_head=3 must divide n_embd=16"),
        ("n_layer", -1, "n_layer"),
    ],
)
def test_an_option_that_is_not_there_is_refused_by_name(key, value, said, tmp_path):
    from minigen.jsonfile import read_json, write_json

    small().save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {key: value})
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path)


def test_mistakes_are_answered():
    model = small()
    with pytest.raises(ShapeError, match=r"13 symbols are more than its n_positions=12(.|\n)*ids\[:, -12:\]"):
        model.logits(texts(1, 13))
    _, state = model.step(texts(1, 10))
    with pytest.raises(ShapeError, match="3 symbols after 10 that were read before"):
        model.step(texts(1, 3), state)
    with pytest.raises(ShapeError, match=r"ids are \(N, T\)"):
        model.logits(texts()[0])
    with pytest.raises(DimError, match="0 to 10"):
        model.logits(texts() + 5)
    with pytest.raises(ShapeError, match="attention_mask"):
        model.logits(texts(), np.ones((3, 9)))
    with pytest.raises(ShapeError, match="a target for each place"):
        model(texts(), texts()[:, 1:])
    for wrong in ({"n_head": 5}, {"activation_function": "gelo"}, {"window": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            GPTConfig(**wrong)
