"""Beam search: the likeliest texts, not the likeliest symbols (Lowerre 1976; Sutskever, Vinyals & Le 2014).

The likeliest next symbol may lead nowhere. So K texts are kept, the beams; each is continued by every symbol, and of
these the best K go on. A text that ends is set aside under its score

    log p(text) / length^a                     a = 1: the mean; a = 0: the sum, which favours short texts

(Wu et al. 2016, eq. 14, in the form that the published libraries have). The search stops when nothing that still runs
can beat what was set aside. The details (how many continuations are looked at, when it stops) are transformers' own,
so that the same model gives the same texts.
"""

import numpy as np

from ..device import device_of, to_device
from ..errors import ArgumentError, expect
from ..ops.softmax import log_softmax
from ..ops.sorting import topk
from .step import Asking, ends_of, next_logits, prompts_of, starting_state

LOW = np.float32(-1e9)  # the score of a text that is not there


def beam_search(model, ids, new, beams=4, *, length_penalty=1.0, early_stopping=False, eos=None, pad=None,
                processors=(), state=None, best=1, scores=False, cache="auto"):  # fmt: skip
    """Prompts with their likeliest continuations of at most `new` symbols: (N, T) int64 -> (N, T + up to new).

    ids             prompts of one length; (T,) for one
    length_penalty  the exponent a of the length by which log p is divided
    early_stopping  True: stop as soon as `beams` texts have ended. False: when none that runs, scored at its present
                    length, beats the worst that ended. "never": scored at the greatest length, if a > 0
    eos             the symbol, or symbols, that end a text; `pad` stands after it (the first eos if None)
    processors      functions of (log p (N * beams, V), ids) that give what stands in its place
    best            texts for each prompt, best first: (N * best, ...) rows
    scores          also return log p / length^a of each, (N * best,) float32
    cache           as in `generate` (decoding.py)

    `model.step` and the state's `select(rows)` are as step.py says. Raises ArgumentError.
    """
    prompts, shape = prompts_of(ids)
    expect(shape is not None, "beam_search: prompts of one length", error=ArgumentError,
           hint="call it once for each length")  # fmt: skip
    expect(1 <= best <= beams and new >= 1, "beam_search: 1 <= best <= beams, and new is at least 1", best, beams, new,
           error=ArgumentError)  # fmt: skip
    expect(early_stopping in (True, False, "never"), 'beam_search: early_stopping is True, False or "never"',
           early_stopping, error=ArgumentError)  # fmt: skip
    eos = ends_of(eos)
    N, start = len(prompts), len(prompts[0])
    fill = pad if pad is not None else eos[0] if len(eos) else -1
    search = _Search(N, beams, start, new, fill, length_penalty, early_stopping)
    search.text[:, :, :start] = np.stack(prompts)[:, None]

    asking, state = Asking(model), starting_state(model, N, start + new - 1, state, cache)
    logits, state = next_logits(model, np.stack(prompts), state, asking)
    logits = logits.repeat(beams, 0)
    state = state.select(np.arange(N).repeat(beams))
    while True:
        log_p = log_softmax(logits.astype(np.float32, copy=False), -1)
        for process in processors:
            log_p = process(log_p, search.text[:, :, : search.end].reshape(N * beams, -1))
        came_from = search.grow(log_p, eos)
        if search.over:
            break
        last = search.text[:, :, search.end - 1].reshape(-1, 1)
        logits, state = next_logits(model, last, state.select(came_from), asking)
    texts = search.ended_text[:, :best].reshape(N * best, -1)
    longest = start + search.ended_length[:, :best].max()
    texts = texts[:, :longest] if len(shape) == 2 or best > 1 else texts[0, :longest]
    return (texts, search.ended_score[:, :best].reshape(-1)) if scores else texts


class _Search:
    """The beams of N prompts: K that run, by log p, and K that have ended, by score."""

    def __init__(self, N, K, start, new, fill, length_penalty, early_stopping):
        self.K, self.start, self.end, self.last = K, start, start, start + new
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.text = np.full((N, K, self.last), fill, np.int64)
        self.log_p = np.full((N, K), LOW)
        self.log_p[:, 0] = 0  # all beams are the prompt at first: only one of them may grow
        self.ended_text = self.text.copy()
        self.ended_score = np.full((N, K), LOW)
        self.ended_length = np.zeros((N, K), np.int64)
        self.has_ended = np.zeros((N, K), bool)
        self.may_improve = np.ones((N, 1), bool)
        self.over = False

    def grow(self, log_p, eos):
        """Each beam by one symbol, log_p (N K, V). Returns the rows, (N K,), from which the new beams come."""
        N, K, V = len(self.text), self.K, log_p.shape[-1]
        # Enough of the best continuations that K are left to go on with, even if every beam could end.
        count = min(max(2, 1 + len(eos)) * K, K * V)
        total = (log_p.reshape(N, K, V) + to_device(self.log_p[:, :, None], device_of(log_p))).reshape(N, K * V)
        total, index = (to_device(x, "cpu") for x in topk(total, count, -1))
        beam, symbol = index // V, index % V
        text = np.take_along_axis(self.text, beam[..., None], 1)
        text[:, :, self.end] = symbol
        self.end += 1
        stops = np.isin(symbol, eos) | (self.end == self.last)
        self._set_aside(text, total, stops)

        running = total + np.where(stops, LOW, np.float32(0))
        going = np.argsort(-running, 1, kind="stable")[:, :K]
        self.text = np.take_along_axis(text, going[..., None], 1)
        self.log_p = np.take_along_axis(running, going, 1)
        self._judge(stops)
        return (np.take_along_axis(beam, going, 1) + np.arange(N)[:, None] * K).reshape(-1)

    def _set_aside(self, text, total, stops):
        """Of the texts that ended before and those that end now among the best K, the K with the best scores."""
        ends = stops & (np.arange(stops.shape[1]) < self.K)
        length = self.end - self.start
        score = total / np.float32(length**self.length_penalty)
        closed = ~self.may_improve
        if self.early_stopping is True:
            closed = closed | self.has_ended.all(1, keepdims=True)
        score = score + LOW * (closed + (~ends).astype(np.float32))
        scores = np.concatenate([self.ended_score, score], 1)
        chosen = np.argsort(-scores, 1, kind="stable")[:, : self.K]

        def pick(old, new):
            both = np.concatenate([old, new], 1)
            return np.take_along_axis(both, chosen[..., None] if both.ndim == 3 else chosen, 1)

        self.ended_score = pick(self.ended_score, score)
        self.ended_text = pick(self.ended_text, text)
        self.ended_length = pick(self.ended_length, np.full(score.shape, length))
        self.has_ended = pick(self.has_ended, ends)

    def _judge(self, stops):
        """Whether any prompt's running texts may still beat those that ended."""
        length = self.end - self.start
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.last - self.start
        reachable = self.log_p[:, :1] / np.float32(length**self.length_penalty)
        to_beat = np.where(self.has_ended, self.ended_score.min(1, keepdims=True), LOW)
        self.may_improve &= (reachable > to_beat).any(1, keepdims=True)
        all_full = self.early_stopping is True and self.has_ended.all()
        self.over = bool(not self.may_improve.any() or all_full or stops.all())
