"""One step of a language model, and the prompts it starts from: what generate, stream and beam_search share.

A language model here is anything with `step(ids, state=None) -> (logits (N, T, V), state)`: ids a Tensor (N, T) of
int64, `state` what came before (a KV cache, an LSTM's h and c; None at the start), so that a text in pieces gives the
same logits as at once. `state.select(rows)` gives the state of those rows, for beam search. A model may also have
`static_cache(rows, capacity)`: a state that is made once and that its `step` writes in place, at addresses that stay.
"""

import numpy as np

from ..autograd import no_grad
from ..device import to_device, xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import Tensor


class Asking:
    """A context in which a model is asked: in evaluation mode, without a graph. It is left as it was found.

    device   where the model's parameters are
    """

    def __init__(self, model):
        self.modules = [each for each in model.modules() if each.training] if hasattr(model, "modules") else []
        first = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
        self.device, self.no_grad = "cpu" if first is None else first.device, no_grad()

    def __enter__(self):
        for module in self.modules:
            module.training = False
        self.no_grad.__enter__()
        return self

    def __exit__(self, *fault):
        self.no_grad.__exit__(*fault)
        for module in self.modules:
            module.training = True


def next_logits(model, ids, state=None, asking=None):
    """The model's logits (N, V) after ids (N, T), and its new state: without a graph, in evaluation mode.

    asking   an Asking of this model, from who asks many times
    """
    with asking or Asking(model) as asking:
        logits, state = model.step(Tensor(to_device(xp(ids).ascontiguousarray(ids), asking.device)), state)
        logits = (logits if isinstance(logits, Tensor) else Tensor(logits))[:, -1]
    return (logits.float() if logits.dtype.itemsize < 4 else logits).data, state


def starting_state(model, rows, longest, state, cache):
    """What decoding of so many rows begins with: `state`, or the cache that was asked for.

    cache   "static": the model's `static_cache(rows, longest)`, made once and written in place; "growing": None, the
            model's own; "auto": static where the model has it. A `state` that is given is kept, whatever its kind.
    """
    expect(cache in ("auto", "static", "growing"), 'generate: cache is "auto", "static" or "growing"', cache,
           error=ArgumentError)  # fmt: skip
    has = hasattr(model, "static_cache")
    expect(has or cache != "static", f"generate: {type(model).__name__} has no static_cache(rows, capacity)",
           error=ArgumentError, hint='write cache="auto"')  # fmt: skip
    return model.static_cache(rows, longest) if state is None and has and cache != "growing" else state


def prompts_of(ids):
    """Rows of int64, and the shape of the array they came in: None for a list of rows of several lengths."""
    if isinstance(ids, Tensor):
        ids = ids.data
    rule = "generate: ids are whole numbers, (T,), (N, T) or a list of rows, at least one symbol in each"
    if isinstance(ids, (list, tuple)) and any(np.ndim(row) for row in ids):
        found = [prompts_of(row) for row in ids]
        expect(all(len(shape or ()) == 1 for _, shape in found), rule, ids, error=ShapeError)
        rows = [rows[0] for rows, _ in found]
        same = len({len(row) for row in rows}) == 1
        return rows, (len(rows), len(rows[0])) if same else None
    ids = np.asarray(ids if isinstance(ids, (list, tuple)) else to_device(ids, "cpu"))
    good = ids.ndim in (1, 2) and ids.size and ids.dtype.kind in "iu"
    expect(good, rule, ids, error=ShapeError, hint="a text begins with something: the begin symbol, or a line end")
    return list(ids.astype(np.int64).reshape(-1, ids.shape[-1])), ids.shape


def ends_of(eos):
    """The symbols that end a text, (K,) int64: none, one or several."""
    return np.atleast_1d(np.asarray([] if eos is None else eos, np.int64))
