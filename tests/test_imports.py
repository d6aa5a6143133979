"""Imports point one way, and `import minigen` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each part may import: the parts on the lines above it, and its own.
LAYERS = [
    ["kernels"],
    ["device", "errors", "random", "atomic", "folders", "jsonfile", "tensorfile"],
    ["autograd", "tensor", "gradcheck"],
    ["ops", "linalg"],
    ["capture"],
    ["nn", "optim"],
    ["checkpoint", "data", "metrics", "plot", "sampling", "text"],
    ["train", "amp", "distributed"],
    ["published"],
    ["models"],
    ["recipes"],
    ["bench", "checks", "warmup", "faults", "cli", "__main__", "lessons"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# `check`, `bench` and `run` of the command line, and the package's own lazy names, reach everything on purpose.
TOP = {"__init__"}


def python_files():
    for folder in ("minigen", "kernels", "lessons"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def part_of(path):
    """The part a file belongs to: `minigen/ops/shape.py` -> ops, `kernels/cpu/blas.py` -> kernels."""
    where = path.relative_to(ROOT).with_suffix("").parts
    return where[1] if where[0] == "minigen" else where[0]


def imported_parts(path):
    """(line, part) for every import of minigen's own parts in a file, lazy ones included."""
    package = list(path.relative_to(ROOT).parent.parts)
    if package[0] != "minigen":
        package = ["minigen", *package]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [base + [alias.name] for alias in node.names]
        for name in names:
            if name[0] == "minigen" and len(name) > 1:
                yield node.lineno, name[1]


def test_every_part_has_a_place():
    parts = {part_of(path) for path in python_files()} - TOP
    assert parts <= set(LEVEL), f"add to LAYERS: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("path", list(python_files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part in TOP or part not in LEVEL:
        return
    for line, other in imported_parts(path):
        if other in LEVEL:
            assert LEVEL[other] <= LEVEL[part], f"{path.name}:{line}: {part} imports {other}, which stands above it"


def test_kernels_import_nothing_of_minigen():
    for path in (ROOT / "kernels").rglob("*.py"):
        for line, other in imported_parts(path):
            assert other == "kernels", f"{path.name}:{line} imports minigen.{other}"


def test_nothing_below_imports_lessons():
    for path in (ROOT / "minigen").rglob("*.py"):
        if part_of(path) not in LAYERS[-1]:
            for line, other in imported_parts(path):
                assert other != "lessons", f"{path.name}:{line}"


def test_import_is_light():
    """Numba, matplotlib and the rest come in when first used. (Their absence is checked, not the clock.)"""
    heavy = "numba matplotlib tqdm safetensors PIL torch cupy urllib.request concurrent.futures scipy"
    code = f"import sys, minigen; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
