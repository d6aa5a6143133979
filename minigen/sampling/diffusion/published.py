"""A sampler from a published scheduler's configuration (diffusers' scheduler_config.json)."""

from ...errors import CheckpointError
from .ddim import DDIM
from .ddpm import DDPM
from .dpm_solver import DPMSolver
from .euler import Euler, EulerAncestral
from .flow import FlowEuler
from .heun import Heun
from .pndm import PNDM
from .prediction import DynamicThreshold
from .schedule import NoiseSchedule

SCHEDULES = {
    "linear": NoiseSchedule.linear,
    "scaled_linear": NoiseSchedule.scaled_linear,
    "sigmoid": NoiseSchedule.sigmoid,
    "squaredcos_cap_v2": NoiseSchedule.cosine,
    "laplace": NoiseSchedule.laplace,
    "exp": NoiseSchedule.exp,
}


def schedule_from_config(config):
    """The `NoiseSchedule` that a published configuration describes. Raises CheckpointError for an unknown one."""
    if config.get("trained_betas") is not None:
        schedule = NoiseSchedule(config["trained_betas"])
    else:
        name, T = config.get("beta_schedule", "linear"), config.get("num_train_timesteps", 1000)
        if name not in SCHEDULES:
            raise CheckpointError(f"beta_schedule {name!r} is not known\n  known are {', '.join(SCHEDULES)}")
        line = name in ("linear", "scaled_linear", "sigmoid")
        heun = _class(config) == "HeunDiscreteScheduler"
        start = config.get("beta_start", 0.00085 if heun else 1e-4)
        end = config.get("beta_end", 0.012 if heun else 0.02)
        schedule = SCHEDULES[name](T, start, end) if line else SCHEDULES[name](T)
    return schedule.zero_terminal_snr() if config.get("rescale_betas_zero_snr") else schedule


def from_config(config, steps=None, eta=0.0, mu=None, timesteps=None, sigmas=None):
    """The sampler of a published configuration: `_class_name` names the class, the rest its options.

    eta         DDIM's
    mu          the shift of a flow with `use_dynamic_shifting`
    timesteps   own times, sigmas: own noise levels, in the place of `steps` of them

    Raises CheckpointError for a class or an option that is not here, ArgumentError for one that makes no sense.
    """
    name = _class(config)
    if name not in READERS:
        raise CheckpointError(f"scheduler {name!r} is not known\n  known are {', '.join(READERS)}")
    own = {"mu": mu, "timesteps": timesteps, "sigmas": sigmas}
    own = {key: given for key, given in own.items() if given is not None}
    if eta and name != "DDIMScheduler":
        raise CheckpointError(f"{name} has no eta")
    if name == "DDIMScheduler":
        own["eta"] = eta
    unknown = sorted(set(own) - TAKES[name])
    if unknown:
        raise CheckpointError(f"{name} takes no {', '.join(unknown)}")
    return READERS[name](config, steps, own)


def _class(config):
    return config.get("_class_name") or config.get("_class")


def _ddpm(config, steps, own):
    variance = config.get("variance_type", "fixed_small")
    if variance == "fixed_large_log":
        raise CheckpointError("variance_type 'fixed_large_log': its published formula is the root of a negative number")
    return DDPM(schedule_from_config(config), steps, clip=_clip(config, True), variance=variance,
                **_grid(config, "leading"), **own)  # fmt: skip


def _ddim(config, steps, own):
    return DDIM(schedule_from_config(config), steps, clip=_clip(config, True),
                to_one=config.get("set_alpha_to_one", True), **_grid(config, "leading"), **own)  # fmt: skip


def _pndm(config, steps, own):
    return PNDM(schedule_from_config(config), steps, runge_kutta=not config.get("skip_prk_steps", False),
                to_one=config.get("set_alpha_to_one", False), **_grid(config, "leading"), **own)  # fmt: skip


