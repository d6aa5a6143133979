"""The next symbol from a model's logits: the likeliest, or one drawn after a temperature and cut-offs.

The definition is `categorical` (random.py) of the softmax of what the rules of logits.py leave. On the GPU a kernel
does all of it in one launch, and nobody waits for it (kernels/cuda/sampling.cu); it reads the same words of the
generator's stream. So the same seed and logits give the same symbols on either device, up to the rounding of a
probability, and a captured step draws anew at each replay.
"""

from .. import kernels
from ..errors import ArgumentError, expect
from ..ops.softmax import softmax
from ..random import default_generator
from . import logits as rules


def draw(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None):
    """A symbol of each row of logits (N, V): (N,) int64, where the logits lie.

    temperature  0 takes the likeliest symbol, the first of several
    top_k, top_p, min_p   cut-offs, in this order, after the temperature (logits.py)

    Raises ArgumentError for limits out of range, and for a row that is no distribution (NaN, or nothing but -inf).
    Where `never_waits`, such a row gives -1 instead.
    """
    cuts = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    for name, limit in cuts.items():
        if limit is not None:
            rules.check(name, limit)
    expect(temperature >= 0, "generate: temperature is 0 (greedy) or above", temperature, error=ArgumentError)
    family, generator = kernels.find(logits, "sampling"), generator or default_generator
    if temperature == 0:
        return logits.argmax(-1) if family is None else family.largest(logits)
    if family is not None:
        return family.draw(logits, temperature, top_k, top_p, min_p, *generator.reserve(2 * len(logits)))
    logits = rules.temperature(logits, temperature)
    for name, limit in cuts.items():
        logits = logits if limit is None else getattr(rules, name)(logits, limit)
    return generator.categorical(softmax(logits, -1))


def never_waits(logits, temperature):
    """Whether `draw` looks at no number on the host, so that a step with it can be captured."""
    return temperature == 0 or kernels.find(logits, "sampling") is not None
