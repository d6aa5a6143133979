"""Plausible arguments of functions, losses and matrix functions that parity cases are likely to name.

Each name has a list of functions of the case's inputs; functions.py tries one after the other. The bundled cases
settle some conventions: the target of a loss is 0.3 or 0 everywhere, classes are 0, 3, (ignored), 5, and a matrix A is
made positive definite as A A^T + 4 I.
"""

import itertools

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import Tensor, linalg


def classes(third=-100):
    """The class of each row of a loss's (4, 6) input. From the gradient of loss_ce_smooth_ignore: rows 0, 1 and 3 pull
    towards classes 0, 3 and 5, and row 2 is ignored."""
    return Tensor(np.array([0, 3, third, 5]))


def full(x, number):
    return Tensor(np.full(x.shape, number, x.dtype))


def spd(a, shift=4.0):
    """A positive definite matrix from any: A A^T + 4 I."""
    return a @ a.mT + Tensor(np.eye(a.shape[-1], dtype=a.dtype) * shift)


def each(function, *choices):
    """`function(*inputs, *arguments)` for every combination of arguments, as functions of the inputs."""
    return [lambda *xs, c=c: function(*xs, *c) for c in itertools.product(*choices)]


def along(function):
    """A function along the last dimension, each other, several, or all."""
    return [*each(function, (-1, 1, 0, (-2, -1))), function]


def beside(function):
    """A function of two tensors: the second is the case's, or made from the first."""

    def second(i):
        def of(x, *given):
            made = (lambda: x.flip(0), lambda: x.flip(1), lambda: x.roll(1, 0), lambda: full(x, 1.0))
            return function(x, *(given or [made[i]()]))

        return of

    return [second(i) for i in range(4)]


# Functions

SCALES = (2, 0.5, 1.5, 3)
SIZES = (2, 3, 1, 4, (2, 3), (3, 2), 5)
PADS = ((1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (1, 2), (1, 1))


def _resize(mode, *corners):
    options = [{"align_corners": c} for c in corners] or [{}]
    return [lambda x, s=s, o=o: F.interpolate(x, scale_factor=s, mode=mode, **o) for s in SCALES for o in options]


def _sample(x, *given_and_options):
    """grid_sample on the case's grid, or on one that needs no drawing: the picture turned by an angle, and scaled."""
    *given, (angle, scale), mode, padding, corners = given_and_options
    if given:
        grid = given[0]
    else:
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        theta = np.broadcast_to([[c, -s, 0.0], [s, c, 0.0]], (x.shape[0], 2, 3)).copy()
        grid = F.affine_grid(Tensor(theta), x.shape, align_corners=corners)
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)


def _fold_back(x, kernel, padding, stride):
    windows = F.unfold(x, kernel, padding=padding, stride=stride)
    return F.fold(windows, x.shape[2:], kernel, padding=padding, stride=stride)


