"""minigen's modules beside PyTorch's, on the samples of PyTorch's own module database.

    pytest tests/torch/test_module_db.py                     every module; fails with the samples that differ
    pytest tests/torch/test_module_db.py --slow              all samples, where without it 16 of a module are chosen
    python tests/torch/test_module_db.py [name ...]          a table of the scores, of all samples

For each sample in float64, in training and in evaluation: the same state dict keys and shapes; with PyTorch's
weights loaded, the same result, the same gradients of inputs and parameters with a random cotangent, the same
gradients of those gradients, and the same buffers afterwards. The database's wrong arguments are refused.
"""

import dataclasses
import functools
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's module database needs it: pip install expecttest")

from beside_torch import NoCounterpart, difference, gradients_difference, leaves, quiet, to_minigen  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db  # noqa: E402

import minigen  # noqa: E402
from minigen import nn  # noqa: E402

pytestmark = pytest.mark.torch

# Modules that minigen does not have, and why.
ABSENT = {
    "FractionalMaxPool2d": "pooling over random windows",
    "FractionalMaxPool3d": "pooling over random windows",
    "LinearCrossEntropyLoss": "fused for vocabularies of 100,000: write Linear, then CrossEntropyLoss",
    **{f"Lazy{kind}{n}d": "say in_channels" for kind in ("Conv", "ConvTranspose", "BatchNorm") for n in (1, 2, 3)},
}
NAMES = [info.name.removeprefix("nn.") for info in module_db if info.name.removeprefix("nn.") not in ABSENT]

# Where minigen is deliberately stricter or kinder than PyTorch: (module, words of a fault) and why.
DIFFERENT = {
    ("MSELoss", "must have one shape"): "(N, 1) beside (N,) is a mistake in all but a few programs",
}

# PyTorch's gradient of CTC is right only after log_softmax, which its own database puts before it, too.
BEFORE = {"nn.CTCLoss": lambda args: (args[0].log_softmax(-1), *args[1:])}


@dataclasses.dataclass
class Score:
    """How many samples of a module pass, of how many."""

    state: list = dataclasses.field(default_factory=lambda: [0, 0])
    forward: list = dataclasses.field(default_factory=lambda: [0, 0])
    gradient: list = dataclasses.field(default_factory=lambda: [0, 0])
    second: list = dataclasses.field(default_factory=lambda: [0, 0])
    refused: list = dataclasses.field(default_factory=lambda: [0, 0])
    faults: list = dataclasses.field(default_factory=list)

    def note(self, kind, fault, sample):
        passed_of = getattr(self, kind)
        passed_of[1] += 1
        passed_of[0] += fault is None
        if fault is not None:
            self.faults.append(f"{kind}: {fault}\n      {shown(sample)}")

    @property
    def whole(self):
        """Passed and all, of everything but the refusals."""
        counts = [self.state, self.forward, self.gradient, self.second]
        return [sum(c[i] for c in counts) for i in (0, 1)]


def converted(x, memo):
    """PyTorch's arguments as minigen's; one tensor given twice stays one."""
    if isinstance(x, torch.Tensor):
        return memo.setdefault(id(x), to_minigen(x))
    if isinstance(x, dict):
        return {key: converted(value, memo) for key, value in x.items()}
    if isinstance(x, list | tuple) and not isinstance(x, torch.Size):
        return type(x)(converted(value, memo) for value in x)
    if isinstance(x, torch.nn.TransformerEncoderLayer | torch.nn.TransformerDecoderLayer):
        return getattr(nn, type(x).__name__)(
            x.linear1.in_features,
            x.self_attn.num_heads,
            x.linear1.out_features,
            x.dropout.p,
            converted(x.activation, memo),
            x.norm1.eps,
            x.self_attn.batch_first,
            x.norm_first,
            x.linear1.bias is not None,
        )
    if callable(x) and getattr(nn.functional, getattr(x, "__name__", ""), None):
        return getattr(nn.functional, x.__name__)
    return to_minigen(x)


