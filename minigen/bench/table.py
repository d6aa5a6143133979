"""What a suite found, as a document: saved as JSON, printed as tables, written as a page of Markdown.

A document is a dictionary of plain values:

    suite, title, date, command    what was run, and when
    machine, options               where, and how
    rows                           what was found, one entry a workload or op, every single measurement in it
    notes                          sentences below the tables

A suite's module has `tables(document)`, which gives [(title, head, rows of text), ...] from it. So what is printed
after a run and what stands on the page, made later from the saved JSON, are the same.
"""

import contextlib
import datetime
import json
import os
import platform
import textwrap
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..atomic import write_atomically
from ..jsonfile import write_json

FOLDER = Path("out") / "bench"
BUSY = 0.5  # processes of others, on average over a minute


def document(suite, title, options, load, rows, sides=None, **more):
    """A new document. `load` is that of the machine before anything ran, `sides` {side: circumstances} as each told."""
    settings = {key: getattr(options, key) for key in ("seconds", "turns", "threads") if hasattr(options, key)}
    found = {
        "suite": suite,
        "title": title,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": options.command,
        "machine": machine(),
        "load": load,
        "sides": sides or {},
        "options": settings,
        "rows": rows,
        **more,
    }
    return json.loads(json.dumps(found), parse_constant=str)  # JSON has no NaN: a loss that is one becomes its name


def machine():
    """{"processor", "processors", "system", "software": the versions of what runs}."""
    software = {"Python": platform.python_version()}
    for package in ("minigen", "numpy", "numba", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            software[package] = version(package)
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "software": software,
    }


def processor():
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith(("model name", "Model"))]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine() or "unknown processor"


def heading(found):
    """The lines above the tables: machine, libraries, threads."""
    where, options = found["machine"], found["options"]
    lines = [
        f"{where['processor']}, {where['processors']} processors, {where['system']}",
        ", ".join(f"{name} {its}" for name, its in where["software"].items()),
        *[f"{side}'s products: {its['core']}" for side, its in found["sides"].items() if its],
    ]
    if "seconds" in options:
        lines.append(
            f"threads: {options['threads']}; turns: {options['turns']}, of {options['seconds']:g} s a side, "
            f"in processes of their own that alternate"
        )
    if (found["load"] or 0) > BUSY:
        lines.append(
            f"the machine was busy as this began (load {found['load']:g}): times and ratios say little, for a side "
            "whose threads wait for each other loses most"
        )
    return lines


def show(found, tables):
    """Print a document."""
    print("\n".join(heading(found)))
    for title, head, rows in tables:
        print(f"\n{title}\n" + "\n".join(aligned(head, rows)))
    print()
    for note in found.get("notes", ()):
        print(textwrap.fill(note, 110))


def aligned(head, rows):
    """Lines of text with columns of one width: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip()
        for line in [head, *rows]
    ]


def markdown(found, tables):
    """A document as a page."""
    lines = [f"# {found['title']}", "", f"Measured on {found['date'][:10]} with `{found['command']}`.", ""]
    lines += [f"- {line}" for line in heading(found)]
    for title, head, rows in tables:
        lines += ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    for note in found.get("notes", ()):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def save(found, folder, figure=None):
    """Write `<suite>.json`, and `<suite>.png` if there is a figure, into `folder`. Returns the paths."""
    paths = [Path(folder) / f"{found['suite']}.json"]
    write_json(paths[0], found)
    if figure is not None:
        from .chart import png

        content = png(figure)
        paths.append(paths[0].with_suffix(".png"))
        write_atomically(paths[1], [content], len(content))
    return paths


def write_page(path, found, tables):
    """Write a document as a page of Markdown, entirely or not at all."""
    content = markdown(found, tables).encode()
    write_atomically(path, [content], len(content))


def decimals(x, digits=3):
    """A number with about so many digits that mean something, and no exponent."""
    if x is None:
        return "-"
    whole = len(str(int(abs(x)))) if abs(x) >= 1 else 0
    return f"{x:.{max(digits - whole, 0)}f}"


def percent(x):
    return "-" if x is None else f"{100 * x:.0f}%"
