"""Data parallel training on this machine, from 1 process to N, and on paper on more machines than can be tried.

    weak       every process has the batch that one process had: N times the rows, in one step
    strong     the processes share that batch
    sharded    as weak, with the optimiser's state spread over the processes (ZeRO-1)
    not hidden the time from the end of the backward pass to the last averaged gradient: what travels while the backward
               pass goes on costs nothing here

The model of the cost is `step_seconds`: a ring of N processes, over a link of so many bytes a second each way and so
many seconds of latency (Patarasuk & Yuan 2009). An all-reduce of b bytes is 2 (N - 1) rounds, in each of which every
process sends b / N bytes.
"""

import json
import math
import statistics
import sys
import time

import numpy as np

from .. import jsonfile
from ..distributed.bucket import BUCKET
from ..distributed.launch import MISSING, launch, launcher
from . import sides, table

WAYS = ("weak", "strong", "sharded")
ROWS = {"gpt": 16, "mlp": 64}  # of one process
BACKWARD = 2 / 3  # of a step: two products for each of forward's
SMALL, LARGE = 8, 1 << 22  # bytes of the sums that measure the link

LINKS = {  # bytes a second each way, seconds of latency: what their makers say, less a tenth for headers
    "1 Gbit/s Ethernet": (0.9 * 125e6, 50e-6),
    "10 Gbit/s Ethernet": (0.9 * 1.25e9, 30e-6),
    "100 Gbit/s InfiniBand": (0.9 * 12.5e9, 5e-6),
    "400 Gbit/s InfiniBand": (0.9 * 50e9, 5e-6),
}
MACHINES = (2, 8, 64, 512)
BUCKETS = [BUCKET * 4**i for i in range(7)]  # bytes
GPU_RATE = 0.4 * 312e12  # operations a second: two fifths of what NVIDIA gives for an A100's bfloat16 products
PAPER = {  # name: (parameters, tokens a step of one GPU)
    "GPT-2 124M, 16 x 1024 tokens a GPU": (124e6, 16 * 1024),
    "GPT-2 1.5B, 8 x 1024 tokens a GPU": (1.56e9, 8 * 1024),
}


def arguments(parser):
    parser.add_argument("--workload", choices=ROWS, help=f"only this one: {', '.join(ROWS)}")
    parser.add_argument("--ranks", type=sides.count, default=2, help="up to so many processes (2)")
    parser.add_argument("--seconds", type=sides.positive, default=3.0, help="how long to time, each turn (3)")
    parser.add_argument("--turns", type=sides.count, default=3, help="how often each is measured (3)")
    parser.add_argument("--threads", type=sides.count, default=1, help="of each process (1)")
    parser.add_argument("--way", choices=(*WAYS, "link"), help="in this process, under mpirun: measure, print JSON")
    sides.add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(options):
    if options.way is None:
        return compare(options)
    found = link() if options.way == "link" else measure(options.workload or "gpt", options.way, options.seconds)
    if found is not None:
        print(json.dumps(found))
    return 0


# In each process


def measure(workload, way, seconds):
    """Train for about `seconds`; on rank 0 the medians of a step."""
    import minigen

    from .. import distributed, optim

    group = distributed.join()
    rows = ROWS[workload] // group.size if way == "strong" else ROWS[workload]
    minigen.manual_seed(0)
    model, loss = (gpt if workload == "gpt" else mlp)(rows, group.rank)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    if way == "sharded":
        optimizer = distributed.ShardedOptimizer(optimizer, group)
    parallel = distributed.DataParallel(model, optimizer, group)

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        value = loss()
        with parallel:
            value.backward()
            back = time.perf_counter()
        averaged = time.perf_counter()
        optimizer.step()
        value.item()
        return time.perf_counter() - start, averaged - back

    warm = [step()[0] for _ in range(5)]
    steps = int(group.maximum(math.ceil(seconds / max(min(warm), 1e-6))))  # the same for all
    times = [step() for _ in range(max(steps, 5))]
    if not group.is_first:
        return None
    whole, exposed = zip(*times)
    kept = sum(a.nbytes for flat in optimizer.flats() for part in getattr(flat, "parts", [flat])
               for a in part.arrays.values())  # fmt: skip
    return {
        "ranks": group.size,
        "rows": rows,
        "params": sum(p.numel() for p in model.parameters()),
        "ms": round(1e3 * statistics.median(whole), 4),
        "exposed_ms": round(1e3 * statistics.median(exposed), 4),
        "state_mb": round(kept / 1e6, 3),
        "steps": len(times),
    }


def gpt(rows, rank):
    """The GPT of `minigen bench cpu`: 4 layers of 128, context 128, 65 symbols."""
    from ..models.transformer.gpt import GPT, GPTConfig

    model = GPT(GPTConfig(vocab_size=65, n_positions=128, n_embd=128, n_layer=4, n_head=4, embd_pdrop=0.0,
                          attn_pdrop=0.0, resid_pdrop=0.0))  # fmt: skip
    ids = np.random.default_rng(rank).integers(0, 65, (rows, 129))
    return model, lambda: model(ids[:, :-1], ids[:, 1:])


