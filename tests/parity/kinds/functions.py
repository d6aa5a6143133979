"""fn_*, loss_*, linalg_*: one function, its output, and the gradient of its input.

These cases hold neither the function's arguments nor the targets of a loss: only a name. FOUND lists the ones whose
arguments were determined from a case's numbers, by trying plausible arguments in the reference until output and
gradient agreed to the last bit; the comment says what settled it. GUESSED lists, for names that other cases are likely
to have, the plausible arguments: each is tried, and only the right one gives the case's numbers. A name in neither list
is tried as a function of minigen.nn.functional or minigen with no argument or with `dim`, and is not covered if it is
none, or if no arguments give an output of the case's shape.
"""

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import Tensor, linalg

from . import NotCovered, kind
from .modules import flat, gradients

# The class of each row of a loss's (4, 6) input, from the gradient of loss_ce_smooth_ignore: rows 0, 1 and 3 pull
# towards classes 0, 3 and 5, row 2 is ignored.
CLASSES = [0, 3, -100, 5]


def _classes(*rows):
    return Tensor(np.array(rows or CLASSES))


def _every_class(loss):
    """`loss(x, classes)` for each class that row 2 may have where it is not ignored."""
    return [lambda x, c=c: loss(x, _classes(0, 3, c, 5)) for c in (2, 1, 4, 0, 3, 5)] + [lambda x: loss(x, _classes())]


def _full(x, number):
    return Tensor(np.full(x.shape, number))


def _spd(a, shift=4.0):
    """A positive definite matrix from any: A A^T + 4 I."""
    return a @ a.mT + Tensor(np.eye(a.shape[-1]) * shift)


FOUND = {
    "fn_avgpool": lambda x: F.avg_pool2d(x, 2),  # 6x6 -> 3x3; 3x3 windows with padding give other numbers
    "fn_bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "fn_cumsum": lambda x: x.cumsum(-1),  # not along dimension 0
    "fn_elu": lambda x: F.elu(x),  # alpha 1; 0.5, 0.7, 1.3, 1.5, 2 do not fit
    "fn_erf": lambda x: x.erf(),
    "fn_gelu": lambda x: F.gelu(x),  # erf, not tanh
    "fn_glu": lambda x: F.glu(x, -1),
    "fn_leaky": lambda x: F.leaky_relu(x, 0.2),  # 0.01, 0.1, 0.3 do not fit
    "fn_logsigmoid": lambda x: F.logsigmoid(x),
    "fn_logsoftmax": lambda x: F.log_softmax(x, -1),
    "fn_maxpool": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),  # 2x2 windows give the shape, not the numbers
    "fn_mish": lambda x: F.mish(x),
    "fn_norm": lambda x: x.norm(dim=-1),  # (4, 6) -> (4,)
    "fn_pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "fn_silu": lambda x: F.silu(x),
    "fn_softmax": lambda x: F.softmax(x, -1),
    "fn_softplus": lambda x: F.softplus(x),  # beta 1
    "fn_unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),  # (4 channels x 9, 9 places)
    # The gradient is sigmoid(x) - t (sigmoid(x) + p (1 - sigmoid(x))): two entries give t = 0.3 and p = 2.
    "loss_bce_logits": lambda x: F.binary_cross_entropy_with_logits(x, _full(x, 0.3), pos_weight=Tensor(np.array(2.0))),
    # softmax(x) less the gradient is 0.9 at the class and 0.1 / 6 everywhere: smoothing 0.1, mean over three rows.
    "loss_ce_smooth_ignore": lambda x: F.cross_entropy(x, _classes(), ignore_index=-100, label_smoothing=0.1),
    # The gradient is 2x between -1 and 1, and the value fits smooth L1 with beta 0.5, not Huber with delta 0.5.
    "loss_huber": lambda x: F.smooth_l1_loss(x, _full(x, 0.0), beta=0.5),
    # The factor of A A^T + 4 I; A itself is not positive definite.
    "linalg_cholesky_logdet": lambda a: linalg.cholesky(_spd(a)),
}


