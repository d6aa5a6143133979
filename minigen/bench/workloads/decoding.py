"""GPT-2 124M writes: one symbol after another, greedily, from a prompt of 16, with a static cache of keys and values.

minigen's side is its own `generate`. PyTorch's is the same model written for decoding as its users do who want speed:
keys and values written into arrays of fixed size, a mask over all of them, so that the step can be compiled and
captured. "Losses" are those of a given text, read symbol by symbol through the very step that is timed: of its first
symbol, and the mean.

The time is what one symbol more costs all rows: that of writing 2 n symbols less that of writing n, over n.
"""

import numpy as np

from . import SEED
from .setting import drawn_weights

PROMPT, READ = 16, 32  # symbols


def on_gpu(setting, batch=1, layers=12, heads=12, width=768, symbols=50304, context=1024, new=128):
    sizes = dict(layers=layers, heads=heads, width=width, symbols=symbols, context=context)
    draw = np.random.default_rng(SEED + 1)
    prompt, text = draw.integers(0, symbols, (batch, PROMPT)), draw.integers(0, symbols, (batch, READ))
    make = torch_writer if setting.is_torch else Writer
    return make(setting, sizes, prompt, text, new)


def weights(sizes):
    """The parameters in an order that both sides share: {name: array}."""
    W = sizes["width"]
    shapes = [("wte.weight", (sizes["symbols"], W)), ("wpe.weight", (sizes["context"], W))]
    for i in range(sizes["layers"]):
        for name, shape in (("ln_1", (W,)), ("attn.c_attn", (3 * W, W)), ("attn.c_proj", (W, W)), ("ln_2", (W,)),
                            ("mlp.c_fc", (4 * W, W)), ("mlp.c_proj", (W, 4 * W))):  # fmt: skip
            shapes += [(f"h.{i}.{name}.weight", shape), (f"h.{i}.{name}.bias", shape[:1])]
    shapes += [("ln_f.weight", (W,)), ("ln_f.bias", (W,))]
    return {name: array for (name, _), array in zip(shapes, drawn_weights(tuple(shapes), SEED))}


def nll(logits, targets):
    """-log p of each target, in float64: logits (N, V)."""
    logits = np.asarray(logits, np.float64)
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, targets[:, None], -1).mean()


class Writer:
    """minigen's side."""

    def __init__(self, setting, sizes, prompt, text, new):
        from ...models.transformer.gpt import GPT

        model = GPT(vocab_size=sizes["symbols"], n_positions=sizes["context"], n_embd=sizes["width"],
                    n_layer=sizes["layers"], n_head=sizes["heads"])  # fmt: skip
        state = {f"transformer.{name}": setting.library.from_numpy(x.copy()) for name, x in weights(sizes).items()}
        state["lm_head.weight"] = state["transformer.wte.weight"]
        model.load_state_dict(state)
        setting.params = sum(p.numel() for p in model.parameters())
        if setting.precision != "float32":
            model = model.to(setting.library.bfloat16)
        self.model, self.prompt, self.text, self.new = model.to(setting.device).eval(), prompt, text, new

    def write(self, n):
        from ...sampling.decoding import generate

        generate(self.model, self.prompt, n, temperature=0)

    def losses(self):
        from ...device import to_device
        from ...sampling.step import next_logits

        state, found = self.model.static_cache(len(self.text), READ), []
        for t in range(READ - 1):
            logits, state = next_logits(self.model, self.text[:, t : t + 1], state)
            found.append(nll(to_device(logits, "cpu"), self.text[:, t + 1]))
        return found[0], float(np.mean(found))


def torch_writer(setting, sizes, prompt, text, new):
    """PyTorch's side."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    B, W, H, places = len(prompt), sizes["width"], sizes["heads"], max(PROMPT + 2 * new, READ)
    dtype = torch.float32 if setting.precision == "float32" else torch.bfloat16

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(W), nn.LayerNorm(W)
            self.attn = nn.ModuleDict({"c_attn": nn.Linear(W, 3 * W), "c_proj": nn.Linear(W, W)})
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(W, 4 * W), "c_proj": nn.Linear(4 * W, W)})
            for name in ("keys", "values"):
                self.register_buffer(name, torch.zeros(B, H, places, W // H), persistent=False)

        def forward(self, x, place, mask):
            q, k, v = self.attn["c_attn"](self.ln_1(x)).view(B, 1, 3, H, W // H).permute(2, 0, 3, 1, 4)
            self.keys.index_copy_(2, place, k)
            self.values.index_copy_(2, place, v)
            y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
            x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(B, 1, W))
            return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(sizes["symbols"], W), nn.Embedding(sizes["context"], W)
            self.h = nn.ModuleList([Block() for _ in range(sizes["layers"])])
            self.ln_f = nn.LayerNorm(W)
            self.register_buffer("places", torch.arange(places), persistent=False)

        def forward(self, symbol, place):
            x = self.wte(symbol) + self.wpe(place)
            mask = (self.places <= place)[None, None, None]
            for block in self.h:
                x = block(x, place, mask)
            return F.linear(self.ln_f(x), self.wte.weight)[:, -1]

    model = Step()
    model.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in weights(sizes).items()})
    setting.params = sum(p.numel() for p in model.parameters())
    model = model.to(setting.device).to(dtype).eval()
    return TorchWriter(setting, model, prompt, text, new)


class TorchWriter:
    """A step at fixed addresses: `symbol` (B, 1) and `place` (1,) go in, `logits` and the next symbol come out."""

    def __init__(self, setting, model, prompt, text, new):
        self.torch = torch = setting.library
        self.model, self.call, self.prompt, self.text, self.new = model, model, prompt, text, new
        self.symbol = torch.zeros(len(prompt), 1, dtype=torch.long, device=setting.device)
        self.place = torch.zeros(1, dtype=torch.long, device=setting.device)
        self.logits = torch.zeros(len(prompt), model.wte.num_embeddings, device=setting.device)
        self.run = self.step

    def compile(self, mode=None):
        self.call = self.torch.compile(self.model, dynamic=False, mode=mode)

    def step(self):
        with self.torch.no_grad():
            logits = self.call(self.symbol, self.place)
            self.logits.copy_(logits)
            self.symbol.copy_(logits.argmax(-1, keepdim=True))
            self.place.add_(1)

    def read(self, symbols):
        """Go through a step with these symbols, (B,)."""
        self.symbol.copy_(self.torch.from_numpy(np.ascontiguousarray(symbols))[:, None])
        self.run()

    def write(self, n):
        self.place.zero_()
        for symbols in self.prompt.T:
            self.read(symbols)
        for _ in range(n - 1):  # the prompt's last step wrote the first
            self.run()

    def losses(self):
        self.place.zero_()
        found = []
        for t in range(READ - 1):
            self.read(self.text[:, t])
            found.append(nll(self.logits.float().cpu().numpy(), self.text[:, t + 1]))
        return found[0], float(np.mean(found))
