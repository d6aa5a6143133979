"""minigen's functions beside PyTorch's, on the samples of PyTorch's own operator database.

    pytest tests/torch/test_op_db.py                     every function; fails with the samples that differ
    python tests/torch/test_op_db.py [name ...]          a table of the scores

For each sample in float64: the result; the gradient with a random cotangent; the gradient of that gradient. Then
float32 samples give float32, and the database's wrong arguments are refused.
"""

import dataclasses
import functools
import itertools
import operator
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's operator database needs it: pip install expecttest")

from beside_torch import NoCounterpart, difference, gradients_difference, leaves, quiet, to_minigen  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

import minigen  # noqa: E402

pytestmark = pytest.mark.torch

FUNCTIONS = """
    add sub mul div neg exp log sqrt rsqrt pow sin cos tanh sigmoid abs sign floor clamp maximum minimum where
    eq ne lt gt matmul mm bmm einsum dot sum mean prod var std amax amin max min argmax argmin logsumexp
    softmax log_softmax cumsum reshape view permute transpose squeeze unsqueeze expand flatten cat stack split
    chunk narrow gather scatter scatter_add index_select masked_fill masked_select flip roll tril triu repeat
    tile broadcast_to diagonal norm erf log1p expm1 square reciprocal atan atan2 sort topk outer __getitem__
"""
NEURAL = """
    relu gelu silu leaky_relu elu softplus mish hardswish linear conv1d conv2d conv_transpose1d
    conv_transpose2d max_pool2d avg_pool2d adaptive_avg_pool2d batch_norm layer_norm group_norm instance_norm
    rms_norm embedding cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy
    binary_cross_entropy_with_logits kl_div pad interpolate pixel_shuffle pixel_unshuffle
    scaled_dot_product_attention grid_sample cosine_similarity normalize unfold glu ctc_loss logsigmoid
"""
FURTHER = """
    acos acosh addcdiv addcmul addmm all aminmax any argsort asin asinh atanh baddbmm bitwise_and bitwise_not
    bitwise_or bitwise_xor ceil clone contiguous copysign cosh count_nonzero cummax cummin cumprod diag
    diag_embed erfc exp2 expand_as floor_divide fmod frac full_like ge heaviside hypot index_add index_copy
    index_fill inner isclose isfinite isinf isnan kron kthvalue le lerp log10 log2 logaddexp logcumsumexp
    logical_and logical_not logical_or logical_xor logit median movedim mv nan_to_num nansum ones_like
    remainder repeat_interleave round scatter_reduce signbit sinh std_mean t take_along_dim tan tensor_split
    trunc unbind unflatten var_mean xlogy zeros_like
"""
JUDGED = [*FUNCTIONS.split(), *[f"nn.functional.{name}" for name in NEURAL.split()]]
NAMES = [*JUDGED, *FURTHER.split()]

# Functions that are not called by their name, or not with their arguments in the samples' order.
REORDERED = {
    "__getitem__": operator.getitem,
    "where": lambda a, condition, b: minigen.where(condition, a, b),
    "einsum": lambda tensors, equation: minigen.einsum(equation, *tensors),
    "nn.functional.embedding": lambda weight, index, **kw: minigen.nn.functional.embedding(index, weight, **kw),
    # PyTorch's gradient takes for granted that log_softmax comes before
    "nn.functional.ctc_loss": lambda x, *args, **kw: minigen.nn.functional.ctc_loss(x.log_softmax(2), *args, **kw),
}

# Samples that are not run, and why.
SKIPPED = {
    "memory_format": "memory_format and layout: here strides say it",
    "layout": "memory_format and layout: here strides say it",
    "pin_memory": "pinned memory is PyTorch's",
    "out": "out=: results are new tensors; x.copy_(y) writes",
}

# Functions with so many samples that the tests run only every nth one; as a script, all are run.
EVERY = {"nn.functional.max_pool2d": 36}

# Where minigen is deliberately stricter or clearer than PyTorch: (function, words of our refusal) and why.
STRICTER = {
    ("nn.functional.mse_loss", "broadcast"): "(N, 1) beside (N,) is a mistake in all but a few programs",
}
# Where minigen deliberately takes what PyTorch refuses: `maximum(x, 0)` and `eq(0, x)` can mean only one thing.
NUMBERS_FOR_TENSORS = """
    maximum minimum max min eq ne lt gt le ge copysign fmod heaviside hypot logaddexp logical_and logical_or logical_xor
"""


