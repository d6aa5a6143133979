"""One step of a language model, and the prompts it starts from: what generate, stream and beam_search share.

A language model here is anything with `step(ids, state=None) -> (logits (N, T, V), state)`: ids a Tensor (N, T) of
int64, `state` what came before (a KV cache, an LSTM's h and c; None at the start), so that a text in pieces gives the
same logits as at once. `state.select(rows)` gives the state of those rows, for beam search.
"""

import numpy as np

from ..autograd import no_grad
from ..device import to_device
from ..errors import ShapeError, expect
from ..tensor import Tensor


def next_logits(model, ids, state=None):
    """The model's logits (N, V) after ids (N, T), and its new state: without a graph, in evaluation mode."""
    modules = [module for module in model.modules() if module.training] if hasattr(model, "modules") else []
    device = next((p.device for p in model.parameters()), "cpu") if hasattr(model, "parameters") else "cpu"
    try:
        for module in modules:
            module.training = False
        with no_grad():
            logits, state = model.step(Tensor(to_device(np.ascontiguousarray(ids), device)), state)
    finally:
        for module in modules:
            module.training = True
    logits = (logits.data if isinstance(logits, Tensor) else logits)[:, -1]
    return (logits.astype(np.float32) if logits.dtype.itemsize < 4 else logits), state


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
