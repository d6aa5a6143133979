"""Single ops to time, written once against names that minigen and PyTorch share.

@case("norms", large=(2048, 512), small=(16, 32))
def layer_norm(library, rows, width): ...       -> Work

Each is run at a size of a training step and at a small one, which shows what a call itself costs. Pictures lie in
memory as they do in the middle of a network: channels last in minigen, channels first in PyTorch.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Work:
    """What one measurement runs: `function(*tensors)` forward, and back to `tensors`, if there are any.

    constants    other arrays that are read
    operations   additions and multiplications of the products, forward (the way back has twice as many)
    rereads      whether the gradient has to read tensors and constants again
    moved        (forward, backward) bytes, where they are not the sum of what is read and written
    held         bytes of memory that they lie in, if fewer: what is read and written again is in the cache by then
    calls        into how many ops the time is divided
    random       two runs give different numbers
    shape        what to show in place of the first tensor's shape
    """

    function: object
    tensors: tuple = ()
    constants: tuple = ()
    operations: int = 0
    rereads: bool = True
    moved: tuple = None
    held: int = None
    calls: int = 1
    random: bool = False
    shape: str = ""

    def bytes(self, y):
        """(forward, backward) bytes that cannot be avoided: every array read or written once."""
        if self.moved is not None:
            return self.moved
        size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)
        inputs = size(self.tensors) + size(self.constants)
        return inputs + size([y]), size([y]) + size(self.tensors) + (inputs if self.rereads else 0)


@dataclass(frozen=True)
class Case:
    name: str
    family: str
    build: object
    large: tuple
    small: tuple


CASES = []


def case(family, large, small, name=None):
    """Register a function (library, *sizes) -> Work."""

    def register(build):
        CASES.append(Case(name or build.__name__, family, build, large, small))
        return build

    return register


def normal(library, *shape, seed=0):
    return library.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def integers(library, high, *shape):
    return library.from_numpy(np.random.default_rng(9).integers(0, high, shape))


def pictures(library, n, channels, height, width, seed=0):
    """Normal numbers (n, channels, height, width), in the memory order that the library's convolutions return."""
    if library.__name__ == "torch":
        return normal(library, n, channels, height, width, seed=seed)
    array = np.random.default_rng(seed).standard_normal((n, channels, height, width)).astype(np.float32)
    return library.from_numpy(np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


# Products


@case("products", (2048, 512, 512), (16, 32, 32))
def linear(library, rows, inputs, outputs):
    tensors = normal(library, rows, inputs), normal(library, outputs, inputs), normal(library, outputs)
    return Work(library.nn.functional.linear, tensors, operations=2 * rows * inputs * outputs)


for _name, _rows in {"linear of 1 row": 1, "linear of 8 rows": 8}.items():  # as in writing a text symbol by symbol
    case("products", (_rows, 768, 2304), (_rows, 32, 32), _name)(linear)


@case("products", (512, 512, 512), (16, 16, 16))
def matmul(library, m, k, n):
    return Work(library.matmul, (normal(library, m, k), normal(library, k, n)), operations=2 * m * k * n)


@case("products", (64, 128, 64, 128), (4, 8, 8, 8))
def batched_matmul(library, batch, m, k, n):
    tensors = normal(library, batch, m, k), normal(library, batch, k, n)
    return Work(library.matmul, tensors, operations=2 * batch * m * k * n)


def _attention(library, batch, heads, length, width, causal):
    tensors = tuple(normal(library, batch, heads, length, width, seed=i) for i in range(3))
    pairs = length * (length + 1) // 2 if causal else length**2
    function = functools.partial(library.nn.functional.scaled_dot_product_attention, is_causal=causal)
    return Work(function, tensors, operations=4 * batch * heads * pairs * width)


for _name, _is_causal in {"attention": False, "attention causal": True}.items():
    case("products", (16, 4, 128, 32), (2, 2, 8, 8), _name)(functools.partial(_attention, causal=_is_causal))


@case("products", (8, 12, 1024, 512, 64), (2, 2, 16, 8, 8), "attention over a cache")
def _decode(library, batch, heads, places, filled, width):
    """One new query a row, over the places of its cache that are filled. Without a gradient."""
    query = normal(library, batch, heads, 1, width)
    key, value = (normal(library, batch, heads, places, width, seed=i) for i in (1, 2))
    if library.__name__ == "torch":
        seen = key[:, :, :filled], value[:, :, :filled]
        function = functools.partial(library.nn.functional.scaled_dot_product_attention, query, *seen)
    else:
        length = library.full((batch,), filled, dtype=library.int64)
        function = functools.partial(library.ops.attention.attention_decode, query, key, value, length)
    numbers = batch * heads * width
    shape = f"{batch}x{heads}x{filled} of {places}x{width}"
    return Work(function, operations=4 * numbers * filled, moved=(4 * numbers * (2 * filled + 2), 0), shape=shape)


# Convolutions


def _conv(library, n, inputs, outputs, side, kernel, stride=1, groups=1, transposed=False):
    functional = library.nn.functional
    x, bias = pictures(library, n, inputs, side, side), normal(library, outputs)
    first, second = (inputs, outputs) if transposed else (outputs, inputs)
    weight = normal(library, first, second // groups, kernel, kernel, seed=1)
    function = functional.conv_transpose2d if transposed else functional.conv2d
    options = {"stride": stride, "padding": (kernel - 1) // 2, "groups": groups}
    places = n * side**2 if transposed else n * (-(-side // stride)) ** 2
    operations = 2 * places * weight.numel()
    return Work(lambda x, w, b: function(x, w, b, **options), (x, weight, bias), operations=operations)


for _name, _inputs, _outputs, _side, _options in [
    ("conv2d 3x3", 64, 64, 32, {"kernel": 3}),
    ("conv2d 1x1", 64, 64, 32, {"kernel": 1}),
    ("conv2d 3x3 stride 2", 64, 64, 32, {"kernel": 3, "stride": 2}),
    ("conv2d 3x3 1 channel in", 1, 64, 32, {"kernel": 3}),
    ("conv2d 3x3 1 channel out", 64, 1, 32, {"kernel": 3}),
    ("conv2d 3x3 4 groups", 64, 64, 32, {"kernel": 3, "groups": 4}),
    ("conv2d 3x3 each channel", 64, 64, 32, {"kernel": 3, "groups": 64}),
    ("conv_transpose2d 4x4 stride 2", 64, 64, 16, {"kernel": 4, "stride": 2, "transposed": True}),
]:
    _few = [min(channels, max(8, _options.get("groups", 1))) for channels in (_inputs, _outputs)]
    case("convolutions", (16, _inputs, _outputs, _side), (2, *_few, 8), _name)(functools.partial(_conv, **_options))

# Windows


def _windowed(library, n, channels, side, function, **options):
    function = functools.partial(getattr(library.nn.functional, function), **options)
    return Work(function, (pictures(library, n, channels, side, side),), rereads=False)


for _name, _function, _options in [
    ("max_pool2d", "max_pool2d", {"kernel_size": 2}),
    ("avg_pool2d", "avg_pool2d", {"kernel_size": 2}),
    ("adaptive_avg_pool2d", "adaptive_avg_pool2d", {"output_size": 1}),
    ("interpolate nearest", "interpolate", {"scale_factor": 2}),
    ("interpolate bilinear", "interpolate", {"scale_factor": 2, "mode": "bilinear"}),
]:
    case("windows", (16, 64, 32), (2, 8, 8), _name)(functools.partial(_windowed, function=_function, **_options))

# Norms, and what else works along rows


@case("norms", (2048, 512), (16, 32))
def layer_norm(library, rows, width):
    tensors = normal(library, rows, width), normal(library, width, seed=1), normal(library, width, seed=2)
    return Work(lambda x, w, b: library.nn.functional.layer_norm(x, (width,), w, b), tensors)


@case("norms", (2048, 512), (16, 32))
def rms_norm(library, rows, width):
    tensors = normal(library, rows, width), normal(library, width, seed=1)
    return Work(lambda x, w: library.nn.functional.rms_norm(x, (width,), w), tensors)


def _picture_norm(library, n, channels, side, normalise):
    tensors = pictures(library, n, channels, side, side), normal(library, channels, seed=1), normal(library, channels)
    return Work(lambda x, w, b: normalise(library.nn.functional, x, w, b), tensors)


for _name, _function in {
    "batch_norm": lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "group_norm": lambda F, x, w, b: F.group_norm(x, 8, w, b),
    "group_norm, silu": lambda F, x, w, b: (
        F.group_norm_activation(x, 8, w, b)  # minigen's, in one pass
        if hasattr(F, "group_norm_activation")
        else F.silu(F.group_norm(x, 8, w, b))
    ),
    "instance_norm": lambda F, x, w, b: F.instance_norm(x, weight=w, bias=b),
}.items():
    case("norms", (16, 64, 32), (2, 8, 8), _name)(functools.partial(_picture_norm, normalise=_function))


def _along_rows(library, rows, width, function):
    return Work(lambda x: getattr(library.nn.functional, function)(x, -1), (normal(library, rows, width),))


for _name in ("softmax", "log_softmax"):
    case("norms", (2048, 512), (16, 32), _name)(functools.partial(_along_rows, function=_name))

# Activations


def _elementwise(library, rows, width, function):
    return Work(lambda x: function(library, x), (normal(library, rows, width),))


for _name, _function in {
    "relu": lambda L, x: L.nn.functional.relu(x),
    "leaky_relu": lambda L, x: L.nn.functional.leaky_relu(x, 0.2),
    "gelu": lambda L, x: L.nn.functional.gelu(x),
    "gelu tanh": lambda L, x: L.nn.functional.gelu(x, approximate="tanh"),
    "silu": lambda L, x: L.nn.functional.silu(x),
    "elu": lambda L, x: L.nn.functional.elu(x),
    "softplus": lambda L, x: L.nn.functional.softplus(x),
    "mish": lambda L, x: L.nn.functional.mish(x),
    "hardswish": lambda L, x: L.nn.functional.hardswish(x),
    "sigmoid": lambda L, x: L.sigmoid(x),
    "tanh": lambda L, x: L.tanh(x),
    "exp": lambda L, x: L.exp(x),
}.items():
    case("activations", (2048, 512), (16, 32), _name)(functools.partial(_elementwise, function=_function))


@case("activations", (2048, 512), (16, 32))
def dropout(library, rows, width):
    function = functools.partial(library.nn.functional.dropout, p=0.1)
    return Work(function, (normal(library, rows, width),), rereads=False, random=True)


# Losses


def _loss(library, rows, width, function):
    targets = library.sigmoid(normal(library, rows, width, seed=1))
    function = getattr(library.nn.functional, function)
    return Work(lambda x: function(x, targets), (normal(library, rows, width),), (targets,))


for _name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits"):
    case("losses", (128, 784), (16, 32), _name)(functools.partial(_loss, function=_name))


@case("losses", (2048, 512), (16, 32))
def cross_entropy(library, rows, classes):
    targets = integers(library, classes, rows)
    return Work(lambda x: library.nn.functional.cross_entropy(x, targets), (normal(library, rows, classes),))


# Recurrent layers over a whole sequence


def _recurrent(library, batch, steps, width, layer, gates):
    module = getattr(library.nn, layer)(width, width, batch_first=True)
    weights = tuple(module.parameters())
    for i, weight in enumerate(weights):
        drawn = normal(library, *weight.shape, seed=i + 1) * (1 / math.sqrt(width))
        with library.no_grad():
            weight.copy_(drawn)
    operations = 4 * batch * steps * gates * width**2
    tensors = (normal(library, batch, steps, width), *weights)
    return Work(lambda x, *weights: module(x)[0], tensors, operations=operations)


for _name, _gates in {"RNN": 1, "GRU": 3, "LSTM": 4}.items():
    case("recurrent", (32, 64, 256), (4, 8, 16), _name)(functools.partial(_recurrent, layer=_name, gates=_gates))

# Sums and rows of a table


@case("sums", (2048, 512), (16, 32), "sum")
def _sum(library, rows, width):
    return Work(lambda x: x.sum(), (normal(library, rows, width),), rereads=False)


@case("sums", (2048, 512), (16, 32), "sum of rows")
def _sum_of_rows(library, rows, width):
    return Work(lambda x: x.sum(0), (normal(library, rows, width),), rereads=False)


@case("sums", (2048, 512), (16, 32))
def cumsum(library, rows, width):
    return Work(lambda x: x.cumsum(1), (normal(library, rows, width),), rereads=False)


@case("sums", (65, 256, 2048), (10, 16, 32))
def embedding(library, symbols, width, rows):
    index = integers(library, symbols, rows)
    function = lambda table: library.nn.functional.embedding(index, table)
    each, table = 4 * rows * width, 4 * symbols * width
    moved = 2 * each + 8 * rows, each + table + 8 * rows
    return Work(function, (normal(library, symbols, width),), moved=moved, shape=f"{rows} of {symbols}x{width}")


@case("sums", (1 << 20,), (512,), "randn")
def _randn(library, n):
    return Work(lambda: library.randn(n), moved=(4 * n, 0), random=True, shape=str(n))


# Optimisers: a step over so many parameters in so many arrays


def _optimiser(library, arrays, each, make, moved, held):
    parameters = [library.nn.Parameter(normal(library, each, seed=i)) for i in range(arrays)]
    step = make(library, parameters)
    for i, parameter in enumerate(parameters):
        (parameter * normal(library, each, seed=arrays + i)).sum().backward()

    def once():
        step()
        return parameters[0]

    n = 4 * arrays * each
    return Work(once, moved=(moved * n, 0), held=held * n, shape=f"{arrays}x{each}")


def _fused(library):
    return {"fused": True} if library.__name__ == "torch" else {}


for _name, _make, _moved, _held in [
    ("Adam", lambda L, p: L.optim.Adam(p, 1e-3, **_fused(L)).step, 7, 4),
    ("AdamW", lambda L, p: L.optim.AdamW(p, 1e-3, **_fused(L)).step, 7, 4),
    ("SGD momentum", lambda L, p: L.optim.SGD(p, 1e-3, momentum=0.9, **_fused(L)).step, 5, 3),
    ("clip_grad_norm_", lambda L, p: lambda: L.nn.utils.clip_grad_norm_(p, 1e9), 1, 1),
]:
    _build = functools.partial(_optimiser, make=_make, moved=_moved, held=_held)
    case("optimisers", (16, 65536), (16, 64), _name)(_build)

# What a call costs: chains of ops on 8 numbers, where no time goes into arithmetic

CHAIN = 60


def _chain(library, links, function, operands):
    def run(x, *others):
        for _ in range(links // 3):
            x = function(library, x, *others)
        return x

    tensors = tuple(normal(library, 8, seed=i) * 0.1 for i in range(operands))
    return Work(run, tensors, moved=(0, 0), calls=links, shape=f"8, {links} ops")


for _name, _operands, _function in [
    ("chain: tanh(x * a + b)", 3, lambda L, x, a, b: L.tanh(x * a + b)),
    ("chain: relu(x * 0.9 + 0.1)", 1, lambda L, x: L.relu(x * 0.9 + 0.1)),
]:
    case("overhead", (CHAIN,), (3,), _name)(functools.partial(_chain, function=_function, operands=_operands))
