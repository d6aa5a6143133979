"""Writing with a language model: one symbol after another, greedily or at random.

    generate(gpt, ids, 100, temperature=0.8, top_p=0.95, generator=g)       # ids (N, T) -> (N, T + 100)
    generate(gpt, ids, 100, temperature=0)                                  # greedy
    for symbol in stream(gpt, ids, 100): ...                                # as they come
    beam_search(gpt, ids, 100, beams=4, eos=0)                              # beam.py

Any model will do that has `step` (step.py). An encoder-decoder gives the `state` that its encoder left.

Prompts of several lengths need no padding. All start together, at the length of the shortest, and a row whose prompt
goes on takes its next symbol from there: the model never sees anything but the row's own text.

The text stands on the model's device, and so does the place of the next symbol. With a static cache a step (reading a
symbol, choosing the next, writing it down) is captured and replayed; on a GPU the host then only asks now and then
whether all rows have ended.
"""

import numpy as np

from .. import kernels
from ..autograd import action
from ..device import device_of, library, to_device, xp
from ..errors import ArgumentError, expect
from .beam import beam_search
from .drawing import draw, never_waits
from .step import Asking, ends_of, next_logits, prompts_of, starting_state

__all__ = ["beam_search", "generate", "stream"]

FEW = 16  # steps for which capturing does not pay
LOOK = 16  # steps on a GPU after which the host looks whether all rows have ended


def generate(model, ids, new, *, temperature=1.0, top_k=None, top_p=None, min_p=None, processors=(), eos=None, pad=None,
             state=None, generator=None, cache="auto"):  # fmt: skip
    """Prompts and at most `new` symbols more: (N, T) int64 -> (N, T + new); for several lengths a list of rows.

    ids          (N, T), (T,), or a list of rows of any lengths; each has at least one symbol
    temperature  0 is greedy: always the likeliest symbol
    top_k, top_p, min_p   cut-offs, in this order, after the temperature (logits.py)
    processors   functions of (logits (N, V), ids (N, t)) that give logits, called before all that, in order
    eos          the symbol, or symbols, that end a row; `pad` stands after it (the first eos if None)
    state        what comes before ids, as an encoder leaves it
    cache        "static": in arrays made once (raises where the model has none); "growing"; "auto": static if there is

    The result is no longer than the longest row. Raises ShapeError for ids of another kind, ArgumentError.
    """
    prompts, shape = prompts_of(ids)
    choose = _Chooser(temperature, top_k, top_p, min_p, processors, generator)
    rows, seen, text = _Rows(prompts, new, ends_of(eos)), 0, None
    for text, end in _write(model, prompts, new, choose, state, cache):
        if device_of(text) == "cpu" or end % LOOK == 0 or end == text.shape[1]:
            rows.look(text, max(seen, rows.given.min()), end)
            seen = end
            if not rows.is_open.any():
                break
    if text is None:  # new is 0
        return prompts if shape is None else np.stack(prompts).reshape(shape)
    text = to_device(text, "cpu")
    if shape is None:
        return [row[:length].copy() for row, length in zip(text, rows.ends)]
    for row, length in zip(text, rows.ends):
        row[length:] = _pad(pad, eos)
    return text[:, : rows.ends.max()].reshape(*shape[:-1], -1)


def stream(model, ids, new, *, temperature=1.0, top_k=None, top_p=None, min_p=None, processors=(), eos=None, pad=None,
           state=None, generator=None, cache="auto"):  # fmt: skip
    """The new symbols as they are written: integers for one prompt (T,), arrays (N,) for prompts (N, T) of one length.

    Options as in `generate`; the symbol that ends a row is given too.
    """
    prompts, shape = prompts_of(ids)
    rule = "stream: prompts of one length, so that their symbols come together"
    expect(shape is not None, rule, hint="write generate(...)", error=ArgumentError)
    choose = _Chooser(temperature, top_k, top_p, min_p, processors, generator)
    rows = _Rows(prompts, new, ends_of(eos))
    for text, end in _write(model, prompts, new, choose, state, cache):
        symbols, wrote = rows.look(text, end - 1, end)
        symbols = np.where(wrote, symbols, _pad(pad, eos))
        yield int(symbols[0]) if len(shape) == 1 else symbols
        if not rows.is_open.any():
            break


