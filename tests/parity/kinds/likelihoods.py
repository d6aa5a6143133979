"""def_discretized_logistic_mixture: the mean of -log p of 8-bit pixels, as in PixelCNN++.

params are (..., K logits, K means, K log scales) for pixels x (...) of one channel, or 10 K numbers for x (..., 3).
"""

import minigen
from minigen import Tensor
from minigen.models.autoregressive.logistic_mixture import PARTS, discretized_logistic_mixture

from . import NotCovered, kind


@kind("def_discretized_logistic_mixture")
def run(case):
    params, x = (Tensor(case[f"in__{name}"].copy(), requires_grad=True) for name in ("params", "x"))
    pixels = x.unsqueeze(-1) if x.shape == params.shape[:-1] else x
    if pixels.shape[:-1] != params.shape[:-1] or pixels.shape[-1] not in PARTS:
        raise NotCovered(f"params {params.shape} and x {x.shape} are not pixels of one channel or three")
    loss = -discretized_logistic_mixture(params, pixels).mean()
    g_params, g_x = minigen.autograd.grad(loss, [params, x])
    case.compare({"out__loss": loss, "gin__params": g_params, "gin__x": g_x}).require()