@dataclasses.dataclass
class Score:
    """How many of a function's samples pass, of how many."""

    forward: list = dataclasses.field(default_factory=lambda: [0, 0])
    gradient: list = dataclasses.field(default_factory=lambda: [0, 0])
    second: list = dataclasses.field(default_factory=lambda: [0, 0])
    float32: list = dataclasses.field(default_factory=lambda: [0, 0])
    refused: list = dataclasses.field(default_factory=lambda: [0, 0])
    skipped: list = dataclasses.field(default_factory=list)
    faults: list = dataclasses.field(default_factory=list)

    def note(self, kind, fault, sample):
        passed_of = getattr(self, kind)
        passed_of[1] += 1
        passed_of[0] += fault is None
        if fault is not None:
            self.faults.append(f"{kind}: {fault}\n      {shown(sample)}")


def ours(info):
    """minigen's function for an entry of the database, with the keywords that its variant fixes."""
    name = info.name
    if name in REORDERED:
        return REORDERED[name]
    place = minigen
    for part in name.split("."):
        place = getattr(place, part, None) or getattr(minigen.Tensor, part, None)
        if place is None:
            raise NotImplementedError(f"minigen has no {name}")
    fixed = info.op.keywords if isinstance(info.op, functools.partial) else {}
    fixed = {key: value for key, value in fixed.items() if key not in ("dtype",)} | {
        key: to_minigen(value) for key, value in fixed.items() if key == "dtype"
    }
    return functools.partial(place, **fixed) if fixed else place


def entries(name):
    return [info for info in op_db if info.name == name and not info.name.startswith("_refs")]


def samples(info, dtype, requires_grad):
    torch.manual_seed(0)
    return info.sample_inputs("cpu", dtype, requires_grad=requires_grad)


def call(info, sample, requires_grad):
    """minigen's function on its copy of a sample: (result, the tensors that want gradients)."""
    kwargs = dict(sample.kwargs)
    for key, reason in SKIPPED.items():
        if key in kwargs and kwargs[key] is not None:
            raise NoCounterpart(reason)
    if kwargs.get("dropout_p", 0) > 0:
        raise NoCounterpart("dropout: each library draws its own numbers")
    arguments = to_minigen((sample.input, sample.args, kwargs))
    first, args, kwargs = arguments
    inputs = [x for x in leaves(arguments, minigen.Tensor) if x.requires_grad]
    return ours(info)(first, *args, **kwargs), inputs if requires_grad else []


def run(info, sample, score):
    """One float64 sample: result, gradient, second gradient."""
    differentiable = info.supports_autograd
    try:
        result, inputs = call(info, sample, differentiable)
    except NoCounterpart as reason:
        score.skipped.append(str(reason))
        return
    except Exception as error:
        if any(info.name == name and words in str(error) for name, words in STRICTER):
            score.skipped.append("stricter than PyTorch")
            return
        score.note("forward", f"{type(error).__name__}: {error}", sample)
        if differentiable:
            score.note("gradient", "no result", sample)
            if info.supports_gradgrad:
                score.note("second", "no result", sample)
        return
    expected = info.gradcheck_wrapper(info.op, sample.input, *sample.args, **sample.kwargs)
    score.note("forward", difference(result, expected, 1e-9), sample)
    their_inputs = [x for x in leaves((sample.input, sample.args, sample.kwargs), torch.Tensor) if x.requires_grad]
    their_outputs = [y for y in leaves(expected, torch.Tensor) if y.requires_grad]
    if not (differentiable and their_inputs and their_outputs):
        return
    pairs = zip(leaves(result, minigen.Tensor), leaves(expected, torch.Tensor))
    outputs = [y for y, theirs in pairs if theirs.requires_grad]
    generator = np.random.default_rng(0)
    cotangents = [generator.standard_normal(tuple(y.shape)) for y in their_outputs]
    twice = info.supports_gradgrad
    theirs = torch.autograd.grad(
        their_outputs,
        their_inputs,
        [torch.tensor(c, requires_grad=True) for c in cotangents],
        create_graph=twice,
        allow_unused=True,
    )
    mine = guarded(gradients, outputs, inputs, [minigen.Tensor(c, requires_grad=True) for c in cotangents], twice)
    fault = mine if isinstance(mine, str) else gradients_difference(mine, theirs, 1e-8)
    score.note("gradient", fault, sample)
    if not twice:
        return
    again = [i for i, g in enumerate(theirs) if g is not None and g.requires_grad]
    if not again:
        return
    if isinstance(mine, str):
        score.note("second", "no gradient", sample)
        return
    cotangents = [generator.standard_normal(tuple(theirs[i].shape)) for i in again]
    try:
        theirs = torch.autograd.grad(
            [theirs[i] for i in again], their_inputs, [torch.tensor(c) for c in cotangents], allow_unused=True
        )
    except RuntimeError as error:  # "derivative for ... is not implemented"
        score.skipped.append(f"PyTorch has no second derivative: {error}")
        return
    mine = guarded(gradients, [mine[i] for i in again], inputs, [minigen.Tensor(c) for c in cotangents], False)
    fault = mine if isinstance(mine, str) else gradients_difference(mine, theirs, 1e-7)
    score.note("second", fault, sample)


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