GUESSED = {
    "fn_leaky_relu": each(F.leaky_relu, (0.2, 0.01, 0.1)),
    "fn_prelu": each(lambda x, a: F.prelu(x, Tensor(np.array([a]))), (0.25, 0.2, 0.1)),
    "fn_gelu_tanh": [lambda x: F.gelu(x, approximate="tanh")],
    "fn_quickgelu": [lambda x: x * (x * 1.702).sigmoid()],
    "fn_swish": [F.silu],
    "fn_celu": each(F.celu, (1.0, 0.5, 1.5, 2.0)),
    "fn_softshrink": each(F.softshrink, (0.5, 0.3, 1.0)),
    "fn_hardshrink": each(F.hardshrink, (0.5, 0.3, 1.0)),
    "fn_threshold": each(F.threshold, (0.1, 0.5, 0.0), (0.0, 20.0, -1.0)),
    "fn_clamp": each(lambda x, a, b: x.clamp(a, b), (-1.0, -0.5, 0.0), (1.0, 0.5)),
    "fn_softplus": each(lambda x, b, t: F.softplus(x, beta=b, threshold=t), (1.0, 2.0, 0.5), (20.0, 1.0)),
    "fn_softmin": along(lambda x, d=-1: F.softmax(-x, d)),
    "fn_logsumexp": along(lambda x, d=-1: x.logsumexp(d)),
    "fn_normalize": each(lambda x, p, d: F.normalize(x, p=p, dim=d), (2.0, 1.0), (-1, 1, 0)),
    "fn_cosine": beside(lambda x, y: F.cosine_similarity(x, y, dim=-1)),
    "fn_pixel_unshuffle": each(F.pixel_unshuffle, (2, 3)),
    "fn_bicubic": _resize("bicubic", False, True),
    "fn_bilinear": _resize("bilinear", False, True),
    "fn_nearest": _resize("nearest"),
    "fn_area": _resize("area") + each(lambda x, n: F.interpolate(x, size=(n, n), mode="area"), (3, 4)),
    "fn_interpolate": _resize("nearest") + _resize("bilinear", False, True) + _resize("bicubic", False, True),
    "fn_adaptive_avgpool": each(F.adaptive_avg_pool2d, SIZES),
    "fn_adaptive_maxpool": each(F.adaptive_max_pool2d, SIZES),
    "fn_avgpool": each(lambda x, k, s, p, c: F.avg_pool2d(x, k, s, p, count_include_pad=c),
                       (2, 3), (2, 1, 3), (0, 1), (True, False)),
    "fn_maxpool": each(F.max_pool2d, (3, 2), (2, 1, 3), (1, 0)),
    "fn_lppool": each(F.lp_pool2d, (2, 1, 3), (2, 3)),
    "fn_grid_sample": each(_sample, ((0.0, 1.0), (0.3, 1.0), (0.5, 1.0), (0.0, 0.5)),
                           ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)),
    "fn_fold": each(_fold_back, (3, 2), (1, 0), (2, 1))
    + each(lambda x, n, k, p, s: F.fold(x, n, k, padding=p, stride=s), (4, 5, 6, 8), (2, 3), (0, 1), (1, 2)),
    "fn_pad": each(F.pad, PADS),
    "fn_pad_reflect": each(lambda x, p: F.pad(x, p, mode="reflect"), PADS),
    "fn_pad_replicate": each(lambda x, p: F.pad(x, p, mode="replicate"), PADS),
    "fn_pad_circular": each(lambda x, p: F.pad(x, p, mode="circular"), PADS),
    "fn_var": along(lambda x, d=None: x.var(d)) + along(lambda x, d=None: x.var(d, correction=0)),
    "fn_std": along(lambda x, d=None: x.std(d)) + along(lambda x, d=None: x.std(d, correction=0)),
    "fn_norm": along(lambda x, d=None: x.norm(dim=d)) + along(lambda x, d=None: x.norm(1, d)),
    "fn_max": along(lambda x, d=None: x.amax(d)),
    "fn_min": along(lambda x, d=None: x.amin(d)),
    "fn_topk": each(lambda x, k: x.topk(k).values, (3, 2, 1, 4, 5)),
    "fn_sort": each(lambda x, d: x.sort(-1, descending=d).values, (False, True)),
    "fn_roll": each(lambda x, s, d: x.roll(s, d), (1, 2, -1), (-1, 0, 1, None)),
    "fn_flip": each(lambda x, d: x.flip(d), (-1, 0, 1, (0, 1))),
    "fn_pow": each(lambda x, p: x**p, (2, 3)) + each(lambda x, p: x.abs() ** p, (1.5, 2.5, 0.5)),
    "fn_sqrt": [lambda x: x.abs().sqrt(), lambda x: (x.abs() + 1).sqrt(), lambda x: (x * x + 1).sqrt()],
    "fn_rsqrt": [lambda x: x.abs().rsqrt(), lambda x: (x.abs() + 1).rsqrt(), lambda x: (x * x + 1).rsqrt()],
    "fn_log": [lambda x: x.abs().log(), lambda x: (x.abs() + 1).log(), lambda x: (x * x + 1).log()],
    "fn_log1p": [lambda x: x.abs().log1p(), lambda x: (x * x).log1p()],
    "fn_atan2": beside(minigen.atan2),
    "fn_matmul": [lambda x, *y: x @ (y[0] if y else x.mT)],
    "fn_einsum": each(lambda x, e: minigen.einsum(e, x, x), ("ij,kj->ik", "ij,ik->jk", "ij,ij->i")),
    "fn_sdpa": [lambda *xs, c=c: F.scaled_dot_product_attention(*(xs * 3)[:3], is_causal=c) for c in (False, True)],
}  # fmt: skip
for alias, name in {
    "leakyrelu": "leaky_relu", "gelutanh": "gelu_tanh", "quick_gelu": "quickgelu", "cosine_similarity": "cosine",
    "adaptive_avg_pool": "adaptive_avgpool", "adaptive_max_pool": "adaptive_maxpool", "reflect_pad": "pad_reflect",
    "replicate_pad": "pad_replicate", "circular_pad": "pad_circular", "upsample": "interpolate", "attention": "sdpa",
    "scaled_dot_product_attention": "sdpa", "leaky": "leaky_relu", "gridsample": "grid_sample",
    "avg_pool": "avgpool", "max_pool": "maxpool", "lp_pool": "lppool", "unshuffle": "pixel_unshuffle",
}.items():  # fmt: skip
    GUESSED[f"fn_{alias}"] = GUESSED[f"fn_{name}"]


