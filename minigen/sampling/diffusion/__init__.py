"""Samplers for diffusion and flow models: from a network that sees through noise to a sample.

    from minigen.sampling.diffusion import DDIM, NoiseSchedule

    schedule = NoiseSchedule.cosine(1000)
    x_t = schedule.add_noise(x_0, eps, t)                                  # training: what the network is shown
    x = DDIM(schedule, steps=50).sample(model, (16, 1, 8, 8), generator=g)  # model(x, t) -> prediction

schedule.py     NoiseSchedule: betas, alpha_bar, add_noise, velocity, posterior
prediction.py   what the network predicts: eps, x_0 or v; clipping and thresholding
sampler.py      what samplers share: sample, walk, step
ddpm.py         DDPM: ancestral sampling, every step draws noise          order 1
ddim.py         DDIM: the same marginals without the noise                order 1
sigmas.py       noise levels: Karras and others
euler.py        Euler, EulerAncestral: on x_0 + sigma eps                 order 1
heun.py         Heun: two calls a step                                    order 2
dpm_solver.py   DPMSolver: DPM-Solver++ and kin                           order 1 to 3 (3: corrected)
pndm.py         PNDM: linear multistep                                    order 4 where eps is smooth in t
flow.py         FlowEuler: for flow matching                              order 1
published.py    from_config: diffusers' scheduler_config.json
"""

from .ddim import DDIM
from .ddpm import DDPM
from .dpm_solver import DPMSolver
from .euler import Euler, EulerAncestral
from .flow import FlowEuler
from .heun import Heun
from .pndm import PNDM
from .prediction import DynamicThreshold, limited, to_eps, to_x0
from .published import from_config, schedule_from_config
from .sampler import Sampler
from .schedule import NoiseSchedule

__all__ = ["DDIM", "DDPM", "PNDM", "DPMSolver", "DynamicThreshold", "Euler", "EulerAncestral", "FlowEuler", "Heun",
           "NoiseSchedule", "Sampler", "from_config", "limited", "schedule_from_config", "to_eps", "to_x0"]  # fmt: skip
