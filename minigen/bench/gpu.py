"""Training steps and decoding on a GPU: minigen beside the best that PyTorch does on the same card in the same run.

python -m minigen bench gpu                                     everything, within ten minutes
python -m minigen bench gpu --only "gpt2*,decode*" --json
python -m minigen bench gpu --device cpu                        no card, small sizes, no measurement: does it all run?

A workload's `on_gpu(setting, **sizes)` in `workloads/` is written once against names that both libraries have. A side
runs it in as many ways as it has, and the quickest counts:

    minigen   eager; captured (minigen.capture)
    PyTorch   eager; graph (a CUDA graph of the whole eager step); compiled (torch.compile); compiled graph (a CUDA
              graph of the compiled step); reduce-overhead (torch.compile's own CUDA graphs)

Each way starts from the same weights and takes CHECKED steps on the same data and noise; first and last loss must equal
those of PyTorch eager in the same precision. Then it is timed, drawing its own noise.

    ms         a whole step, forward, backward and update; for decoding one symbol more of every row. The median of
               blocks of steps between two waits for the card.
    memory     how much of the card the process took, at its most, beyond what it held before the model was built: what
               the card says itself (cudaMemGetInfo), since neither library gives memory back unasked
    share      of the ceiling: the step's multiply-adds (count.py) a second over those of a large product on the card

Float32 products are in TF32 on both sides. Where time runs out, what is left is not measured, and the table says so.
"""

import fnmatch
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

from .. import jsonfile
from ..device import cuda_available
from ..errors import ArgumentError
from . import sides, table
from .card import CHECKED, measure
from .cpu import agree, met

PAGE = "gpu_table.md"
NOTHING_MEASURED = 3  # the exit status where there is no card
WAYS = {
    "minigen": (("eager",), ("captured",)),
    "torch": (("eager", "graph"), ("compiled", "compiled graph"), ("reduce-overhead",)),
}  # ways in one tuple share a model, whose weights are set back in between
PLAIN = {"minigen": (("eager",), ("captured",)), "torch": (("eager", "graph"),)}  # nothing to compile
WRITING = {"minigen": (("captured",),), "torch": WAYS["torch"]}  # `generate` captures by itself

# The largest relative differences of the first and the last loss: TF32 and bfloat16 round products by 5e-4 and 4e-3.
WITHIN = {("cpu", "float32"): (1e-4, 1e-3), ("cuda", "float32"): (1e-3, 5e-3)}
WITHIN |= dict.fromkeys([("cpu", "bfloat16"), ("cuda", "bfloat16")], (5e-3, 2e-2))


@dataclass
class Work:
    """A workload: its file, its target (PyTorch's best time over minigen's), the seconds it may need, sizes."""

    file: str
    target: float
    seconds: float
    sizes: dict = field(default_factory=dict)
    small: dict = field(default_factory=dict)
    precisions: tuple = ("bfloat16",)
    ways: dict = field(default_factory=lambda: WAYS)
    loosely: float = 1.0  # how many times the usual difference its losses may have


GPT2_SMALL = dict(layers=2, heads=2, width=32, symbols=96, context=32, batch=2)
TINY = dict(layers=4, heads=4, width=128, symbols=65, context=128, batch=32)
WRITER_SMALL = dict(layers=2, heads=2, width=32, symbols=96, context=64, new=8)
WORKLOADS = {
    "vae": Work("vae", 1.3, 40, precisions=("float32",)),
    "mlp": Work("mlp", 1.3, 25, small=dict(batch=16, pixels=49, width=32), precisions=("float32",)),
    "dcgan": Work("dcgan64", 1.3, 60, small=dict(batch=4, width=4), loosely=4),
    "tiny_gpt": Work("gpt2", 2.0, 45, sizes=TINY, small=GPT2_SMALL, precisions=("bfloat16", "float32")),
    "gpt2_8": Work("gpt2", 1.0, 80, sizes=dict(batch=8), small=GPT2_SMALL),
    "gpt2_16": Work("gpt2", 1.0, 70, sizes=dict(batch=16), small=GPT2_SMALL | dict(batch=4)),
    "decode_1": Work("decoding", 1.5, 60, sizes=dict(batch=1), small=WRITER_SMALL, ways=WRITING),
    "decode_8": Work("decoding", 1.5, 55, sizes=dict(batch=8), small=WRITER_SMALL | dict(batch=3), ways=WRITING),
    "ddpm": Work("unet", 1.0, 90, small=dict(batch=2, width=8, groups=4, side=16, attends=(8,))),
    "lstm": Work("words", 1.5, 40, small=dict(symbols=50, width=16, steps=5, batch=3),
                 precisions=("bfloat16", "float32"), ways=PLAIN),
    "attention": Work("attention", 1.0, 20, small=dict(batch=1, heads=2, places=16, width=8), ways=PLAIN),
}  # fmt: skip


