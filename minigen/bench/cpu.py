"""Training steps on the CPU: minigen beside PyTorch eager with its fused Adam.

A workload is one file in `workloads/`, written once against names that both libraries have, so that both sides run
the same lines: the same model, initial weights, batch, noise and optimiser. Each side first takes 20 checked steps
with given noise, whose first and last losses are reported and must agree; then it is timed, drawing its own noise.

    ms         a whole step as a user writes it: zero_grad, loss, backward, step, loss.item(). The median of a
               process's steps, and of the processes the median again. On minigen's side the step is put through
               `minigen.capture`, which is one line for a user, too; PyTorch's is eager.
    eager ms   minigen's step without that line, timed after it in the same process
    memory     the peak resident set of the process (the library, its code and threads, the model, the steps), and how
               far it rose above what was resident when the library was in and the model not yet made
    share      of the machine's ceiling: the step's multiply-adds (see count.py) a second, over those of a large float32
               product on the same threads. The ceiling is the best that either library reached, in any process of
               the run; both sides are held against it.
"""

import functools
import importlib
import statistics
import sys
import time

from .. import jsonfile
from ..errors import ArgumentError
from . import ceiling, sides, table
from .workloads import plain

WORKLOADS = ("vae", "gpt", "lstm", "ddpm", "pixelcnn", "realnvp", "dcgan")
TARGETS = {"vae": 1.8, "gpt": 1.8, "lstm": 1.0, "ddpm": 1.0, "pixelcnn": 1.2, "realnvp": 1.5, "dcgan": 1.0}
MEAN_TARGET = 1.4
CHECKED_STEPS = 20
FIRST_LOSS_AGREES = 1e-4  # relative
LAST_LOSS_AGREES = 1e-3  # relative; a workload that needs another says why in its file


def arguments(parser):
    parser.add_argument("--workload", metavar="NAME", help=f"only this one: {', '.join(WORKLOADS)}")
    sides.add_arguments(parser, seconds=3.0)
    parser.set_defaults(run=run)


def run(options):
    if options.workload is not None and options.workload not in WORKLOADS:
        raise ArgumentError(f"cpu: there is no workload {options.workload!r}\n  there are: {', '.join(WORKLOADS)}")
    if options.side is None or options.workload is None:
        return compare(options)
    given = ["--workload", options.workload]
    measure_it = lambda: measure(options.workload, options.side, options.seconds, options.threads)
    return sides.one_side("cpu", given, options, measure_it)


def measure(workload, side, seconds, threads=2):
    """Time one side of one workload in this process: a dictionary with ms_median, loss_first, loss_last, params."""
    start = time.perf_counter()
    library = sides.library(side, threads)
    imported = time.perf_counter() - start
    before, _ = ceiling.memory()
    start = time.perf_counter()
    build = importlib.import_module(f"{__package__}.workloads.{workload}").build
    captured = functools.partial(library.capture, strict=True) if side == "minigen" else plain
    step, params = build(library, captured)
    losses = [step(0)]
    first = time.perf_counter() - start
    losses += [step(i) for i in range(1, CHECKED_STEPS)]
    times = timed(step, seconds)
    _, peak = ceiling.memory()
    found = {
        "workload": workload,
        "side": side,
        "ms_median": round(1e3 * statistics.median(times), 4),
        "ms_min": round(1e3 * min(times), 4),
        "steps": len(times),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "params": params,
        "import_s": round(imported, 3),
        "first_step_s": round(first, 3),
        "peak_mb": None if peak is None else round(peak, 1),
        "growth_mb": None if peak is None else round(peak - before, 1),
        "product_gflops": round(ceiling.product_rate(library) / 1e9, 1),
        "threads": threads,
        **sides.circumstances(side, library),
    }
    if side == "minigen":
        from .count import counting

        del step
        step, _ = build(library)
        found["eager_ms"] = round(1e3 * statistics.median(timed(step, seconds / 2)), 4)
        with counting() as operations:
            step(None)
        found["operations"] = operations.total
    return found


