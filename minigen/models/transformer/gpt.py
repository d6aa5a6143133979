"""GPT: a transformer that only decodes (Radford et al. 2018 and 2019; Brown et al. 2020, arXiv:2005.14165).

A text is a row of symbols, and its probability a product: log p(x) = sum_t log p(x_t | x_0 ... x_(t-1)). One network
gives all the factors at once. A symbol and its place become a vector; layer after layer, each place adds to its vector
what it finds in the places before it (attention) and what it makes of that by itself (a small network); the last
vector, against the table of symbols, says which comes next. Nothing looks ahead, so training sees T questions in every
text of T symbols, and writing needs one place at a time: what attention wants of the past, keys and values, is kept.

GPT-2 is this file's default. By its configuration it is also

    GPT-1    norm_first=False: the layer norm stands after each sum, not before (Radford et al. 2018)
    GPT-3    window=256, say: every second layer sees the last 256 places only (Brown et al. 2020, section 2.1)

    GPTConfig       sizes and options, under their published names
    Transformer     the network, from ids to a vector at every place
    GPT             the language model: a loss, and `step` for decoding (sampling/decoding.py)
    GPTClassifier   a score or classes from the last symbol's vector: a reward model (Ouyang et al. 2022)
"""

import math
from dataclasses import dataclass

from ... import nn
from ...device import xp
from ...errors import ArgumentError, expect
from ...nn import functional as F
from ...nn.weight_map import WeightMap, transposed
from ...published import Pretrained
from ...tensor import Tensor, value, wrap
from .activations import ACTIVATIONS, BEHIND
from .causal import Reading, attention_weights, padded_places
from .static_cache import StaticReading, StaticState

SCORES = "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"
OPENAI_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "swish"}  # GPT-1's names


# Layers, heads and width (Radford et al. 2019, table 2, and the published files)
GPT2_SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}