def build(info, sample, training):
    """Both modules in float64, ours with PyTorch's state; or ours alone as a string that says what went wrong."""
    made = sample.constructor_input
    theirs = info.module_cls(*made.args, **made.kwargs).to(torch.float64).train(training)
    try:
        cls = getattr(nn, info.name.removeprefix("nn."))
        ours = cls(*converted(made.args, {}), **converted(made.kwargs, {})).double().train(training)
        a, b = ours.state_dict(), theirs.state_dict()
        if list(a) != list(b) or any(a[key].shape != tuple(b[key].shape) for key in a):
            return f"state dict {[*a]}, PyTorch's {[*b]}", theirs
        ours.load_state_dict({key: value.numpy() for key, value in b.items()})
    except Exception as error:
        return f"{type(error).__name__}: {error}", theirs
    return ours, theirs


def run(info, sample, training, score):
    """One sample in one mode."""
    ours, theirs = build(info, sample, training)
    score.note("state", ours if isinstance(ours, str) else None, sample)
    memo = {}
    given = (sample.forward_input.args, sample.forward_input.kwargs)
    their_inputs = list({id(x): x for x in leaves(given, torch.Tensor) if x.requires_grad}.values())
    before = BEFORE.get(info.name, lambda args: args)
    expected = theirs(*before(given[0]), **given[1])
    try:
        args, kwargs = converted(given, memo)
        result = ours(*before(args), **kwargs)
    except Exception as error:
        fault = ours if isinstance(ours, str) else f"{type(error).__name__}: {error}"
        if any(info.name == f"nn.{name}" and words in fault for name, words in DIFFERENT):
            return
        for kind in ("forward", "gradient"):
            score.note(kind, fault, sample)
        return
    fault = difference(result, expected, 1e-9)
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers()):
        fault = fault or (difference(a, b, 1e-10) and f"buffer {name}: {difference(a, b, 1e-10)}")
    score.note("forward", fault, sample)
    inputs = [memo[id(x)] for x in their_inputs] + list(ours.parameters())
    their_inputs = their_inputs + list(theirs.parameters())
    pairs = list(zip(leaves(result, minigen.Tensor), leaves(expected, torch.Tensor)))
    pairs = [(a, b) for a, b in pairs if b.requires_grad]
    if not their_inputs or not pairs:
        return
    generator = np.random.default_rng(0)
    compare_gradients(info, sample, score, inputs, their_inputs, pairs, generator)


def compare_gradients(info, sample, score, inputs, their_inputs, pairs, generator):
    outputs, their_outputs = zip(*pairs)
    cotangents = [generator.standard_normal(tuple(y.shape)) for y in their_outputs]
    twice = info.supports_gradgrad
    theirs = torch.autograd.grad(
        their_outputs, their_inputs, [torch.tensor(c) for c in cotangents], create_graph=twice, allow_unused=True
    )
    mine = guarded(gradients, outputs, inputs, [minigen.Tensor(c) for c in cotangents], twice)
    score.note("gradient", mine if isinstance(mine, str) else gradients_difference(mine, theirs, 1e-8), sample)
    again = [i for i, g in enumerate(theirs) if g is not None and g.requires_grad]
    if not twice or not again:
        return
    if isinstance(mine, str):
        score.note("second", "no gradient", sample)
        return
    cotangents = [generator.standard_normal(tuple(theirs[i].shape)) for i in again]
    try:
        theirs = torch.autograd.grad(
            [theirs[i] for i in again], their_inputs, [torch.tensor(c) for c in cotangents], allow_unused=True
        )
    except RuntimeError as error:  # PyTorch has no second derivative of CTC on the CPU
        assert "not implemented" in str(error)
        return
    mine = guarded(gradients, [mine[i] for i in again], inputs, [minigen.Tensor(c) for c in cotangents], False)
    score.note("second", mine if isinstance(mine, str) else gradients_difference(mine, theirs, 1e-7), sample)


def gradients(outputs, inputs, cotangents, create_graph):
    kept = [(y, c) for y, c in zip(outputs, cotangents) if y is not None and y.requires_grad]
    if not kept:
        return [None] * len(inputs)
    outputs, cotangents = zip(*kept)
    return minigen.autograd.grad(outputs, inputs, cotangents, create_graph=create_graph, allow_unused=True)