def timed(step, seconds):
    """How long each step took, in seconds, of all that fit into so many; at least 8, after two to warm up."""
    step(None), step(None)
    times, finish = [], time.perf_counter() + seconds
    while time.perf_counter() < finish or len(times) < 8:
        start = time.perf_counter()
        step(None)
        times.append(time.perf_counter() - start)
    return times


def compare(options):
    """Measure all sides of all workloads, print the table, save what was found. Returns 1 where losses differ."""
    wanted = [options.workload] if options.workload else WORKLOADS
    rows, places, load = [], {}, sides.load()
    for workload in wanted:
        results = sides.take_turns("cpu", ["--workload", workload], options)
        rows.append(row(workload, results))
        for side, turns in results.items():
            places[side] = {key: turns[0][key] for key in ("version", "core")}
        times = ", ".join(f"{side} {ms:.2f} ms" for side, ms in rows[-1]["ms"].items())
        print(f"{workload:9s} {times}", file=sys.stderr, flush=True)
    found = table.document("cpu", "Training steps on the CPU", options, load, add_shares(rows), places)
    found["mean"] = geometric_mean(rows)
    found["notes"] = notes(found)
    if options.json:
        print(jsonfile.json_bytes(found).decode(), end="")
    else:
        table.show(found, tables(found))
    if options.workload is None or options.out:
        for path in table.save(found, options.out or table.FOLDER, figure(found)):
            print(f"saved {path}", file=sys.stderr)
    return 0 if all(each["agree"] for each in rows) else 1


def row(workload, results):
    """What the turns of both sides say about one workload."""
    last_agrees = getattr(
        importlib.import_module(f"{__package__}.workloads.{workload}"), "LAST_LOSS_AGREES", LAST_LOSS_AGREES
    )
    middle = lambda key: {
        side: statistics.median([turn[key] for turn in turns]) if turns[0].get(key) is not None else None
        for side, turns in results.items()
    }
    ms, losses = middle("ms_median"), {key: middle(key) for key in ("loss_first", "loss_last")}
    ratio = ms["torch"] / ms["minigen"] if len(ms) == 2 else None
    return {
        "workload": workload,
        "params": next(iter(results.values()))[0]["params"],
        "operations": results["minigen"][0]["operations"] if "minigen" in results else None,
        "ms": ms,
        "eager_ms": middle("eager_ms").get("minigen"),
        "ratio": ratio,
        "target": TARGETS[workload],
        "met": None if ratio is None else ratio >= TARGETS[workload],
        "peak_mb": middle("peak_mb"),
        "growth_mb": middle("growth_mb"),
        "losses": losses,
        "tolerance": {"loss_first": FIRST_LOSS_AGREES, "loss_last": last_agrees},
        "agree": agree(losses["loss_first"], FIRST_LOSS_AGREES) and agree(losses["loss_last"], last_agrees),
        "measurements": results,
    }


def agree(losses, tolerance):
    """Whether the sides' losses are equal up to a relative `tolerance`; a side that stands alone agrees with itself."""
    a, b = losses.get("minigen"), losses.get("torch")
    return a is None or b is None or abs(a - b) <= tolerance * abs(b)


def add_shares(rows):
    """The ceiling and each side's share of it, added to every row."""
    rates = [turn["product_gflops"] for each in rows for turns in each["measurements"].values() for turn in turns]
    for each in rows:
        each["ceiling_gflops"] = max(rates)
        each["share"] = {
            side: None if each["operations"] is None else each["operations"] / (1e6 * ms) / max(rates)
            for side, ms in each["ms"].items()
        }
    return rows


def geometric_mean(rows):
    """The geometric mean of the ratios of all workloads, or None where one is missing."""
    ratios = [each["ratio"] for each in rows]
    return None if None in ratios or len(ratios) < len(WORKLOADS) else statistics.geometric_mean(ratios)


def met(value, target):
    return "-" if value is None else "met" if value >= target else "missed"


