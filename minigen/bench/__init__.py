"""minigen beside PyTorch, and beside what the machine can do, on one machine in one run.

python -m minigen bench cpu                                        the seven training steps
python -m minigen bench cpu --workload vae --side minigen --json   one side of one of them, one line of JSON
python -m minigen bench ops --only "conv*"                         single ops, forward and backward
python -m minigen bench gpu                                        training steps and decoding on a GPU
python -m minigen bench start                                      imports, and what compiling costs
python -m minigen bench scaling                                    data parallel, from 1 process to N
python -m minigen bench page cpu ops start                         what was saved, as pages of Markdown

cpu.py  ops.py  gpu.py  start.py  scaling.py    the suites; workloads/ and cases.py hold what they run
sides.py                                        processes that take turns
ceiling.py  count.py                            the machine's limits, and the arithmetic of a step
table.py  chart.py                              how results are saved, printed and drawn
"""

import argparse
import importlib
import sys
from pathlib import Path

SUITES = {
    "cpu": "training steps on the CPU, beside PyTorch eager",
    "ops": "single ops on the CPU, forward and backward, beside PyTorch's and the machine's limits",
    "gpu": "training steps and decoding on a GPU, beside the best that PyTorch does on it",
    "start": "importing, and the first run on a machine, when kernels are compiled",
    "scaling": "data parallel training in several processes, and on paper on more machines",
}


def main(argv=None):
    """The command line of `minigen bench`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="minigen bench", description=__doc__.split("\n")[0])
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, what in SUITES.items():
        importlib.import_module(f".{name}", __name__).arguments(suites.add_parser(name, help=what))
    pages = suites.add_parser("page", help="write what a suite saved as a page of Markdown")
    pages.add_argument("names", nargs="+", choices=SUITES, metavar="SUITE", help=f"of which: {', '.join(SUITES)}")
    pages.add_argument("--out", metavar="DIR", help="where the suites saved their JSON (out/bench)")
    pages.add_argument("--to", metavar="DIR", default=Path(__file__).parent, help="where pages go (minigen/bench)")
    pages.set_defaults(run=write_pages)
    argv = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(argv)
    told = [word for before, word in zip(["", *argv], argv) if "--out" not in (before, word)]
    options.command = " ".join(["minigen bench", *told])
    return options.run(options)


def write_pages(options):
    """Write `<suite>.md` from each suite's saved JSON."""
    from ..jsonfile import read_json
    from . import table

    for name in options.names:
        found = read_json(Path(options.out or table.FOLDER) / f"{name}.json")
        suite = importlib.import_module(f".{name}", __name__)
        path = Path(options.to) / getattr(suite, "PAGE", f"{name}.md")
        table.write_page(path, found, suite.tables(found))
        print(f"wrote {path}")
    return 0