# Losses


def _classified(loss):
    """`loss(x, classes)`, for each class that row 2 may have where it is not ignored."""
    return [lambda x, c=c: loss(x, classes(c)) for c in (2, 1, 4, 0, 3, 5, -100)]


def _against(loss, inside=lambda x: x):
    """`loss(inside(x), target)`, the target being the case's, a constant, or made from x."""
    constants = [
        lambda *xs, t=t: loss(inside(xs[0]), *(xs[1:] or [full(xs[0], t)])) for t in (0.0, 0.3, 1.0, 0.5, -1.0)
    ]
    return constants + [lambda x, d=d: loss(inside(x), x.detach().flip(d)) for d in (0, 1)]


def _divergence(reduction):
    """Kullback-Leibler, the target being uniform, the case's, or the softmax of something."""

    def kl(x, y):
        return F.kl_div(F.log_softmax(x, -1), y, reduction=reduction)

    softened = _against(lambda x, y: kl(x, F.softmax(y, -1)))
    return [lambda x: kl(x, full(x, 1 / x.shape[-1])), *softened, *_against(kl)]


def _weighted(*weights):
    return [
        c for w in weights for c in _classified(lambda x, t, w=w: F.cross_entropy(x, t, weight=Tensor(w(x.shape[1]))))
    ]


GUESSED |= {
    "loss_ce": _classified(F.cross_entropy),
    "loss_ce_smooth": _classified(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1)),
    "loss_ce_sum": _classified(lambda x, t: F.cross_entropy(x, t, reduction="sum")),
    "loss_ce_soft": [lambda x: F.cross_entropy(x, full(x, 1 / x.shape[1]))],
    "loss_ce_weight": _weighted(lambda n: np.arange(1.0, n + 1), lambda n: np.linspace(0.5, 1.5, n)),
    "loss_nll": _classified(lambda x, t: F.nll_loss(F.log_softmax(x, -1), t)) + _classified(F.nll_loss),
    "loss_multi_margin": _classified(F.multi_margin_loss),
    "loss_mse": _against(F.mse_loss),
    "loss_mse_sum": _against(lambda x, t: F.mse_loss(x, t, reduction="sum")),
    "loss_l1": _against(F.l1_loss),
    "loss_smooth_l1": [c for b in (1.0, 0.5) for c in _against(lambda x, t, b=b: F.smooth_l1_loss(x, t, beta=b))],
    "loss_huber": [c for d in (1.0, 0.5, 0.7, 1.5) for c in _against(lambda x, t, d=d: F.huber_loss(x, t, delta=d))],
    "loss_bce": _against(F.binary_cross_entropy, lambda x: x.sigmoid()) + _against(F.binary_cross_entropy),
    "loss_bce_logits": _against(F.binary_cross_entropy_with_logits),
    "loss_kl": [c for r in ("batchmean", "mean", "sum") for c in _divergence(r)],
    "loss_poisson_nll": _against(F.poisson_nll_loss),
    "loss_gaussian_nll": _against(lambda x, t: F.gaussian_nll_loss(x, t, full(x, 1.0))),
    "loss_hinge": _against(lambda x, t: F.relu(1 - x * t).mean()),
    "loss_soft_margin": _against(F.soft_margin_loss),
    "loss_hinge_embedding": _against(F.hinge_embedding_loss),
    "loss_logcosh": _against(lambda x, t: (F.softplus(-2 * (x - t)) + (x - t) - float(np.log(2))).mean()),
}
for alias, name in {
    "cross_entropy": "ce",
    "kldiv": "kl",
    "kl_div": "kl",
    "smoothl1": "smooth_l1",
    "poisson": "poisson_nll",
    "gaussian": "gaussian_nll",
}.items():
    GUESSED[f"loss_{alias}"] = GUESSED[f"loss_{name}"]


