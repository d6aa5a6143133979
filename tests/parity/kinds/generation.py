"""gen__*: what a model must write after gen__prompt, symbol for symbol: greedily, with a penalty, along beams.

The names say how: greedy, beam4 (four beams), greedy_rep_penalty_1p3 (a repetition penalty of 1.3).
"""

import re

from minigen.sampling.decoding import beam_search, generate
from minigen.sampling.logits import repetition_penalty

from . import NotCovered


def check_generation(model, case):
    """Compare all gen__ arrays of a case whose model has `step`."""
    found = case.of("gen__")
    prompt = found.pop("prompt", None)
    for name, expected in found.items():
        new = expected.shape[1] - prompt.shape[1]
        end = {"eos": model.config.eos_token_id, "pad": model.config.pad_token_id}
        if beams := re.fullmatch(r"beam(\d+)", name):
            ours = beam_search(model, prompt, new, beams=int(beams[1]), **end)
        elif penalty := re.fullmatch(r"greedy(?:_rep_penalty_(\d+)p(\d+))?", name):
            rules = []
            if penalty[1]:
                amount = float(f"{penalty[1]}.{penalty[2]}")
                rules = [lambda logits, ids, amount=amount: repetition_penalty(logits, ids, amount)]
            ours = generate(model, prompt, new, temperature=0, processors=rules, **end)
        else:
            raise NotCovered(f"gen__{name}: this way of writing is not known")
        same = ours.shape == expected.shape and (ours == expected).all()
        assert same, f"{case.name}: {name} wrote {ours.tolist()}, expected {expected.tolist()}"