@functools.cache
def score(name, every=1):
    """Every sample, or every nth one, of every variant of a function."""
    total = Score()
    with quiet():
        for info in entries(name):
            types = info.supported_dtypes("cpu")
            double = next((dtype for dtype in (torch.float64, torch.int64) if dtype in types), None)
            if double is None:
                continue  # a variant for complex numbers, or for another device
            for sample in itertools.islice(samples(info, double, info.supports_autograd), 0, None, every):
                run(info, sample, total)
            if torch.float32 in types:
                for sample in itertools.islice(samples(info, torch.float32, False), 0, None, every):
                    run_float32(info, sample, total)
            if info.error_inputs_func is not None:
                for error in info.error_inputs("cpu"):
                    run_error(info, error.sample_input, total)
    return total


def run_float32(info, sample, total):
    """A float32 sample: the types of what comes back."""
    try:
        result, _ = call(info, sample, False)
    except Exception:  # counted by `run`
        return
    expected = leaves(info.op(sample.input, *sample.args, **sample.kwargs), torch.Tensor)
    pairs = zip(leaves(result, minigen.Tensor), expected)
    wrong = [f"{y.dtype}, PyTorch's {theirs.dtype}" for y, theirs in pairs if str(y.dtype) != str(theirs.dtype)[6:]]
    total.note("float32", wrong[0] if wrong else None, sample)


def run_error(info, sample, total):
    """An argument that the database calls wrong: it must be refused."""
    try:
        call(info, sample, False)
    except NoCounterpart as reason:
        total.skipped.append(str(reason))
    except (minigen.errors.MinigenError, TypeError, ValueError, IndexError):
        total.note("refused", None, sample)
    except Exception as error:
        total.note("refused", f"an unexplained {type(error).__name__}: {error}", sample)
    else:
        numbers = isinstance(sample.input, int) or any(isinstance(x, int) for x in sample.args)
        if numbers and info.name in NUMBERS_FOR_TENSORS.split():
            total.refused[1] += 1
            total.skipped.append("a number for a tensor")
        else:
            total.note("refused", "accepted", sample)


def shown(sample):
    """A sample in one line: shapes instead of numbers."""

    def text(x):
        if isinstance(x, torch.Tensor):
            return f"{tuple(x.shape)} {str(x.dtype)[6:]}"
        if isinstance(x, list | tuple):
            return "[" + ", ".join(map(text, x)) + "]"
        return repr(x)

    keywords = [f"{key}={text(value)}" for key, value in sample.kwargs.items()]
    return ", ".join([text(sample.input), *map(text, sample.args), *keywords])[:300]


@pytest.mark.parametrize("name", NAMES)
def test_function(name):
    found = score(name, EVERY.get(name, 1))
    assert found.forward[1] > 0, f"{name}: no sample was run"
    assert not found.faults, f"{len(found.faults)} faults\n  " + "\n  ".join(found.faults[:10])


def table(names, thinned=False):
    """Lines of scores, with the totals last."""
    kinds = ["forward", "gradient", "second", "float32", "refused"]
    lines = [f"{'':36}" + "".join(f"{kind:>12}" for kind in kinds)]
    totals = {kind: [0, 0] for kind in kinds}
    for name in names:
        found = score(name, EVERY.get(name, 1) if thinned else 1)
        lines.append(f"{name:36}" + "".join("{:>7}/{:<4}".format(*getattr(found, kind)) for kind in kinds))
        for kind in kinds:
            totals[kind] = [a + b for a, b in zip(totals[kind], getattr(found, kind))]
    lines.append(f"{'all':36}" + "".join("{:>7}/{:<4}".format(*totals[kind]) for kind in kinds))
    return lines, totals


def test_totals(capsys):
    lines, totals = table(JUDGED, thinned=True)
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    for kind, share in {"forward": 0.98, "gradient": 0.98, "second": 0.95, "float32": 1.0, "refused": 0.9}.items():
        passed, count = totals[kind]
        assert passed >= share * count, f"{kind}: {passed} of {count}"


if __name__ == "__main__":
    chosen = sys.argv[1:] or NAMES
    print("\n".join(table(chosen)[0]))
    for chosen_name in chosen:
        for fault in score(chosen_name).faults:
            print(f"{chosen_name}: {fault}")
