# %% [markdown]
# # 22. Diffusion
#
# How can a network that only knows how to remove noise draw a picture from nothing but noise?
#
# Add a little noise to a picture, a thousand times, and nothing of it is left. Every one of these steps is easy to undo
# approximately. So undo them, one after the other, beginning with pure noise (Sohl-Dickstein et al. 2015; Ho, Jain &
# Abbeel 2020; Song et al. 2021). That is all of it. The rest is knowing why it works, and how well:
#
# 1. noise, little by little and all at once
# 2. the best answer that a denoiser can give, where it is known exactly
# 3. a network learns it
# 4. one step back, with dice
# 5. the way back without dice: a differential equation, and how fast its solvers converge
# 6. the same thing as a bound on the likelihood
# 7. what to predict, and how fast to drown
# 8. sprites, judged exactly
# 9. real digits
#
# You need lessons 1 (nats, KL), 2 (Adam), 6 (convolution) and 10 (the ELBO). Run it with `python
# lessons/22_diffusion.py`.

# %%
import itertools
import math

import numpy as np

import minigen
from minigen import nn, optim
from minigen.data import digits, worlds
from minigen.lessons import Lesson
from minigen.models.diffusion.ddpm import DDPM
from minigen.plot import COLOURS
from minigen.sampling import diffusion as samplers

lesson = Lesson("22_diffusion", uses=("device",))
g = lesson.generator


def tensor(array, dtype=np.float32):
    return minigen.tensor(np.asarray(array, dtype), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. Noise, little by little and all at once
#
# A step keeps sqrt(1 - beta) of what it finds and adds noise of variance beta. (The roots keep the variance at 1: if
# x has variance 1, then (1 - beta) + beta = 1. Exercise 4 forgets one.) Ho et al. take T = 1000 steps, with beta
# from 0.0001 to 0.02 on a line. Two Gaussians added are a Gaussian, so t steps are one step:
#
#     x_t = a_t x_0 + s_t noise,       a_t^2 = product of (1 - beta) up to t,   s_t^2 = 1 - a_t^2          (Ho, eq. 4)
#
# Here is a world on the line, three bumps. We walk 1000 steps with 20,000 points, and beside them jump.

# %%
lesson.section("1. Noise, little by little and all at once")

bumps = worlds.GaussianMixture([0.3, 0.5, 0.2], [-1.5, 0.4, 1.6], [0.04, 0.09, 0.01])
T = 1000
betas = np.linspace(1e-4, 0.02, T)
alpha_bar = np.cumprod(1 - betas)
a, s = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)

x = start = bumps.sample(lesson.pick(20_000, quick=2000), g).astype(np.float64)
rows, paths = [], [x[:8, 0]]
for t in range(T):
    x = math.sqrt(1 - betas[t]) * x + math.sqrt(betas[t]) * g.normal(x.shape)
    paths.append(x[:8, 0])
    if t + 1 in (1, 100, 300, 1000):
        jumped = a[t] * start + s[t] * g.normal(x.shape)
        rows.append([f"{t + 1}", a[t], s[t], x.mean(), jumped.mean(), x.std(), jumped.std(),
                     bumps.noised(a[t], s[t]).wasserstein(x)])  # fmt: skip
lesson.table(["steps", "a", "s", "mean, walked", "jumped", "spread, walked", "jumped", "W1 to the exact law"], rows)

with lesson.figure(
    "forward", "The world drowns: its exact density, and eight points on their walk.", size=(6.4, 3.0)
) as axes:
    line = np.linspace(-3, 3, 300)
    steps = np.unique(np.linspace(0, T - 1, 120).astype(int))
    density = np.stack([np.exp(bumps.noised(a[t], s[t]).log_prob(line[:, None])) for t in steps], 1)
    axes.imshow(density / density.max(0), extent=(0, T, -3, 3), origin="lower", aspect="auto", cmap="Blues", alpha=0.8)
    axes.plot(np.array(paths), linewidth=0.5, color=COLOURS["second"])
    axes.set(xlabel="step", ylabel="x", title="1000 steps of noise (each column scaled to its peak)")
    axes.grid(visible=False)

# %% [markdown]
# Walked or jumped, it is the same law. After 1000 steps x is N(0, 1) and has forgotten where it came from. So training
# needs no walk: draw a t, draw noise, jump.
#
# ## 2. The best answer
#
# Give somebody x_t and t, and ask which noise was added. It cannot be known: other x_0 with other noise give the same
# x_t. The answer with the least squared error is the mean over all of them, E[noise | x_t]. And there is a formula for
# it that does not mention x_0 (Tweedie's; Robbins 1956, Vincent 2011):
#
#     E[noise | x_t] = -s_t  d/dx log p_t(x_t)
#
# d/dx log p, the *score*, says which way the density grows. A denoiser is a compass towards data, and nothing else is
# needed to get there. Is it true? Sort a million jumps by x_t, and average the noise in each drawer:

# %%
lesson.section("2. The best answer")

t = 300
n = lesson.pick(1_000_000, quick=100_000)
noise = g.normal((n, 1)).astype(np.float64)
x_t = a[t] * bumps.sample(n, g) + s[t] * noise
world_t = bumps.noised(a[t], s[t])
rows = []
for low in (-1.5, -0.75, 0.0, 0.75, 1.5):
    drawer = np.abs(x_t[:, 0] - low) < 0.03
    exact = -s[t] * world_t.score(x_t[drawer]).mean()
    rows.append([f"{low:+.2f}", noise[drawer].mean(), exact, noise[drawer].std()])
