"""Attention and the Transformer by exact properties: the formula, masks, causality, equivalent arguments."""

import numpy as np
import pytest

import minigen
from minigen import errors, nn


def draw(*shape):
    return minigen.randn(*shape, dtype=minigen.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(layer, q, k, v, allowed=None):
    """Batch first, one head after the other."""
    e, heads = layer.embed_dim, layer.num_heads
    w, b = layer.in_proj_weight.data, layer.in_proj_bias.data
    q, k, v = (x @ w[i * e : (i + 1) * e].T + b[i * e : (i + 1) * e] for i, x in enumerate((q, k, v)))
    d, out, weights = e // heads, [], []
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        scores = q[..., part] @ k[..., part].swapaxes(-1, -2) / np.sqrt(d)
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        weights.append(softmax(scores))
        out.append(weights[-1] @ v[..., part])
    y = np.concatenate(out, -1) @ layer.out_proj.weight.data.T + layer.out_proj.bias.data
    return y, np.stack(weights, 1)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["self", "cross", "three"])
def test_formula(kind, batch_first, need_weights):
    layer = nn.MultiheadAttention(6, 2, batch_first=batch_first).double()
    for bias in (layer.in_proj_bias, layer.out_proj.bias):
        nn.init.normal_(bias)
    q = draw(3, 5, 6)
    k = q if kind == "self" else draw(3, 4, 6)
    v = draw(3, 4, 6) if kind == "three" else k
    expected, weights = by_hand(layer, q.data, k.data, v.data)
    given = (q, k, v)
    if not batch_first:
        q2 = q.transpose(0, 1)
        k2 = q2 if k is q else k.transpose(0, 1)
        given = (q2, k2, k2 if v is k else v.transpose(0, 1))
    y, found = layer(*given, need_weights=need_weights)
    np.testing.assert_allclose((y if batch_first else y.transpose(0, 1)).data, expected, rtol=1e-10)
    if need_weights:
        np.testing.assert_allclose(found.data, weights.mean(1), rtol=1e-10)
        _, each = layer(*given, average_attn_weights=False)
        np.testing.assert_allclose(each.data, weights, rtol=1e-10)
    else:
        assert found is None


@pytest.mark.parametrize("need_weights", [True, False])
def test_masks_in_every_form_say_the_same(need_weights):
    layer, x = nn.MultiheadAttention(6, 2, batch_first=True).double(), draw(3, 5, 6)
    causal = np.triu(np.ones((5, 5), bool), 1)
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    expected, _ = by_hand(layer, *[x.data] * 3, ~(causal[None] | padding[:, None]))
    as_float = minigen.tensor(np.where(causal, -np.inf, 0.0))
    padding_as_float = minigen.tensor(np.where(padding, -np.inf, 0.0))
    wide = minigen.tensor(np.broadcast_to(causal, (6, 5, 5)).copy())
    causal, padding = minigen.tensor(causal), minigen.tensor(padding)
    for values in (
        {"attn_mask": causal, "key_padding_mask": padding},
        {"attn_mask": as_float, "key_padding_mask": padding},
        {"attn_mask": as_float, "key_padding_mask": padding_as_float},
        {"attn_mask": wide, "key_padding_mask": padding},
        {"is_causal": True, "key_padding_mask": padding},
        {"is_causal": True, "attn_mask": causal, "key_padding_mask": padding},
    ):
        y, _ = layer(x, x, x, need_weights=need_weights, **values)
        np.testing.assert_allclose(y.data, expected, rtol=1e-10)


def test_one_sequence_is_a_batch_of_one():
    layer, x = nn.MultiheadAttention(6, 3).double(), draw(5, 6)
    y, weights = layer(x, x, x)
    batch, more = layer(*[x.unsqueeze(1)] * 3)
    np.testing.assert_allclose(y.data, batch.data[:, 0])
    np.testing.assert_allclose(weights.data, more.data[0])


def test_a_zero_key_takes_its_share():
    """Where every score is 0, each of S + 1 keys gets the same weight, and the zero one adds nothing."""
    layer, x = nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True).double(), draw(1, 3, 4)
    nn.init.zeros_(layer.in_proj_weight)
    _, weights = layer(x, x, x)
    np.testing.assert_allclose(weights.data, np.full((1, 3, 4), 0.25))