def arguments(parser):
    names = ", ".join(WORKLOADS)
    parser.add_argument("--only", metavar="NAMES", help=f"only these, by commas, * for any letters: {names}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: small sizes, no measurement")
    parser.add_argument("--ways", metavar="NAMES", help='only these ways to run, by commas: "eager,captured"')
    parser.add_argument("--minutes", type=sides.positive, default=9.5, help="how long the whole may take (9.5)")
    parser.add_argument("--workload", metavar="NAME", help="one side (--side) of this one, in this process")
    sides.add_arguments(parser, seconds=1.5, turns=1)
    parser.set_defaults(run=run)


def run(options):
    if options.device == "cuda" and not cuda_available():
        print('bench gpu: no GPU is found here (or no CuPy to reach it), so nothing is measured; "--device cpu" shows '
              "whether the workloads run, at small sizes", file=sys.stderr)  # fmt: skip
        return NOTHING_MEASURED
    known = [*names("minigen"), *names("torch")]
    for way in options.ways.split(",") if options.ways else ():
        if way not in known:
            raise ArgumentError(f"gpu: there is no way {way!r}\n  there are: {', '.join(dict.fromkeys(known))}")
    if options.workload is None:
        return compare(options, chosen(options.only))
    chosen(options.workload)
    if options.side is None:
        raise ArgumentError("gpu: --workload runs one side\n  write --side minigen or --side torch, or --only NAME")
    for found in measure(WORKLOADS[options.workload], options):  # card.py
        print(json.dumps(found), flush=True)
    return 0