lesson.table(["x_t", "mean noise in the drawer", "-s score, exact", "spread of the noise"], rows)

# %% [markdown]
# The spread is what nobody can know. It is why the loss never falls to 0: even the best denoiser is wrong about this
# one noise. It is right about the mean.
#
# ## 3. A network learns it
#
# Now in two dimensions: eight bumps on a ring. The network gets x_t and t, and both also as waves of different lengths:
# a small network finds it hard to see one number finely, and the bumps are narrow (Tancik et al. 2020). The loss is Ho
# et al.'s eq. 14, and it is four lines long.

# %%
lesson.section("3. A network learns it")

ring = worlds.GaussianMixture.ring(8, radius=1.4, std=0.15)


def even_snr(steps, high, low):
    """betas for which the logarithm of SNR = a^2 / s^2 falls evenly from high to low. (Section 7 says why.)"""
    alpha_bar = 1 / (1 + np.exp(-np.linspace(high, low, steps)))
    return tuple(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))


T = 200
schedule = samplers.NoiseSchedule(even_snr(T, 7, -6), dtype=np.float64)
a, s = np.sqrt(schedule.alphas_bar), np.sqrt(1 - schedule.alphas_bar)


class Denoiser(nn.Module):
    """(x (N, 2), t (N,)) -> (N, 2)."""

    def __init__(self, hidden=64, told=True):
        sizes = [2 + 8 + 8, hidden, hidden, hidden]
        layers = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 2))
        self.told = told  # whether it is told t

    def forward(self, x, t, labels=None):
        when = minigen.cos(math.pi / T * t.float().reshape(-1, 1) * tensor(np.arange(1, 9)))
        where = [x, minigen.sin(2 * x), minigen.cos(2 * x), minigen.sin(4 * x), minigen.cos(4 * x)]
        return self.layers(minigen.cat([*where, when if self.told else 0 * when], 1))


def jump(n):
    """n draws of x_0, t, the noise, and x_t with its a and s."""
    x, t = tensor(ring.sample(n, g)), g.integers(0, T, (n,))
    noise = tensor(g.normal((n, 2)))
    of_x, of_noise = tensor(a[t])[:, None], tensor(s[t])[:, None]
    return x, tensor(t, np.int64), noise, of_x * x + of_noise * noise, of_x, of_noise


def train(target, told=True):
    """A denoiser that has learned to predict target(x, noise, a, s), in mean square."""
    network = Denoiser(told=told).to(lesson.device)
    steps = lesson.pick(1200, quick=200)
    optimizer = optim.Adam(network.parameters(), lr=1e-2)
    falling = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in lesson.progress(steps, target.__name__):
        x, t, noise, x_t, of_x, of_noise = jump(256)
        optimizer.zero_grad()
        loss = ((network(x_t, t) - target(x, noise, of_x, of_noise)) ** 2).mean()
        loss.backward()
        optimizer.step()
        falling.step()
    lesson.spend(3 * steps * 256 * 2 * sum(p.numel() for p in network.parameters()))
    return network


def epsilon(x, noise, a, s):
    return noise


by_epsilon = train(epsilon)

# %% [markdown]
# How good is it? We know the best answer, so we can say exactly: the mean square of (its answer - E[noise | x_t]) at
# each noise level. The floor is the score of one Gaussian with the ring's mean and covariance, which knows nothing
# about bumps. Perfect is 0.

# %%
LEVELS = [10, 60, 90, 110, 130, 160]


def exact_noise(x_t, t):
    return -s[t] * ring.noised(a[t], s[t]).score(x_t)


def one_gaussian(x_t, t):
    covariance = a[t] ** 2 * ring.covariance() + s[t] ** 2 * np.eye(2)
    return s[t] * (x_t - a[t] * ring.mean()) @ np.linalg.inv(covariance)


@minigen.no_grad()
def learned_noise(network, x_t, t):
    return array(network(tensor(x_t), tensor(np.full(len(x_t), t), np.int64))).astype(np.float64)


def errors(answer, levels=LEVELS):
    """The mean square error of a guess about E[noise | x_t], at each level."""
    found = []
    for t in levels:
        x_t = a[t] * ring.sample(2000, g) + s[t] * g.normal((2000, 2))
        found.append(((answer(x_t, t) - exact_noise(x_t, t)) ** 2).mean())
    return np.array(found)


ours = errors(lambda x, t: learned_noise(by_epsilon, x, t))
floor = errors(one_gaussian)
lesson.table(["error of the noise at s =", *(f"{s[t]:.2f}" for t in LEVELS)],
             [["one Gaussian", *floor], ["network", *ours]])  # fmt: skip
lesson.proof(
    "error of the score (times s), mean over noise levels",
    ours.mean(),
    floor=(floor.mean(), "one Gaussian"),
    optimum=(0.0, "exact"),
)

with lesson.figure(
    "score", "The learned score (orange) over the exact one (black).", columns=3, size=(9.6, 3.2)
) as axes:
    grid = np.stack(np.meshgrid(*[np.linspace(-2.2, 2.2, 14)] * 2), -1).reshape(-1, 2)
    for place, t in zip(axes, (70, 90, 110)):
        place.quiver(*grid.T, *-exact_noise(grid, t).T, color=COLOURS["truth"], width=0.008, scale=30)
        place.quiver(*grid.T, *-learned_noise(by_epsilon, grid, t).T, color=COLOURS["second"], width=0.004, scale=30)
        place.set(title=f"step {t + 1}: a = {a[t]:.2f}, s = {s[t]:.2f}", aspect="equal")
        place.grid(visible=False)

