"""Row 18: tests that cannot fail. The source is broken on purpose, and some test must go red.

A mutant is one small change in the arithmetic of `ops/` or `kernels/`: a sign, an operator, a dimension, a constant
off by one, a term dropped. Each is put into a copy of the package, and the tests of that part run against the copy.
A mutant that no test kills is shown with its line: either a test is missing, or the change makes no difference
(a tolerance, a block size), and then EXPLAINED says so.
"""

import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .score import Finding, scratch

# Changes that make no difference to any result, by a pattern of the line they stand in: {pattern: why}
EXPLAINED = {
    r"(?i)(chunk|block|tile|panel|rows_at_once|unroll)": "how the work is cut up, not what is computed",
    r"\+ (step|[A-Z]+) - 1\b": "the number of pieces, rounded up: further ones are empty",
    r"\.size >=? \d{3,}": "whether the work is worth a second thread",
    r"^size - 1  ->": "local response norm: one more channel of zeros, which no window reaches",
    r"[mn] > k  ->": "at equality there is nothing to add",
    r"-?K // parts": "how deep a piece of a product is, not what it adds up to",
    r"d <= delta|abs\(d\) < beta": "where two formulas meet they agree",
    r"value\(x\) > 0  ->": "at 0 both branches are 0",
    r"\bk - 1\b.*->.*\(k\)": "partition at the next place puts the same values in front",
}

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


def survivors(count, seed=0):
    """Try `count` mutants: a Finding, with those that lived."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / "tests" / "ops").is_dir():
        return Finding(None, "the tests are not at hand: run in a checkout of the repository")
    mutants = all_mutants(root)
    chosen = random.Random(seed).sample(mutants, min(count, len(mutants)))
    alive, explained = [], 0
    with scratch() as folder:
        copy_package(root, folder)
        limits = {}
        for part in sorted({_part(path) for path, *_ in chosen}):
            start = time.perf_counter()
            failed = run_tests(folder, _tests(part), timeout=3600)
            if failed:
                return Finding(None, f"the tests of {part} fail without a mutant: {failed}")
            limits[part] = 60 + 4 * (time.perf_counter() - start)
        for path, line, text, source in chosen:
            if killed(folder, path, source, limits[_part(path)]):
                continue
            reason = next((why for pattern, why in EXPLAINED.items() if re.search(pattern, text)), None)
            explained += reason is not None
            if reason is None:
                alive.append(f"{path}:{line}  {text}")
                print(f"\n      alive: {alive[-1]}", end="", flush=True)
    dead = len(chosen) - len(alive) - explained
    text = f"{len(chosen)} of {len(mutants):,} mutants: {dead} killed, {explained} explained, {len(alive)} alive"
    return Finding(len(alive) <= 0.05 * len(chosen), text)


def copy_package(root, folder):
    """A copy of the checkout in which `minigen.kernels` is found without an installation: by a link."""
    leave = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in ("minigen", "kernels", "lessons", "tests"):
        shutil.copytree(root / part, folder / part, ignore=leave)
    for part in ("kernels", "lessons"):
        (folder / "minigen" / part).symlink_to(Path("..") / part)
    shutil.copy(root / "pyproject.toml", folder)


def killed(folder, path, source, limit):
    """Whether the tests notice `source` in the place of the file `path`. A hang past `limit` seconds counts."""
    where = folder / path
    original = where.read_text(encoding="utf-8")
    where.write_text(source, encoding="utf-8")
    own = f"tests/{_part(path)}/test_{where.stem}.py"  # the likeliest first
    try:
        return run_tests(folder, [own, *_tests(_part(path))], limit) is not None
    finally:
        where.write_text(original, encoding="utf-8")


def run_tests(folder, tests, timeout):
    """None if the tests pass in the copy, otherwise what failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not torch"]
            + [test for test in tests if (folder / test).exists()],
            cwd=folder,
            # Kernels that look outside their arrays are caught too; compiled so, they have a cache of their own.
            env={
                **os.environ,
                "PYTHONPATH": str(folder),
                "NUMBA_BOUNDSCHECK": "1",
                "MINIGEN_CACHE": str(folder / ".kernels"),
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = done.stdout.strip().splitlines() or ["nothing was said"]
        failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
        return None if done.returncode == 0 else (failed or said)[-1]
    except subprocess.TimeoutExpired:
        return f"no answer in {timeout:.0f} s"


def _part(path):
    return "kernels" if path.startswith("kernels/") else "ops"


def _tests(part):
    return ["tests/kernels", "tests/ops"] if part == "kernels" else ["tests/ops", "tests/test_autograd.py"]


def all_mutants(root):
    """[(path, line, what was changed, the whole changed source)] over ops/ and kernels/."""
    found = []
    for folder in ("minigen/ops", "kernels"):
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            found += [(name, *mutant) for mutant in mutants_of(source)]
    return found


def mutants_of(source):
    """(line, what, changed source) for every place in a piece of Python where one change can be made."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    content = source.encode()
    for node in _arithmetic(ast.parse(source)):
        for changed in _changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            new = ast.unparse(changed) if isinstance(changed, ast.keyword) else f"({ast.unparse(changed)})"
            before = content[start:end].decode()
            out = content[:start] + new.encode() + content[end:]
            yield node.lineno, f"{' '.join(before.split())}  ->  {new}", out.decode()


def _arithmetic(tree):
    """The nodes where results are computed: not in messages, checks, signatures, decorators or type names."""
    stack = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Expr))]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Assert, ast.arguments)):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("expect", "warn", "describe"):
            continue
        if isinstance(node, ast.FunctionDef) and node.name.startswith("__"):
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            stack.extend(node.body)
            continue
        if isinstance(node, ast.If) and any(isinstance(x, ast.Raise) for x in node.body):
            stack.extend(node.orelse)  # a check of arguments: the tests of errors are another matter
            continue
        if isinstance(node, (ast.BinOp, ast.Compare, ast.UnaryOp, ast.Subscript)) or _is_dimension(node):
            yield node
        stack.extend(ast.iter_child_nodes(node))


def _changes(node):
    """Nodes that could stand in the place of `node`."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        if any(
            isinstance(x, (ast.Constant, ast.Tuple, ast.List)) and not _is_number(x) for x in (node.left, node.right)
        ):
            return  # text or tuples joined, not numbers added
        changed = copy.deepcopy(node)
        changed.op = OPERATORS[type(node.op)]()
        yield changed
        if isinstance(node.op, (ast.Add, ast.Sub)):
            yield node.left  # the second term is dropped
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        changed = copy.deepcopy(node)
        changed.ops = [COMPARISONS[type(node.ops[0])]()]
        yield changed
    elif _is_dimension(node):
        yield ast.keyword(node.arg, ast.Constant(0 if node.value.value else 1))
    elif isinstance(node, ast.Subscript) and _is_number(node.slice) and isinstance(node.ctx, ast.Load):
        changed = copy.deepcopy(node)
        changed.slice = ast.Constant(node.slice.value + 1)
        yield changed


def _is_dimension(node):
    return isinstance(node, ast.keyword) and node.arg in ("dim", "axis") and _is_number(node.value)


def _is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