# Matrices made from the case's A

MADE = [spd, lambda a: a, lambda a: a + a.mT, lambda a: spd(a, 1.0), lambda a: (a + a.mT) * 0.5, lambda a: a @ a.mT]


def _of(*functions):
    return [lambda a, *b, f=f, made=made: f(made(a), *b) for f in functions for made in MADE]


def _system(*solvers):
    """solve(A, B) with the case's B, or with the identity, ones, 1 2 3 ..., or A itself."""

    def right(a, i):
        n = a.shape[-1]
        return a if i == 4 else Tensor([np.eye(n), np.ones((n, 1)), np.ones(n), np.arange(1.0, n + 1)][i])

    return [
        lambda a, *b, f=f, made=made, i=i: f(made(a), *(b or [right(a, i)]))
        for f in solvers
        for i in range(5)
        for made in MADE[:4]
    ]


GUESSED |= {
    "linalg_cholesky": _of(linalg.cholesky),
    "linalg_logdet": _of(linalg.logdet, lambda a: linalg.slogdet(a).logabsdet),
    "linalg_slogdet": _of(lambda a: linalg.slogdet(a).logabsdet, linalg.slogdet),
    "linalg_det": _of(linalg.det),
    "linalg_inv": _of(linalg.inv),
    "linalg_pinv": _of(linalg.pinv),
    "linalg_solve": _system(linalg.solve),
    "linalg_triangular": _system(
        lambda a, b: linalg.solve_triangular(linalg.cholesky(a), b, upper=False),
        lambda a, b: linalg.solve_triangular(a.tril(), b, upper=False),
        lambda a, b: linalg.solve_triangular(a.triu(), b, upper=True),
    ),
    "linalg_cholesky_solve": _system(lambda a, b: linalg.cholesky_solve(b, linalg.cholesky(a))),
    "linalg_eigvalsh": _of(linalg.eigvalsh),
    "linalg_eigh": _of(linalg.eigvalsh, linalg.eigh),
    "linalg_svdvals": _of(linalg.svdvals),
    "linalg_svd": _of(linalg.svdvals, lambda a: linalg.svd(a, full_matrices=False)),
    "linalg_qr": _of(linalg.qr, lambda a: linalg.qr(a).R, lambda a: linalg.qr(a).Q),
    "linalg_lu": _of(linalg.lu, lambda a: linalg.lu_factor(a).LU),
    "linalg_matrix_exp": _of(linalg.matrix_exp),
    "linalg_matrix_power": _of(*[lambda a, n=n: linalg.matrix_power(a, n) for n in (2, 3, -1, 5)]),
    "linalg_norm": _of(*[lambda a, p=p: linalg.norm(a, p) for p in (None, "fro", "nuc", 2, 1)]),
    "linalg_trace": _of(minigen.trace),
    "linalg_einsum": [
        lambda a, *b, e=e: minigen.einsum(e, a, *(b or [a]))
        for e in ("ij,jk->ik", "ij,kj->ik", "ij,ij->i", "ij,ij->", "ij,ik->jk")
    ],
}
for alias, name in {
    "inverse": "inv", "triangular_solve": "triangular", "solve_triangular": "triangular", "trisolve": "triangular",
    "expm": "matrix_exp", "nuc": "norm", "nuclear": "norm", "eig": "eigh",
}.items():  # fmt: skip
    GUESSED[f"linalg_{alias}"] = GUESSED[f"linalg_{name}"]
