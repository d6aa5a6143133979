"""sched_*: a published scheduler's tables, and its walk with a small fixed network: out = tanh(W x) cos(t / 1000).

The network is given what the scheduler makes of x (`scale_model_input`); `traj` holds x after each step, and the noise
of step i, where one is drawn, is noise_used_per_step[i].

x starts as large as sigma, which is in the hundreds, or in the tens of thousands on a cosine schedule, where the sixth
digit is far above 2e-5. So the pass mark is in units of the largest entry of the step, where that is above 1, or of a
two-hundredth of the largest so far, whose seventh digit is still in x.
"""

import json

import numpy as np

from minigen import Tensor
from minigen.autograd import no_grad
from minigen.errors import CheckpointError
from minigen.sampling.diffusion import from_config

from . import NotCovered, kind


@kind("sched_")
def run(case):
    config = json.loads((case.folder / "config.json").read_text())
    sampler = _sampler(config)
    case.arrays |= {name: np.float32(case[name]) for name in ("init_noise_sigma",) if name in case}
    x0, eps = case.get("in__x0"), case.get("in__eps")
    ours = {"timesteps": sampler.timesteps, "sigmas": sampler.sigmas, "init_noise_sigma": sampler.initial_std}
    schedule = getattr(sampler, "schedule", None)
    if schedule is not None:
        ours |= {"alphas_cumprod": schedule.alphas_bar, "betas": schedule.betas}
    if "add_noise" in case:
        ours["add_noise"] = sampler.add_noise(Tensor(x0), Tensor(eps), case["in__t"])
    ours["traj"] = _walk(sampler, case)
    known = {name: _like(value, case[name]) for name, value in ours.items() if name in case and value is not None}
    extra = {n for n in case.arrays if not n.startswith("in__")} - set(known) - {"noise_used_per_step"}
    if extra:
        raise NotCovered(f"sched_: {', '.join(sorted(extra))} is not computed")
    units = {name: max(float(np.abs(case[name]).max()), 1.0) for name in known}
    units["traj"] = _units(case["traj"], case["in__x_start"])
    case.arrays |= {name: case[name] / units[name] for name in known}
    case.compare({name: value / units[name] for name, value in known.items()}, partly=True).require()


def _sampler(config):
    options = {"eta": config.get("eta") or 0.0, **(config.get("set_kw") or {})}
    steps = config.get("num_inference_steps")
    steps = None if {"timesteps", "sigmas"} & set(options) else steps
    try:
        return from_config(config, steps, **options)
    except (CheckpointError, TypeError) as reason:
        raise NotCovered(str(reason)) from None


def _walk(sampler, case):
    weight, noise, x = case["in__model_W"], case.get("noise_used_per_step"), case["in__x_start"]

    def model(x, t):
        mixed = np.einsum("oc,nchw->nohw", weight, x.data)
        return Tensor(np.tanh(mixed) * np.cos(t.data.astype(np.float32) / 1000).reshape(-1, 1, 1, 1))

    x, walked = Tensor(x), []
    with no_grad():
        for i in range(len(sampler.timesteps)):
            out = model(sampler.model_input(x, i), sampler.at(i, x))
            x = sampler.step(out, i, x, Tensor(noise[i]) if sampler.stochastic else None)
            walked.append(x.data)
    return np.stack(walked)


def _units(walked, start):
    """What 2e-5 is counted in, for each step."""
    largest = np.array([np.abs(x).max() for x in (start, *walked)])
    largest = np.maximum(largest, np.maximum.accumulate(largest) / 200)[1:]
    return np.maximum(largest, 1.0).astype(np.float32).reshape(-1, 1, 1, 1, 1)


def _like(value, theirs):
    return np.asarray(value.data if isinstance(value, Tensor) else value).astype(theirs.dtype)
