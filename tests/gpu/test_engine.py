"""The engine on `device="cuda"`: layers, optimisers, generators, checkpoints, 16-bit types, decoding, models.

The same numbers as on the CPU; and no step of an optimiser, no forward or backward pass of a layer waits for the card.
"""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import standin

import minigen
from minigen import Tensor, kernels, nn, optim
from minigen.capture.recorder import Warming, capturing
from minigen.device import to_device
from minigen.nn import functional as F
from minigen.random import Generator
from minigen.sampling.beam import beam_search
from minigen.sampling.decoding import generate

pytestmark = pytest.mark.usefixtures("card")
IDS = np.array([[1, 2, 2], [0, 3, 10]])


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 3))


LAYERS = {
    "linear": (lambda: nn.Linear(4, 5), (3, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 8)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2), (2, 4, 8, 8)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1), (2, 4, 5, 5)),
    "batch norm": (lambda: nn.BatchNorm2d(4), (3, 4, 5, 5)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (3, 4, 5, 5)),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), (3, 4, 5, 5)),
    "rms norm": (lambda: nn.RMSNorm(4), (3, 4)),
    "max pool": (lambda: nn.MaxPool2d(2), (2, 3, 6, 6)),
    "average pool": (lambda: nn.AvgPool2d(3, 2, 1), (2, 3, 6, 6)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(3), (2, 3, 7, 7)),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (2, 3, 4, 4)),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (2, 8, 3, 3)),
    "reflection": (lambda: nn.ReflectionPad2d(1), (2, 3, 4, 4)),
    "lstm": (lambda: nn.LSTM(4, 5, 2, batch_first=True), (3, 6, 4)),
    "gru": (lambda: nn.GRU(4, 5), (6, 3, 4)),
    "embedding": (lambda: nn.Embedding(11, 4), IDS),
    "attention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), (2, 5, 8), (2, 5, 8)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "dropout": (lambda: nn.Dropout(0.3), (30, 40)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), (3, 4)),
}


def compared(name):
    """The layer `name` on the CPU and on the device: values, gradients, buffers."""
    build, *given = LAYERS[name]
    given = [np.random.default_rng(0).normal(size=g).astype(np.float32) if type(g) is tuple else g for g in given]
    here = build()
    there = copy.deepcopy(here).to("cuda")
    assert all(p.device == "cuda" for p in there.state_dict().values())

    def run(module, device):
        minigen.manual_seed(1)
        xs = [Tensor(to_device(x, device), requires_grad=x.dtype.kind == "f") for x in given]
        y = module(*xs)
        y = y[0] if isinstance(y, tuple) else y
        (y * y).sum().backward()
        return [y, *[t.grad for t in (*module.parameters(), *xs) if t.grad is not None], *module.buffers()]

    wanted = run(here, "cpu")
    with standin.no_reads():
        found = run(there, "cuda")
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted):
        assert ours.device == "cuda"
        np.testing.assert_allclose(ours.detach().cpu().numpy(), theirs.detach().numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same_without_a_read(name):
    compared(name)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_on_emulated_kernels(name, emulator):
    """The dispatch from arrays of the device to the CUDA families, their launches, and their results as such arrays."""
    if name in ("pixel shuffle", "reflection"):
        pytest.skip("has no kernel of its own")
    emulator.launched.clear()
    with standin.installed(standin.Emulated(emulator)):
        compared(name)
    assert emulator.launched


OPTIMISERS = [
    name
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer and name != "Muon"
]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_takes_the_same_steps_without_a_read(name):
    found = []
    for device in ("cpu", "cuda"):
        minigen.manual_seed(0)
        model = network().to(device)
        optimiser = getattr(optim, name)(model.parameters(), lr=1e-2)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
        for _ in range(3):
            x = minigen.randn(6, 4, device=device)
            with standin.no_reads():
                optimiser.zero_grad()
                (model(x) ** 2).mean().backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimiser.step()
                schedule.step()
        optimiser.load_state_dict(optimiser.state_dict())
        found.append([p.detach().cpu().numpy() for p in model.parameters()])
    for here, there in zip(*found):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=2e-6)


