"""A table of a model: the shape each part returns, its parameters, and the arithmetic of one forward pass.

    print(model.summary(x))

FLOPs are additions and multiplications, counted by the formulas below from the shapes that really occurred. A part
without a formula counts what its own parts count; a formula of one's own is a method `flops(inputs, output)`.
What no formula covers (functions called directly in a `forward`) is not counted, and the last line says for whom.
"""

import math

from ..autograd import no_grad
from ..tensor import Tensor

__all__ = ["Summary", "summarise"]


def _linear(m, x, y, activation=None):
    return 2 * y.numel() * m.in_features + _bias(m, y) + _activation(y, activation)


def _bilinear(m, x, y):
    return 2 * y.numel() * m.in1_features * (m.in2_features + 1) + _bias(m, y)


def _convolution(m, x, y):
    """Each output is a product of in / groups * window numbers; of a transposed one, each input is spread over them."""
    if m.transposed:
        return 2 * x.numel() * (m.out_channels // m.groups) * math.prod(m.kernel_size) + _bias(m, y)
    return 2 * y.numel() * (m.in_channels // m.groups) * math.prod(m.kernel_size) + _bias(m, y)


def _bias(m, y):
    return 0 if m.bias is None else y.numel()


def _activation(y, activation):
    """Of a layer that applies one itself: one operation a number, as of those in a layer of their own."""
    return 0 if activation is None else y.numel()


def _norm(m, x, y, activation=None):
    """Mean 1, variance 3, shift and scale 2 operations a number; 2 more with weight and bias."""
    if getattr(m, "running_mean", None) is not None and not m.training:
        return 2 * y.numel()
    return (6 if m.weight is None else 8) * y.numel() + _activation(y, activation)


def _rms_norm(m, x, y):
    return (3 if m.weight is None else 4) * y.numel()


def _attention(m, query, y, key=None, value=None, *_, **__):
    """Four projections, q k^T and the mean of the values: 2 E a pair of positions each, for all heads together."""
    key = query if key is None else key
    value = key if value is None else value
    e, n = m.embed_dim, query.numel() // m.embed_dim
    keys = key.numel() // m.kdim
    length = key.shape[-2] if m.batch_first or key.ndim == 2 else key.shape[0]
    return 2 * e * (2 * n * e + keys * (m.kdim + m.vdim) + 2 * n * length)


def _recurrent(m, x, y, *_):
    """Each step: the products with x and h, and about 8 operations a number for the gates."""
    steps, total = x.numel() // m.input_size, 0
    for layer in range(m.num_layers):
        width = m.input_size if layer == 0 else m.out_size * m.directions
        products = 2 * m.gates * m.hidden_size * (width + m.out_size) + 2 * m.proj_size * m.hidden_size
        total += m.directions * (products + 8 * m.gates * m.hidden_size)
    return steps * total


def _cell(m, x, y, *_):
    rows = x.numel() // m.input_size
    return rows * m.gates * m.hidden_size * (2 * (m.input_size + m.hidden_size) + 8)


def _pool(m, x, y):
    """Every number read once, about: what the windows cover."""
    size = m.kernel_size
    spatial = int(type(m).__name__[-2])
    return y.numel() * (size**spatial if isinstance(size, int) else math.prod(size))


def _each_input(m, x, y):
    return x.numel()


def _each_output(m, x, y, *_):
    return y.numel()


def _nothing(m, x, y, *_):
    return 0


FORMULAS = {  # by the name of the class or of one it comes from
    "Linear": _linear,
    "Bilinear": _bilinear,
    "_Conv": _convolution,
    "_WithRunningStatistics": _norm,
    "GroupNorm": _norm,
    "LayerNorm": _norm,
    "RMSNorm": _rms_norm,
    "MultiheadAttention": _attention,
    "_Recurrent": _recurrent,
    "_Cell": _cell,
    "_MaxPool": _pool,
    "_AvgPool": _pool,
    "AvgPool1d": _pool,
    "_AdaptivePool": _each_input,
    "Upsample": _each_output,
    **{name: _nothing for name in ("Embedding", "_Dropout", "Identity", "Flatten", "Unflatten", "_Pad")},
    **{name: _nothing for name in ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Unfold", "Fold")},
}
ONE_A_NUMBER = "minigen.nn.activation"  # every activation there: one operation a number, whatever it computes


def _formula(module):
    own = getattr(type(module), "flops", None)
    if own is not None:
        return lambda m, x, y, *rest, **more: m.flops((x, *rest), y)
    for kind in type(module).__mro__:
        if kind.__name__ in FORMULAS and kind.__module__.startswith("minigen.nn"):
            return FORMULAS[kind.__name__]
    return _each_output if type(module).__module__ == ONE_A_NUMBER else None


class Row:
    """One part: its name, class, depth, output shape, parameters (its parts' included) and FLOPs."""

    def __init__(self, name, module, depth):
        self.name, self.kind, self.depth = name, type(module).__name__, depth
        self.parameters = sum(p.numel() for p in module.parameters())
        self.shape, self.flops, self.counted = None, 0, True


class Summary:
    """What `Module.summary` returns: print it, or read `rows`, `parameters`, `trainable` and `flops`."""

    def __init__(self, rows, parameters, trainable, flops, uncounted):
        self.rows, self.parameters, self.trainable = rows, parameters, trainable
        self.flops, self.uncounted = flops, uncounted

    def __str__(self):
        ran = self.flops is not None
        table = [["layer", "output", "parameters", "FLOPs"]]
        for row in self.rows:
            label = "  " * row.depth + (f"{row.name}: {row.kind}" if row.name else row.kind)
            shape = "" if row.shape is None else str(row.shape)
            table.append([label, shape, f"{row.parameters:,}", _short(row.flops) if row.counted else "?"])
        columns = range(4 if ran else 3)
        widths = [max(len(line[i]) for line in table) for i in columns]
        lines = [
            "  ".join(line[i].ljust(widths[i]) if i < 2 else line[i].rjust(widths[i]) for i in columns).rstrip()
            for line in table
        ]
        lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        lines.append(lines[1])
        frozen = self.parameters - self.trainable
        lines.append(f"parameters  {self.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else ""))
        if ran:
            lines.append(f"FLOPs       {_short(self.flops)} (additions and multiplications of this forward pass)")
        if ran and self.uncounted:
            lines.append(f"not counted: {', '.join(self.uncounted)}")
        return "\n".join(lines)

    __repr__ = __str__


def _short(n):
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return str(n)


def summarise(model, inputs, kwargs):
    """Run `model(*inputs, **kwargs)` once, in evaluation mode and without gradients, and tabulate what happened."""
    rows = {}
    for path, module in model.named_modules():
        rows[id(module)] = Row(path.rpartition(".")[2], module, path.count(".") + bool(path))
    if not inputs and not kwargs:
        return _result(model, rows, ran=False)
    handles, modes = [], [(module, module.training) for module in model.modules()]
    try:
        for module in model.modules():
            handles.append(module.register_forward_hook(_recorder(rows[id(module)]), with_kwargs=True))
        model.eval()
        with no_grad():
            model(*inputs, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    _add_up(model, rows)
    return _result(model, rows, ran=True)


def _recorder(row):
    def record(module, args, kwargs, output):
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        found = output
        while isinstance(found, (tuple, list)) and found:
            found = found[0]
        if isinstance(found, Tensor):
            row.shape = found.shape
            formula = _formula(module)
            if formula is not None and first is not None:
                rest = args[1:] if args else ()
                row.flops += int(formula(module, first, found, *rest, **(kwargs if formula is _attention else {})))

    return record


def _add_up(module, rows):
    """The FLOPs of a part without a formula are those of its parts."""
    row = rows[id(module)]
    for child in module.children():
        _add_up(child, rows)
    if _formula(module) is None:
        below = [rows[id(child)] for child in module.children()]
        row.flops = sum(part.flops for part in below)
        row.counted = bool(below) or row.shape is None


def _result(model, rows, ran):
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    listed = list(rows.values())
    uncounted = sorted({row.kind for row in listed if not row.counted})
    return Summary(listed, total, trainable, listed[0].flops if ran else None, uncounted)
