"""Training steps as CUDA graphs on `device="cuda"`, beside the same steps launched one by one.

They need a card, or CuPy on host memory (tests/gpu/host). Numbers that the host computes for an ordinary step, such as
Adam's corrections, the card computes for a captured one, in float32: so results are close, and not the same bits.
"""

import numpy as np
import pytest

import minigen
from minigen import amp, nn, optim
from minigen.capture import graph
from minigen.models.diffusion.ddpm import DDPM
from minigen.models.latent.vae import VAE
from minigen.models.transformer.gpt import GPT, GPTConfig
from minigen.nn import functional as F
from minigen.random import Generator
from minigen.sampling.decoding import generate

pytestmark = pytest.mark.gpu


@pytest.fixture
def launches(monkeypatch):
    """The graphs that were launched, one for each launch."""
    found, launch = [], graph.Graph.launch
    monkeypatch.setattr(graph.Graph, "launch", lambda own: found.append(own) or launch(own))
    return found


def on_card(array):
    return minigen.tensor(array, device="cuda")


def normal(random, *shape):
    return on_card(random.standard_normal(shape).astype(np.float32))


def perceptron(optimiser):
    """With dropout, a schedule, a moving average and clipping."""
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.25), nn.LayerNorm(16), nn.Linear(16, 5)).to("cuda")
    parameters = [p for p in model.parameters() if p.ndim == 2 or optimiser is not optim.Muon]
    own = optimiser(parameters, lr=1e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(own, 10)
    average = optim.EMA(list(model.parameters()), 0.9)

    def step(x, labels):
        own.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        own.step()
        schedule.step()
        average.update()
        return loss

    return step, model, lambda random: (normal(random, 9, 6), on_card(random.integers(0, 5, 9)))


def gpt(precision):
    """In mixed precision, float16 with scaled losses. By SGD, since Adam's last bits may round a weight elsewhere."""
    model = GPT(GPTConfig(12, 16, 32, 2, 2)).to("cuda")
    own = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = amp.GradScaler(enabled=precision == "float16", init_scale=2.0**10)

    def step(ids):
        with amp.autocast("cuda", dtype=precision or "bfloat16", enabled=precision is not None):
            loss = model(ids[:, :-1], ids[:, 1:])
        own.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(own)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(own)
        scaler.update()
        return loss

    return step, model, lambda random: (on_card(random.integers(0, 12, (2, 9))),)


def likelihood(model, draw):
    model = model.to("cuda")
    own = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step(x):
        own.zero_grad()
        loss = model(x)
        loss.backward()
        own.step()
        return loss

    return step, model, draw


def vae():
    return likelihood(VAE(shape=(1, 4, 4), hidden=(16,), latent=4), lambda random: (
        on_card((random.random((3, 1, 4, 4)) < 0.5).astype(np.float32)),))  # fmt: skip


def ddpm():
    model = DDPM(shape=(1, 4, 4), steps=8, channels=(8, 8), attention=False, layers=1, groups=4)
    return likelihood(model, lambda random: (normal(random, 3, 1, 4, 4),))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, 1, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def classifier(model, *shape):
    model = model.to("cuda")
    own = optim.SGD(model.parameters(), lr=1e-2)

    def step(x, labels):
        own.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        own.step()
        return loss

    return step, model, lambda random: (normal(random, 3, *shape), on_card(random.integers(0, 3, 3)))


def convolutions():
    down = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    again = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(32, 3)
    return classifier(nn.Sequential(*down, *again), 1, 8, 8)


STEPS = {
    **{
        name.lower(): lambda name=name: perceptron(getattr(optim, name))
        for name in ("AdamW", "SGD", "Lion", "Adafactor", "RMSprop", "RAdam", "NAdam", "Muon")
    },
    "GPT in float32": lambda: gpt(None),
    "GPT in bfloat16": lambda: gpt("bfloat16"),
    "GPT in float16": lambda: gpt("float16"),
    "VAE": vae,
    "DDPM": ddpm,
    "LSTM": lambda: classifier(Recurrent(), 5, 4),
    "convolutions": convolutions,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_graph_trains_as_its_step_does(name, launches):
    if "16" in name:
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    found = []
    for captured in (False, True):
        minigen.manual_seed(0)
        step, model, draw = STEPS[name]()
        run = minigen.capture(step, device="cuda", strict=True) if captured else step
        losses = [run(*draw(np.random.default_rng(i))).item() for i in range(6)]
        found.append((losses, [value.detach().cpu().numpy() for value in model.state_dict().values()]))
    assert len(launches) == 4 and len(set(map(id, launches))) == 1
    (losses, values), (losses_again, values_again) = found
    np.testing.assert_allclose(losses_again, losses, 1e-5)
    for one, other in zip(values_again, values):
        np.testing.assert_allclose(one, other, 1e-4, 1e-5)


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_gradients_are_gathered_over_the_launches_of_a_graph(to_none, precision, launches):
    """Three calls to a step of the optimiser, and gradients that are dropped outside of them."""
    if precision is not None:
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    found = []
    for captured in (False, True):
        minigen.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.25), nn.Linear(16, 5)).to("cuda")
        own = optim.AdamW(model.parameters(), lr=1e-2)

        def step(x, labels, model=model):
            with amp.autocast("cuda", dtype=precision or "bfloat16", enabled=precision is not None):
                loss = F.cross_entropy(model(x), labels)
            loss.backward()
            return loss

        run = minigen.capture(step, device="cuda", strict=True) if captured else step
        losses = []
        for i in range(18):
            if i % 3 == 0:
                own.zero_grad(set_to_none=to_none)
            random = np.random.default_rng(i)
            losses.append(run(normal(random, 9, 6), on_card(random.integers(0, 5, 9))).item())
            if i % 3 == 2:
                own.step()
        found.append([losses, *(p.detach().cpu().numpy() for p in model.parameters())])
    assert len(launches) > 10
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 3, "temperature": 0.7}, {"top_p": 0.8}], ids=str)
def test_text_is_decoded_by_a_graph(options, launches):
    minigen.manual_seed(0)
    model = GPT(GPTConfig(11, 48, 16, 2, 2, initializer_range=0.3)).eval()
    ids = np.array([[1, 2, 2], [0, 3, 10]])
    want = generate(model, ids, 30, **options, generator=Generator(4))
    found = generate(model.to("cuda"), ids, 30, **options, generator=Generator(4), cache="static")
    np.testing.assert_array_equal(np.asarray(minigen.device.to_device(found, "cpu")), want)
    assert len(launches) > 20
