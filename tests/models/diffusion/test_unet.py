"""The U-Nets: every combination runs both ways, what is told to them matters, and mistakes are named."""

import itertools
import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigen
from minigen import nn
from minigen.errors import ArgumentError, CheckpointError, ShapeError
from minigen.models.diffusion.blocks import ResBlock, Style, time_features
from minigen.models.diffusion.conditional_unet import ConditionalUNet, ConditionalUNetConfig
from minigen.models.diffusion.transformer2d import Transformer2d
from minigen.models.diffusion.unet import UNet, UNetConfig
from minigen.published import load
from minigen.random import Generator

SMALL = {"shape": (2, 8, 8), "channels": (8, 16), "attention": (False, True), "layers": 1, "groups": 4}
CONTEXT = {**SMALL, "attention": (True, False), "context_size": 6, "heads": 2}


def noise(*shape, seed=0):
    return minigen.tensor(Generator(seed).normal(shape))


def shuffled(model):
    """A network whose every weight shows: none is zero."""
    g = Generator(7)
    with minigen.no_grad():
        for p in model.parameters():
            p.copy_(p + minigen.tensor(g.normal(p.shape) * 0.1))
    return model.eval()


def test_the_embedding_of_t_is_its_formula():
    t, size = np.array([0, 3, 999]), 10
    features = time_features(minigen.tensor(t), size).data
    for n, i in itertools.product(range(3), range(size // 2)):
        angle = t[n] / 10_000 ** (i / (size // 2))
        assert abs(features[n, i] - math.cos(angle)) < 1e-4
        assert abs(features[n, i + size // 2] - math.sin(angle)) < 1e-4
    paper = time_features(minigen.tensor(t), size, cosine_first=False, shift=1).data
    assert abs(paper[1, size // 2 - 1] - math.sin(3e-4)) < 1e-6  # with shift 1 the last frequency is 1 / 10,000
    odd = time_features(minigen.tensor(t), 7).data
    assert odd.shape == (3, 7) and (odd[:, -1] == 0).all() and odd.dtype == np.float32


@pytest.mark.parametrize("resample, attention, scale_shift, middle", list(itertools.product(
    ("conv", "resnet", ("resnet", "conv")), ((False, False), (True, False), (True, True)), (False, True),
    ("attention", "plain", None))))  # fmt: skip
def test_every_combination_runs_both_ways(resample, attention, scale_shift, middle):
    options = {"resample": resample, "attention": attention, "scale_shift": scale_shift, "middle": middle}
    unet = shuffled(UNet(**{**SMALL, **options}))
    y = unet(noise(2, 2, 8, 8), minigen.tensor([3, 500]))
    assert y.shape == (2, 2, 8, 8) and y.dtype == minigen.float32
    (y * noise(2, 2, 8, 8, seed=1)).sum().backward()
    without = [name for name, p in unet.named_parameters() if p.grad is None or not np.abs(p.grad.data).any()]
    assert without == [], f"no gradient reaches {without}"


def test_gradients_are_the_slopes_of_the_loss():
    unet, x, t = shuffled(UNet(**SMALL)).double(), noise(1, 2, 8, 8).double(), minigen.tensor([40])
    loss = (unet(x, t) ** 2).sum()
    loss.backward()
    g = Generator(3)
    steps = {name: g.normal(p.shape, dtype=np.float64) for name, p in unet.named_parameters()}
    slope = sum((p.grad.data * steps[name]).sum() for name, p in unet.named_parameters())
    values = []
    with minigen.no_grad():
        for h in (1e-5, -2e-5):
            for name, p in unet.named_parameters():
                p.copy_(p + h * minigen.Tensor(steps[name]))
            values.append((unet(x, t) ** 2).sum().item())
    assert abs((values[0] - values[1]) / 2e-5 / slope - 1) < 1e-6


def test_a_new_network_answers_zero_and_still_learns():
    unet = UNet(**SMALL)
    x, t = noise(4, 2, 8, 8), minigen.tensor([1, 30, 500, 900])
    assert not unet(x, t).data.any()
    optimizer = minigen.optim.Adam(unet.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = ((unet(x, t) - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_time_labels_and_context_matter():
    x = noise(2, 2, 8, 8)
    unet = shuffled(UNet(**SMALL, classes=3))
    a, b = unet(x, 5, minigen.tensor([0, 1])), unet(x, 5, minigen.tensor([0, 2]))
    np.testing.assert_allclose(a.data[0], b.data[0], atol=1e-6)
    assert np.abs(a.data[1] - b.data[1]).max() > 1e-3
    assert np.abs(a.data - unet(x, 800, minigen.tensor([0, 1])).data).max() > 1e-3
    np.testing.assert_array_equal(a.data, unet(x, minigen.tensor([5, 5]), minigen.tensor([0, 1])).data)

    conditional, words = shuffled(ConditionalUNet(**CONTEXT)), noise(2, 5, 6)
    y = conditional(x, 5, words)
    other = words.data.copy()
    other[1, 3] += 1
    changed = conditional(x, 5, minigen.tensor(other))
    np.testing.assert_allclose(changed.data[0], y.data[0], atol=1e-6)
    assert np.abs(changed.data[1] - y.data[1]).max() > 1e-4
    mask = np.ones((2, 5))
    mask[1, 3] = 0
    masked = [conditional(x, 5, w, mask=minigen.tensor(mask)).data for w in (words, minigen.tensor(other))]
    np.testing.assert_allclose(*masked, atol=1e-6)


def test_a_transformer_sees_its_context_as_a_set():
    transformer = shuffled(Transformer2d(8, heads=2, context_size=6, groups=4))
    x, words = noise(1, 8, 4, 4), noise(1, 5, 6)
    y = transformer(x, words).data
    np.testing.assert_allclose(transformer(x, words.flip(1)).data, y, atol=1e-5)
    assert not np.allclose(transformer(x, words * 2).data, y, atol=1e-3)


def test_scale_and_shift_of_nothing_is_no_scale_and_no_shift():
    blocks = [ResBlock(8, 16, 5, Style(groups=4, scale_shift=both)) for both in (False, True)]
    x, t = noise(2, 8, 4, 4), noise(2, 5)
    g = Generator(1)
    with minigen.no_grad():
        for one, other in zip(*[block.parameters() for block in blocks]):
            if one.shape == other.shape:
                one.copy_(minigen.tensor(g.normal(one.shape)))
                other.copy_(one)
        for block in blocks:
            block.time_emb_proj.weight.zero_()
            block.time_emb_proj.bias.zero_()
        np.testing.assert_allclose(blocks[0](x, t).data, blocks[1](x, t).data, atol=1e-5)
        blocks[1].time_emb_proj.bias.data[:16] = -1.0  # (1 + s) h + b with s = -1, b = 0: nothing is left of h
        blocks[1].conv2.bias.zero_()
        blocks[1].conv_shortcut.weight.zero_()
        blocks[1].conv_shortcut.bias.zero_()
        np.testing.assert_allclose(blocks[1](x, t).data, 0, atol=1e-6)


def test_sizes_that_do_not_halve_evenly_and_dropout():
    unet = shuffled(UNet(**{**SMALL, "shape": (2, None, None), "channels": (8, 8, 8), "attention": (False,) * 3}))
    assert unet(noise(1, 2, 7, 10), 3).shape == (1, 2, 7, 10)
    dropped = shuffled(UNet(**SMALL, dropout=0.5))
    x = noise(1, 2, 8, 8)
    np.testing.assert_array_equal(dropped(x, 3).data, dropped(x, 3).data)
    dropped.train()
    assert np.abs(dropped(x, 3).data - dropped(x, 3).data).max() > 1e-3


@pytest.mark.parametrize("name, model", {
    "plain": lambda: UNet(**SMALL, classes=2, dropout=0.1, padding=0),
    "mixed": lambda: UNet(**{**SMALL, "channels": (8, 16, 16), "attention": (False, True, False),
                             "resample": ("resnet", "conv", "conv")}, scale_shift=True, head_size=8),
    "fourier": lambda: UNet(**SMALL, time="fourier", class_embedding="timestep"),
    "learned": lambda: UNet(**SMALL, time="learned", times=1000, middle=None),
    "conditional": lambda: ConditionalUNet(**{**CONTEXT, "heads": (2, 4), "layers": (1, 2)}, linear=True, text_size=3),
}.items(), ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_saved_as_published_and_loaded_it_is_the_same(name, model, tmp_path):
    model = shuffled(model())
    model.save_pretrained(tmp_path / "unet")
    assert json.loads((tmp_path / "unet/config.json").read_text())["_class_name"].startswith("UNet2D")
    read = load(tmp_path / "unet")
    assert read.config == model.config
    given = {"labels": minigen.tensor([1])} if model.class_embedding is not None else {}
    if name == "conditional":
        given["context"] = noise(1, 5, 3)
    x = noise(1, 2, 8, 8)
    np.testing.assert_array_equal(read(x, 7, **given).data, model(x, 7, **given).data)


def test_older_files_spell_the_attention_in_another_way(tmp_path):
    model = shuffled(UNet(**SMALL))
    model.save_pretrained(tmp_path / "unet")
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, name in old.items():
        weights = {key.replace(new, name): array for key, array in weights.items()}
    save_file(weights, file)
    x = noise(1, 2, 8, 8)
    np.testing.assert_array_equal(load(tmp_path / "unet")(x, 7).data, model(x, 7).data)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    UNet(**SMALL).save_pretrained(tmp_path / "unet")
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :1].copy()
    weights["conv_out.extra"] = weights.pop("mid_block.resnets.0.conv1.bias")
    save_file(weights, file)
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "unet")
    said = str(error.value)
    assert "1 missing:\n    mid_block.resnets.0.conv1.bias (16,)" in said
    assert "1 unexpected:\n    conv_out.extra" in said
    assert "conv_in.weight: the file has (8, 1, 3, 3), the model wants (8, 2, 3, 3)" in said


@pytest.mark.parametrize("change, said", [
    ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "SkipDownBlock2D"),
    ({"mid_block_type": "UNetMidBlock2DSimple"}, "mid_block_type"),
    ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"),
    ({"norm_num_groups": 5}, "groups=5 must divide"),
    ({"block_out_channels": [8]}, "one for each of the 1"),
])  # fmt: skip
def test_a_configuration_that_is_not_implemented_is_refused_by_name(change, said, tmp_path):
    UNet(**SMALL).save_pretrained(tmp_path / "unet")
    file = tmp_path / "unet/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "unet")


def test_mistakes_are_answered():
    unet, x = UNet(**SMALL, classes=3), noise(2, 2, 8, 8)
    labels = minigen.tensor([0, 1])
    for call, kind, said in (
        (lambda: unet(noise(2, 3, 8, 8), 1, labels), ShapeError, r"x is \(N, 2, 8, 8\)"),
        (lambda: unet(noise(2, 2, 8), 1, labels), ShapeError, r"x is \(N, 2, 8, 8\)"),
        (lambda: unet(noise(2, 2, 8, 1), 1, labels), ShapeError, "at least 2"),
        (lambda: unet(x, minigen.tensor([1, 2, 3]), labels), ShapeError, "one for each x"),
        (lambda: unet(x, 1), ArgumentError, "give labels"),
        (lambda: unet(x, 1, minigen.tensor([0, 3])), ArgumentError, "from 0 to 2"),
        (lambda: unet(x, 1, minigen.tensor([0])), ShapeError, "one label for each x"),
        (lambda: UNet(**SMALL)(x, 1, labels), ArgumentError, "no classes"),
        (lambda: UNet(**{**SMALL, "groups": 3}), ArgumentError, "groups=3 must divide"),
        (lambda: UNet(**SMALL, head_size=32), ArgumentError, "head_size=32"),
        (lambda: UNetConfig(channels=(8, 16), attention=(True,)), ArgumentError, "attention is one for all"),
        (lambda: UNetConfig(activation="tanh"), ArgumentError, "activation is one of"),
        (lambda: UNetConfig(time="learned"), ArgumentError, "times"),
        (lambda: ConditionalUNet(**CONTEXT)(x, 1, noise(2, 5, 7)), ShapeError, r"\(N, S, 6\)"),
        (lambda: ConditionalUNet(**CONTEXT)(x, 1, noise(1, 5, 6)), ShapeError, "one row of words for each x"),
        (lambda: ConditionalUNetConfig(heads=(1, 2)), ArgumentError, "heads is one for all"),
    ):  # fmt: skip
        with pytest.raises(kind, match=said):
            call()


def test_it_is_a_module_like_any_other():
    unet = UNet(**SMALL)
    assert isinstance(unet, nn.Module) and unet.conv_in.weight.shape == (8, 2, 3, 3)
    names = dict(unet.named_parameters())
    assert "down_blocks.1.attentions.0.to_out.0.weight" in names and "up_blocks.0.upsamplers.0.conv.weight" in names