def chosen(only):
    """The workloads that are asked for."""
    if only is None:
        return list(WORKLOADS)
    patterns = [word.strip() for word in only.split(",")]
    for pattern in patterns:
        if not fnmatch.filter(WORKLOADS, pattern):
            raise ArgumentError(f"gpu: there is no workload {pattern!r}\n  there are: {', '.join(WORKLOADS)}")
    return [name for name in WORKLOADS if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


# Both sides of all workloads


def compare(options, wanted):
    """Measure, print the tables, save what was found. Returns 1 where losses differ."""
    until, load = time.monotonic() + 60 * options.minutes, sides.load()
    present = (options.side,) if options.side else sides.installed_sides()
    rows, versions = [], {}
    for i, name in enumerate(wanted):
        left = sum(WORKLOADS[each].seconds for each in wanted[i:])
        share = max(until - time.monotonic(), 0) * WORKLOADS[name].seconds / left
        results = take_turns(name, present, options, time.monotonic() + share)
        rows.append(row(name, results, options.device))
        versions |= {side: turns[0]["version"] for side, turns in results.items() if turns}
        print(f"{name:10s} " + "; ".join(spoken(rows[-1], side) for side in present), file=sys.stderr, flush=True)
    title = (
        "Training steps and decoding on a GPU" if options.device == "cuda" else "The GPU workloads, small, on the CPU"
    )
    found = table.document("gpu", title, options, load, rows, device=options.device, versions=versions,
                           sides={side: {} for side in present}, card=card_name(options.device))  # fmt: skip
    found["notes"] = notes(found)
    if options.json:
        print(jsonfile.json_bytes(found).decode(), end="")
    else:
        table.show(found, tables(found))
    if options.device == "cuda" and (options.out or options.only is None):
        folder = options.out or table.FOLDER
        saved = table.save(found, folder, figure(found))
        table.write_page(saved[0].with_name(PAGE), found, tables(found))
        for path in [*saved, saved[0].with_name(PAGE)]:
            print(f"saved {path}", file=sys.stderr)
    return 0 if all(each["agree"] for each in rows) else 1


def take_turns(name, present, options, until):
    """{side: [what each way measured in each turn]}, the sides alternating, until time runs out."""
    results = {side: [] for side in present}
    for turn in range(options.turns):
        for side in present[:: 1 if turn % 2 == 0 else -1]:
            seconds = max(until - time.monotonic(), 5)
            given = ["--workload", name, "--side", side, "--seconds", str(options.seconds), "--device", options.device]
            given += ["--minutes", f"{0.8 * seconds / 60:.3f}"]
            given += ["--ways", options.ways] if options.ways else []
            lines, fault = sides.measured_lines("gpu", given, options.threads, seconds)
            results[side] += lines
            if fault is not None:
                results[side].append({"way": "-", "precision": "-", "version": "-", "failed": fault})
    return results


def row(name, results, device):
    """What the ways of both sides say about one workload."""
    work = WORKLOADS[name]
    ways = {side: by_way(lines) for side, lines in results.items()}
    best = {side: min(found, key=lambda key: found[key]["ms"], default=None) for side, found in ways.items()}
    ms = {side: ways[side][key]["ms"] if key else None for side, key in best.items()}
    eager = [found["ms"] for (precision, way), found in ways.get("torch", {}).items() if way == "eager"]
    both = device == "cuda" and ms.get("torch") and ms.get("minigen")  # small sizes on the CPU say nothing
    ratio = ms["torch"] / ms["minigen"] if both else None
    losses = compared(ways, device, work.loosely)
    measured = [each for found in ways.values() for each in found.values()]
    operations = [each["operations"] for each in measured if each.get("operations")]
    return {
        "workload": name,
        "params": measured[0]["params"] if measured else None,
        "operations": operations[0] if operations else None,
        "best": {side: None if key is None else list(key) for side, key in best.items()},
        "ms": ms,
        "ways": {side: {" ".join(key): each for key, each in found.items()} for side, found in ways.items()},
        "failed": {side: [line for line in lines if "failed" in line] for side, lines in results.items()},
        "eager_ratio": min(eager) / ms["minigen"] if eager and both else None,
        "ratio": ratio,
        "target": work.target,
        "met": None if ratio is None else ratio >= work.target,
        "losses": losses,
        "agree": all(ways.values()) and all(each["agree"] for each in losses),  # each side has something to show
        "measurements": results,
    }


def by_way(lines):
    """{(precision, way): what was found, times the median over turns}."""
    found = {}
    for line in lines:
        if "failed" not in line:
            found.setdefault((line["precision"], line["way"]), []).append(line)
    return {key: {**turns[0], "ms": statistics.median([x["ms"] for x in turns])} for key, turns in found.items()}


def compared(ways, device, loosely):
    """For each precision: minigen's losses that are farthest off, the reference's, and which ways are too far off."""
    out = []
    for precision in dict.fromkeys(key[0] for found in ways.values() for key in found):
        here = {(side, way): x for side, found in ways.items() for (at, way), x in found.items() if at == precision}
        reference = here.get(("torch", "eager")) or next(iter(here.values()))
        first, last = WITHIN[device, precision]
        within, off, worst = {"loss_first": loosely * first, "loss_last": loosely * last}, [], {}
        for key, tolerance in within.items():
            right = reference[key]
            off += [f"{side} {way}" for (side, way), x in here.items()
                    if not agree({"minigen": x[key], "torch": right}, tolerance)]  # fmt: skip
            ours = [x[key] for (side, _), x in here.items() if side == "minigen"]
            far = [abs(x - right) if x == x else float("inf") for x in ours]
            worst[key] = ours[far.index(max(far))] if ours else None
        theirs = {key: reference[key] for key in within} if ways.get("torch") else {}
        out.append({"precision": precision, "minigen": worst, "torch": theirs, "within": within})
        out[-1] |= {"off": sorted(set(off)), "agree": not off}
    return out


def spoken(each, side):
    best = each["best"][side]
    return f"{side} nothing" if best is None else f"{side} {table.decimals(each['ms'][side])} ms ({' '.join(best)})"


def card_name(device):
    """What the card is and what drives it; empty where none was used."""
    if device != "cuda":
        return {}
    import cupy

    runtime = cupy.cuda.runtime
    about = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "name": about["name"].decode(),
        "capability": f"{about['major']}.{about['minor']}",
        "memory": f"{about['totalGlobalMem'] / 2**30:.0f} GiB",
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
    }


