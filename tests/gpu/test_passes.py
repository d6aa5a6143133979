"""What a step does not ask of a card: copies that change the order of memory, and launches that one would do.

On emulated kernels, behind the stand-in for CuPy, whose results are C-contiguous wherever CuPy's are.
"""

import numpy as np
import pytest
import standin

import minigen
from minigen import Tensor, amp, kernels, nn, no_grad, optim
from minigen.kernels.cuda import arithmetic, attention_wide, linear_activation, linear_few
from minigen.models.transformer.gpt import GPT
from minigen.nn import functional as F
from minigen.ops import attention, linear
from minigen.sampling.decoding import generate
from minigen.sampling.step import next_logits

pytestmark = pytest.mark.kernels


@pytest.fixture
def launched(emulator):
    """The kernels that the test has launched, (file, name)."""
    emulator.launched.clear()
    with standin.installed(standin.Emulated(emulator)):
        yield emulator.launched


def drawn(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def on_card(array):
    return minigen.tensor(array, device="cuda", requires_grad=True)


def host(x):
    return x.detach().cpu().numpy()


def channels_last(*shape):
    """A leaf (N, C, H, W) whose memory is (N, H, W, C)."""
    return Tensor(on_card(drawn(*shape).transpose(0, 2, 3, 1).copy()).data.transpose(0, 3, 1, 2), requires_grad=True)


def lies_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_joined_channels_stay_last_and_so_do_their_gradients(launched):
    a, b = channels_last(2, 4, 3, 3), channels_last(2, 8, 3, 3)
    y = minigen.cat([a, b], 1)
    np.testing.assert_array_equal(host(y), np.concatenate([host(a), host(b)], 1))
    g = channels_last(2, 12, 3, 3)
    found = minigen.autograd.grad(y, [a, b], g)
    assert lies_last(y.data) and all(lies_last(x.data) for x in found)
    for one, other in zip(found, np.split(host(g), [4], 1)):
        np.testing.assert_array_equal(host(one), other)
    assert launched == {("joining.cu", "join_rows"), ("joining.cu", "cut_rows")}


def test_the_gradient_of_queries_keys_and_values_lies_as_they_did(launched):
    x = on_card(drawn(2, 5, 3 * 8))
    parts = x.reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = parts
    (q * 2 + k * 3 - v).sum().backward(retain_graph=True)
    np.testing.assert_array_equal(host(x.grad), np.broadcast_to(np.repeat([2, 3, -1], 8), (2, 5, 24)))
    gq = on_card(drawn(2, 5, 2, 4)).permute(0, 2, 1, 3)
    (found,) = minigen.autograd.grad([q, k, v], [parts], [gq, gq, gq])
    assert found.data.transpose(1, 3, 0, 2, 4).flags.c_contiguous  # as `parts`: reshaping it to x copies nothing


def test_one_layer_s_queries_keys_and_values_have_gradients_that_need_no_joining(launched):
    x, weight = on_card(drawn(2, 5, 8)), on_card(drawn(24, 8))
    q, k, v = F.linear(x, weight).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    g = on_card(drawn(2, 2, 5, 4))
    y.backward(g)
    found = host(x.grad), host(weight.grad)
    assert ("attention_gradient.cu", "attention_gradient_keys") in launched
    assert ("joining.cu", "join_rows") not in launched
    x.grad = weight.grad = None
    q, k, v = (F.linear(x, weight[8 * i : 8 * i + 8]).reshape(2, 5, 2, 4).transpose(1, 2) for i in range(3))
    F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(g)
    for one, other in zip(found, (x, weight)):
        np.testing.assert_allclose(one, host(other.grad), rtol=1e-5, atol=1e-5)


def test_wide_heads_have_kernels_where_nothing_is_masked(launched, monkeypatch):
    asked = []
    monkeypatch.setattr(attention_wide, "attention", lambda q, k, v, scale: asked.append(q.shape) or (v, None))
    q, family = minigen.tensor(drawn(2, 1, 6, 130), device="cuda"), kernels.find(on_card(drawn(1)).data, "attention")
    F.scaled_dot_product_attention(q, q, q)
    assert asked == [(2, 1, 6, 130)]
    assert not attention._served(family, q, q, q) and attention._served(family, *3 * (q[..., :128],))


def test_running_statistics_move_in_one_launch(launched):
    x, found = drawn(5, 3, 4, 2) * 3 + 1, []
    for device in ("cpu", "cuda"):
        layer = nn.BatchNorm2d(3, momentum=0.3).to(device)
        for _ in range(2):
            layer(minigen.tensor(x, device=device))
        found.append([host(layer.running_mean), host(layer.running_var)])
    np.testing.assert_allclose(found[1], found[0], 1e-5)
    assert ("norms.cu", "follow") in launched


def test_the_gradient_of_new_dimensions_is_a_view(launched):
    x = on_card(drawn(2, 3))
    with standin.no_reads():
        (g,) = minigen.autograd.grad(x[:, None, :, None], [x], on_card(drawn(2, 1, 3, 1)))
    assert g.shape == (2, 3) and g.data.base is not None


def test_a_gradient_of_a_gradient_where_kernels_run(launched):
    found = []
    for device in ("cpu", "cuda"):
        x = minigen.tensor(drawn(3, 4), device=device, requires_grad=True)
        (g,) = minigen.autograd.grad(
            F.cross_entropy(x, minigen.tensor([0, 3, 1], device=device)), [x], create_graph=True
        )
        found.append(host(minigen.autograd.grad((g * g).sum(), [x])[0]))
    np.testing.assert_allclose(found[1], found[0], 1e-4, 1e-6)


def test_a_layer_of_few_rows_is_one_launch_where_no_gradient_is_wanted(launched):
    layer, norm = nn.Linear(16, 16), nn.LayerNorm(16)
    x = drawn(3, 16)
    want = minigen.tensor(x) + F.gelu(layer(norm(minigen.tensor(x))))
    layer, norm, few, many = layer.to("cuda"), norm.to("cuda"), on_card(x), on_card(drawn(linear_few.MOST + 1, 16))
    assert not linear._is_few(few, layer.weight)  # a gradient is wanted
    with no_grad():
        got = layer(few, "gelu", norm=norm, residual=few)
        assert launched == {("linear_few.cu", "linear_few_4")}
        assert linear._is_few(few, layer.weight) and not linear._is_few(many, layer.weight)
        assert not linear._is_few(few, layer.weight, few.half())
    np.testing.assert_allclose(host(got), host(want), 1e-5, 1e-5)


def test_a_step_of_decoding_is_five_launches_a_layer(launched):
    minigen.manual_seed(0)
    model = GPT(vocab_size=11, n_positions=20, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3).eval()
    ids = np.array([[3, 1], [2, 5]])
    want = generate(model, ids, 6, temperature=0, cache="growing")
    model = model.to("cuda")
    state = next_logits(model, ids[:, :1], model.static_cache(2, 8))[1]
    launched.clear()
    for t in (1, 2, 3):
        logits, state = next_logits(model, want[:, t : t + 1], state)
        np.testing.assert_array_equal(logits.argmax(-1).get(), want[:, t + 1])
    layers = {("linear_few.cu", "linear_few_2"), ("attention_decode.cu", "attention_decode_1")}
    assert launched - layers <= {("embedding.cu", "gather_rows"), ("arithmetic.cu", "add"),
                                 ("layer_norm.cu", "layer_norm_narrow_4"), ("gemm.cu", "gemm_nt")}  # fmt: skip
    assert layers < launched


def test_a_layer_has_its_activation_in_the_same_pass_whatever_autocast_is_given(launched):
    layer, x = nn.Linear(8, 8).to("cuda"), on_card(drawn(4, 8)).half()  # as a norm gives it; the weights are float32
    asked = []
    with amp.autocast("cuda", "float16"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_activation, "linear_activation", lambda *given: asked.append(given) or (given[0], None))
        layer(x, "gelu")
    assert [given[0].dtype for given in asked] == [np.float16] and asked[0][1].dtype == np.float16


def test_an_optimiser_s_weights_are_cast_in_one_launch(launched, monkeypatch):
    """And again where they were written: by a step, or by hand within the block."""
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    counted = []
    convert = arithmetic.convert
    monkeypatch.setattr(arithmetic, "convert", lambda x, dtype: counted.append(x.shape) or convert(x, dtype))
    minigen.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to("cuda")
    loose = nn.Linear(3, 3).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    x = minigen.tensor(drawn(4, 5), device="cuda")
    parameters = [*model.parameters(), *loose.parameters()]

    def loss():
        return loose(model(x)).float().square().mean()

    def check():
        """The gradients are those of the weights rounded to 16 bits."""
        found = [host(p.grad) for p in parameters]
        for p in parameters:
            p.grad = None
        loss().backward()
        for one, p in zip(found, parameters):
            np.testing.assert_allclose(one, host(p.grad), rtol=0.1, atol=0.05 * abs(host(p.grad)).max())

    for _ in range(3):
        counted.clear()
        with amp.autocast("bfloat16"):
            value = loss()
        whole = [shape for shape in counted if len(shape) == 1 and shape[0] > 50]
        assert len(whole) == 1 and sorted(set(counted) - {(4, 5), (4, 3), *whole}) == [(3,), (3, 3)]
        value.backward()
        check()
        optimizer.step()
        optimizer.zero_grad(), loose.zero_grad()
    with amp.autocast("bfloat16"), no_grad():
        one = host(loss())
        model[0].weight.mul_(2.0), model[0].bias.mul_(2.0), model[2].weight.mul_(0.5)
        np.testing.assert_allclose(host(loss()), one, rtol=0.02)
        model[2].weight.mul_(0.0), model[2].bias.mul_(0.0), loose.bias.mul_(0.0)
        assert host(loss()) == 0
