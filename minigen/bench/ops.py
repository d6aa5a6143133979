"""Single ops on the CPU, forward and backward: minigen's, PyTorch's, and the least time that the machine would need.

    forward    the call, recording as in training
    backward   y.backward(g), from the output to every input that wants a gradient
    floor      the longer of: the bytes that cannot be avoided (every array read or written once) at the speed of a
               copy as large; the operations of the products at the speed of a large product
    share      floor / time: at 100% nothing could be quicker. It can exceed that a little where a result stays in a
               cache that a copy of that size leaves.

Both sides must give the same numbers: the norms of the result and of every gradient agree to 1e-3.
"""

import fnmatch
import statistics
import sys
import time

from .. import jsonfile
from ..errors import ArgumentError
from . import ceiling, sides, table

NORMS_AGREE = 1e-3  # relative
SIZES = {"large": "At the size of a training step", "small": "At a small size: what a call costs"}
WAYS = ("forward", "backward")


def arguments(parser):
    parser.add_argument("--only", metavar="PATTERN", help='ops whose name fits, for example "conv*"')
    parser.add_argument("--family", help="only this family of ops; with --side, in this process")
    sides.add_arguments(parser, seconds=0.15)
    parser.set_defaults(run=run)


def run(options):
    wanted = chosen(options)
    if options.side is None or options.family is None:
        return compare(wanted, options)
    given = ["--family", options.family, *(["--only", options.only] if options.only else [])]
    measure_them = lambda: measure(wanted, options.side, options.seconds, options.threads)
    return sides.one_side("ops", given, options, measure_them)


def chosen(options):
    """The cases that the options ask for. Raises ArgumentError where there are none."""
    from .cases import CASES

    families = list(dict.fromkeys(case.family for case in CASES))
    if options.family is not None and options.family not in families:
        raise ArgumentError(f"ops: there is no family {options.family!r}\n  there are: {', '.join(families)}")
    pattern = options.only or "*"
    found = [c for c in CASES if fnmatch.fnmatch(c.name, pattern) and options.family in (None, c.family)]
    if not found:
        raise ArgumentError(f"ops: no op is called {pattern!r}\n  there are: {', '.join(c.name for c in CASES)}")
    return found


def measure(cases, side, seconds, threads=2):
    """Time one side of these cases in this process."""
    library = sides.library(side, threads)
    found = []
    for case in cases:
        for size in SIZES:
            found.append({"name": case.name, "size": size, **timed(case, getattr(case, size), library, seconds)})
    product = round(ceiling.product_rate(library) / 1e9, 1)
    return {"side": side, "product_gflops": product, "cases": found, **sides.circumstances(side, library)}


def timed(case, sizes, library, seconds):
    """The medians of one case forward and backward, in microseconds, and what its floor is made of."""
    work = case.build(library, *sizes)
    leaves = [t.requires_grad_() for t in work.tensors]
    y = work.function(*leaves)
    g = y.detach().clone() if leaves else None
    forward, backward, norms = [], [], None
    finish, warm = time.perf_counter() + seconds, 3
    while time.perf_counter() < finish or len(forward) < warm + 5:
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        y = work.function(*leaves)
        middle = time.perf_counter()
        if leaves:
            y.backward(g)
        end = time.perf_counter()
        forward.append(middle - start)
        backward.append(end - middle)
        if norms is None and not work.random:
            norms = [float((t.detach() ** 2).sum().item()) ** 0.5 for t in (y, *(leaf.grad for leaf in leaves))]
    moved = work.bytes(y) if leaves else work.bytes(y)[:1]
    medians = [1e6 * statistics.median(times[warm:]) / work.calls for times in (forward, backward)]
    return {
        "shape": work.shape or "x".join(str(n) for n in work.tensors[0].shape),
        "us": [round(m, 3) for m in medians[: len(moved)]],
        "repeats": len(forward) - warm,
        "norms": norms,
        "bytes": list(moved),
        "operations": [work.operations, 2 * work.operations][: len(moved)],
        "copy_us": [round(1e6 * size / ceiling.copy_rate(work.held or size), 3) for size in moved]
        if library.__name__ == "minigen"
        else None,
    }


