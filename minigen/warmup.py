"""`minigen warmup` and `minigen info`: the kernels compiled ahead, and what this machine offers them."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from . import kernels
from .device import cuda_available


def compile_kernels():
    """Take a training step with every kind of layer, small and large, so that each kernel compiles and is cached."""
    if not kernels.enabled():
        print("kernels are off (MINIGEN_KERNELS): there is nothing to compile")
        return 0
    if kernels.find(np.zeros(1, np.float32), "blas") is None:
        print("Numba is not installed: everything runs on definitions, and there is nothing to compile")
        return 0
    from tqdm import tqdm

    start = time.perf_counter()
    for name, step in tqdm(list(_steps()), desc="compiling", disable=None, leave=False):
        before = time.perf_counter()
        step()
        print(f"{name:34s} {time.perf_counter() - before:6.1f} s")
    print(f"compiled and kept in {circumstances()['cache']} ({time.perf_counter() - start:.0f} s)")
    return 0


def _steps():
    """(name, training step) with the layers of each family, for arrays of both sizes that kernels distinguish."""
    import minigen

    from . import nn, optim
    from .nn import functional as F

    def step(model, inputs, loss, optimiser=optim.Adam):
        def run():
            made = optimiser(model.parameters(), lr=1e-3)
            loss(model(*inputs)).backward()
            nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
            made.step()

        return run

    mean = lambda y: (y[0] if isinstance(y, tuple) else y).mean()
    for size, n in (("small", 2), ("large", 64)):
        x = minigen.randn(n, 128)
        classes = minigen.randint(0, 10, (n,))
        pictures = minigen.randn(n, 16, 16, 16)
        words = minigen.randint(0, 50, (n, 32))
        targets = (minigen.rand(n, 128) > 0.5).float()
        for activation in (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Softplus):
            layers = nn.Sequential(nn.Linear(128, 256), activation(), nn.Dropout(0.1), nn.Linear(256, 10))
            yield (
                f"{size}: dense, {activation.__name__}",
                step(layers, (x,), lambda y, c=classes: F.cross_entropy(y, c)),
            )
        for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits):
            dense = nn.Linear(128, 128)
            yield f"{size}: {loss.__name__}", step(dense, (x,), lambda y, f=loss, t=targets: f(y, t), optim.AdamW)
        norms = nn.Sequential(nn.LayerNorm(128), nn.RMSNorm(128), nn.Softmax(-1), nn.LogSoftmax(-1))
        yield f"{size}: norms over features", step(norms, (x,), mean, optim.SGD)
        convolutions = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.GroupNorm(4, 32),
            nn.Conv2d(32, 16, 1),
            nn.ConvTranspose2d(16, 8, 4, 2, 1),
            nn.MaxPool2d(2),
            nn.InstanceNorm2d(8),
            nn.AvgPool2d(2),
        )
        yield f"{size}: convolutions", step(convolutions, (pictures,), mean)
        transformer = nn.Sequential(nn.Embedding(50, 64), nn.TransformerEncoderLayer(64, 4, 128, batch_first=True))
        yield f"{size}: embedding and attention", step(transformer, (words,), mean)
        for layer in (nn.RNN, nn.LSTM, nn.GRU):
            sequence = nn.Sequential(nn.Embedding(50, 64), layer(64, 64, batch_first=True))
            yield f"{size}: {layer.__name__}", step(sequence, (words,), mean)


def circumstances():
    """{name: what was found}: versions, devices, BLAS, threads, kernels and folders."""
    from . import __version__
    from .data import cache_dir

    found = {
        "minigen": f"{__version__} in {os.path.dirname(__file__)}",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    for package in ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "safetensors", "matplotlib"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if not package.startswith("cupy"):
                found[package] = "not installed"
    found["devices"] = "cpu, cuda" if cuda_available() else "cpu (no GPU found, or CuPy is not installed)"
    if kernels.find(np.zeros(1, np.float32), "blas") is None:
        reason = "MINIGEN_KERNELS" if not kernels.enabled() else "Numba is not installed"
        found["kernels"] = f"off ({reason}): everything runs on definitions"
        found["blas"] = "NumPy's own"
    else:
        import numba

        from .kernels.cpu import blas, cache

        found["kernels"] = "on"
        found["blas"] = blas.describe()
        found["threads"] = f"{numba.get_num_threads()} of {os.cpu_count()} processors"
        found["cache"] = str(cache.folder() or "none: kernels are compiled in every process")
    found.setdefault("cache", str(cache_dir()))
    found["data"] = str(cache_dir())
    return found
