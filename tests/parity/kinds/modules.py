"""op_*: one module, its parameters, outputs, gradients of inputs and parameters, and buffers afterwards.

The note holds the module's written form. What that does not say is taken from the arrays' shapes and from the case's
name (heads of an attention, layers of an LSTM), or, where several answers are possible, tried one after the other:
only the right one gives the case's numbers.
"""

import numpy as np

from minigen import Tensor, autograd, nn
from minigen.errors import MinigenError

from . import NotCovered, kind
from .describing import find


@kind("op_")
def run(case):
    closest = refused = None
    for module, call in _modules(case):
        try:
            comparison = measure(case, module, call)
        except MinigenError as fault:  # one reading of several may not take the case's inputs
            refused = fault
            continue
        if comparison.fits:
            return
        if closest is None or comparison.excess < closest.excess:
            closest = comparison
    if closest is None:
        raise refused
    closest.require()


def measure(case, module, call=None):
    """Load, run forward and back, and compare everything the case holds."""
    module.to(case.dtype)
    module.load_state_dict(
        {name: Tensor(a) for prefix in ("p__", "buf_before__") for name, a in case.of(prefix).items()}
    )
    module.eval() if "_eval" in case.name or case.note.startswith("eval") else module.train()
    inputs = case.inputs()
    outputs = flat((call or (lambda m, *xs: m(*xs)))(module, *inputs))
    ours = {f"out__{i}": y for i, y in enumerate(outputs) if f"out__{i}" in case}
    parameters = dict(module.named_parameters())
    targets = {f"gin__{i}": x for i, x in enumerate(inputs) if f"gin__{i}" in case}
    targets |= {f"gp__{name}": parameters[name] for name in case.of("gp__")}
    ours |= gradients(case, outputs, targets)
    buffers = dict(module.named_buffers())
    ours |= {f"buf_after__{name}": buffers[name] for name in case.of("buf_after__")}
    return case.compare(ours)


def gradients(case, outputs, targets):
    """The gradients of sum(out * cot) with respect to `targets`, by their names in the case."""
    pairs = [(y, case.get(f"cot__{i}")) for i, y in enumerate(outputs) if y.requires_grad]
    pairs = [(y, Tensor(cot)) for y, cot in pairs if cot is not None and cot.shape == y.shape]
    if not pairs or not targets:
        return {}
    ys, cots = zip(*pairs)
    return dict(zip(targets, autograd.grad(ys, list(targets.values()), cots, allow_unused=True)))


def flat(outputs):
    """Tensors in nested tuples, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [y for part in outputs if part is not None for y in flat(part)]


# Which module


def _modules(case):
    """(module, how to call it) for every reading of the case."""
    stem = case.name.removeprefix("op_")
    for start, reading in READINGS.items():
        if stem.startswith(start):
            return reading(case)
    described = find(case.note)
    return OF_CLASS.get(described.name, _as_written)(case, described)


def _as_written(case, described):
    yield described.build(), None


def _recurrent(case):
    """RNN, GRU and LSTM: everything but the order of batch and time can be read off the weights."""
    p = case.of("p__")
    stem = case.name.removeprefix("op_")
    layers = len({name for name in p if name.startswith("weight_ih_l") and not name.endswith("_reverse")})
    options = {
        "num_layers": layers,
        "bias": "bias_ih_l0" in p,
        "bidirectional": "weight_ih_l0_reverse" in p,
        "batch_first": True,
    }
    cls = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[stem[:4] if stem.startswith("lstm") else stem[:3]]
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[cls]
    if "weight_hr_l0" in p:
        options["proj_size"] = p["weight_hr_l0"].shape[0]
    if cls is nn.RNN:
        options["nonlinearity"] = "relu" if "relu" in stem else "tanh"
    sizes = p["weight_ih_l0"].shape[1], p["weight_ih_l0"].shape[0] // gates

    def call(module, x, *state):
        return module(x, *([tuple(state)] if cls is nn.LSTM and state else state))

    for batch_first in (True, False):
        yield cls(*sizes, **{**options, "batch_first": batch_first}), call


def _cell(case):
    p = case.of("p__")
    stem = case.name.removeprefix("op_")
    cls, gates = (nn.LSTMCell, 4) if "lstm" in stem else (nn.GRUCell, 3) if "gru" in stem else (nn.RNNCell, 1)
    options = {"bias": "bias_ih" in p}
    if cls is nn.RNNCell:
        options["nonlinearity"] = "relu" if "relu" in stem else "tanh"

    def call(module, x, *state):
        return module(x, *([tuple(state)] if cls is nn.LSTMCell and state else state))

    yield cls(p["weight_ih"].shape[1], p["weight_ih"].shape[0] // gates, **options), call


def _reparametrised(norm, name):
    """A Linear or Conv2d under spectral or weight norm, by the shape of the weight."""

    def reading(case):
        p = case.of("p__")
        shape = p[f"parametrizations.weight.{name}"].shape
        bias = "bias" in p
        if len(shape) == 2:
            yield norm(nn.Linear(shape[1], shape[0], bias)), None
        elif len(shape) == 4:
            for stride, padding in [(1, 0), (1, 1), (2, 1), (2, 0)]:
                yield norm(nn.Conv2d(shape[1], shape[0], shape[2:], stride, padding, bias=bias)), None
        else:
            raise NotCovered(f"a normalised weight of shape {shape}")

    return reading


def _utils(name):
    def norm(module):
        return getattr(nn.utils.parametrizations, name)(module)

    return norm


READINGS = {
    "rnncell": _cell,
    "rnn_cell": _cell,
    "grucell": _cell,
    "gru_cell": _cell,
    "lstmcell": _cell,
    "lstm_cell": _cell,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "spectral_norm": _reparametrised(_utils("spectral_norm"), "original"),
    "spectralnorm": _reparametrised(_utils("spectral_norm"), "original"),
    "weight_norm": _reparametrised(_utils("weight_norm"), "original1"),
    "weightnorm": _reparametrised(_utils("weight_norm"), "original1"),
}


def _causal(n):
    return Tensor(np.triu(np.ones((n, n), bool), 1))


def _heads(width):
    """Numbers of heads that divide the width, the likeliest first."""
    return sorted((h for h in range(1, width + 1) if width % h == 0), key=lambda h: (abs(h - 3), h))


def _attention(case, described):
    """MultiheadAttention's written form leaves out the heads, batch_first and the mask."""
    p = case.of("p__")
    width = p["out_proj.weight"].shape[0]
    weights = case.get("out__1")
    per_head = weights is not None and weights.ndim == 4
    options = {"bias": "in_proj_bias" in p, "add_bias_kv": "bias_k" in p}
    if "k_proj_weight" in p:
        options |= {"kdim": p["k_proj_weight"].shape[1], "vdim": p["v_proj_weight"].shape[1]}
    masks = [True, False] if "causal" in case.name or "mask" in case.name else [False, True]
    for heads in [weights.shape[1]] if per_head else _heads(width):
        for batch_first in (True, False):
            for causal in masks:

                def call(module, query, key=None, value=None, causal=causal, batch_first=batch_first):
                    key = query if key is None else key
                    value = key if value is None else value
                    n = query.shape[1 if batch_first and query.ndim == 3 else 0]
                    mask = {"attn_mask": _causal(n)} if causal else {}
                    wanted = {"need_weights": weights is not None, "average_attn_weights": not per_head}
                    return module(query, key, value, **mask, **wanted)

                yield nn.MultiheadAttention(width, heads, batch_first=batch_first, **options), call