def test_a_learnt_key_is_open_to_all():
    layer, x = nn.MultiheadAttention(4, 2, add_bias_kv=True, batch_first=True).double(), draw(2, 3, 4)
    mask = minigen.tensor(np.ones((3, 3), bool))
    _, weights = layer(x, x, x, attn_mask=mask)
    np.testing.assert_allclose(weights.data[..., 3], 1)
    causal, _ = layer(x, x, x, is_causal=True, need_weights=False)
    alone, _ = layer(x[:, :1], x[:, :1], x[:, :1], need_weights=False)
    np.testing.assert_allclose(causal.data[:, :1], alone.data)


def test_other_sizes_of_keys_and_values():
    layer = nn.MultiheadAttention(6, 2, kdim=3, vdim=5)
    assert sorted(layer.state_dict())[:3] == ["in_proj_bias", "k_proj_weight", "out_proj.bias"]
    assert layer(minigen.ones(4, 2, 6), minigen.ones(7, 2, 3), minigen.ones(7, 2, 5))[0].shape == (4, 2, 6)


@pytest.mark.parametrize(
    "shapes, values",
    [
        (((4, 2, 6), (4, 3, 6), (4, 3, 6)), {}),
        (((4, 2, 6), (4, 2, 6), (5, 2, 6)), {}),
        (((4, 6), (4, 2, 6), (4, 2, 6)), {}),
        (((4, 2, 6),) * 3, {"attn_mask": minigen.zeros(3, 3)}),
        (((4, 2, 6),) * 3, {"key_padding_mask": minigen.zeros(4, 2)}),
        (((4, 2, 6),) * 3, {"attn_mask": minigen.zeros(4, 4, dtype=minigen.int64)}),
    ],
)
def test_mistakes(shapes, values):
    with pytest.raises((errors.ShapeError, errors.DtypeError), match="multi_head_attention"):
        nn.MultiheadAttention(6, 2)(*[minigen.ones(*shape) for shape in shapes], **values)


def jacobian_support(function, x):
    """Which output positions depend on which input positions, for x (L, E)."""
    found = np.zeros((len(x), len(x)), bool)
    for i in range(len(x)):
        y = function(x)
        (g,) = minigen.autograd.grad((y[i] * y[i]).sum(), [x])
        found[i] = np.abs(g.data).max(-1) > 1e-12
    return found


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("how", ["mask", "hint"])
def test_a_causal_encoder_does_not_look_ahead(norm_first, how):
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first).double().eval()
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8).double())
    x = draw(5, 8).requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=minigen.float64)
    values = {"mask": mask} if how == "mask" else {"is_causal": True}
    support = jacobian_support(lambda x: stack(x, **values), x)
    np.testing.assert_array_equal(support, np.tril(np.ones((5, 5), bool)))


def test_decoder_sees_its_past_and_all_of_the_memory():
    layer = nn.TransformerDecoderLayer(8, 2, 16).double().eval()
    target, memory = draw(4, 8).requires_grad_(), draw(6, 8).requires_grad_()
    support = jacobian_support(lambda x: layer(x, memory, tgt_is_causal=True), target)
    np.testing.assert_array_equal(support, np.tril(np.ones((4, 4), bool)))
    (g,) = minigen.autograd.grad((layer(target, memory)[0] ** 2).sum(), [memory])
    assert (np.abs(g.data).max(-1) > 0).all()


def test_padding_changes_nothing():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double().eval()
    x = draw(1, 5, 8)
    padding = minigen.tensor([[False, False, False, True, True]])
    padded = layer(x, src_key_padding_mask=padding)
    np.testing.assert_allclose(padded.data[:, :3], layer(x[:, :3]).data, rtol=1e-10)


def test_the_whole():
    model = nn.Transformer(8, 2, 2, 3, 16, batch_first=True, norm_first=True)
    assert model(minigen.ones(2, 5, 8), minigen.ones(2, 4, 8)).shape == (2, 4, 8)
    assert len(model.encoder.layers) == 2 and len(model.decoder.layers) == 3
    a, b = (model.encoder.layers[i].linear1.weight.data for i in (0, 1))
    assert (a != b).any()  # drawn anew for each layer
    with pytest.raises(errors.ShapeError):
        model(minigen.ones(2, 5, 8), minigen.ones(3, 4, 8))
    with pytest.raises(errors.ShapeError):
        model(minigen.ones(2, 5, 7), minigen.ones(2, 4, 7))


def test_dropout_and_custom_parts():
    encoder = nn.Identity()
    encoder.forward = lambda src, *_: src
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.5, activation="gelu", custom_encoder=encoder)
    x = minigen.ones(3, 2, 8)
    assert (model(x, x).data != model(x, x).data).any()
    np.testing.assert_array_equal(model.eval()(x, x).data, model(x, x).data)