@dataclass
class GPTConfig:
    """Sizes and options; the defaults are GPT-2's, of 124 million parameters.

    vocab_size, n_positions      symbols, and places: no text can be longer
    n_embd, n_layer, n_head      width, layers, heads (which share the width)
    n_inner                      width of the layers' own network; 4 n_embd if None
    activation_function          a name in activations.py; "gelu_new" is GELU with a tanh
    embd_, attn_, resid_pdrop    dropout of the first vectors, of attention weights, of what each layer adds
    layer_norm_epsilon           what is added to the variance
    initializer_range            standard deviation of the first weights; projections into the sum have
                                 1 / sqrt(2 n_layer) of it (Radford et al. 2019, section 2.3)
    scale_attn_weights           divide scores by sqrt(n_embd / n_head)
    scale_attn_by_inverse_layer_idx   and by the number of the layer, from 1
    reorder_and_upcast_attn      scores and weights in float32 where the model is in half precision
    tie_word_embeddings          the table of symbols is also the head
    norm_first                   False: GPT-1, with the norms after the sums
    window                       layers 1, 3, 5, ... see so many places; None: all see all
    num_labels                   of a GPTClassifier; bos_, eos_, pad_token_id: symbols with a meaning, or None
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    norm_first: bool = True
    window: int | None = None
    num_labels: int = 1
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    @classmethod
    def gpt2(cls, size="small", **options):
        """GPT-2 as published, "small" (124 million parameters), "medium" (355), "large" (774) or "xl" (1558)."""
        expect(size in GPT2_SIZES, f"GPTConfig.gpt2: sizes are {', '.join(GPT2_SIZES)}", size, error=ArgumentError)
        return cls(**dict(zip(("n_layer", "n_head", "n_embd"), GPT2_SIZES[size])), **options)

    def __post_init__(self):
        good = self.n_head > 0 and self.n_embd % self.n_head == 0
        expect(good, f"GPTConfig: n_head={self.n_head} must divide n_embd={self.n_embd}", error=ArgumentError)
        expect(self.activation_function in ACTIVATIONS, f"GPTConfig: activation_function is one of {[*ACTIVATIONS]}",
               self.activation_function, error=ArgumentError)  # fmt: skip
        expect(self.window is None or self.window > 0, "GPTConfig: window is a number of places, or None", self.window,
               error=ArgumentError)  # fmt: skip


class Published(Pretrained):
    """The published form: transformers' "gpt2", or "openai-gpt" where the norms stand after the sums.

    What neither has, a window for one, is saved in minigen's own form.
    """

    config_class = GPTConfig

    @classmethod
    def config_from(cls, published):
        if "minigen" in published:
            return super().config_from(published)
        published.only("add_cross_attention", False)
        first = published.choice("model_type", {"gpt2": True, "openai-gpt": False}, "gpt2")
        if first:
            found = {key: published.flag(key, getattr(GPTConfig, key)) for key in SCORES}
            found["n_inner"] = published.integer("n_inner", None, 1)
            found["activation_function"] = published.choice("activation_function", list(ACTIVATIONS), "gelu_new")
        else:
            found = {"activation_function": published.choice("afn", OPENAI_ACTIVATIONS, "gelu")}
        for key in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            found[key] = published.integer(key, getattr(GPTConfig, key), 1)
        for key in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            found[key] = published.number(key, 0.1, 0.0, 1.0)
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            found[key] = published.integer(key, None)
        labels = published.get("id2label")
        return GPTConfig(
            **found,
            norm_first=first,
            layer_norm_epsilon=published.number("layer_norm_epsilon", 1e-5, 0.0),
            initializer_range=published.number("initializer_range", 0.02, 0.0),
            tie_word_embeddings=published.flag("tie_word_embeddings", True),
            num_labels=len(labels) if isinstance(labels, dict) else published.integer("num_labels", 2, 1),
        )

    def config_to(self):
        c = self.config
        found = {key: value for key, value in vars(c).items() if key not in ("norm_first", "window", "num_labels")}
        found["id2label"] = {str(i): f"LABEL_{i}" for i in range(c.num_labels)}
        if c.window is not None:
            return super().config_to()
        if c.norm_first:
            return {"architectures": [f"GPT2{self.architecture}"], "model_type": "gpt2", **found}
        names = {ours: name for name, ours in reversed(OPENAI_ACTIVATIONS.items())}
        usual = all(found.pop(key) == getattr(GPTConfig, key) for key in (*SCORES, "n_inner"))
        if not usual or c.activation_function not in names:
            return super().config_to()
        found["afn"] = names[found.pop("activation_function")]
        return {"architectures": [f"OpenAIGPT{self.architecture}"], "model_type": "openai-gpt", **found}

    def weight_map(self):
        bare = isinstance(self, Transformer)
        inside = "" if bare else "transformer."
        tables = [] if self.config.norm_first else [("tokens_embed", "wte"), ("positions_embed", "wpe")]
        return WeightMap(
            *((f"{inside}{theirs}.weight", f"{inside}{ours}.weight") for theirs, ours in tables),
            (f"{inside}h.*.*.c_*.weight", f"{inside}h.*.*.c_*.weight", transposed),  # Conv1D: (in, out)
            ("**", "**"),
            ignored=("**.attn.bias", "**.attn.masked_bias", "**position_ids", *(["lm_head.weight"] if bare else [])),
            renamed={r"^transformer\.": ""} if bare else {r"^(?=(wte|wpe|h|ln_f|\w+_embed)\.)": "transformer."},
        )


class SelfAttention(nn.Module):
    """Each place takes a weighted mean of what the places before it offer, in n_head ways (Vaswani et al. 2017)."""

    def __init__(self, config, layer):
        self.heads, self.dropout, self.upcast = config.n_head, config.attn_pdrop, config.reorder_and_upcast_attn
        self.scale = 1.0
        if config.scale_attn_weights:
            self.scale /= math.sqrt(config.n_embd // config.n_head)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # queries, keys and values side by side
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x, remember, weights=False, norm=None):
        """x (N, T, n_embd) -> the same shape, and the weights (N, H, T, S) if asked for, else None.

        norm       the layer norm before it, if x is a stream to which it adds what it finds
        remember   (this layer's keys, values) -> all that may be looked at, and by whom: keys, values (N, H, S, D), a
                   mask to add to the scores or None, whether to be causal, and None or `attend`, a function of the
                   queries and the scale: where there is one query in each row, it stores key and value, and attends
        """
        N, T, D = x.shape
        q, k, v = self.c_attn(x, norm=norm).reshape(N, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        k, v, mask, causal, attend = remember(k, v)
        share = None
        if weights or self.written_out(x):
            share = attention_weights(q, k, mask, causal, self.scale, self.upcast)
            y = F.dropout(share, self.dropout, self.training) @ v
        elif attend is not None:
            y = attend(q, self.scale)
        else:
            dropout = self.dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal, scale=self.scale)
        y = y.transpose(1, 2).reshape(N, T, D)
        return added(None if norm is None else x, self.c_proj, y, self.resid_dropout), share

    def written_out(self, x):
        """Whether scores and weights are held in memory, and not left to a kernel."""
        return self.upcast and x.dtype.itemsize < 4


class FeedForward(nn.Module):
    """The same small network at every place, by itself."""

    def __init__(self, config):
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc, self.c_proj = nn.Linear(config.n_embd, inner), nn.Linear(inner, config.n_embd)
        self.activation = ACTIVATIONS[config.activation_function]
        self.behind = BEHIND.get(config.activation_function)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x, norm=None):
        """norm: the layer norm before it, if x is a stream to which it adds what it makes."""
        h = self.c_fc(x, self.behind, norm)
        h = self.activation(h) if self.behind is None else h
        return added(None if norm is None else x, self.c_proj, h, self.dropout)


def added(stream, layer, h, dropout):
    """What a branch ends with: a layer, dropout of its result, and the sum with the stream, if there is one."""
    if stream is None or (dropout.training and dropout.p > 0):
        y = dropout(layer(h))
        return y if stream is None else stream + y
    return layer(h, residual=stream)


class Block(nn.Module):
    """A layer: what attention finds, then what the network makes of it, each added to the stream."""

    def __init__(self, config, layer):
        self.norm_first = config.norm_first
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = SelfAttention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = FeedForward(config)

    def forward(self, x, *attention):
        if self.norm_first:
            x, weights = self.attn(x, *attention, norm=self.ln_1)
            return self.mlp(x, norm=self.ln_2), weights
        found, weights = self.attn(x, *attention)
        x = self.ln_1(x + found)
        return self.ln_2(x + self.mlp(x)), weights


class Transformer(Published, nn.Module):
    """From ids (N, T) to a vector at every place, (N, T, n_embd); published as GPT2Model."""

    architecture = "Model"

    def __init__(self, config=None, **sizes):
        self.config = config = config or GPTConfig(**sizes)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([Block(config, layer) for layer in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon) if config.norm_first else None
        self.reset_parameters()

    def reset_parameters(self, generator=None):
        """Normal weights, zero biases; smaller projections into the stream: a sum of 2 n_layer is to keep its size."""
        std = self.config.initializer_range
        for name, p in self.named_parameters():
            if p.ndim == 2:
                into_stream = name.endswith("c_proj.weight")
                nn.init.normal_(p, 0.0, std / math.sqrt(2 * self.config.n_layer) if into_stream else std, generator)
            else:
                nn.init.constant_(p, 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0)

    def forward(self, ids=None, attention_mask=None, position_ids=None, state=None, embeddings=None, look=False):
        """The vectors at every place, and a State: (N, T, n_embd), state.

        attention_mask   (N, S) of 0 and 1 over all S places, those in `state` included: nobody looks at a 0.
                         (N, T), over the new ones, if the state is static: it holds no padding
        position_ids     (N, T) places; counted from the first place of the text, whatever it holds, if None
        state            what came before: a State, None, or a StaticState that is written in place
        embeddings       (N, T, n_embd) in place of ids: vectors of something that is no symbol
        look             True: returns instead [first vectors, after layer 1, ..., last], [weights of layer 1, ...]

        Raises ShapeError for a text longer than n_positions.
        """
        x = self._look_up(ids) if embeddings is None else embeddings
        T, past = x.shape[1], 0 if state is None else state.length
        if isinstance(state, StaticState):
            reading = StaticReading(state, attention_mask, x, not (look or self.h[0].attn.written_out(x)))
            self._check_length(past, reading.count)
            state.check(reading.count)
            place = self.wpe(wrap(reading.places) if position_ids is None else position_ids)
        else:
            self._check_length(past, T)
            reading = Reading(state, attention_mask, x)
            place = self.wpe.weight[past : past + T] if position_ids is None else self.wpe(position_ids)
        x = self.drop(x + place)
        stream, weights = [x], []
        for i, block in enumerate(self.h):
            x, share = block(x, reading.layer(i, self.config.window if i % 2 else None), look)
            stream.append(x)
            weights.append(share)
        if self.ln_f is not None:
            x = stream[-1] = self.ln_f(x)
        state = reading.done()
        return (stream, weights) if look else (x, state)

    def _look_up(self, ids):
        shape = getattr(ids, "shape", ())
        expect(len(shape) == 2, "GPT: ids are (N, T)", ids, hint="write ids[None] for a single text")
        return self.wte(ids if isinstance(ids, Tensor) else wrap(xp(self.wte.weight.data).asarray(ids)))

    def _check_length(self, past, T):
        most = self.config.n_positions
        before = f" after {past} that were read before" if past else ""
        expect(past + T <= most, f"GPT: {T} symbols{before} are more than its n_positions={most}",
               hint=f"keep the last {most}, ids[:, -{most}:], or build it with more positions")  # fmt: skip


class GPT(Published, nn.Module):
    """The language model. `gpt(ids, targets)` is the training loss in nats a symbol.

    ids (N, T) int64. Build it from a GPTConfig, or from sizes: `GPT(vocab_size=65, n_positions=64, n_embd=48, ...)`.
    Published as GPT2LMHeadModel, and GPT-1 as OpenAIGPTLMHeadModel.
    """

    architecture = "LMHeadModel"

    def __init__(self, config=None, **sizes):
        self.transformer = Transformer(config, **sizes)
        self.config = config = self.transformer.config
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        else:
            nn.init.normal_(self.lm_head.weight, 0.0, config.initializer_range)

    def forward(self, ids, targets, attention_mask=None):
        """The mean of -log p(target) over places whose target is not -100: gpt(ids[:, :-1], ids[:, 1:]) for a text."""
        logits = self.logits(ids, attention_mask)
        targets = targets if isinstance(targets, Tensor) else wrap(xp(logits.data).asarray(targets))
        expect(targets.shape == tuple(logits.shape[:2]), "GPT: a target for each place, (N, T)", targets, logits)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))

    def logits(self, ids, attention_mask=None, position_ids=None):
        """What comes next at every place: (N, T, vocab_size), up to a softmax."""
        return self.lm_head(self.transformer(ids, attention_mask, position_ids)[0])

    def step(self, ids, state=None, attention_mask=None):
        """Read T more symbols: logits (N, T, vocab_size), and the state to go on from.

        A text in pieces gives the same logits as at once. attention_mask (N, T) marks with 0 what is only padding, on
        either side: places are counted without it.
        """
        if isinstance(state, StaticState):
            x, state = self.transformer(ids, attention_mask, state=state)
        else:
            mask, places = padded_places(ids.shape, attention_mask, state)
            x, state = self.transformer(ids, mask, places, state)
        return self.lm_head(x), state

    def static_cache(self, rows, capacity=None):
        """A state for `step` that is written in place: room for `capacity` symbols (n_positions) in each of `rows`."""
        most = self.config.n_positions
        return StaticState(rows, most if capacity is None else min(capacity, most), self.lm_head.weight.device)


class GPTClassifier(Published, nn.Module):
    """num_labels numbers from the last symbol's vector, without a bias; published as GPT2ForSequenceClassification.

    With num_labels=1 it is a reward model (Ouyang et al. 2022): it has read the whole text when it is asked.
    """

    architecture = "ForSequenceClassification"

    def __init__(self, config=None, **sizes):
        self.transformer = Transformer(config, **sizes)
        self.config = config = self.transformer.config
        self.score = nn.Linear(config.n_embd, config.num_labels, bias=False)
        nn.init.normal_(self.score.weight, 0.0, config.initializer_range)

    def forward(self, ids, attention_mask=None):
        """(N, num_labels), at the last symbol of each text that is not `pad_token_id`."""
        x, _ = self.transformer(ids, attention_mask)
        return self.score(x[xp(x.data).arange(len(x)), self.last(ids)])

    def last(self, ids):
        """The place of the last symbol that is no padding, (N,)."""
        ids, pad = value(ids), self.config.pad_token_id
        if pad is None:
            expect(len(ids) == 1, "GPTClassifier: several texts, and no pad_token_id to tell where each ends", ids,
                   error=ArgumentError, hint="set config.pad_token_id, or give one text at a time")  # fmt: skip
            return xp(ids).full(1, ids.shape[1] - 1)
        return (xp(ids).arange(ids.shape[1]) * (ids != pad)).argmax(1)