# %% [markdown]
# ## 4. One step back, with dice
#
# Given x_t *and* x_0 the step before is Gaussian, and known in closed form (Ho, eq. 6 and 7):
#
#     q(x_{t-1} | x_t, x_0) = N( c_0 x_0 + c_t x_t,  b ),    c_0 = a_{t-1} beta / s_t^2,
#                                          c_t = sqrt(1 - beta) s_{t-1}^2 / s_t^2,   b = beta s_{t-1}^2 / s_t^2
#
# It is no more than Gaussian conditioning. Check: (x_{t-1}, x_t) given x_0 is a pair of Gaussians whose covariance we
# can write down, and conditioning a pair is school mathematics.

# %%
lesson.section("4. One step back, with dice")


def posterior(t):
    """c_0, c_t and the variance of q(x_{t-1} | x_t, x_0); step 0 ends at x_0."""
    before, beta = (alpha_bar_of(t - 1), schedule.betas[t])
    return (
        math.sqrt(before) * beta / s[t] ** 2,
        math.sqrt(1 - beta) * (1 - before) / s[t] ** 2,
        beta * (1 - before) / s[t] ** 2,
    )


def alpha_bar_of(t):
    return schedule.alphas_bar[t] if t >= 0 else 1.0


t, x_0, x_t = 60, 0.7, -0.2
covariance = math.sqrt(1 - schedule.betas[t]) * s[t - 1] ** 2  # of x_{t-1} and x_t, given x_0
mean = a[t - 1] * x_0 + covariance / s[t] ** 2 * (x_t - a[t] * x_0)
variance = s[t - 1] ** 2 - covariance**2 / s[t] ** 2
of_0, of_t, known = posterior(t)
print(
    f"  by conditioning: mean {mean:.6f}, variance {variance:.6f};  eq. 7: {of_0 * x_0 + of_t * x_t:.6f}, {known:.6f}"
)

# %% [markdown]
# Of course x_0 is what we want to know. Put the guess in its place: x_0 = (x_t - s noise) / a, with the network's
# noise. Start with pure noise, and go back through all T steps (algorithm 2 of the paper):

# %%


def ancestral(answer, n):
    x = g.normal((n, 2)).astype(np.float64)
    for t in reversed(range(T)):
        x_0 = (x - s[t] * answer(x, t)) / a[t]
        of_0, of_t, variance = posterior(t)
        x = of_0 * x_0 + of_t * x + math.sqrt(variance) * g.normal(x.shape)
    return x


n = lesson.pick(2000, quick=300)
drawn = {"one Gaussian's score": ancestral(one_gaussian, n),
         "the network's": ancestral(lambda x, t: learned_noise(by_epsilon, x, t), n),
         "the exact score": ancestral(exact_noise, n),
         "(real samples)": ring.sample(n, g).astype(np.float64)}  # fmt: skip
rows = []
for name, x in drawn.items():
    modes = ring.count_modes(x)
    rows.append([name, float(ring.sliced_wasserstein(x)), f"{modes.on_mode:.1%}", f"{modes.hit} of 8", modes.kl])
lesson.table(["steps back with", "Wasserstein to the world", "near a bump", "bumps", "KL of the shares"], rows)