def test_muon_multiplies_by_what_a_graph_can_hold(monkeypatch):
    """CuPy refuses its own calls of cuBLAS while a graph is captured."""
    products, find = [], kernels.find
    family = SimpleNamespace(matmul=lambda a, b: products.append(a.shape) or a @ b)
    monkeypatch.setattr(kernels, "find", lambda x, name: family if name == "blas" else find(x, name))
    weight = nn.Parameter(minigen.randn(3, 4, device="cuda"))
    weight.grad = minigen.randn(3, 4, device="cuda")
    before = weight.detach().cpu().numpy().copy()
    optim.Muon([weight]).step()
    assert products == 5 * [(3, 4), (3, 3), (3, 3)] and (weight.detach().cpu().numpy() != before).all()


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_the_norm_of_float64_gradients_is_float64(p):
    weight = nn.Parameter(minigen.zeros(7, dtype=minigen.float64, device="cuda"))
    weight.grad = minigen.randn(7, dtype=minigen.float64, device="cuda")
    before = weight.grad.cpu().numpy().copy()
    norm = np.linalg.norm(before, p)
    found = nn.utils.clip_grad_norm_([weight], 0.5 * norm, norm_type=p)
    assert found.dtype == minigen.float64 and found.item() == pytest.approx(norm, rel=1e-12)
    np.testing.assert_allclose(weight.grad.cpu().numpy(), 0.5 * before, rtol=1e-5)


