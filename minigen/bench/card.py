"""One side of one GPU workload, in a process of its own: each of its ways checked, then timed. gpu.py compares."""

import gc
import importlib
import statistics
import time

from . import ceiling, sides
from .count import counting
from .workloads.setting import Setting

CHECKED = 10  # steps
COMPILED = {"compiled": None, "compiled graph": None, "reduce-overhead": "reduce-overhead"}  # torch.compile's mode


def measure(work, options):
    """What each way of one side took, one dictionary after the other. A way that fails leaves the others alone."""
    until = time.monotonic() + 60 * options.minutes
    library = sides.library(options.side, options.threads)
    card, asked = Card(library, options.device), options.ways and options.ways.split(",")
    file = importlib.import_module(f"{__package__}.workloads.{work.file}")
    for precision in work.precisions if options.device == "cuda" else ("float32",):
        for group in work.ways[options.side]:
            model, before = None, card.memory()
            for way in group:
                if not card.can(way) or (way not in asked if asked else card.device == "cpu" and way in COMPILED):
                    continue
                about = {"way": way, "precision": precision, "version": library.__version__}
                if time.monotonic() > until:
                    yield {**about, "failed": "time ran out"}
                    continue
                try:
                    model = model or Model(file, library, options.device, precision, work)
                    found = model.measured(way, card, options.seconds)
                    found["peak_mb"] = None if before is None else round(card.memory() - before, 1)
                    yield {**about, **found, "ceiling_gflops": card.product_rate(precision)}
                except Exception as fault:
                    lines, model = str(fault).strip().splitlines() or [""], None
                    yield {**about, "failed": f"{type(fault).__name__}: {lines[0][:200]}"}
                card.forget()
            model = None
            card.forget()


class Model:
    """A workload as one side has built it, in one precision."""

    def __init__(self, file, library, device, precision, work):
        self.setting = Setting(library, device, precision)
        self.made = file.on_gpu(self.setting, **(work.small if device == "cpu" else work.sizes))
        self.writes, self.used, self.compiled = hasattr(self.made, "write"), False, False

    def measured(self, way, card, seconds):
        """Losses, then milliseconds."""
        setting, start = self.setting, time.perf_counter()
        setting.checking = True
        run = self.ready(way, card)
        if self.used or way.endswith("graph"):
            setting.reset()
        self.used = True
        if hasattr(self.made, "losses"):
            losses = self.made.losses()
        else:
            losses = [run().item() for _ in range(CHECKED)]
        first = time.perf_counter() - start
        setting.checking = False
        if self.writes:
            ms = writing_time(self.made, card, seconds)
        else:
            ms = step_time(self.ready(way, card), card, seconds)
        found = {"ms": ms, "loss_first": losses[0], "loss_last": losses[-1], "params": setting.params}
        found |= {"ready_s": round(first, 2), "operations": None}
        if not setting.is_torch and not self.writes and way == "eager":
            with counting() as operations:
                self.made()
            found["operations"] = operations.total
        return found

    def ready(self, way, card):
        """The step, or the writer's step put in its place, in the way that is asked for."""
        if self.setting.is_torch:
            if way in COMPILED and not self.compiled:
                (self.made if self.writes else self.setting).compile(COMPILED[way])
                self.compiled = True
            run = self.made.step if self.writes else self.made
            if way.endswith("graph"):
                run = card.graph(run)
            if self.writes:
                self.made.run = run
            return run
        if way == "captured" and not self.writes:
            return self.setting.library.capture(self.made, device=card.device)
        return self.made


def step_time(run, card, seconds):
    """Milliseconds of a step: the median over blocks of steps, between two waits for the card."""
    for _ in range(3):
        run()
    card.wait()
    start = time.perf_counter()
    run()
    card.wait()
    block = max(1, min(200, int(0.05 / (time.perf_counter() - start))))
    times, finish = [], time.perf_counter() + seconds
    while time.perf_counter() < finish or len(times) < 3:
        start = time.perf_counter()
        for _ in range(block):
            run()
        card.wait()
        times.append((time.perf_counter() - start) / block)
    return round(1e3 * statistics.median(times), 5)


def writing_time(writer, card, seconds):
    """Milliseconds of one symbol more of every row."""

    def once(n):
        start = time.perf_counter()
        writer.write(n)
        card.wait()
        return time.perf_counter() - start

    once(2)
    times, finish = [], time.perf_counter() + seconds
    while time.perf_counter() < finish or len(times) < 3:
        few, many = once(writer.new), once(2 * writer.new)
        times.append((many - few) / writer.new)
    return round(1e3 * statistics.median(times), 5)


class Card:
    """The device, as one of the two libraries sees it."""

    def __init__(self, library, device):
        self.library, self.is_torch, self.on_gpu = library, library.__name__ == "torch", device == "cuda"
        self.device, self.rates = device, {}
        if not self.on_gpu:
            return
        if self.is_torch:
            library.backends.cuda.matmul.allow_tf32 = library.backends.cudnn.allow_tf32 = True
            library.backends.cudnn.benchmark = True
        else:
            library.set_float32_matmul_precision("high")
        library.ones(1, device=device)  # the context, before memory is counted
        self.wait()

    def can(self, way):
        """Whether this way to run exists on the device."""
        return self.on_gpu or not way.endswith("graph")

    def wait(self):
        """Wait until the card has done what it was given."""
        if self.on_gpu:
            self.library.cuda.synchronize() if self.is_torch else self.cupy.cuda.Device().synchronize()

    @property
    def cupy(self):
        return importlib.import_module("cupy")

    def memory(self):
        """Megabytes of the card in use; of the process at its most, where there is no card."""
        if not self.on_gpu:
            return ceiling.memory()[1]
        free, all_of_it = self.library.cuda.mem_get_info() if self.is_torch else self.cupy.cuda.runtime.memGetInfo()
        return (all_of_it - free) / 2**20

    def forget(self):
        """Give back to the card what nobody uses."""
        gc.collect()
        if self.on_gpu:
            self.library.cuda.empty_cache() if self.is_torch else self.cupy.get_default_memory_pool().free_all_blocks()

    def graph(self, step):
        """PyTorch's CUDA graph of a step, as a function."""
        torch = self.library
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = step()

        def replay():
            graph.replay()
            return result

        return replay

    def product_rate(self, precision):
        """Gflop/s of a large product of two matrices."""
        if precision not in self.rates:
            n = 8192 if self.on_gpu else 256
            a = self.library.ones(n, n, device=self.device)
            a = a if precision == "float32" else a.to(self.library.bfloat16)
            with self.library.no_grad():
                ms = step_time(lambda: a @ a, self, 0.2)
            self.rates[precision] = round(2 * n**3 / (1e6 * ms), 1)
        return self.rates[precision]