def tables(found):
    """The tables of a document of this suite; the ratios come last."""
    losses, cost, speed = [], [], []
    for each in found["rows"]:
        losses += loss_lines(each)
        cost.append(cost_line(each, found["sides"]))
        speed += speed_lines(each)
    head = ["workload", "precision"]
    loss_head = [*head, "minigen first", "torch first", "within", "minigen last", "torch last", "within", "agree"]
    cost_head = ["workload", "Gflop", *[f"{side} {what}" for what in ("share", "MB") for side in found["sides"]]]
    ratios = ["torch eager / minigen", "torch best / minigen", "target", "target is"]
    speed_head = [*head, "minigen eager", "captured", *[f"torch {way}" for way in names("torch")], *ratios]
    return [
        (f"The same work: losses of steps 1 and {CHECKED}", loss_head, losses),
        ("Share of the ceiling, and memory, of the quickest way", cost_head, cost),
        ("Milliseconds of a step, or of one symbol more of every row", speed_head, speed),
    ]


def names(side):
    """The ways of a side."""
    return [way for group in WAYS[side] for way in group]


def loss_lines(each):
    lines = []
    for one in each["losses"]:
        lines.append([each["workload"], one["precision"]])
        for key in ("loss_first", "loss_last"):
            lines[-1] += [number(one[side].get(key)) for side in sides.SIDES] + [f"{one['within'][key]:g}"]
        lines[-1].append("yes" if one["agree"] else f"NO: {', '.join(one['off'])}")
    return lines


def cost_line(each, present):
    line = [each["workload"], table.decimals(each["operations"] / 1e9 if each["operations"] else None)]
    best = [each["ways"][side].get(" ".join(each["best"][side] or ()), {}) for side in present]
    for one in best:
        known = each["operations"] and one
        rate = each["operations"] / (1e6 * one["ms"]) if known else None
        line.append(table.percent(rate / one["ceiling_gflops"] if known else None))
    return line + [table.decimals(one.get("peak_mb")) for one in best]


def speed_lines(each):
    """A line for each precision; what counts stands in the last."""
    precisions = dict.fromkeys(key.split()[0] for found in each["ways"].values() for key in found)
    lines = []
    for precision in precisions:
        lines.append([each["workload"], precision])
        for side in sides.SIDES:
            found = each["ways"].get(side, {})
            lines[-1] += [table.decimals(found.get(f"{precision} {way}", {}).get("ms")) for way in names(side)]
        lines[-1] += [""] * 4
    if lines:
        ratios = [table.decimals(each[key]) for key in ("eager_ratio", "ratio")]
        lines[-1][-4:] = [*ratios, f"{each['target']:.1f}", met(each["ratio"], each["target"])]
    return lines


def number(x):
    return "-" if x is None else f"{float(x):.6g}"  # a saved NaN is a word


def notes(found):
    """What the numbers mean, in sentences."""
    lines = []
    if found["device"] == "cpu":
        lines.append(
            "No measurement: small sizes on the CPU, to see that both sides run and agree. Times mean nothing."
        )
    else:
        card = found["card"]
        lines.append(f"{card['name']}, compute capability {card['capability']}, {card['memory']}; CUDA driver "
                     f"{card['driver']}, runtime {card['runtime']}, CuPy {card['cupy']}; "
                     + ", ".join(f"{side} {version}" for side, version in found["versions"].items()) + ".")  # fmt: skip
        lines.append("torch best / minigen above 1: minigen is faster than the quickest of PyTorch's ways.")
    failed = [f"{each['workload']}, {side} {line['way']}: {line['failed']}"
              for each in found["rows"] for side, lines_ in each["failed"].items() for line in lines_]  # fmt: skip
    lines += [f"Not measured: {one}." for one in failed]
    if len(found["sides"]) < 2 and len(sides.installed_sides()) < 2:
        lines.append(sides.ALONE)
    return lines


def figure(found):
    """Bars of the ratios; None where there is nothing to compare."""
    rows = [each for each in found["rows"] if each["ratio"] is not None]
    if not rows or found["device"] != "cuda":
        return None
    from .chart import bars

    beside = [f"{table.decimals(each['ms']['minigen'])} / {table.decimals(each['ms']['torch'])} ms" for each in rows]
    return bars("On a GPU, beside the best of PyTorch", [each["workload"] for each in rows],
                [each["ratio"] for each in rows], beside, [each["target"] for each in rows])  # fmt: skip
