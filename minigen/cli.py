"""The command line: `minigen COMMAND`, or `python -m minigen COMMAND`.

Every command is one function here, which imports what it needs when it runs.
"""

import argparse
import difflib
import sys

from .errors import MinigenError


def lessons(argv):
    """List the lessons, one line each."""
    _no_arguments("lessons", argv)
    from .lessons import catalogue

    for path in catalogue.lessons().values():
        number, name = path.stem.split("_", 1)
        title, question = catalogue.opening(path)
        print(f"{number}  {name:14s} {title}: {question}")
    print("\nminigen run NAME runs one; minigen run NAME --help says how.")
    return 0


def run(argv):
    """Run a lesson: by number, name, or both (`run 10`, `run vae`, `run 10_vae --quick`)."""
    from .lessons import catalogue

    if not argv or argv[0].startswith("-"):
        print("minigen run: which lesson?  minigen lessons lists them, minigen run vae runs one", file=sys.stderr)
        return 2
    path = catalogue.find(argv[0])
    import runpy

    before, sys.argv = sys.argv, [str(path), *argv[1:]]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before
    return 0


def train(argv):
    """Train a model on your own pictures or text."""
    from .recipes import commands

    return commands.train(argv)


def sample(argv):
    """Draw pictures from a trained model."""
    from .recipes import commands

    return commands.sample(argv)


def generate(argv):
    """Write text with a language model."""
    from .recipes import commands

    return commands.generate(argv)


def check(argv):
    """Check every gradient against differences (or, with --faults, the reliability scorecard)."""
    if "--faults" in argv:
        from . import faults

        return faults.main([argument for argument in argv if argument != "--faults"])
    from . import checks

    return checks.main(argv)


def warmup(argv):
    """Compile the kernels ahead of time, so that no first run has to."""
    _no_arguments("warmup", argv)
    from .warmup import compile_kernels

    return compile_kernels()


def info(argv):
    """Say what was found: versions, devices, BLAS, threads, kernels, folders."""
    _no_arguments("info", argv)
    from .warmup import circumstances

    for name, found in circumstances().items():
        print(f"{name:12s} {found}")
    return 0


def bench(argv):
    """Time training steps beside PyTorch."""
    from . import bench as package

    return package.main(argv)


COMMANDS = {
    function.__name__: function for function in (lessons, run, train, sample, generate, check, warmup, info, bench)
}


def _no_arguments(command, argv):
    """Only --help is taken."""
    argparse.ArgumentParser(prog=f"minigen {command}", description=COMMANDS[command].__doc__).parse_args(argv)


def main(argv=None):
    """Run one command. Returns its exit status: 0, 1 (something is wrong), 2 (a wrong call) or 130 (Ctrl-C)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: minigen COMMAND [arguments]\n")
        for name, function in COMMANDS.items():
            print(f"  {name:10s} {function.__doc__}")
        print("\nminigen COMMAND --help says more.")
        return 0
    if argv[0] in ("-V", "--version"):
        from . import __version__

        print(f"minigen {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"
        print(f"minigen: there is no command {argv[0]!r}\n  {hint}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[argv[0]](argv[1:])
    except MinigenError as error:
        print(f"minigen {argv[0]}: {error}", file=sys.stderr)
        return 1 if type(error).__name__ == "ProofFailed" else 2
    except KeyboardInterrupt:
        print(f"minigen {argv[0]}: stopped", file=sys.stderr)
        return 130
