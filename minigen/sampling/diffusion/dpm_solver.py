"""DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), and DPM-Solver (arXiv:2206.00927): exponential integrators.

With lambda = log(alpha / sigma), the probability flow from s to t is solved exactly but for one integral (eq. 8),

    x_t = sigma_t / sigma_s x_s + sigma_t  integral over lambda from lambda_s to lambda_t of  e^lambda x_0(x, lambda)

so only the predicted x_0 is approximated: by a constant (order 1, which is DDIM), a line or a parabola through the last
two or three predictions (algorithm 2). DPM-Solver does the same with eps in place of x_0, with alpha and sigma
exchanged and lambda reversed: one formula serves both. The "sde" variants solve the reverse diffusion, noise and all.
"""

import numpy as np

from ...errors import ArgumentError, expect
from ...tensor import Tensor, value
from .prediction import DynamicThreshold, limited, to_eps, to_x0
from .sampler import Sampler, spaced
from .sigmas import levels, of_schedule, time_of

ALGORITHMS = "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"


class DPMSolver(Sampler):
    """The multistep solver of order 1, 2 or 3: one call of the network a step.

    algorithm     "dpmsolver++", or "sde-dpmsolver++" which draws noise; "dpmsolver" and "sde-dpmsolver" are on eps
    solver        how order 2 weighs the slope: "midpoint" or "heun" (section 4 of the first paper, eq. 4.3 of it)
    lower_final   in fewer than 15 steps, the last is of order 1 and the one before of order 2
    euler_final   the last step is of order 1, however many there are (always so if it goes to sigma = 0)
    final         the last sigma: "zero", or "sigma_min", the schedule's smallest
    levels        None: the schedule's sigmas; or "karras", "exponential", "lu", "beta" (see sigmas.py)
    flow_shift    a number makes it a solver for flow matching (alpha = 1 - sigma), with shifted levels (see flow.py);
                  then "flow_prediction" (the velocity) is a prediction too
    lambda_min    skip the times whose lambda is below (a cosine schedule wants -5.1)
    timesteps     own times instead of `steps` of them
    corrected     for order 3: the published step counts the second difference of the predictions half as much as the
                  parabola through them has it (in the sde with a wrong sign besides), and so is of order 2, if a good
                  one; True mends it
    """

    def __init__(self, schedule, steps=None, order=2, prediction="epsilon", clip=None, algorithm="dpmsolver++",
                 solver="midpoint", lower_final=True, euler_final=False, final="zero", levels=None, flow_shift=None,
                 lambda_min=-np.inf, spacing="linspace", offset=0, timesteps=None, corrected=False):  # fmt: skip
        flow = prediction == "flow_prediction"
        steps = len(timesteps) if steps is None and timesteps is not None else steps
        super().__init__(schedule, steps, "epsilon" if flow else prediction, clip)
        self.prediction = prediction
        for rule, holds, given in (
            ("order is 1, 2 or 3", order in (1, 2, 3), order),
            (f"algorithm is one of {ALGORITHMS}", algorithm in ALGORITHMS, algorithm),
            ('solver is "midpoint" or "heun"', solver in ("midpoint", "heun"), solver),
            ('final is "zero" or "sigma_min"', final in ("zero", "sigma_min"), final),
            ("a solver on eps ends at sigma_min, not at zero", "++" in algorithm or final != "zero", final),
            ("sde-dpmsolver has no order 3", algorithm != "sde-dpmsolver" or order < 3, order),
            ("flow_prediction needs an algorithm on x_0 (++)", "++" in algorithm or not flow, algorithm),
            ("clip is None or a DynamicThreshold", clip is None or isinstance(clip, DynamicThreshold), clip),
            ("with own timesteps there are no levels", levels is None or timesteps is None, levels),
        ):
            expect(holds, f"DPMSolver: {rule}", given, error=ArgumentError)
        self.order, self.algorithm, self.solver = order, algorithm, solver
        self.lower_final, self.euler_final, self.final = lower_final, euler_final, final
        self.flow_shift, self.stochastic, self.corrected = flow_shift, algorithm.startswith("sde"), corrected
        if timesteps is None:
            times, sigmas = self._grid(levels, spacing, offset, lambda_min)
        else:
            times = np.asarray(timesteps, dtype=np.int64)
            sigmas = np.interp(times, np.arange(len(schedule)), of_schedule(schedule))
        last = of_schedule(schedule)[0] if final == "sigma_min" else 0.0
        self.sigmas = np.append(sigmas, last).astype(schedule.dtype)
        self.timesteps = times.astype(np.int64)
        self._past = []  # the predictions so far, newest last

    def _grid(self, kind, spacing, offset, lambda_min):
        """(times, sigmas without the final one)."""
        n, T, schedule = self.steps, len(self.schedule), of_schedule(self.schedule)
        logs = np.log(schedule)
        if self.flow_shift is not None and kind is None:
            sigmas = shifted(1 - np.linspace(1, 1 / T, n + 1), self.flow_shift)[:0:-1]
            return sigmas * T, sigmas
        if kind is not None:
            sigmas = levels(kind, schedule[-1], schedule[0], n)
            times = np.array([time_of(s, logs) for s in sigmas])
            rounds = kind in ("karras", "lu") and self.schedule.name != "cosine"
            return times.round() if rounds else times, sigmas
        end = T - int(np.searchsorted(-logs[::-1], lambda_min))  # lambda = -log sigma rises as t falls
        if spacing == "trailing":
            times = np.round(np.arange(end, 0, -T / n)).astype(np.int64) - 1
        else:  # a point more, the last of which, t = 0, is left out
            times = spaced(end, n + 1, spacing)[:-1] + (offset if spacing == "leading" else 0)
        expect(times.max() < T, f"DPMSolver: offset={offset} leads beyond the last time", times, error=ArgumentError)
        return times, np.interp(times, np.arange(T), schedule)

    def reset(self):
        self._past = []

    def add_noise(self, x0, eps, t):
        alpha, sigma = self._alpha_sigma(value(self.sigma_of(t, x0)))
        return x0 * Tensor(alpha) + eps * Tensor(sigma)

    def step(self, out, i, x, noise=None):
        self._past = (
            [*self._past[1 - self.order :], self._model(out, i, x)] if self.order > 1 else [self._model(out, i, x)]
        )
        order = min(len(self._past), self._order_at(i))
        alphas, sigmas, lambdas = self._levels(i, order)
        h = lambdas[0] - lambdas[1]
        if h == 0:  # levels that end at the smallest sigma, with final="sigma_min"
            return x
        of_x, k, scale, std = self._formula(alphas, sigmas, h)
        phi = np.exp(-k) - 1
        x = x * float(of_x) - self._past[-1] * float(scale * phi)
        if order > 1:
            first, second = self._slopes(h, lambdas)
            if order == 2 and self.solver == "midpoint":
                x = x - first * float(0.5 * (scale * phi))
            else:
                x = x + first * float(scale * (phi / k + 1))
        if order == 3:
            weight = scale * ((phi + k) / k**2 - (-0.5 if self.stochastic and not self.corrected else 0.5))
            x = x - second * float(2 * weight if self.corrected else weight)
        return x if std is None else x + noise * float(std)

    # Pieces

    def _order_at(self, i):
        """The order of step i: lower at the end, where the predictions change fast."""
        left = len(self.timesteps) - 1 - i
        few = self.lower_final and len(self.timesteps) < 15
        if left == 0 and (few or self.euler_final or self.final == "zero"):
            return 1
        return min(self.order, 2) if left == 1 and few else self.order

    def _model(self, out, i, x):
        """x_0, or eps, from the network's output."""
        alpha, sigma = self._alpha_sigma(self.sigmas[i])
        if self.prediction == "flow_prediction":
            return limited(x - out * float(self.sigmas[i]), self.clip)
        if "++" in self.algorithm:
            return limited(to_x0(self.prediction, out, x, alpha, sigma), self.clip)
        eps = to_eps(self.prediction, out, x, alpha, sigma)
        if self.clip is None:
            return eps
        return to_eps("sample", self.clip(to_x0("epsilon", eps, x, alpha, sigma)), x, alpha, sigma)

    def _alpha_sigma(self, sigma):
        """x = alpha x_0 + sigma' eps at the level sigma."""
        if self.flow_shift is not None:
            return 1 - sigma, sigma
        alpha = 1 / np.sqrt(sigma**2 + 1)
        return alpha, sigma * alpha

    def _levels(self, i, order):
        """alpha, sigma and lambda at the end of step i, at its beginning, and at the beginnings of those before."""
        pairs = [self._alpha_sigma(self.sigmas[j]) for j in range(i + 1, i - order, -1)]
        alphas, sigmas = zip(*pairs)
        with np.errstate(divide="ignore"):
            return alphas, sigmas, [np.log(a) - np.log(s) for a, s in pairs]

    def _formula(self, alphas, sigmas, h):
        """x' = of_x x - scale (e^-k - 1) D0 + ... + std noise."""
        (alpha, alpha_s), (sigma, sigma_s) = alphas[:2], sigmas[:2]
        if self.algorithm == "dpmsolver++":
            return sigma / sigma_s, h, alpha, None
        if self.algorithm == "sde-dpmsolver++":
            return sigma / sigma_s * np.exp(-h), 2 * h, alpha, sigma * np.sqrt(1 - np.exp(-2 * h))
        if self.algorithm == "dpmsolver":
            return alpha / alpha_s, -h, sigma, None
        return alpha / alpha_s, -h, 2 * sigma, sigma * np.sqrt(np.exp(2 * h) - 1)

    def _slopes(self, h, lambdas):
        """The first and second divided differences of the predictions, in units of the step h."""
        new, old = self._past[-1], self._past[-2]
        r0 = (lambdas[1] - lambdas[2]) / h
        near = (new - old) * float(1 / r0)
        if len(lambdas) == 3:
            return near, None
        r1 = (lambdas[2] - lambdas[3]) / h
        far = (old - self._past[-3]) * float(1 / r1)
        return near + (near - far) * float(r0 / (r0 + r1)), (near - far) * float(1 / (r0 + r1))


def shifted(sigmas, shift):
    """Flow-matching levels moved towards noise: shift sigma / (1 + (shift - 1) sigma) (Esser et al. 2024, eq. 23)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)
