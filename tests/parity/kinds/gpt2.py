"""gpt2_*, gpt1_*: GPT-2 and GPT-1 as published: a language model, the bare network, a reward head.

Compared are logits, hidden states, attention weights, gradients and their norms, and five steps of AdamW, in float32,
and what there is of it in float64. Where padding stands on the left, GPT-1's published numbers at the padding itself
are of no use (its two kinds of mask differ there) and are left out.
"""

import numpy as np

import minigen
from minigen.errors import CheckpointError
from minigen.models.transformer.gpt import GPT, GPTClassifier, Transformer
from minigen.optim import AdamW
from minigen.published import load

from . import NotCovered, kind
from .generation import check_generation

TRANSPOSED = "c_attn.weight", "c_proj.weight", "c_fc.weight"  # published as (in, out)
INPUTS = {"input_ids", "attention_mask", "position_ids", "labels"}
KNOWN = {"logits", "hidden_first", "hidden_last", "attn_layer0", "last_hidden_state", "loss_train", "loss"}


@kind("gpt2_", "gpt1_")
def run(case):
    unknown = set(case.of("in__")) - INPUTS
    unknown |= {name for name in case.of("out__") if name not in KNOWN}
    if unknown:
        raise NotCovered(f"inputs or outputs that are not known: {sorted(unknown)}")
    try:
        single, double = load(case.folder), load(case.folder, "float64")
    except CheckpointError as refused:
        raise NotCovered(str(refused)) from None
    ours = outputs(single, case, "out__") | outputs(double, case, "out64__")
    if isinstance(single, GPT):
        check_generation(single, case)
    if isinstance(single, GPT) and "out__loss_train" in case:
        case.arrays["train__loss"] = case["train__loss"].astype(np.float32)  # what they were computed in
        ours |= training(single, case)
    case.compare(ours).require()


def outputs(model, case, prefix):
    """The network's outputs that the case holds, under their names there."""
    ids, mask, places = (case.get(f"in__{name}") for name in ("input_ids", "attention_mask", "position_ids"))
    places = None if places is None else minigen.tensor(np.broadcast_to(places, ids.shape))
    found = {}
    with minigen.no_grad():
        trunk = model if isinstance(model, Transformer) else model.transformer
        stream, weights = trunk(ids, mask, places, look=True)
        found |= {"hidden_first": stream[0], "hidden_last": stream[-1], "last_hidden_state": stream[-1]}
        found["attn_layer0"] = weights[0]
        if isinstance(model, GPT):
            found["logits"] = model.logits(ids, mask, places)
            found["loss"] = found["loss_train"] = loss_of(model, case)
        elif isinstance(model, GPTClassifier):
            found["logits"] = model(ids, mask)
    found = {prefix + name: x.numpy() for name, x in found.items() if prefix + name in case}
    if mask is not None and not model.config.norm_first and isinstance(model, GPT):
        for name, x in found.items():
            if name.endswith("logits"):
                x[mask == 0] = case[name][mask == 0]
    return found


def loss_of(model, case):
    """The loss of each next symbol: the labels are the ids, unless others are given."""
    ids, mask = case["in__input_ids"], case.get("in__attention_mask")
    given = case.get("in__labels")
    return model(ids[:, :-1], (ids if given is None else given)[:, 1:], None if mask is None else mask[:, :-1])


def training(model, case):
    """Gradients, and five full-batch steps of AdamW. But for two tables our names are the published ones."""
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    losses, ours = [], {}
    for step in range(5):
        optimizer.zero_grad()
        loss = loss_of(model, case)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {published(name, model): p.grad.numpy() for name, p in model.named_parameters()}
            for name, g in gradients.items():
                g = g.T if name.endswith(TRANSPOSED) else g
                ours[f"grad__{name}"], ours[f"gradnorm__{name}"] = g.copy(), np.float32(np.linalg.norm(g))
        optimizer.step()
    ours["train__loss"] = np.array(losses)
    missing = [name for name in case.arrays if name.startswith(("grad__", "gradnorm__")) and name not in ours]
    assert not missing, f"no gradient for {missing}"
    return {name: x for name, x in ours.items() if name in case}


def published(name, model):
    if model.config.norm_first:
        return name
    return name.replace("wte.", "tokens_embed.").replace("wpe.", "positions_embed.")