with lesson.figure("ancestral", "Drawn from noise, in 200 steps.", columns=3, size=(9.0, 3.1)) as axes:
    for place, (name, x) in zip(axes, drawn.items()):
        place.scatter(*x[:1000].T, s=2)
        place.set(title=name, xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")

# %% [markdown]
# With the right score the eight bumps come out of nothing, each with its due.
#
# ## 5. The way back without dice
#
# The noise that each step draws is not necessary. Divide by a: z = x_t / a_t = x_0 + sigma noise, with sigma = s / a.
# As sigma falls, let every point move by
#
#     dz / dsigma = E[noise | z]                     (the probability flow: Song et al. 2021; Karras et al. 2022, eq. 1)
#
# Then the points have at every sigma exactly the law they should have, though no dice were thrown. It is an ordinary
# differential equation, and solving these is a craft three hundred years old:
#
#     Euler      z' = z + h noise(z)                                    error ~ h
#     Heun       the same, then again with the mean of both slopes      error ~ h^2, two calls a step
#     DDIM       x_s = a_s x_0 + s_s noise: keep the guess of the noise, put it back at the lower level
#
# DDIM (Song, Meng & Ermon 2021) looks like another idea. Divide it by a_s: z' = x_0 + sigma' noise, which is z +
# (sigma' - sigma) noise. It *is* Euler's method.
#
# On the line there is something rare: the flow can be solved by hand. It cannot cross itself, so it keeps the order of
# the points: the 30% quantile at one sigma goes to the 30% quantile at every other. So we know where each point ends,
# to all digits, and can watch the solvers converge to it. (Two bumps that overlap, float64. Where bumps are far apart,
# a point between them is pulled both ways, and many more steps are needed before the order shows.)

# %%
lesson.section("5. The way back without dice")


two = worlds.GaussianMixture([0.4, 0.6], [-1.0, 1.0], [0.16, 0.25])


def noise_of(z, sigma):
    """E[noise | z], exactly."""
    return -sigma * two.noised(1.0, sigma).score(z)


def quantiles(share, sigma):
    """Where the law of z has these shares below, (n, 1): by halving."""
    law = two.noised(1.0, sigma)
    low, high = np.full((len(share), 1), -12.0 * (1 + sigma)), np.full((len(share), 1), 12.0 * (1 + sigma))
    for _ in range(70):
        middle = (low + high) / 2
        below = law.cdf(middle)[:, None] < share[:, None]
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def euler(z, sigmas):
    for sigma, after in itertools.pairwise(sigmas):
        z = z + (after - sigma) * noise_of(z, sigma)
    return z


def heun(z, sigmas):
    for sigma, after in itertools.pairwise(sigmas):
        slope, h = noise_of(z, sigma), after - sigma
        z = z + h * (slope + noise_of(z + h * slope, after)) / 2
    return z


def ddim(z, sigmas):
    signals = 1 / np.sqrt(1 + sigmas**2)  # a, for a^2 + s^2 = 1
    x = z * signals[0]
    for sigma, a, after, a_after in zip(sigmas, signals, sigmas[1:], signals[1:]):
        noise = noise_of(x / a, sigma)
        x_0 = (x - a * sigma * noise) / a
        x = a_after * x_0 + a_after * after * noise
    return x / signals[-1]


HIGH, LOW = 20.0, 0.05
share = (np.arange(99) + 1) / 100
begin, end = quantiles(share, HIGH), quantiles(share, LOW)
ladder = lambda n: np.geomspace(HIGH, LOW, n + 1)
same = np.abs(ddim(begin, ladder(20)) - euler(begin, ladder(20))).max()
print(f"  DDIM and Euler, 20 steps: they differ by {same:.0e}")

# %% [markdown]
# Now the library's, whose `step` takes the network's answer and gives the next x. DPM-Solver++(2M) (Lu et al. 2022)
# remembers the last guess of x_0 and draws a line through both, so it gets order 2 for one call a step. PNDM (Liu et
# al. 2022) mixes the last four guesses of the noise, each of which it moves with DDIM's step.

# %%
T_FINE = 1024
fine = 1 / (1 + np.geomspace(LOW, HIGH, T_FINE) ** 2)  # alpha_bar, with sigmas at equal ratios
even = samplers.NoiseSchedule(1 - fine / np.append(1.0, fine[:-1]), dtype=np.float64)


def error_of(make, n):
    """The mean distance from the exact end, for the library's sampler make(n)."""
    sampler = make(n)
    sampler.reset()
    alphas_bar = even.alphas_bar
    on_z = isinstance(sampler, (samplers.Euler, samplers.Heun))
    levels = sampler.sigmas if sampler.sigmas is not None else np.sqrt(1 / alphas_bar[sampler.timesteps] - 1)
    scale = lambda sigma: 1.0 if on_z else 1 / math.sqrt(1 + sigma**2)
    x = minigen.tensor(quantiles(share, levels[0]) * scale(levels[0]))
    for i in range(len(sampler.timesteps)):
        if i + 1 < len(levels) and sampler.sigmas is not None and levels[i + 1] == levels[i] == levels[-1]:
            break  # it is there
        noise = noise_of(array(x) / scale(levels[i]), levels[i])
        x = sampler.step(minigen.tensor(noise), i, x)
    return np.abs(array(x) / scale(LOW) - end).mean()


makers = {
    "Euler": lambda n: samplers.Euler(even, sigmas=ladder(n)),
    "DDIM": lambda n: samplers.DDIM(even, n, to_one=False),
    "Heun": lambda n: samplers.Heun(even, sigmas=ladder(n)),
    "DPM-Solver++(2M)": lambda n: samplers.DPMSolver(
        even, n, levels="exponential", final="sigma_min", lower_final=False
    ),
    "PNDM": lambda n: samplers.PNDM(even, n),
}
counts = [8, 16, 32, 64, 128, 256]
by_hand = {"Euler, by hand": [np.abs(euler(begin, ladder(n)) - end).mean() for n in counts],
           "Heun, by hand": [np.abs(heun(begin, ladder(n)) - end).mean() for n in counts]}  # fmt: skip
found = {name: [error_of(make, n) for n in counts] for name, make in makers.items()}


def order(errors):
    """How fast the error falls: minus the slope of its logarithm against that of the steps, over the last three."""
    return -np.polyfit(np.log(counts[-3:]), np.log(errors[-3:]), 1)[0]


rows = [[name, *(f"{e:.1e}" for e in row), f"{order(row):.2f}"] for name, row in (by_hand | found).items()]
lesson.table(["error after ... steps", *map(str, counts), "order"], rows)

for name, theory in (("DDIM", 1), ("Heun", 2), ("DPM-Solver++(2M)", 2)):
    lesson.proof(f"order of {name}", order(found[name]), "", band=(theory - 0.1, theory + 0.1, "theory"))

with lesson.figure("order", "Straight lines: the error is a power of the steps.", size=(5.4, 3.4)) as axes:
    for (name, row), mark in zip(found.items(), "o^sDv"):
        axes.loglog(counts, row, marker=mark, markersize=4, label=f"{name}, order {order(row):.2f}",
                    linestyle="--" if name == "DDIM" else "-")  # fmt: skip
    axes.set(xlabel="steps", ylabel="mean distance from the exact end", title="Solvers on the exact score")
    axes.set_xticks(counts, map(str, counts))
    axes.minorticks_off()
    axes.legend()

# %% [markdown]
# Euler and DDIM lie on one line, and so they should. Heun and 2M are of order 2, and Heun pays twice for a step. PNDM
# mixes four guesses, as a method of order 4 would, but its step is DDIM's: it shows order 2 here.
#
# With dice and without, how many steps does a good *sample* need? Back to the three bumps, far apart:

# %%
# 1000 levels at equal ratios, from 0.02 to 50:
wide = 1 / (1 + np.geomspace(0.02, 50.0, 1000) ** 2)
wide = samplers.NoiseSchedule(1 - wide / np.append(1.0, wide[:-1]), dtype=np.float64)
n = lesson.pick(4000, quick=1000)


def exact_model(x, t):
    """The exact noise, as a network that is asked at (x, t)."""
    a_t, s_t = (np.sqrt(v[int(t.numpy()[0])]) for v in (wide.alphas_bar, 1 - wide.alphas_bar))
    return minigen.tensor(-s_t * bumps.noised(a_t, s_t).score(array(x)))


ways = {
    "with dice (DDPM)": lambda k: samplers.DDPM(wide, k, spacing="trailing"),
    "DDIM": lambda k: samplers.DDIM(wide, k, spacing="trailing"),
    "DPM-Solver++(2M)": lambda k: samplers.DPMSolver(wide, k, spacing="trailing"),
}
steps = [5, 10, 20, 50, 200]
begin_noise = minigen.tensor(g.normal((n, 1)).astype(np.float64))
rows = [[name, *(bumps.wasserstein(array(make(k).sample(exact_model, begin_noise, generator=g))) for k in steps)]
        for name, make in ways.items()]  # fmt: skip
lesson.table(["Wasserstein to the world after ... steps", *map(str, steps)], rows)
print(f"  ({n} real samples: {bumps.wasserstein(bumps.sample(n, g)):.3f})")

# %% [markdown]
# A good solver of the differential equation gets along with twenty steps, the dice want two hundred. (They have their
# use: they forget the errors of a network that is not exact. Without dice an error stays.)
#
# ## 6. The same thing as a bound
#
# Where is the likelihood? The chain x_T, ..., x_1, x_0 is a model with hidden causes, like the VAE's z, only that
# nobody has to learn the encoder: q is "add noise". The ELBO's terms are then (Ho, eq. 5)
#
#     -log p(x_0)  <=  KL(q(x_T | x_0) || N(0, 1))  +  sum of L_t  -  log p(x_0 | x_1)
#     L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))
#
# Both sides of each KL are Gaussians with the same variance, and means that differ by c_0 (x_0 - its guess). Write
# SNR = a^2 / s^2; then the term is (Kingma, Salimans, Poole & Ho 2021)
#
#     L_t = 1/2 (SNR_{t-1} - SNR_t) |x_0 - guess|^2  =  1/2 (SNR_{t-1} / SNR_t - 1) |noise - guess|^2
#
# The loss of section 3 is this, with a 1 in place of the first factor. By hand, with the exact denoiser in the place
# of the network, and with three schedules:

# %%
lesson.section("6. The same thing as a bound")


def bound_by_hand(x, betas, answer):
    """The bound on -log p(x) for each x (N, 2), from one draw of the noise for each step; answer(x_t, a, s) is x_0."""
    alpha_bar = np.cumprod(1 - betas)
    snr = alpha_bar / (1 - alpha_bar)
    last = alpha_bar[-1]
    total = 0.5 * (last * x**2 + (1 - last) - 1 - math.log(1 - last)).sum(1)  # the prior's KL
    for t in range(len(betas)):
        a, s = math.sqrt(alpha_bar[t]), math.sqrt(1 - alpha_bar[t])
        guess = answer(a * x + s * g.normal(x.shape), a, s)
        off = ((x - guess) ** 2).sum(1)
        if t == 0:  # -log N(x; guess, beta_0)
            total += 0.5 * off / betas[0] + 0.5 * x.shape[1] * math.log(2 * math.pi * betas[0])
        else:
            total += 0.5 * (snr[t - 1] - snr[t]) * off
    return total


entropy = float(ring.entropy())
x = ring.sample(lesson.pick(500, quick=200), g).astype(np.float64)
own = -ring.log_prob(x)
schedules = {
    "linear": lambda n: np.clip(np.linspace(0.1, 20, n) / n, 0, 0.999),
    "cosine": lambda n: samplers.NoiseSchedule.cosine(n, dtype=np.float64).betas,
    "even log SNR": lambda n: even_snr(n, 7, -6),
}
rows = []
for steps in lesson.pick((10, 30, 100, 300, 1000), quick=(10, 30, 100)):
    excess = [bound_by_hand(x, np.array(betas(steps)), ring.posterior_mean) - own for betas in schedules.values()]
    rows.append([f"{steps} steps", *(entropy + e.mean() for e in excess)])  # of the same x: most of the chance cancels
lesson.table(["exact denoiser", *schedules], rows)
print(f"  entropy {entropy:.3f} nats: the least that any model can have")

# %% [markdown]
# With steps that change log SNR evenly the bound goes down to the entropy itself: the last nats are only a matter of
# steps. Linear and cosine stop short. However many steps they have, the first change the SNR by factors of about 2,
# 1.6, 1.4, and over such a step the way back is no longer a Gaussian of that variance.
#
# Now with the network. `minigen.models.diffusion.ddpm.DDPM` takes any network and has the loss, the bound, and the
# samplers. Same weights, same numbers as ours? (And log p along the flow of section 5: another model, without dice.)

# %%
model = DDPM(
    shape=(2,), steps=T, schedule=tuple(schedule.betas), levels=None, variance="fixed_small", network=by_epsilon
)
model = model.to(lesson.device).eval()


def network_answer(x_t, a_t, s_t):
    t = int(np.abs(a - a_t).argmin())
    return (x_t - s_t * learned_noise(by_epsilon, x_t, t)) / a_t


before = g.get_state()
theirs = array(model.bound(tensor(x), generator=g)).mean()
g.set_state(before)
mine = bound_by_hand(x, schedule.betas, network_answer).mean()
log_p = array(model.log_prob(tensor(x[:200]), steps=lesson.pick(200, quick=60))).mean()
print(f"  by hand {mine:.4f}, DDPM.bound {theirs:.4f} nats")
print(f"  -log p of 200 points by the probability flow {-log_p:.3f}, exactly {own[:200].mean():.3f}")
gaussian = worlds.GaussianMixture([1.0], ring.mean()[None], ring.covariance()[None])
bound = entropy + theirs - own.mean()
lesson.proof("ring: the bound", bound, "nats", floor=(float(gaussian.entropy()), "one Gaussian"),
             optimum=(entropy, "entropy"), at_least=entropy)  # fmt: skip

# %% [markdown]
# ## 7. What to predict, and how fast to drown
#
# From x_t and one of x_0, noise and v = a noise - s x_0 (Salimans & Ho 2022) the other two follow. So a network may
# predict any of them; the answers mean the same, the losses weigh the noise levels differently. At s near 0 the noise
# is nearly invisible in x_t, and x_0 is easy; at s near 1 it is the other way round. Three networks, all judged
# alike. And a fourth that predicts the noise but is not told t:

# %%
lesson.section("7. What to predict, and how fast to drown")


def x0(x, noise, a, s):
    return x


def velocity(x, noise, a, s):
    return a * noise - s * x


def noise_by(network, kind):
    """The noise that an answer means."""
    back = {"epsilon": lambda out, x, t: out,
            "x0": lambda out, x, t: (x - a[t] * out) / s[t],
            "v": lambda out, x, t: s[t] * x + a[t] * out}[kind]  # fmt: skip
    return lambda x, t: back(learned_noise(network, x, t), x, t)


networks = {"epsilon": (by_epsilon, "epsilon"), "x0": (train(x0), "x0"), "v": (train(velocity), "v"),
            "epsilon, not told t": (train(epsilon, told=False), "epsilon")}  # fmt: skip


def bound_of(noise):
    """The bound with these guesses of the noise, less the luck of this x."""
    level = lambda a_t: int(np.abs(a - a_t).argmin())
    guess = lambda x_t, a_t, s_t: (x_t - s_t * noise(x_t, level(a_t))) / a_t
    return entropy + (bound_by_hand(x, schedule.betas, guess) - own).mean()


answers = {name: noise_by(network, kind) for name, (network, kind) in networks.items()}
rows = [[name, *errors(answer), bound_of(answer)] for name, answer in answers.items()]
lesson.table(["error of the noise at s =", *(f"{s[t]:.2f}" for t in LEVELS), "bound"], rows)
print(f"  the entropy: {entropy:.3f} nats")

# %% [markdown]
# x_0 fails where noise is small: there its error is divided by s, and the bound pays for it. epsilon is weaker at the
# other end, where an error of the noise, divided by a small a, is a large one of x_0. v is x_0 at one end and the noise
# at the other, never divided by anything small. Whoever is not told t does not know whether what it sees is data or
# noise, and is wrong about both.
#
# And how fast should the picture drown? By L_t above, what counts is the SNR at each step. Where log SNR falls evenly
# every step has the same weight, and the plain mean square of the noise *is* the bound, up to its ends. Linear and
# cosine (Nichol & Dhariwal 2021) spend their steps otherwise. And small pictures need other levels than large ones:
# where neighbouring pixels agree, more noise is needed to hide a picture (Hoogeboom, Heek & Salimans 2023).

# %%
with lesson.figure("schedules", "Where three schedules spend their steps.", columns=2, size=(7.6, 2.9)) as axes:
    for name, betas in (("linear", np.linspace(0.001, 0.2, 100)), ("cosine", samplers.NoiseSchedule.cosine(100).betas),
                        ("even log SNR, 6 to -6", even_snr(100, 6, -6))):  # fmt: skip
        kept = np.cumprod(1 - np.asarray(betas, np.float64))
        axes[0].plot(np.sqrt(kept), label=name)
        axes[1].plot(np.log(kept / (1 - kept)), label=name)
    axes[0].set(xlabel="step of 100", ylabel="a, what is left of x", title="Signal")
    axes[1].set(xlabel="step of 100", ylabel="log SNR", title="Log of signal to noise", ylim=(-10, 10))
    axes[0].legend()

# %% [markdown]
# ## 8. Sprites, judged exactly
#
# Pictures need a network that sees them: the U-Net of the paper (appendix B), here with 16 and 32 channels for 8x8
# pixels. Down to 4x4 and up again, and at each size the way up is handed what the way down had there. Residual blocks
# with group norm, t added in each, attention at 4x4. `minigen.models.diffusion.unet` has it, and it loads published
# checkpoints. It is also told which shape to draw; in a tenth of the training it is told nothing, so that it can do
# without (lesson 23 will need that).
#
# The world: squares, discs and crosses in 16 places, each pixel turned over with a probability of 1%. Black and white
# become -1 and 1. p(x_0 | x_1) must be a probability: a Gaussian, cut into as many pieces as a pixel has levels (Ho,
# eq. 13). The network may also choose the variance of a step, between its two natural ends (Nichol & Dhariwal 2021),
# and we train it on the bound itself, at a random t. In the end the model gets a running mean of its weights (EMA),
# which is less shaken by the last batches than the weights themselves.

# %%
lesson.section("8. Sprites, judged exactly")

SMALL = {"shape": (1, 8, 8), "channels": (16, 32), "attention": (False, True), "layers": 1, "groups": 8,
         "prediction": "v_prediction", "loss": "vlb", "variance": "learned_range"}  # fmt: skip


def learn(model, batch, steps, what):
    """Adam, a learning rate that falls like a cosine, clipped gradients; the model ends with its averaged weights."""
    optimizer = optim.Adam(model.parameters(), lr=4e-3)
    falling = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    ema = optim.EMA(model, decay=0.99, warmup=True)
    losses = []
    for _ in (bar := lesson.progress(steps, what)):
        optimizer.zero_grad()
        loss = model(*batch(), generator=g)
        loss.backward()
        nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        optimizer.step()
        falling.step()
        ema.update()
        losses.append(loss.item())
        bar.set_postfix_str(f"{losses[-1]:.1f} nats", refresh=False)
    ema.copy_to()
    model.eval()
    return losses


sprites = worlds.Sprites(8, radii=(2,), places=4)
SHAPES = sprites.factors["shape"]


def sprite_batch(n=32):
    x, factors = sprites.sample_with_latents(n, g)
    return tensor(2 * x - 1), tensor(factors[:, 0], np.int64)


N = lesson.pick(50, quick=20)  # noise levels
drawer = DDPM(classes=3, levels=2, steps=N, schedule=even_snr(N, 3, -6), **SMALL).to(lesson.device)
sprite_losses = learn(drawer, sprite_batch, lesson.pick(420, quick=70), "sprites")

x, shape = sprite_batch(lesson.pick(500, quick=100))
nats = array(drawer.bound(x, shape, times=8, generator=g)).mean()
by_shape = [sprites.given(shape=name) for name in SHAPES]
entropy = np.mean([float(world.entropy()) for world in by_shape])
# The test sample happens to be a little easier or harder than average. The world knows by how much:
pixels, shapes = (array(x) + 1) / 2, array(shape)
nats += entropy + np.mean([by_shape[k].log_prob(pixels[i]) for i, k in enumerate(shapes)])
lesson.proof("sprites, the bound given the shape", nats, "nats", optimum=(entropy, "exact"),
             floor=(np.mean([float(w.independent_entropy()) for w in by_shape]), "independent pixels"))  # fmt: skip

# %% [markdown]
# The world also knows the best denoiser, given the shape: the mean over all templates, weighed by how well they fit
# x_t. How far is the network from it?

# %%
rows = []
for t in (N // 5, 2 * N // 5, 3 * N // 5, 4 * N // 5):
    t_all = tensor(np.full(len(x), t), np.int64)
    noise = tensor(g.normal(tuple(x.shape)))
    x_t = drawer.noised(x, t_all, noise)
    with minigen.no_grad():
        guess = array(drawer.predict(x_t, t_all, shape)[0])
    a_t, s_t = (math.sqrt(v) for v in (drawer.schedule.alphas_bar[t], 1 - drawer.schedule.alphas_bar[t]))
    best = np.stack(
        [2 * by_shape[k].posterior_mean(array(x_t)[i] + a_t, 2 * a_t, s_t) - 1 for i, k in enumerate(shapes)]
    )
    rows.append([f"{s_t:.2f}", ((array(x) - best) ** 2).mean(), ((array(x) - guess) ** 2).mean(),
                 ((guess - best) ** 2).mean()])  # fmt: skip
lesson.table(["s", "error of the best denoiser", "of the network", "between the two"], rows)

# %%
n = lesson.pick(300, quick=60)
asked = tensor(np.arange(n) % 3, np.int64)
rows = []
for name, sampler, steps in (("DDPM", "ddpm", N), ("DDIM", "ddim", N // 2), ("Heun", "heun", N // 5)):
    made = (array(drawer.sample(n, asked, g, sampler, steps)) > 0).astype(np.float32)
    drawn = made if sampler == "ddpm" else drawn
    modes = sprites.count_modes(made)
    obeyed = (sprites.infer(made)[:, 0] == array(asked)).mean()
    rows.append(
        [f"{name}, {steps} steps", f"{modes.on_mode:.0%}", f"{modes.hit} of {modes.total}", modes.kl, f"{obeyed:.0%}"]
    )
real = sprites.count_modes(sprites.sample(n, g))
rows.append(["(real samples)", f"{real.on_mode:.0%}", f"{real.hit} of {real.total}", real.kl, "100%"])
lesson.table(["samples", "are a sprite", "sprites seen", "KL of the shares", "shape as asked"], rows)
on_mode = sprites.count_modes(drawn).on_mode
pixels_alone = (g.uniform((2000, 1, 8, 8)) < sprites.sample(2000, g).mean(0)).astype(np.float32)
lesson.proof("sprites: share of samples that are one", 100 * on_mode, "%", optimum=(100 * real.on_mode, "real samples"),
             floor=(100 * sprites.count_modes(pixels_alone).on_mode, "independent pixels"))  # fmt: skip

SHOWN = 12
sampler = drawer.sampler("ddpm")
states = [sampler.start((SHOWN, 1, 8, 8), generator=g, device=lesson.device)]
with minigen.no_grad():
    states += sampler.walk(drawer.answering(asked[:SHOWN], 1.0, sampler), states[0], g)
kept = [N * share // 10 for share in (0, 2, 4, 5, 6, 7, 8, 9, 10)]
lesson.images(
    "path",
    "From noise to sprites. Asked for: square, disc, cross, square ...",
    np.concatenate([array(states[k]) for k in kept]),
    columns=SHOWN,
    rows=0,
    row_labels=[f"after {k}" for k in kept],
    low=-1,
    high=1,
)

# %% [markdown]
# First where it is, then which pixels. Most of the nats are won, after thirteen thousand pictures; what is missing
# shows in the samples that are no sprite of this world.
#
# ## 9. Real digits
#
# The same with the bundled digits: 17 levels of ink, and so a pixel of p(x_0 | x_1) has 17 pieces. The log SNR goes to
# 6, where the noise is about half as wide as the step from one level to the next: from there the pieces finish the
# work. The bound is a bound on a *probability*, so its nats may be compared with those of lesson 10.

# %%
lesson.section("9. Real digits")

train_x, test_x = (tensor(np.rint(16 * digits(part)[0]) / 8 - 1) for part in ("train", "test"))
N = lesson.pick(100, quick=50)
painter = DDPM(levels=17, steps=N, schedule=even_snr(N, 6, -6), **SMALL).to(lesson.device)
digit_batch = lambda: (train_x[g.integers(0, len(train_x), (32,))],)
digit_losses = learn(painter, digit_batch, lesson.pick(520, quick=110), "digits")

ink = (np.rint(8 * (array(train_x) + 1)).reshape(-1, 64)).astype(int)
seen = (np.rint(8 * (array(test_x) + 1)).reshape(-1, 64)).astype(int)
dice = np.stack([np.bincount(p, minlength=17) for p in ink.T]) + 0.1
floor = -np.log(dice / dice.sum(1, keepdims=True))[np.arange(64), seen].sum(1).mean()
nats = array(painter.bound(test_x, times=lesson.pick(16, quick=4), generator=g))
print(f"  {nats.mean():.1f} +- {nats.std() / math.sqrt(len(nats)):.1f} nats a picture, "
      f"or {painter.bits_per_dim(nats.mean()):.2f} bits a pixel")  # fmt: skip
lesson.proof("digits, the bound", nats.mean(), "nats", floor=(floor, "independent pixels"))

some = test_x[: lesson.pick(100, quick=20)]
terms = array(painter.bound_terms(some, generator=g)).mean(0)
with lesson.figure("terms", "Where the nats of a digit are.", columns=2, size=(7.8, 2.9)) as axes:
    log_snr = np.linspace(6, -6, N)
    axes[0].plot(log_snr[1:], terms[1:-1])
    axes[0].invert_xaxis()
    axes[0].set(xlabel="log SNR (noise grows to the right)", ylabel="nats a step",
                title=f"L_t; L_0 is {terms[0]:.1f}, the prior {terms[-1]:.2f}")  # fmt: skip
    smooth = np.convolve(digit_losses, np.ones(50) / 50, "valid")
    axes[1].plot(np.arange(len(smooth)) + 50, smooth)
    axes[1].axhline(floor, color=COLOURS["floor"], linestyle="--", label="independent pixels")
    axes[1].set(xlabel="step", ylabel="bound  [nats]", title="Training (mean of 50 steps)", ylim=(70, 140))
    axes[1].legend()

sampler = painter.sampler("ddpm")
states = [sampler.start((20, 1, 8, 8), generator=g, device=lesson.device)]
with minigen.no_grad():
    states += sampler.walk(painter.answering(sampler=sampler), states[0], g)
kept = [N * share // 10 for share in (0, 3, 5, 6, 7, 8, 9, 10)]
rows = [array(states[k]) for k in kept] + [array(test_x[:20])]
lesson.images(
    "digits",
    "From noise to digits, and twenty real ones.",
    np.concatenate(rows),
    columns=20,
    rows=0,
    row_labels=[f"after {k}" for k in kept] + ["real"],
    low=-1,
    high=1,
)

# %% [markdown]
# As many nats as the VAE of lesson 10 or a few fewer, and better pictures, for a hundred times the work at each sample.
# Most of the nats lie at small noise, where the eye sees little. That is why Ho et al. took the plain mean square under
# a schedule that cares less about them: a worse bound, and with large pictures better samples.
#
# ## What this lesson does not show
#
# - Guidance, filling in holes, flow matching and transformers in the U-Net's place: lesson 23. Diffusion in the space
#   of an autoencoder, told what to draw by a text: lesson 32.
# - Size. A U-Net for photographs has a thousand times as many weights and learns for weeks. Nothing else changes.
# - It is often said that diffusion "learns to reverse the noise". No one can reverse it; many x_0 lead to one x_t. It
#   learns the mean over all of them, and the steps are small so that the mean is enough.
#
# Next: lesson 23 steers it.

# %%
lesson.end()
