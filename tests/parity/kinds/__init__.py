"""Kinds of parity case, and how each is run. A kind is a prefix of the case's name:

    @kind("op_")
    def run(case):
        ...                                      # compute, then
        case.compare({"out__0": y}).require()    # AssertionError where a number is off

One file a kind. Every file in this folder is imported, so a new kind is a new file and nothing else. A case whose
kind, model or arguments are not known here raises NotCovered: it is reported as skipped, never as passed.
"""

import importlib
import pkgutil

KINDS = {}


class NotCovered(Exception):
    """The runner does not know how to run this case."""


def kind(*prefixes):
    """Register a function to run the cases whose names start with one of `prefixes`."""

    def register(run):
        for prefix in prefixes:
            KINDS[prefix] = run
        return run

    return register


def run_case(case):
    """Run a case by its kind: the longest prefix of its name that is registered."""
    known = [prefix for prefix in KINDS if case.name.startswith(prefix)]
    if not known:
        raise NotCovered(f"no kind is registered for {case.name!r}")
    KINDS[max(known, key=len)](case)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
