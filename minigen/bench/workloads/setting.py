"""Where and how one side of a GPU workload runs: its device, the type of its products, how its networks are called.

    setting = Setting(library, device="cuda", precision="bfloat16")
    network = setting.network(Model())                    # weights drawn by NumPy, moved over; called like the module
    step = training(setting, setting.adam(network), lambda: network(x, setting.normal(8, 20)))
    setting.compile(mode="reduce-overhead")               # PyTorch only: from now on calls go to the compiled networks
    setting.reset()                                       # PyTorch only: weights and optimisers as at first, in place

A workload's `on_gpu(setting, **sizes)` uses nothing else that depends on the side but `activated` (workloads), so both
run the same lines.
"""

import contextlib
import functools

import numpy as np

from . import SEED


class Setting:
    """library   minigen or torch
    device       "cpu" or "cuda"
    precision    "float32" (products in TF32 on a GPU, on both sides), or "bfloat16" by autocast
    checking     noise is the same at each step and on both sides, and not drawn anew
    """

    def __init__(self, library, device="cpu", precision="float32"):
        self.library, self.device, self.precision, self.checking = library, device, precision, True
        self.is_torch = library.__name__ == "torch"
        self.networks, self.optimisers, self.params, self.given = [], [], 0, {}

    # Networks and optimisers

    def network(self, module, seed=SEED):
        """A module with its weights on the device, as something to call."""
        state = dict(module.state_dict())
        shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
        for (name, _), array in zip(shapes, drawn_weights(shapes, seed)):
            state[name] = self.library.from_numpy(array.copy())
        module.load_state_dict(state)
        self.params += sum(p.numel() for p in module.parameters())
        module = module.to(self.device)
        if self.is_torch and self.device == "cuda" and any(p.ndim == 4 for p in module.parameters()):
            module = module.to(memory_format=self.library.channels_last)
        network = Network(module, (shapes, seed))
        self.networks.append(network)
        return network

    def adam(self, network, lr=1e-3, kind="Adam", **options):
        """Adam, or AdamW, as each library does it best."""
        best = {"fused": True, "capturable": self.device == "cuda"} if self.is_torch else {}
        found = getattr(self.library.optim, kind)(network.parameters(), lr=lr, **options, **best)
        self.optimisers.append(found)
        return found

    def compile(self, mode=None):
        """Call the networks as torch.compile makes them."""
        for network in self.networks:
            network.call = self.library.compile(network.module, dynamic=False, mode=mode)

    def reset(self):
        """Weights, buffers and optimisers as they were at first, in their places (a captured graph knows no others)."""
        with self.library.no_grad():
            for network in self.networks:
                shapes, seed = network.drawn
                parameters = dict(network.module.named_parameters())
                for (name, _), array in zip(shapes, drawn_weights(shapes, seed)):
                    parameters[name].copy_(self.library.from_numpy(array))
                for name, buffer in network.module.named_buffers():
                    buffer.fill_(1 if name.endswith("running_var") else 0)
            for optimiser in self.optimisers:
                for state in optimiser.state.values():
                    for x in state.values():
                        x.zero_()

    # Data and noise

    def put(self, array):
        """A NumPy array as a tensor on the device; pictures in the order of memory that the library likes."""
        x = self.library.from_numpy(np.ascontiguousarray(array)).to(self.device)
        if self.is_torch and self.device == "cuda" and x.ndim == 4:
            x = x.contiguous(memory_format=self.library.channels_last)
        return x

    def normal(self, *shape):
        """Standard normal numbers: drawn on the device, or the given ones while `checking`."""
        if self.checking:
            return self.once(("normal", shape), lambda draw: draw.standard_normal(shape, dtype=np.float32))
        return self.library.randn(*shape, device=self.device)

    def integers(self, high, n):
        """n whole numbers from 0 to high - 1, drawn likewise."""
        if self.checking:
            return self.once(("integers", high, n), lambda draw: draw.integers(0, high, n))
        return self.library.randint(0, high, (n,), device=self.device)

    def once(self, key, make):
        if key not in self.given:
            self.given[key] = self.put(make(np.random.default_rng(SEED + 9)))
        return self.given[key]

    def autocast(self):
        """The context in which the forward pass runs."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        if self.is_torch:
            return self.library.autocast(self.device, dtype=self.library.bfloat16)
        return self.library.amp.autocast(self.device, dtype="bfloat16")


class Network:
    """A module, called directly or as it was compiled."""

    def __init__(self, module, drawn):
        self.module, self.call, self.drawn = module, module, drawn

    def __call__(self, *arguments):
        return self.call(*arguments)

    def parameters(self):
        return self.module.parameters()


@functools.lru_cache(maxsize=2)
def drawn_weights(shapes, seed):
    """Weights drawn by NumPy, the same in both libraries: N(0, 1/fan_in), norms at one, biases zero."""
    draw = np.random.default_rng(seed)
    return [
        draw.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        if len(shape) > 1
        else np.full(shape, name.endswith("weight"), np.float32)
        for name, shape in shapes
    ]


def training(setting, optimiser, loss):
    """A whole step that reads nothing: forward, backward, update. It returns the loss, a tensor on the device."""

    def step():
        with setting.autocast():
            found = loss()
        found.backward()
        optimiser.step()
        optimiser.zero_grad()
        return found.detach()

    return step
