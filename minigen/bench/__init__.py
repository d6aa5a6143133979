"""minigen beside PyTorch, on one machine in one run. Both sides take turns, each in a process of its own.

python -m minigen bench cpu                                          the table
python -m minigen bench cpu --workload vae --side minigen --json     one side of one workload, one line of JSON
"""

import argparse


def main(argv=None):
    """The command line of `minigen bench`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="minigen bench", description=__doc__.split("\n")[0])
    suites = parser.add_subparsers(dest="suite", required=True)
    from . import cpu

    cpu.arguments(suites.add_parser("cpu", help="training steps on the CPU, beside PyTorch eager"))
    options = parser.parse_args(argv)
    return options.run(options)