DRAWS = {
    "normal": lambda g, **to: g.normal((5, 3), **to),
    "uniform": lambda g, **to: g.uniform((7,), -1, 2, **to),
    "integers": lambda g, **to: g.integers(0, 10, (9,), **to),
    "large integers": lambda g, **to: g.integers(0, 2**40, (9,), **to),
    "permutation": lambda g, **to: g.permutation(20, **to),
    "bernoulli": lambda g, **to: g.bernoulli(0.3, (50,), **to),
    "exponential": lambda g, **to: g.exponential((5,), **to),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_gives_the_same_stream(name):
    with standin.no_reads():
        there = DRAWS[name](Generator(7), device="cuda")
    here = DRAWS[name](Generator(7), device="cpu")
    assert here.dtype == there.dtype and here.tobytes() == there.get().tobytes()


def test_categorical_draws_are_the_same(card):
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    for rows in (p[0], p):
        there = Generator(7).categorical(card.asarray(rows), (9,))
        assert (there.get() == Generator(7).categorical(rows, (9,))).all()


def test_a_checkpoint_from_the_device_goes_on_as_before(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to("cuda")
    optimiser = optim.AdamW(model.parameters(), lr=0.1)

    def step(model, optimiser):
        optimiser.zero_grad()
        model(minigen.randn(5, 3, generator=Generator(2), device="cuda")).square().sum().backward()
        optimiser.step()

    step(model, optimiser)
    minigen.checkpoint.save(tmp_path / "c", {"model": model.state_dict(), "optimizer": optimiser.state_dict()})
    kept = minigen.checkpoint.load(tmp_path / "c")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to("cuda")
    other.load_state_dict(kept["model"])
    another = optim.AdamW(other.parameters(), lr=0.1)
    another.load_state_dict(kept["optimizer"])
    step(model, optimiser)
    step(other, another)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values()):
        assert b.device == "cuda" and (a.cpu().numpy() == b.cpu().numpy()).all(), name


def test_an_average_goes_on_from_a_checkpoint(tmp_path):
    weight = nn.Parameter(minigen.zeros(5, device="cuda"))
    ema = optim.EMA([weight], decay=0.5)
    with minigen.no_grad():
        weight.fill_(4.0)
    ema.update()
    minigen.checkpoint.save(tmp_path / "c", {"ema": ema.state_dict()})
    weight.detach().zero_()
    other = optim.EMA([weight], decay=0.5)
    other.load_state_dict(minigen.checkpoint.load(tmp_path / "c")["ema"])
    assert other.shadow[0].tolist() == ema.shadow[0].tolist() == 5 * [2.0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_in_16_bits(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    model, scaler, found = network().to("cuda"), minigen.amp.GradScaler(enabled=dtype == "float16"), []
    optimiser = optim.SGD(model.parameters(), lr=0.1)
    x, labels = minigen.randn(6, 4, device="cuda"), minigen.tensor([0, 1, 2, 0, 1, 2], device="cuda")
    for _ in range(8):
        with minigen.amp.autocast("cuda", dtype=dtype):
            loss = F.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0] and all(p.dtype == minigen.float32 for p in model.parameters())


NARROW = {
    "erf": lambda x: x.erf(),
    "erfc": lambda x: x.erfc(),
    "gelu": F.gelu,
    "softmax": lambda x: x.softmax(-1),
    "var": lambda x: x.var(1),
    "where": lambda x: minigen.where(x > 0, x, 0.0),
    "power": lambda x: (x * x + 1.0) ** 0.5,
    "pick": lambda x: x[minigen.tensor([0, 1, 1], device="cuda")],
    "scatter_add": lambda x: x.scatter_add(1, minigen.tensor([[0, 1, 1]], device="cuda"), x),
    "amax": lambda x: x.scatter_reduce(1, minigen.tensor([[0, 1, 1]], device="cuda"), x, "amax"),
    "cumsum": lambda x: x.cumsum(1),
    "pool": lambda x: F.max_pool1d(x[None], 2, 1),
}


@pytest.mark.parametrize("name", NARROW)
def test_float16_stays_float16(name):
    x = minigen.randn(2, 3, device="cuda").half().requires_grad_()
    y = NARROW[name](x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == minigen.float16 and y.device == "cuda"
    wanted = NARROW[name](x.detach().float()).cpu().numpy()
    np.testing.assert_allclose(y.detach().cpu().numpy(), wanted, rtol=2e-3, atol=2e-3)


def test_bfloat16_is_sorted():
    pytest.importorskip("ml_dtypes")
    x = minigen.randn(2, 90, generator=Generator(1)).to("cuda").to(minigen.bfloat16).requires_grad_()
    wanted = np.sort(x.detach().float().cpu().numpy())
    values, places = x.sort()
    assert values.dtype == minigen.bfloat16 and (values.detach().float().cpu().numpy() == wanted).all()
    assert (x.gather(1, places).detach().float().cpu().numpy() == wanted).all()
    assert (x.topk(5).values.detach().float().cpu().numpy() == wanted[:, :-6:-1]).all()
    values[:, 0].sum().backward()
    assert x.grad.float().sum().item() == 2


@pytest.mark.parametrize("function", [F.conv2d, F.conv_transpose2d])
def test_convolutions_in_bfloat16(function):
    """By the definition, too: CuPy has no product of stacks of bfloat16."""
    pytest.importorskip("ml_dtypes")
    x, w = (
        minigen.randn(3, 3, 4, 4, generator=Generator(i)).to("cuda").to(minigen.bfloat16).requires_grad_()
        for i in (1, 2)
    )
    y = function(x, w, padding=1)
    y.float().sum().backward()
    wanted = function(x.detach().float(), w.detach().float(), padding=1).cpu().numpy()
    assert y.dtype == x.grad.dtype == w.grad.dtype == minigen.bfloat16
    np.testing.assert_allclose(y.detach().float().cpu().numpy(), wanted, rtol=0.02, atol=0.02 * abs(wanted).max())


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "int64", "uint8"])
def test_scatter_reduce_of_every_type(reduce, dtype):
    random = np.random.default_rng(0)
    x, src = random.integers(1, 4, (3, 4)).astype(dtype), random.integers(1, 4, (3, 9)).astype(dtype)
    index = random.integers(0, 4, (3, 9))
    found = [
        Tensor(to_device(x, d)).scatter_reduce(1, Tensor(to_device(index, d)), Tensor(to_device(src, d)), reduce)
        for d in ("cpu", "cuda")
    ]
    assert found[0].dtype == found[1].dtype == x.dtype
    np.testing.assert_allclose(found[1].cpu().numpy(), found[0].numpy(), rtol=1e-3)


def test_channels_last_stays_through_sums_and_products(card):
    x = Tensor(to_device(np.zeros((2, 5, 6, 4), np.float32), "cuda").transpose(0, 3, 1, 2), requires_grad=True)
    scale = minigen.ones(4, 1, 1, device="cuda")
    for y in (x + x, x * 2.0, 1.0 - x, x * scale, scale * x):
        assert y.data.strides == x.data.strides and y.shape == x.shape
    (x + x * 2.0).backward(x.detach())
    assert x.grad.data.strides == x.data.strides


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_order_of_memory_goes_with_an_array(order):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).transpose(order)
    there = to_device(x, "cuda")
    assert there.strides == x.strides and there.shape == x.shape
    back = to_device(there, "cpu")
    assert back.strides == x.strides and (back == x).all()
    for view in (x[::2], x[:, ::-1], np.broadcast_to(x[:1], x.shape), x[0, 0, 0], x[0, 0, 0, 0, ...], x[:0]):
        assert (to_device(to_device(view, "cuda"), "cpu") == view).all()


def test_what_is_seen_at_many_places_is_not_written():
    with pytest.raises(minigen.errors.ArgumentError, match="many places"):
        minigen.zeros(3, 1, device="cuda").expand(3, 4)[0] = 1.0