def compare(cases, options):
    """Measure all sides of all families, print the tables, save what was found. Returns 1 where numbers differ."""
    places, results, load = {}, {}, sides.load()
    for family in dict.fromkeys(case.family for case in cases):
        start = time.perf_counter()
        given = ["--family", family, *(["--only", options.only] if options.only else [])]
        for side, turns in sides.take_turns("ops", given, options).items():
            results.setdefault(side, []).extend(turns)
            places[side] = {key: turns[0][key] for key in ("version", "core")}
        print(f"{family:13s} {time.perf_counter() - start:5.1f} s", file=sys.stderr, flush=True)
    most = max(turn["product_gflops"] for turns in results.values() for turn in turns)
    rows = [row(case, size, results, most) for size in SIZES for case in cases]
    found = table.document("ops", "Single ops on the CPU", options, load, rows, places, ceiling_gflops=most)
    found["notes"] = notes(found)
    if options.json:
        print(jsonfile.json_bytes(found).decode(), end="")
    else:
        table.show(found, tables(found))
    if options.only is None and options.family is None or options.out:
        for path in table.save(found, options.out or table.FOLDER):
            print(f"saved {path}", file=sys.stderr)
    return 0 if all(each["agree"] for each in rows) else 1


def row(case, size, results, most):
    """What all turns of both sides say about one case at one size."""
    turns = {
        side: [c for turn in found for c in turn["cases"] if (c["name"], c["size"]) == (case.name, size)]
        for side, found in results.items()
    }
    first = {side: found[0] for side, found in turns.items()}
    any_side = next(iter(first.values()))
    made = {
        "name": case.name,
        "family": case.family,
        "size": size,
        "shape": any_side["shape"],
        "agree": agree(*[each["norms"] for each in first.values()]),
        "measurements": turns,
    }
    for i, way in enumerate(WAYS[: len(any_side["us"])]):
        us = {side: statistics.median(each["us"][i] for each in found) for side, found in turns.items()}
        floor = share = None
        if "minigen" in turns:
            copy = min(each["copy_us"][i] for each in turns["minigen"])
            floor = max(copy, any_side["operations"][i] / (1e3 * most))
            share = {side: floor / time for side, time in us.items()} if floor else None
        ratio = us["torch"] / us["minigen"] if len(us) == 2 else None
        made[way] = {"us": us, "ratio": ratio, "floor_us": floor, "share": share}
    return made


def agree(norms, others=None):
    """Whether two lists of norms are equal up to rounding; None (random numbers, or no other side) always agrees."""
    if norms is None or others is None:
        return True
    largest = max(*norms, *others)
    return len(norms) == len(others) and all(
        abs(a - b) <= NORMS_AGREE * abs(b) + 1e-6 * largest for a, b in zip(norms, others)
    )


def tables(found):
    """The tables of a document of this suite, one a size."""
    present = list(found["sides"])
    made = []
    for size, title in SIZES.items():
        head = ["op", "shape"]
        for way in WAYS:
            head += [f"{way} us: {present[0]}", *present[1:], "ratio"] + ["share"] * (size == "large")
        rows = []
        for each in found["rows"]:
            if each["size"] != size:
                continue
            rows.append([each["name"] + ("" if each["agree"] else "  DIFFERS"), each["shape"]])
            for way in WAYS:
                its = each.get(way)
                cells = [table.decimals(its["us"][side]) for side in present] if its else ["-"] * len(present)
                cells.append(table.decimals(its["ratio"]) if its else "-")
                if size == "large":
                    share = its and its["share"] and its["share"].get("minigen")
                    cells.append(table.percent(share or None))
                rows[-1] += cells
        made.append((title, head, rows))
    return made


def notes(found):
    """What the numbers mean, and their geometric means, in sentences."""
    lines = []
    if len(found["sides"]) == 2:
        lines.append("ratio: PyTorch's time over minigen's; above 1, minigen is faster.")
        for size, what in (("large", "training"), ("small", "small")):
            means = []
            for way in WAYS:
                ratios = [each[way]["ratio"] for each in found["rows"] if each["size"] == size and way in each]
                if ratios:
                    means.append(f"{statistics.geometric_mean(ratios):.2f} {way}")
            lines.append(f"Geometric mean of the ratios at {what} sizes: {', '.join(means)}.")
    elif len(sides.installed_sides()) < 2:
        lines.append(sides.ALONE)
    lines.append(
        f"share: of the least time that this machine would need, from a copy as large and from a product at "
        f"{found['ceiling_gflops']:.0f} Gflop/s. The chains' times are for each op of the chain."
    )
    return lines