def _layer_options(described, names):
    """Every number of heads, activation and place of the norm that a layer's written form leaves open."""
    first = described.children["linear1"].kwargs
    width, hidden = first["in_features"], first["out_features"]
    places = [True] if "preln" in names else [False] if "postln" in names else [False, True]
    for heads in _heads(width):
        for activation in ("gelu", "relu"):
            for norm_first in places:
                yield (width, heads, hidden, 0.0, activation), {"norm_first": norm_first, "batch_first": True}


def _encoder_layer(case, described):
    for causal in [True, False] if "causal" in case.name else [False, True]:

        def call(module, x, causal=causal):
            return module(x, src_mask=_causal(x.shape[1])) if causal else module(x)

        for args, options in _layer_options(described, case.name):
            yield nn.TransformerEncoderLayer(*args, **options), call


def _decoder_layer(case, described):
    for causal in (True, False):

        def call(module, x, memory, causal=causal):
            return module(x, memory, tgt_mask=_causal(x.shape[1])) if causal else module(x, memory)

        for args, options in _layer_options(described, case.name):
            yield nn.TransformerDecoderLayer(*args, **options), call


def _stack(case, described):
    """TransformerEncoder and TransformerDecoder: several layers, and perhaps a norm at the end."""
    encoder = described.name == "TransformerEncoder"
    layers = described.children["layers"].children
    layer = next(iter(layers.values()))
    cls = nn.TransformerEncoderLayer if encoder else nn.TransformerDecoderLayer
    whole = nn.TransformerEncoder if encoder else nn.TransformerDecoder
    key = "mask" if encoder else "tgt_mask"
    for causal in [True, False] if "causal" in case.name or not encoder else [False, True]:

        def call(module, x, *memory, causal=causal):
            return module(x, *memory, **({key: _causal(x.shape[1])} if causal else {}))

        for args, options in _layer_options(layer, case.name):
            norm = described.children["norm"].build() if "norm" in described.children else None
            yield whole(cls(*args, **options), len(layers), norm), call


def _transformer(case, described):
    """The whole Transformer, encoder and decoder."""
    counts = [len(described.children[part].children["layers"].children) for part in ("encoder", "decoder")]
    layer = next(iter(described.children["encoder"].children["layers"].children.values()))
    for causal in (True, False):

        def call(module, x, y, causal=causal):
            return module(x, y, **({"tgt_mask": _causal(y.shape[1])} if causal else {}))

        for (width, heads, hidden, dropout, activation), options in _layer_options(layer, case.name):
            yield nn.Transformer(width, heads, *counts, hidden, dropout, activation, **options), call


OF_CLASS = {
    "Transformer": _transformer,
    "MultiheadAttention": _attention,
    "TransformerEncoderLayer": _encoder_layer,
    "TransformerDecoderLayer": _decoder_layer,
    "TransformerEncoder": _stack,
    "TransformerDecoder": _stack,
}
