"""The recipes of language models, on characters or on byte-level BPE, and how they write."""

import itertools

import numpy as np

from .. import text as tokenizers
from ..atomic import write_atomically
from ..autograd import no_grad
from ..errors import ArgumentError, expect
from ..models.autoregressive.recurrent import RecurrentConfig, RecurrentLM
from ..models.transformer.gpt import GPT, GPTConfig
from ..sampling import decoding, logits
from ..tensor import as_tensor
from .recipe import Recipe, configured, device_of
from .texts import Texts

SCORED, SHOWN = 20_000, 500  # held-out symbols that a score is measured on; symbols of a sample while training


class TextRecipe(Recipe):
    """What the language models have in common. A subclass gives `config(data)` and `context(model)`."""

    kind = "text"
    steps, batch, lr, decay, ema = 3000, 32, 1e-3, 0.01, 0.995

    def read(self, options):
        return Texts(options.data, options.tokenizer, options.vocabulary, options.context)

    def build(self, data, changes):
        return self.model_class(configured(self.config_class, {**self.config(data), **changes}))

    def keep(self, data, folder):
        data.tokenizer.save(folder)

    def batches(self, data, batch, generator):
        return lambda: data.windows(batch, generator)

    def loss(self, model, batch, data):
        ids = as_tensor(batch).to(device_of(model))
        return model(ids[:, :-1], ids[:, 1:])

    @no_grad()
    def score(self, model, data):
        """{"nats/character", "perplexity" a symbol} on text that was held out."""
        windows, total = data.held_out_windows(SCORED), 0.0
        for rows in np.array_split(windows, -(-len(windows) // self.batch)):
            total += self.loss(model, rows, data).item() * len(rows)
        return data.nats(total / len(windows))

    def show(self, model, data, path, generator):
        prompt = data.held_out[: min(16, self.context(model) or 16)]
        options = {"temperature": 0.8, "generator": generator}
        written = data.tokenizer.decode([*prompt, *self.symbols(model, prompt, SHOWN, **options)])
        path = path.with_suffix(".txt")
        content = (written + "\n").encode()
        write_atomically(path, [content], len(content))
        return path

    def context(self, model):
        """How many symbols the model can take at once; None for any number."""
        return None

    # Writing

    def tokenizer(self, folder):
        return tokenizers.load(folder)

    def write(self, model, tokenizer, prompt, new, temperature, top_k, top_p, repetition_penalty, generator):
        """The text that follows `prompt`, in pieces, as it is written."""
        expect(repetition_penalty > 0, "--repetition-penalty is above 0", repetition_penalty, error=ArgumentError)
        expect(len(tokenizer) <= self.vocabulary(model), f"the tokenizer has {len(tokenizer):,} symbols, and the model "
               f"{self.vocabulary(model):,}", error=ArgumentError, hint="they are not of one folder")  # fmt: skip
        ids = tokenizer.encode(prompt)
        if not ids:  # a text begins after the end of another, or at any symbol
            start = tokenizer.end
            ids = [start if start is not None else int(generator.integers(0, len(tokenizer), ()))]
        processors = [lambda x, ids: logits.repetition_penalty(x, ids, repetition_penalty)]
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator}
        if repetition_penalty != 1.0:
            options["processors"] = processors
        symbols = self.symbols(model, ids, new, **options)
        end = tokenizer.end
        yield from tokenizer.stream(itertools.takewhile(lambda symbol: symbol != end, symbols))

    def symbols(self, model, ids, new, **options):
        """`new` symbols after ids. Where the context is full, the model goes on from its second half."""
        ids, context = [int(i) for i in ids], self.context(model)
        while new > 0:
            ids = ids if context is None else ids[-max(1, context // 2) :] if len(ids) >= context else ids
            room = new if context is None else min(new, context - len(ids) + 1)
            for symbol in decoding.stream(model, np.array(ids), room, **options):
                ids.append(symbol)
                yield symbol
            new -= room


class GPTRecipe(TextRecipe):
    """A small GPT-2. Its folder is a published one: other programs that read GPT-2 can open it."""

    model_class, config_class = GPT, GPTConfig

    def config(self, data):
        size = {"n_embd": 128, "n_layer": 4, "n_head": 4, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.1}
        end = data.tokenizer.end
        return {"vocab_size": len(data.tokenizer), "n_positions": data.context, "eos_token_id": end,
                "bos_token_id": end, **size}  # fmt: skip

    def context(self, model):
        return model.config.n_positions

    def vocabulary(self, model):
        return model.config.vocab_size


class LSTMRecipe(TextRecipe):
    """Two layers of LSTM."""

    model_class, config_class = RecurrentLM, RecurrentConfig
    lr = 3e-3

    def config(self, data):
        size = {"cell": "lstm", "embedding": 64, "hidden": 256, "layers": 2, "dropout": 0.1}
        return {"symbols": len(data.tokenizer), **size}

    def vocabulary(self, model):
        return model.config.symbols
