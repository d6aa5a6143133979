"""unet2d_*: the published U-Nets, plain and conditional: outputs, gradients and norms, five steps of AdamW.

The loss is the mean of the squared output. The model is also saved and loaded again, and must answer the same.
"""

import tempfile

import numpy as np

from minigen import Tensor, no_grad
from minigen.errors import CheckpointError
from minigen.optim import AdamW
from minigen.published import load

from . import NotCovered, kind

INPUTS = {
    "sample": "x",
    "timestep": "t",
    "encoder_hidden_states": "context",
    "class_labels": "labels",
    "encoder_attention_mask": "mask",
}
OUTPUTS = {"sample", "loss_train"}


@kind("unet2d_")
def run(case):
    unknown = (set(case.of("in__")) - set(INPUTS)) | (set(case.of("out__")) - OUTPUTS)
    if unknown:
        raise NotCovered(f"inputs or outputs that are not known: {sorted(unknown)}")
    try:
        single, double = load(case.folder), load(case.folder, "float64")
    except CheckpointError as refused:
        raise NotCovered(str(refused)) from None
    ours = {"out__sample": answer(single, case), "out64__sample": answer(double, case)}
    ours = {name: y for name, y in ours.items() if name in case}
    again(single, case, ours["out__sample"])
    if "out__loss_train" in case:
        case.arrays["train__loss"] = case["train__loss"].astype(np.float32)  # what they were computed in
        ours |= training(single, case)
    case.compare(ours).require()


def inputs(model, case):
    """The case's inputs under our names, the floating-point ones in the model's type."""
    dtype = next(model.parameters()).dtype
    given = {INPUTS[name]: array for name, array in case.of("in__").items()}
    return {name: Tensor(a.astype(dtype) if a.dtype.kind == "f" else a) for name, a in given.items()}


def answer(model, case):
    with no_grad():
        return model(**inputs(model, case)).numpy()


def again(model, case, expected):
    """Saved as the published files and loaded, it is the same network."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/model")
        read = load(f"{folder}/model")
    assert read.config == model.config, f"saved as {model.config}\n  read as {read.config}"
    np.testing.assert_array_equal(answer(read, case), expected)


def training(model, case):
    """Gradients, and the losses of five full-batch steps of AdamW, without dropout."""
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)
    losses, ours = [], {}
    for step in range(5):
        optimizer.zero_grad()
        loss = (model(**inputs(model, case)) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            ours["out__loss_train"] = loss.item()
            for name, p in model.named_parameters():
                if p.requires_grad:
                    g = p.grad.numpy().copy()
                    ours[f"grad__{name}"], ours[f"gradnorm__{name}"] = g, np.float32(np.linalg.norm(g))
        optimizer.step()
    ours["train__loss"] = np.array(losses)
    missing = [name for name in case.arrays if name.startswith(("grad__", "gradnorm__")) and name not in ours]
    assert not missing, f"no gradient for {missing}"
    return {name: x for name, x in ours.items() if name in case}