def tables(found):
    """The tables of a document of this suite."""
    present = list(found["sides"])
    head = ["workload", "parameters", *[f"{side} ms" for side in present], "torch / minigen", "target", "target is"]
    head += ["eager ms", "torch / eager"]
    speed, cost, losses = [], [], []
    for each in found["rows"]:
        name, ratio = each["workload"], each["ratio"]
        speed.append([name, f"{each['params']:,}", *[table.decimals(each["ms"][side]) for side in present]])
        speed[-1] += [table.decimals(ratio), f"{each['target']:.1f}", met(ratio, each["target"])]
        eager = each["eager_ms"]
        speed[-1] += [table.decimals(eager), table.decimals(each["ms"]["torch"] / eager if ratio and eager else None)]
        cost.append([name, table.decimals(None if each["operations"] is None else each["operations"] / 1e6)])
        cost[-1] += [table.percent(each["share"][side]) for side in present]
        for key in ("peak_mb", "growth_mb"):
            cost[-1] += [table.decimals(each[key][side]) for side in present]
        losses.append([name])
        for key in ("loss_first", "loss_last"):
            losses[-1] += [f"{float(each['losses'][key][side]):.6g}" for side in present]  # a saved NaN is a word
            losses[-1].append(f"{each['tolerance'][key]:g}")
        losses[-1].append("-" if len(present) < 2 else "yes" if each["agree"] else "NO")
    if found["mean"] is not None:
        speed.append(["geometric mean", "", "", "", table.decimals(found["mean"]), f"{MEAN_TARGET:.1f}"])
        eager = [each["ms"]["torch"] / each["eager_ms"] for each in found["rows"]]
        speed[-1] += [met(found["mean"], MEAN_TARGET), "", table.decimals(statistics.geometric_mean(eager))]
    cost_head = ["workload", "Mflop a step", *[f"{side} share" for side in present]]
    cost_head += [f"{side} {what} MB" for what in ("peak", "growth") for side in present]
    loss_head = ["workload"]
    loss_head += [f"{side} {which}" if side else "within" for which in ("first", "last") for side in (*present, "")]
    return [
        ("Time of a training step", head, speed),
        ("Share of the matrix-product ceiling, and memory", cost_head, cost),
        ("The same training: losses of steps 1 and 20", [*loss_head, "agree"], losses),
    ]


def notes(found):
    """What the numbers mean, in sentences."""
    lines = [
        f"The ceiling is {found['rows'][0]['ceiling_gflops']:.0f} Gflop/s, the best of float32 products of two "
        "matrices 1024 and 2048 wide on the same threads. Mflop counts the step's matrix products, forward and back.",
        "Peak is the largest resident set of the process; growth is how far that lies above the resident set when the "
        "library was imported and the model not yet built.",
    ]
    if len(found["sides"]) == 2:
        lines.insert(
            0,
            "torch / minigen above 1: minigen is faster. Its step is captured (`minigen.capture`); eager is the same "
            "step without that. PyTorch runs eagerly, with its fused Adam.",
        )
    elif len(sides.installed_sides()) < 2:
        lines.insert(0, sides.ALONE)
    return lines


def figure(found):
    """Bars of the ratios; None where there is nothing to compare."""
    rows = [each for each in found["rows"] if each["ratio"] is not None]
    if not rows:
        return None
    from .chart import bars

    names, ratios = [each["workload"] for each in rows], [each["ratio"] for each in rows]
    beside = [f"{table.decimals(each['ms']['minigen'])} / {table.decimals(each['ms']['torch'])} ms" for each in rows]
    targets = [each["target"] for each in rows]
    if found["mean"] is not None:
        names, ratios, beside, targets = (
            [*names, "geometric mean"],
            [*ratios, found["mean"]],
            [*beside, ""],
            [*targets, MEAN_TARGET],
        )
    return bars("A training step on the CPU, beside PyTorch eager", names, ratios, beside, targets)