def _dims(function):
    return [lambda x, d=d: function(x, d) for d in (-1, 1, 0, (-2, -1), (2, 3))] + [lambda x: function(x)]


def _resized(mode, **kwargs):
    return [lambda x, s=s: F.interpolate(x, scale_factor=s, mode=mode, **kwargs) for s in (2, 0.5, 1.5, 3)]


def _sized(function):
    return [lambda x, n=n: function(x, n) for n in (2, 3, 1, 4, (2, 3), (3, 2), 5)]


def _padded(mode):
    return [lambda x, p=p: F.pad(x, p, mode=mode) for p in ((1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (1, 2), (1, 1))]


def _grids(x):
    """Sampling grids that need no drawing: the identity, and a rotation by 0.3."""
    for angle, scale in [(0.0, 1.0), (0.3, 1.0), (0.5, 1.0), (0.0, 0.5)]:
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        theta = np.broadcast_to(np.array([[c, -s, 0.0], [s, c, 0.0]]), (x.shape[0], 2, 3)).copy()
        yield Tensor(theta)


def _sampled(index):
    def function(x, *given):
        if given:
            return F.grid_sample(x, given[0], **GRID_OPTIONS[index % len(GRID_OPTIONS)])
        theta = list(_grids(x))[index // len(GRID_OPTIONS) % 4]
        options = GRID_OPTIONS[index % len(GRID_OPTIONS)]
        grid = F.affine_grid(theta, x.shape, align_corners=options["align_corners"])
        return F.grid_sample(x, grid, **options)

    return function


GRID_OPTIONS = [
    {"mode": mode, "padding_mode": padding, "align_corners": corners}
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
]


def _other(x):
    """Second arguments that can be made from the first alone."""
    return [x.flip(0), x.flip(1), x.roll(1, 0), _full(x, 1.0), x.detach().flip(0)]


def _pairs(function):
    """function(x, y) where the case holds y, or with a y made from x."""
    return [lambda *xs, i=i: function(*xs) if len(xs) > 1 else function(xs[0], _other(xs[0])[i]) for i in range(5)]


GUESSED = {
    "fn_relu": [lambda x: x.relu() if hasattr(x, "relu") else F.relu(x)],
    "fn_leakyrelu": [lambda x, a=a: F.leaky_relu(x, a) for a in (0.2, 0.01, 0.1)],
    "fn_leaky_relu": [lambda x, a=a: F.leaky_relu(x, a) for a in (0.2, 0.01, 0.1)],
    "fn_prelu": [lambda x, a=a: F.prelu(x, Tensor(np.array([a]))) for a in (0.25, 0.2, 0.1)],
    "fn_gelu_tanh": [lambda x: F.gelu(x, approximate="tanh")],
    "fn_gelutanh": [lambda x: F.gelu(x, approximate="tanh")],
    "fn_quickgelu": [lambda x: x * (x * 1.702).sigmoid()],
    "fn_quick_gelu": [lambda x: x * (x * 1.702).sigmoid()],
    "fn_swish": [lambda x: F.silu(x)],
    "fn_celu": [lambda x, a=a: F.celu(x, a) for a in (1.0, 0.5, 1.5, 2.0)],
    "fn_softshrink": [lambda x, a=a: F.softshrink(x, a) for a in (0.5, 0.3, 1.0)],
    "fn_hardshrink": [lambda x, a=a: F.hardshrink(x, a) for a in (0.5, 0.3, 1.0)],
    "fn_threshold": [lambda x, a=a, b=b: F.threshold(x, a, b) for a in (0.1, 0.5, 0.0) for b in (0.0, 20.0, -1.0)],
    "fn_clamp": [lambda x, a=a, b=b: x.clamp(a, b) for a in (-1.0, -0.5, 0.0) for b in (1.0, 0.5)],
    "fn_softmin": _dims(lambda x, d=-1: F.softmax(-x, d)),
    "fn_softmax2": [lambda x: F.softmax(x, 0), lambda x: F.softmax(x, 1)],
    "fn_logsumexp": _dims(lambda x, d=-1: x.logsumexp(d)),
    "fn_normalize": [lambda x, d=d, p=p: F.normalize(x, p=p, dim=d) for p in (2.0, 1.0) for d in (-1, 1, 0)],
    "fn_cosine": _pairs(lambda x, y: F.cosine_similarity(x, y, dim=-1)),
    "fn_cosine_similarity": _pairs(lambda x, y: F.cosine_similarity(x, y, dim=-1)),
    "fn_cosine_sim": _pairs(lambda x, y: F.cosine_similarity(x, y, dim=-1)),
    "fn_pixel_unshuffle": [lambda x: F.pixel_unshuffle(x, 2), lambda x: F.pixel_unshuffle(x, 3)],
    "fn_bicubic": [c for a in (False, True) for c in _resized("bicubic", align_corners=a)],
    "fn_bilinear_corners": _resized("bilinear", align_corners=True),
    "fn_bilinear_ac": _resized("bilinear", align_corners=True),
    "fn_nearest": _resized("nearest"),
    "fn_nearest_exact": _resized("nearest-exact"),
    "fn_area": _resized("area") + [lambda x: F.interpolate(x, size=(3, 3), mode="area")],
    "fn_interpolate": _resized("nearest") + _resized("bilinear", align_corners=False),
    "fn_upsample": _resized("nearest") + _resized("bilinear", align_corners=False),
    "fn_adaptive_avgpool": _sized(lambda x, n: F.adaptive_avg_pool2d(x, n)),
    "fn_adaptive_avg_pool": _sized(lambda x, n: F.adaptive_avg_pool2d(x, n)),
    "fn_adaptive_maxpool": _sized(lambda x, n: F.adaptive_max_pool2d(x, n)),
    "fn_adaptive_max_pool": _sized(lambda x, n: F.adaptive_max_pool2d(x, n)),
    "fn_avgpool_pad": [
        lambda x, k=k, s=s, p=p, c=c: F.avg_pool2d(x, k, s, p, count_include_pad=c)
        for k in (3, 2) for s in (2, 1, 3) for p in (1, 0) for c in (True, False)
    ],  # fmt: skip
    "fn_lppool": [lambda x, p=p, k=k: F.lp_pool2d(x, p, k) for p in (2, 1, 3) for k in (2, 3)],
    "fn_grid_sample": [_sampled(i) for i in range(4 * len(GRID_OPTIONS))],
    "fn_fold": [
        lambda x, k=k, p=p, s=s: F.fold(F.unfold(x, k, padding=p, stride=s), x.shape[2:], k, padding=p, stride=s)
        for k in (3, 2) for p in (1, 0) for s in (2, 1)
    ]
    + [
        lambda x, n=n, k=k, p=p, s=s: F.fold(x, n, k, padding=p, stride=s)
        for n in (4, 5, 6, 8) for k in (2, 3) for p in (0, 1) for s in (1, 2)
    ],  # fmt: skip
    "fn_pad": _padded("constant"),
    "fn_pad_reflect": _padded("reflect"),
    "fn_reflect_pad": _padded("reflect"),
    "fn_pad_replicate": _padded("replicate"),
    "fn_pad_circular": _padded("circular"),
    "fn_var": _dims(lambda x, d=None: x.var(d)) + _dims(lambda x, d=None: x.var(d, correction=0)),
    "fn_std": _dims(lambda x, d=None: x.std(d)) + _dims(lambda x, d=None: x.std(d, correction=0)),
    "fn_topk": [lambda x, k=k: x.topk(k).values for k in (3, 2, 1, 4, 5)],
    "fn_sort": [lambda x, d=d: x.sort(-1, descending=d).values for d in (False, True)],
    "fn_max": _dims(lambda x, d=-1: x.amax(d)),
    "fn_min": _dims(lambda x, d=-1: x.amin(d)),
    "fn_roll": [lambda x, s=s, d=d: x.roll(s, d) for s in (1, 2, -1) for d in (0, 1, -1, None)],
    "fn_flip": [lambda x, d=d: x.flip(d) for d in (0, 1, -1, (0, 1))],
    "fn_pow": [lambda x, p=p: x.abs() ** p if p != int(p) else x**p for p in (2, 3, 1.5, 2.5, 0.5)],
    "fn_sqrt": [lambda x: x.abs().sqrt(), lambda x: (x.abs() + 1).sqrt(), lambda x: (x * x + 1).sqrt()],
    "fn_rsqrt": [lambda x: x.abs().rsqrt(), lambda x: (x.abs() + 1).rsqrt(), lambda x: (x * x + 1).rsqrt()],
    "fn_log": [lambda x: x.abs().log(), lambda x: (x.abs() + 1).log(), lambda x: (x * x + 1).log()],
    "fn_log1p": [lambda x: x.abs().log1p(), lambda x: (x * x).log1p()],
    "fn_atan2": _pairs(lambda x, y: x.atan2(y)),
    "fn_matmul": [lambda *xs: xs[0] @ (xs[1] if len(xs) > 1 else xs[0].mT)],
    "fn_einsum": [lambda x: minigen.einsum("ij,kj->ik", x, x), lambda x: minigen.einsum("ij,ik->jk", x, x)],
    "fn_sdpa": [lambda *xs, c=c: F.scaled_dot_product_attention(*(xs * 3)[:3], is_causal=c) for c in (False, True)],
    "fn_gumbel": [],
    "fn_dropout": [],
    "loss_ce": _every_class(lambda x, c: F.cross_entropy(x, c)),
    "loss_cross_entropy": _every_class(lambda x, c: F.cross_entropy(x, c)),
    "loss_ce_smooth": _every_class(lambda x, c: F.cross_entropy(x, c, label_smoothing=0.1)),
    "loss_ce_ignore": _every_class(lambda x, c: F.cross_entropy(x, c)),
    "loss_ce_sum": _every_class(lambda x, c: F.cross_entropy(x, c, reduction="sum")),
    "loss_ce_soft": [lambda x: F.cross_entropy(x, _full(x, 1 / x.shape[1]))],
    "loss_ce_weight": _every_class(lambda x, c: F.cross_entropy(x, c, weight=Tensor(np.arange(1.0, x.shape[1] + 1))))
    + _every_class(lambda x, c: F.cross_entropy(x, c, weight=Tensor(np.linspace(0.5, 1.5, x.shape[1])))),
    "loss_nll": _every_class(lambda x, c: F.nll_loss(F.log_softmax(x, -1), c)) + _every_class(lambda x, c: F.nll_loss(x, c)),
    "loss_multi_margin": _every_class(lambda x, c: F.multi_margin_loss(x, c)),
    "loss_focal": [],
}  # fmt: skip

# Losses against a target of the input's shape. 0.3 is what loss_bce_logits has, 0 what loss_huber has.
TARGETS = [0.0, 0.3, 1.0, 0.5, -1.0]


def _targets(loss):
    """`loss(x, target)` with the target the case holds, or else a constant, or something made from x."""
    constants = [lambda *xs, t=t: loss(*xs) if len(xs) > 1 else loss(xs[0], _full(xs[0], t)) for t in TARGETS]
    return constants + [lambda x, i=i: loss(x, _other(x.detach())[i]) for i in range(5)]


def _likelihood(loss):
    """The same for losses whose input must be a probability or a log-probability."""
    return [
        lambda *xs, f=f, inside=inside: f(inside(xs[0]), *xs[1:])
        for inside in (lambda x: x.sigmoid(), lambda x: F.softmax(x, -1), lambda x: x)
        for f in _targets(loss)
    ]


def _divergence(reduction):
    def kl(x, y):
        return F.kl_div(F.log_softmax(x, -1), F.softmax(y, -1), reduction=reduction)

    def uniform(x):
        return F.kl_div(F.log_softmax(x, -1), _full(x, 1 / x.shape[-1]), reduction=reduction)

    def given(x, y):
        return F.kl_div(F.log_softmax(x, -1), y, reduction=reduction)

    return [*_targets(kl), uniform, *_targets(given)]


GUESSED |= {
    "loss_mse": _targets(lambda x, t: F.mse_loss(x, t)),
    "loss_mse_sum": _targets(lambda x, t: F.mse_loss(x, t, reduction="sum")),
    "loss_l1": _targets(lambda x, t: F.l1_loss(x, t)),
    "loss_smooth_l1": [c for b in (1.0, 0.5) for c in _targets(lambda x, t, b=b: F.smooth_l1_loss(x, t, beta=b))],
    "loss_huber_delta": [c for d in (1.0, 0.5, 0.7, 1.5) for c in _targets(lambda x, t, d=d: F.huber_loss(x, t, delta=d))],
    "loss_bce": _likelihood(lambda x, t: F.binary_cross_entropy(x, t)),
    "loss_kl": [c for r in ("batchmean", "mean", "sum") for c in _divergence(r)],
    "loss_kldiv": [c for r in ("batchmean", "mean", "sum") for c in _divergence(r)],
    "loss_kl_div": [c for r in ("batchmean", "mean", "sum") for c in _divergence(r)],
    "loss_poisson_nll": _targets(lambda x, t: F.poisson_nll_loss(x, t)),
    "loss_gaussian_nll": _targets(lambda x, t: F.gaussian_nll_loss(x, t, _full(x, 1.0))),
    "loss_hinge": _targets(lambda x, t: F.relu(1 - x * t).mean()) + [lambda x: F.relu(1 - x).mean(), lambda x: F.relu(1 + x).mean()],
    "loss_soft_margin": _targets(lambda x, t: F.soft_margin_loss(x, t)),
    "loss_hinge_embedding": _targets(lambda x, t: F.hinge_embedding_loss(x, t)),
    "loss_logcosh": _targets(lambda x, t: (F.softplus(-2 * (x - t)) + (x - t) - float(np.log(2))).mean()),
}  # fmt: skip


# Matrices: of the input A itself, of A A^T + 4 I (what linalg_cholesky_logdet factors), and of A + A^T


def _matrices(function):
    made = [_spd, lambda a: a, lambda a: a + a.mT, lambda a: _spd(a, 1.0), lambda a: (a + a.mT) * 0.5, lambda a: a @ a.mT]
    return [lambda a, *b, f=f, m=m: f(m(a), *b) for f in ([function] if callable(function) else function) for m in made]


def _systems(solve):
    """solve(A, B) with the B that the case holds, or else with the identity, ones, or A itself."""
    def sides(a):
        n = a.shape[-1]
        return [Tensor(np.eye(n)), Tensor(np.ones((n, 1))), Tensor(np.ones(n)), Tensor(np.arange(1.0, n + 1))]

    made = [_spd, lambda a: a, lambda a: a + a.mT, lambda a: _spd(a, 1.0)]
    return [lambda a, *b, m=m, i=i: solve(m(a), *(b or [sides(a)[i]])) for i in range(4) for m in made] + [
        lambda a, m=m: solve(m(a), a) for m in made
    ]


GUESSED |= {
    "linalg_cholesky": _matrices(lambda a: linalg.cholesky(a)),
    "linalg_logdet": _matrices([lambda a: linalg.logdet(a), lambda a: linalg.slogdet(a).logabsdet]),
    "linalg_slogdet": _matrices([lambda a: linalg.slogdet(a).logabsdet, lambda a: linalg.slogdet(a)]),
    "linalg_det": _matrices(lambda a: linalg.det(a)),
    "linalg_inv": _matrices(lambda a: linalg.inv(a)),
    "linalg_inverse": _matrices(lambda a: linalg.inv(a)),
    "linalg_pinv": _matrices(lambda a: linalg.pinv(a)),
    "linalg_solve": _systems(lambda a, b: linalg.solve(a, b)),
    "linalg_triangular": _systems(lambda a, b: linalg.solve_triangular(linalg.cholesky(a), b, upper=False))
    + _systems(lambda a, b: linalg.solve_triangular(a.tril(), b, upper=False))
    + _systems(lambda a, b: linalg.solve_triangular(a.triu(), b, upper=True)),
    "linalg_cholesky_solve": _systems(lambda a, b: linalg.cholesky_solve(b, linalg.cholesky(a))),
    "linalg_eigvalsh": _matrices(lambda a: linalg.eigvalsh(a)),
    "linalg_eigh": _matrices([lambda a: linalg.eigvalsh(a), lambda a: linalg.eigh(a)]),
    "linalg_svdvals": _matrices(lambda a: linalg.svdvals(a)),
    "linalg_svd": _matrices([lambda a: linalg.svdvals(a), lambda a: linalg.svd(a, full_matrices=False)]),
    "linalg_qr": _matrices([lambda a: linalg.qr(a), lambda a: linalg.qr(a).R, lambda a: linalg.qr(a).Q]),
    "linalg_lu": _matrices([lambda a: linalg.lu(a), lambda a: linalg.lu_factor(a).LU]),
    "linalg_matrix_exp": _matrices(lambda a: linalg.matrix_exp(a)),
    "linalg_expm": _matrices(lambda a: linalg.matrix_exp(a)),
    "linalg_matrix_power": _matrices([lambda a, n=n: linalg.matrix_power(a, n) for n in (2, 3, -1, 5)]),
    "linalg_norm": _matrices([lambda a, p=p: linalg.norm(a, p) for p in (None, "fro", "nuc", 2, 1)]),
    "linalg_nuc": _matrices(lambda a: linalg.norm(a, "nuc")),
    "linalg_trace": _matrices(lambda a: minigen.trace(a)),
    "linalg_einsum": [
        lambda a, *b, e=e: minigen.einsum(e, a, *(b or [a]))
        for e in ("ij,jk->ik", "ij,kj->ik", "ij,ij->i", "ij,ij->", "ij,ik->jk")
    ],
}  # fmt: skip
GUESSED |= {
    "linalg_triangular_solve": GUESSED["linalg_triangular"],
    "linalg_solve_triangular": GUESSED["linalg_triangular"],
    "linalg_trisolve": GUESSED["linalg_triangular"],
}


@kind("fn_", "loss_", "linalg_")
def run(case):
    if case.name in FOUND:
        return measure(case, FOUND[case.name]).require()
    candidates = GUESSED.get(case.name)
    if candidates is None:
        candidates = _by_name(case.name.partition("_")[2])
    if not candidates:
        raise NotCovered(f"no function is known for {case.name!r}")
    closest = None
    for function in candidates:
        try:
            comparison = measure(case, function)
        except Exception:  # arguments that the function refuses are not the case's
            continue
        if comparison.fits:
            return None
        if comparison.comparable and (closest is None or comparison.excess < closest.excess):
            closest = comparison
    if closest is None:
        raise NotCovered(f"no plausible arguments of {case.name!r} give an output of its shape")
    closest.require()


def measure(case, function):
    inputs = case.inputs()
    outputs = [y.reshape(1) if y.ndim == 0 else y for y in flat(function(*inputs))]
    ours = {f"out__{i}": y for i, y in enumerate(outputs) if f"out__{i}" in case}
    targets = {f"gin__{i}": x for i, x in enumerate(inputs) if f"gin__{i}" in case}
    return case.compare(ours | gradients(case, outputs, targets))


def _by_name(name):
    """A function of that name, without arguments or along a dimension."""
    for place in (F, minigen, linalg):
        function = getattr(place, name, None)
        if callable(function):
            return [lambda *xs, f=function: f(*xs)] + [lambda x, d=d, f=function: f(x, d) for d in (-1, 1, 0)]
    return []