def _write(model, prompts, new, choose, state, cache):
    """After each step: the text so far (N, longest) on the model's device, and where it ends.

    Every row is written to the end; what stands after the symbol that ends it is for the caller to leave out.
    """
    if new == 0:
        return
    asking, lengths = Asking(model), _lengths(prompts)
    text = np.full((len(prompts), lengths.max() + new), -1)  # -1: not known yet
    for row, prompt in zip(text, prompts):
        row[: len(prompt)] = prompt
    text, first, last = to_device(text, asking.device), lengths.min(), text.shape[1]
    state = starting_state(model, len(text), last - 1, state, cache)  # nothing is read after the last symbol

    @action
    def read(at):
        ids = xp(text).maximum(text[:, at], 0)  # -1 is no symbol, but may be drawn: `_Rows` raises when it sees it
        return xp(text).ascontiguousarray(ids)

    @action
    def write(logits, at, end=None):
        known = text[:, at]
        text[:, at] = xp(text).where(known < 0, choose(logits, text[:, :end])[:, None], known)

    logits, state = next_logits(model, read(slice(0, first)), state, asking)
    write(logits, slice(first, first + 1), first)
    yield text, first + 1
    captured = last - first > FEW and choose.can_be_captured(logits) and getattr(state, "replays", False)
    if captured:
        from ..capture import capture

        place, family = library(asking.device).full(1, first), kernels.find(logits, "sampling")

        @action
        def go_on():
            place[...] += 1

        @action
        def read_here():
            return family.read_symbols(text, place)

        @action
        def write_next(logits):
            family.write_symbols(text, place, choose(logits, text))

        def step():
            """The symbol at `place` is read, and the next one written."""
            if family is None:
                logits, _ = next_logits(model, read(place), state, asking)
                go_on()
                write(logits, place)
            else:  # the same in three launches
                logits, _ = next_logits(model, read_here(), state, asking)
                write_next(logits)

        replay = capture(step, device=asking.device)
    for end in range(first + 1, last):
        if captured:
            state.check(1)
            count = state.length + 1  # by the host, which does not run the step
            replay()
            state.length = count
        else:
            logits, state = next_logits(model, read(slice(end - 1, end)), state, asking)
            write(logits, slice(end, end + 1), end)
        yield text, end + 1


class _Rows:
    """Which rows are still open, and where the others end, by what the host has seen of the text.

    given, ends, is_open   (N,): the lengths of the prompts, of the rows, and whether a row goes on
    """

    def __init__(self, prompts, new, eos):
        expect(isinstance(new, (int, np.integer)) and new >= 0, "generate: new is a number of symbols", new,
               error=ArgumentError)  # fmt: skip
        self.given, self.new, self.eos = _lengths(prompts), new, eos
        self.ends, self.is_open = self.given.copy(), np.full(len(prompts), new > 0)

    def look(self, text, start, end):
        """Look at the symbols from `start` to `end`. Returns the last, (N,), and which rows wrote it themselves."""
        for place, symbols in enumerate(to_device(text[:, start:end], "cpu").T, start):
            wrote = self.is_open & (place >= self.given)
            rule = "generate: the model's logits are no distribution: a NaN, an infinity, or -inf throughout"
            expect((symbols[wrote] >= 0).all(), rule, error=ArgumentError)
            self.ends[wrote] = place + 1
            self.is_open &= ~(wrote & np.isin(symbols, self.eos)) & (place + 1 < self.given + self.new)
        return symbols, wrote


class _Chooser:
    """The function of (logits (N, V), ids (N, t)) that says which symbol comes next, (N,) int64 on their device."""

    def __init__(self, temperature, top_k, top_p, min_p, processors, generator):
        expect(temperature >= 0, "generate: temperature is 0 (greedy) or above", temperature, error=ArgumentError)
        self.options, self.processors = (temperature, top_k, top_p, min_p, generator), processors

    def __call__(self, logits, ids):
        for process in self.processors:
            logits = process(logits, ids)
        return draw(logits, *self.options)

    def can_be_captured(self, logits):
        """It asks nobody else, sees no ids (they grow), and on a GPU waits for no number."""
        return not self.processors and (device_of(logits) == "cpu" or never_waits(logits, self.options[0]))


def _pad(pad, eos):
    """What stands after the end of a row."""
    return pad if pad is not None else next(iter(ends_of(eos)), 0)


def _lengths(prompts):
    return np.array([len(prompt) for prompt in prompts])
