"""Writing with a language model: one symbol after another, greedily or at random.

    generate(gpt, ids, 100, temperature=0.8, top_p=0.95, generator=g)       # ids (N, T) -> (N, T + 100)
    generate(gpt, ids, 100, temperature=0)                                  # greedy
    for symbol in stream(gpt, ids, 100): ...                                # as they come
    beam_search(gpt, ids, 100, beams=4, eos=0)                              # beam.py

Any model will do that has `step` (step.py). An encoder-decoder gives the `state` that its encoder left.

Prompts of several lengths need no padding. All start together, at the length of the shortest, and a row whose prompt
goes on takes its next symbol from there: the model never sees anything but the row's own text.
"""

import numpy as np

from ..device import to_device
from ..errors import ArgumentError, expect
from ..ops.softmax import softmax
from ..random import default_generator
from . import logits as rules
from .beam import beam_search
from .step import ends_of, next_logits, prompts_of

__all__ = ["beam_search", "generate", "stream"]


def generate(model, ids, new, *, temperature=1.0, top_k=None, top_p=None, min_p=None, processors=(), eos=None, pad=None,
             state=None, generator=None):  # fmt: skip
    """Prompts and at most `new` symbols more: (N, T) int64 -> (N, T + new); for several lengths a list of rows.

    ids          (N, T), (T,), or a list of rows of any lengths; each has at least one symbol
    temperature  0 is greedy: always the likeliest symbol
    top_k, top_p, min_p   cut-offs, in this order, after the temperature (logits.py)
    processors   functions of (logits (N, V), ids (N, t)) that give logits, called before all that, in order
    eos          the symbol, or symbols, that end a row; `pad` stands after it (the first eos if None)
    state        what comes before ids, as an encoder leaves it

    The result is no longer than the longest row. Raises ShapeError for ids of another kind, ArgumentError.
    """
    prompts, shape = prompts_of(ids)
    choose = _chooser(temperature, top_k, top_p, min_p, processors, generator)
    lengths, text = _lengths(prompts), None
    for step in _write(model, prompts, new, choose, ends_of(eos), state):
        text, end, wrote = step
        lengths[wrote] = end
    if text is None:  # new is 0
        return prompts if shape is None else np.stack(prompts).reshape(shape)
    if shape is None:
        return [row[:length].copy() for row, length in zip(text, lengths)]
    for row, length in zip(text, lengths):
        row[length:] = _pad(pad, eos)
    return text[:, : lengths.max()].reshape(*shape[:-1], -1)


def stream(model, ids, new, *, temperature=1.0, top_k=None, top_p=None, min_p=None, processors=(), eos=None, pad=None,
           state=None, generator=None):  # fmt: skip
    """The new symbols as they are written: integers for one prompt (T,), arrays (N,) for prompts (N, T) of one length.

    Options as in `generate`; the symbol that ends a row is given too.
    """
    prompts, shape = prompts_of(ids)
    rule = "stream: prompts of one length, so that their symbols come together"
    expect(shape is not None, rule, hint="write generate(...)", error=ArgumentError)
    choose = _chooser(temperature, top_k, top_p, min_p, processors, generator)
    for text, end, wrote in _write(model, prompts, new, choose, ends_of(eos), state):
        symbols = np.where(wrote, text[:, end - 1], _pad(pad, eos))
        yield int(symbols[0]) if len(shape) == 1 else symbols


def _write(model, prompts, new, choose, eos, state):
    """After each step: the text so far (N, longest), where it ends, and which rows wrote this symbol themselves."""
    expect(isinstance(new, (int, np.integer)) and new >= 0, "generate: new is a number of symbols", new,
           error=ArgumentError)  # fmt: skip
    given = _lengths(prompts)
    text = np.full((len(prompts), given.max() + new), eos[0] if len(eos) else 0)  # symbols that the model knows
    for row, prompt in zip(text, prompts):
        row[: len(prompt)] = prompt
    end, start, is_open = given.min(), 0, np.full(len(prompts), new > 0)
    while is_open.any():
        logits, state = next_logits(model, text[:, start:end], state)
        wrote = is_open & (end >= given)
        text[wrote, end] = choose(logits, text[:, :end])[wrote]
        is_open &= ~(wrote & np.isin(text[:, end], eos)) & (end + 1 < given + new)
        start, end = end, end + 1
        yield text, end, wrote


def _chooser(temperature, top_k, top_p, min_p, processors, generator):
    """The function of (logits, ids) that says which symbol comes next, (N,) int64 on the CPU."""
    generator = generator or default_generator
    expect(temperature >= 0, "generate: temperature is 0 (greedy) or above", temperature, error=ArgumentError)

    def choose(logits, ids):
        for process in processors:
            logits = process(logits, ids)
        if temperature == 0:
            return to_device(logits.argmax(-1), "cpu")
        logits = rules.temperature(logits, temperature)
        for rule, limit in ((rules.top_k, top_k), (rules.top_p, top_p), (rules.min_p, min_p)):
            logits = logits if limit is None else rule(logits, limit)
        return to_device(generator.categorical(softmax(logits, -1)), "cpu")

    return choose


def _pad(pad, eos):
    """What stands after the end of a row."""
    return pad if pad is not None else next(iter(ends_of(eos)), 0)


def _lengths(prompts):
    return np.array([len(prompt) for prompt in prompts])