def _euler(config, steps, own):
    prediction = config.get("prediction_type", "epsilon")
    continuous = config.get("timestep_type") == "continuous" and prediction == "v_prediction"
    return Euler(schedule_from_config(config), steps, levels=_levels(config), smallest=config.get("sigma_min"),
                 largest=config.get("sigma_max"), final=config.get("final_sigmas_type", "zero"), continuous=continuous,
                 interpolation=config.get("interpolation_type", "linear"), **_grid(config), **own)  # fmt: skip


def _ancestral(config, steps, own):
    return EulerAncestral(schedule_from_config(config), steps, **_grid(config), **own)


def _heun(config, steps, own):
    return Heun(schedule_from_config(config), steps, levels=_levels(config), clip=_clip(config, False),
                **_grid(config), **own)  # fmt: skip


def _dpm(config, steps, own):
    flow = config.get("flow_shift", 1.0) if config.get("use_flow_sigmas") else None
    if own.pop("mu", None) is not None:
        raise CheckpointError("DPMSolverMultistepScheduler: mu (dynamic shifting) is not read")
    variance = config.get("variance_type")
    if variance is not None:
        raise CheckpointError(f"DPMSolverMultistepScheduler: variance_type {variance!r} is not read")
    algorithm = config.get("algorithm_type", "dpmsolver++")
    solver = config.get("solver_type", "midpoint")
    return DPMSolver(
        schedule_from_config(config),
        steps,
        order=config.get("solver_order", 2),
        clip=_clip(config, False),
        algorithm="dpmsolver++" if algorithm == "deis" else algorithm,
        solver="midpoint" if solver in ("logrho", "bh1", "bh2") else solver,
        lower_final=config.get("lower_order_final", True),
        euler_final=config.get("euler_at_final", False),
        final=config.get("final_sigmas_type", "zero"),
        levels=_levels(config),
        flow_shift=flow,
        lambda_min=config.get("lambda_min_clipped", float("-inf")),
        **_grid(config),
        **own,
    )


def _flow(config, steps, own):
    if config.get("use_dynamic_shifting") and "mu" not in own:
        raise CheckpointError("FlowMatchEulerDiscreteScheduler: use_dynamic_shifting needs mu=")
    if not config.get("use_dynamic_shifting"):
        own.pop("mu", None)
    return FlowEuler(
        steps,
        T=config.get("num_train_timesteps", 1000),
        shift=config.get("shift", 1.0),
        linear_mu=config.get("time_shift_type", "exponential") == "linear",
        terminal=config.get("shift_terminal"),
        levels=_levels(config),
        resampled=config.get("stochastic_sampling", False),
        inverted=config.get("invert_sigmas", False),
        **own,
    )


READERS = {
    "DDPMScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "PNDMScheduler": _pndm,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _ancestral,
    "HeunDiscreteScheduler": _heun,
    "DPMSolverMultistepScheduler": _dpm,
    "FlowMatchEulerDiscreteScheduler": _flow,
}
TAKES = {
    "DDPMScheduler": {"timesteps"},
    "DDIMScheduler": {"eta"},
    "PNDMScheduler": set(),
    "EulerDiscreteScheduler": {"timesteps", "sigmas"},
    "EulerAncestralDiscreteScheduler": set(),
    "HeunDiscreteScheduler": {"timesteps"},
    "DPMSolverMultistepScheduler": {"timesteps", "mu"},
    "FlowMatchEulerDiscreteScheduler": {"mu", "sigmas", "timesteps"},
}


def _grid(config, spacing="linspace"):
    return {
        "prediction": config.get("prediction_type", "epsilon"),
        "spacing": config.get("timestep_spacing", spacing),
        "offset": config.get("steps_offset", 0),
    }


def _levels(config):
    for kind in ("karras", "exponential", "beta"):
        if config.get(f"use_{kind}_sigmas"):
            return kind
    return "lu" if config.get("use_lu_lambdas") else None


def _clip(config, default):
    if config.get("thresholding"):
        return DynamicThreshold(config.get("dynamic_thresholding_ratio", 0.995), config.get("sample_max_value", 1.0))
    return config.get("clip_sample_range", 1.0) if config.get("clip_sample", default) else None