def guarded(function, *args):
    """The result, or what went wrong as a string."""
    try:
        return function(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run_error(info, error, score):
    """An argument that the database calls wrong: construction or the call must refuse it."""
    sample = error.module_error_input
    made, given = sample.constructor_input, sample.forward_input
    try:
        ours = getattr(nn, info.name.removeprefix("nn."))(*converted(made.args, {}), **converted(made.kwargs, {}))
        if error.error_on == ModuleErrorEnum.FORWARD_ERROR:
            if list(ours.parameters()):
                ours.double()
            args, kwargs = converted((given.args, given.kwargs), {})
            ours(*args, **kwargs)
    except NoCounterpart:
        return
    except (minigen.errors.MinigenError, TypeError, ValueError, IndexError):
        score.note("refused", None, sample)
    except Exception as fault:
        score.note("refused", f"an unexplained {type(fault).__name__}: {fault}", sample)
    else:
        score.note("refused", f"accepted; PyTorch says: {error.error_regex}", sample)


@functools.cache
def score(name, limit=None):
    """Every sample of a module (or `limit` of them), in every mode in which it differs."""
    total = Score()
    (info,) = [info for info in module_db if info.name == f"nn.{name}"]
    values = {"device": "cpu", "dtype": torch.float64, "requires_grad": True}
    with quiet(), sdpa_kernel(SDPBackend.MATH):  # the one attention of PyTorch's that has second derivatives
        for training in (True, False) if info.train_and_eval_differ else (True,):
            torch.manual_seed(0)
            samples = list(info.module_inputs_func(info, training=training, **values))
            for sample in samples[:: -(-len(samples) // limit) if limit else 1]:
                run(info, sample, training, total)
        if info.module_error_inputs_func is not None:
            for error in info.module_error_inputs_func(info, training=True, **values):
                run_error(info, error, total)
    return total


def shown(sample):
    """A sample in one line: shapes instead of numbers."""

    def text(x):
        if isinstance(x, torch.Tensor):
            return f"{tuple(x.shape)} {str(x.dtype)[6:]}"
        if isinstance(x, list | tuple):
            return "[" + ", ".join(map(text, x)) + "]"
        return getattr(x, "__name__", None) or repr(x)

    def call(given):
        if given is None:
            return ""
        return ", ".join([*map(text, given.args), *(f"{key}={text(value)}" for key, value in given.kwargs.items())])

    return f"({call(sample.constructor_input)})({call(sample.forward_input)})".replace("\n", " ")[:300]


@pytest.fixture
def limit(request):
    return None if request.config.getoption("--slow") else 16


@pytest.mark.parametrize("name", NAMES)
def test_module(name, limit):
    found = score(name, limit)
    assert not found.faults, f"{name}: {len(found.faults)} faults\n    " + "\n    ".join(found.faults[:8])


def test_score(limit):
    """At least 98% of all samples of all modules, and 90% of the wrong arguments refused."""
    passed, count = np.sum([score(name, limit).whole for name in NAMES], axis=0)
    assert passed >= 0.98 * count
    refused, count = np.sum([score(name, limit).refused for name in NAMES], axis=0)
    assert refused >= 0.9 * count


def main(names):
    kinds = ("state", "forward", "gradient", "second", "refused")
    print(f"{'module':28}" + "".join(f"{kind:>12}" for kind in kinds))
    total = {kind: [0, 0] for kind in kinds}
    for name in names or NAMES:
        found = score(name)
        for kind in kinds:
            total[kind] = [a + b for a, b in zip(total[kind], getattr(found, kind))]
        counts = [getattr(found, kind) for kind in kinds]
        print(f"{name:28}" + "".join(f"{f'{a}/{n}' if n else '':>12}" for a, n in counts))
        for fault in found.faults[: 40 if names else 3]:
            print("    " + fault)
    shares = [f"{a}/{n} {a / n:.1%}" if n else "" for a, n in total.values()]
    print("all: " + ", ".join(f"{kind} {share}" for kind, share in zip(kinds, shares)))


if __name__ == "__main__":
    main(sys.argv[1:])
