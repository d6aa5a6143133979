"""A thousand captured steps in bfloat16 stay beside float32: on a card GPT-2 of 124 million parameters; a rehearsal of
the same lines, small and short, where there is none."""

import numpy as np
import pytest

import minigen
from minigen import amp, nn, optim
from minigen.data import worlds
from minigen.models.transformer.gpt import GPT, GPTConfig

ENDS_WITHIN = 0.02  # nats, between the means of the last tenth of the losses: the usual distance of two bfloat16 runs


def losses(config, precision, device, steps, rows, captured):
    """The loss of each step of training on texts of a world: the same texts and first weights every time."""
    world = worlds.MarkovText.random(symbols=12, order=2, contrast=3.0)
    minigen.manual_seed(0)
    model = GPT(config).to(device)
    optimiser = optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def step(ids):
        with amp.autocast(device, dtype="bfloat16", enabled=precision == "bfloat16"):
            loss = model(ids[:, :-1], ids[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        return loss

    step = minigen.capture(step, device=device, strict=True) if captured else step
    generator, found = minigen.random.Generator(1), []
    for _ in range(steps):
        text = world.sample(rows, generator, length=config.n_positions + 1)
        found.append(step(minigen.tensor(np.asarray(text, np.int64), device=device)).clone())
    return np.array([loss.item() for loss in found])


def distance(one, other):
    last = max(len(one) // 10, 1)
    return abs(one[-last:].mean() - other[-last:].mean())


def test_a_rehearsal_on_the_cpu():
    pytest.importorskip("ml_dtypes", reason="bfloat16 on the CPU needs ml_dtypes")
    config = GPTConfig(12, 16, 32, 2, 2, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    whole = losses(config, "float32", "cpu", 30, 8, captured=False)
    half = losses(config, "bfloat16", "cpu", 30, 8, captured=True)
    eager = losses(config, "bfloat16", "cpu", 30, 8, captured=False)
    assert (half == eager).all()
    assert whole[-1] < whole[0] - 0.02 and 0 < distance(whole, half) < ENDS_WITHIN


@pytest.mark.gpu
@pytest.mark.slow
def test_a_thousand_steps_of_gpt2():
    config = GPTConfig(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    whole = losses(config, "float32", "cuda", 1000, 8, captured=True)
    half = losses(config, "bfloat16", "cuda", 1000, 8, captured=True)
    assert np.isfinite(half).all() and distance(whole, half) < ENDS_WITHIN
    assert abs(half[:10] - whole[:10]).max() < 0.05