def test_masks_and_targets_may_be_of_numpy():
    x = minigen.randn(3, 4, device="cuda")
    labels = np.array([0, 3, 1])
    assert F.cross_entropy(x, labels).item() == pytest.approx(F.cross_entropy(x.cpu(), labels).item(), rel=1e-5)
    assert (x.masked_fill(np.eye(3, 4, dtype=bool), 9.0)[0, 0]).item() == 9.0
    for loss, target in ((F.multi_margin_loss, labels), (F.multilabel_margin_loss, np.array([[0, 3, -1, 1]] * 3))):
        assert loss(x, target).item() == pytest.approx(loss(x.cpu(), target).item(), rel=1e-5)


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda x, labels: F.nll_loss(x.log_softmax(1), labels)])
def test_the_gradient_of_the_gradient_of_a_mean_over_what_counts(loss):
    found = []
    for device in ("cpu", "cuda"):
        x = minigen.randn(3, 4, generator=Generator(3)).to(device).requires_grad_()
        mean = loss(x, minigen.tensor([0, -100, 1], device=device))
        (g,) = minigen.autograd.grad(mean, [x], create_graph=True)
        found.append(minigen.autograd.grad((g * g).sum(), [x])[0].cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert abs(found[0]).max() > 0.01


@pytest.fixture
def gpt():
    from minigen.models.transformer.gpt import GPT, GPTConfig

    model = GPT(GPTConfig(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2))
    for p in model.parameters():
        p.requires_grad_(True)
    return model.eval()


def listed(ids):
    return to_device(ids.data if isinstance(ids, Tensor) else ids, "cpu").tolist()


@pytest.mark.parametrize("cache", ["auto", "growing"])
@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"top_k": 3, "temperature": 0.7}, {"top_p": 0.8}, {"min_p": 0.1}, {}]
)
def test_decoding_gives_the_same_text(gpt, options, cache):
    here = generate(gpt, IDS, 5, **options, cache=cache, generator=Generator(4))
    there = generate(copy.deepcopy(gpt).to("cuda"), IDS, 5, **options, cache=cache, generator=Generator(4))
    assert listed(here) == listed(there)


def test_beam_search_gives_the_same_text(gpt):
    here, there = beam_search(gpt, IDS, 4, 3), beam_search(copy.deepcopy(gpt).to("cuda"), IDS, 4, 3)
    assert listed(here) == listed(there)


def models():
    from minigen.models.autoregressive.pixelcnn import PixelCNN
    from minigen.models.diffusion.ddpm import DDPM
    from minigen.models.flow.glow import Glow
    from minigen.models.flow.realnvp import RealNVP
    from minigen.models.latent.vae import VAE

    unet = dict(channels=(8, 8), attention=False, layers=1, groups=4)
    return {
        "vae": lambda: VAE(shape=(1, 4, 4), hidden=(16,), latent=4),
        "pixelcnn": lambda: PixelCNN(shape=(1, 4, 4), channels=4, layers=1, first_kernel=3),
        "realnvp": lambda: RealNVP(shape=(1, 4, 4), hidden=4, blocks=1, couplings=2, scales=1),
        "glow": lambda: Glow(shape=(1, 4, 4), hidden=6, steps=1, scales=1),
        "ddpm": lambda: DDPM(shape=(1, 4, 4), steps=8, **unet),
    }


@pytest.mark.parametrize("name", ["vae", "pixelcnn", "realnvp", "glow", "ddpm"])
def test_a_model_trains_and_samples(name):
    model = models()[name]().to("cuda")
    x = (minigen.rand(3, 1, 4, 4, device="cuda") < 0.5).float()
    optimiser = optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        loss = model(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.isfinite(loss.item())
    drawn = model.eval().sample(2)
    assert drawn.shape == (2, 1, 4, 4) and drawn.device == "cuda"


class Nothing(Warming):
    """Answers as in the ordinary steps before a capture, and refuses what a graph cannot hold."""

    def refuse_copy(self, to):
        raise AssertionError(f"numbers are copied to {to} inside the step")


@pytest.mark.parametrize("name", ["vae", "pixelcnn", "realnvp", "ddpm"])
def test_the_step_of_a_model_can_be_held_by_a_graph(name, card):
    """Its second pass copies nothing between host and card, and waits for nothing."""
    model = models()[name]().to("cuda")
    x = (minigen.rand(3, 1, 4, 4, device="cuda") < 0.5).float()
    model(x).backward()
    with standin.no_reads(), capturing(Nothing(SimpleNamespace(arrays=card))):
        model(x).backward()


def test_the_extremes_of_one_number():
    x = minigen.tensor(3.0, device="cuda")
    assert x.max(0).values.item() == 3.0 and x.argmin(0).item() == 0 and x.max(-1).indices.shape == ()