def mlp(rows, rank):
    """784-1024-1024-10: twice the parameters of the GPT, and a fifteenth of its work."""
    from .. import nn, tensor

    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    random = np.random.default_rng(rank)
    x = tensor(random.standard_normal((rows, 784)).astype(np.float32))
    y = tensor(random.integers(0, 10, rows))
    return model, lambda: nn.functional.cross_entropy(model(x), y)


def link(repeats=30):
    """Seconds of an all-reduce of SMALL and of LARGE bytes."""
    from .. import distributed

    group = distributed.join()
    found = {}
    for size in (SMALL, LARGE):
        array, times = np.zeros(size // 4, np.float32), []
        for _ in range(repeats):
            group.barrier()
            start = time.perf_counter()
            group.wait(group.sum_begun(array), "a sum")
            times.append(time.perf_counter() - start)
        found[str(size)] = statistics.median(times)
    return found if group.is_first else None


# All of them


def compare(options):
    """Measure every workload in every way with every number of processes; print the tables, save what was found."""
    if options.ranks > 1 and launcher(options.ranks) is None:
        raise sides.BenchFailed(f"scaling: {options.ranks} processes: {MISSING}")
    load, workloads = sides.load(), [options.workload] if options.workload else list(ROWS)
    kinds = [(w, way, n) for w in workloads for way in WAYS for n in range(1, options.ranks + 1)
             if (n > 1 or way == "weak") and not (way == "strong" and ROWS[w] % n)]  # fmt: skip
    turns = {kind: [] for kind in kinds}
    for turn in range(options.turns):
        for workload, way, ranks in kinds[:: 1 if turn % 2 == 0 else -1]:
            given = ["--workload", workload, "--way", way, "--seconds", options.seconds]
            turns[workload, way, ranks].append(measured(ranks, given, options.threads))
    rows = [row(*kind, its) for kind, its in turns.items()]
    found = table.document("scaling", "Data parallel training", options, load, rows)
    found["links"] = {str(n): measured(n, ["--way", "link"], options.threads) for n in range(2, options.ranks + 1)}
    found["notes"] = NOTES
    if options.json:
        print(jsonfile.json_bytes(found).decode(), end="")
    else:
        table.show(found, tables(found))
    if options.workload is None or options.out:
        for path in table.save(found, options.out or table.FOLDER):
            print(f"saved {path}", file=sys.stderr)
    return 0


def measured(ranks, given, threads):
    """What `ranks` processes of `minigen bench scaling` with these options found."""
    done = launch(ranks, ["-m", "minigen", "bench", "scaling", *given], threads)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise sides.BenchFailed(f"{ranks} processes of `minigen bench scaling` ended with {done.returncode}\n"
                                f"{done.stderr[-2000:]}")  # fmt: skip
    return json.loads(lines[-1])


def row(workload, way, ranks, turns):
    """What all turns say of one workload in one way with so many processes."""
    middle = {key: statistics.median(turn[key] for turn in turns) for key in ("ms", "exposed_ms")}
    print(f"{workload:5s} {way:8s} {ranks} ranks  {middle['ms']:8.2f} ms", file=sys.stderr, flush=True)
    same = {key: turns[0][key] for key in ("rows", "params", "state_mb")}
    return {"workload": workload, "way": way, "ranks": ranks, **same, **middle, "measurements": turns}


# On paper


def step_seconds(alone, nbytes, ranks, rate, latency, bucket=BUCKET):
    """The model's time of a step whose work takes `alone` seconds and whose gradients are `nbytes` bytes.

    All but the last bucket travel during the backward pass, as far as it lasts; the last one begins when it ends.
    """
    if ranks == 1:
        return alone
    count = max(1, math.ceil(nbytes / bucket))
    travel = 2 * (ranks - 1) * (latency + nbytes / count / ranks / rate)  # of one bucket
    hidden = BACKWARD * alone * (1 - 1 / count)
    return alone + max(travel * count - hidden, travel)


def best_step_seconds(alone, nbytes, ranks, rate, latency):
    """The same with the best of BUCKETS: many machines want long messages, for each costs a latency a round."""
    return min(step_seconds(alone, nbytes, ranks, rate, latency, bucket) for bucket in BUCKETS)


def memory_bytes(params, ranks, sharded):
    """What training by Adam in float32 keeps for the parameters on each process: p, g, m and v."""
    return params * (8 + 8 / (ranks if sharded else 1))


def tables(found):
    """The tables of a document of this suite."""
    return [*measured_tables(found), *paper_tables(found)]


def measured_tables(found):
    one = {each["workload"]: each for each in found["rows"] if each["ranks"] == 1}
    speed, beside = [], []
    for each in found["rows"]:
        alone, total = one[each["workload"]], each["ranks"] * each["rows"]
        rate, before = total / each["ms"], alone["rows"] / alone["ms"]
        speed.append([each["workload"], f"{each['params']:,}", each["way"] if each["ranks"] > 1 else "alone",
                      str(each["ranks"]), str(total), table.decimals(each["ms"]), f"{1e3 * rate:.0f}",
                      f"{rate / before:.2f}", table.decimals(each["exposed_ms"]),
                      table.decimals(each["state_mb"])])  # fmt: skip
        if each["ranks"] > 1 and each["way"] == "weak":
            rate, latency = link_of(found["links"][str(each["ranks"])], each["ranks"])
            paper = 1e3 * step_seconds(alone["ms"] / 1e3, 4 * each["params"], each["ranks"], rate, latency)
            beside.append([each["workload"], str(each["ranks"]), table.decimals(alone["ms"]), table.decimals(paper),
                           table.decimals(each["ms"]), f"{1e6 * latency:.0f}", table.decimals(rate / 1e9)])  # fmt: skip
    head = ["workload", "parameters", "way", "ranks", "rows a step", "ms a step", "rows a second", "times one process",
            "not hidden ms", "Adam's state MB a rank"]  # fmt: skip
    model = ["workload", "ranks", "alone ms", "model ms", "measured ms", "latency us", "link GB/s"]
    made = [("Measured on this machine", head, speed), ("The model beside it (weak)", model, beside)]
    return [each for each in made if each[2]]


def paper_tables(found):
    """Efficiency and memory on machines that were not tried."""
    cases = {}
    alone = next((each for each in found["rows"] if each["workload"] == "gpt" and each["ranks"] == 1), None)
    if alone is not None:
        name = f"the GPT above on processors like this one, {alone['rows']} rows each"
        cases[name] = alone["ms"] / 1e3, 4 * alone["params"]
    for name, (params, tokens) in PAPER.items():
        cases[name] = 6 * params * tokens / GPU_RATE, 4 * params
    made = []
    for name, (seconds, nbytes) in cases.items():
        rows = []
        for link_name, (rate, latency) in LINKS.items():
            share = [seconds / best_step_seconds(seconds, nbytes, n, rate, latency) for n in MACHINES]
            travels = 2 * nbytes / rate
            rows.append([link_name, table.decimals(1e3 * travels), *map(table.percent, share)])
        title = f"On paper: {name} ({1e3 * seconds:.0f} ms alone, {nbytes / 1e6:,.0f} MB of gradients a step)"
        made.append((title, ["link", "ms to send them", *[f"{n} machines" for n in MACHINES]], rows))
    memory = []
    for name, params in (("GPT-2 124M", 124e6), ("GPT-2 1.5B", 1.56e9), ("7B", 7e9)):
        sizes = [memory_bytes(params, n, True) / 1e9 for n in (1, *MACHINES)]
        memory.append([name, *map(table.decimals, sizes)])
    head = ["parameters", "not sharded", *[f"{n} ranks" for n in MACHINES]]
    return [*made, ("On paper: GB a rank for parameters, gradients and Adam's state, sharded (ZeRO-1)", head, memory)]


def link_of(times, ranks):
    """(bytes a second, seconds of latency) of a ring whose sums of SMALL and LARGE bytes took these times."""
    small, large = times[str(SMALL)], times[str(LARGE)]
    latency = small / (2 * (ranks - 1))
    return 2 * (ranks - 1) / ranks * (LARGE - SMALL) / max(large - small, 1e-9), latency


NOTES = [
    "weak: every process has as many rows as one alone; strong: they share those rows; sharded: weak, with Adam's "
    "state spread over the processes. Times one process: rows a second, beside those of one process. Not hidden: from "
    "the end of the backward pass to the last averaged gradient.",
    "Each process has one thread. Processes of one machine share its cores, its caches and its memory's speed, and "
    "send through memory: with as many processes as cores there is no core left for the sending itself. Such a run "
    "shows what the sharing costs on one machine; it says nothing of a network.",
    "The model: gradients of b bytes go round a ring of N machines in 2 (N - 1) rounds, in each of which a machine "
    "sends b / N bytes and waits for a latency (Patarasuk & Yuan 2009). They are sent in buckets, each as soon as it "
    "is complete. The backward pass is two thirds of a step and hides what is sent while it lasts; the last bucket is "
    "never hidden. Beside the measurement buckets have 1 MiB, as DataParallel makes them; on other machines the best "
    "size from 1 MiB to 4 GiB (DataParallel's `bucket`).",
    "Its assumptions: one GPU or process a machine, with a link of its own at nine tenths of its name and no other "
    "traffic; 50, 30, 5 and 5 us of latency; all machines equally fast, so that none waits for a slow one; gradients "
    "in float32; a ring, where libraries take trees once the latencies of many machines add up. The GPU's time is 6 "
    "operations a parameter and token at 125 Tflop/s (two fifths of the A100's bfloat16 products as NVIDIA gives "
    "them). That is assumed, not measured, and nothing in the tables on paper was tried.",
    "ZeRO-1 sends as many bytes as an all-reduce, but the second half of them, the new parameters, goes after the "
    "optimiser's step, where nothing hides it.",
]
