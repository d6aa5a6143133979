"""Row 17: nothing that minigen reads can run. The source is searched for the ways in which data becomes code.

Banned are the formats that hold code (pickle and its kin), turning text into code (eval, exec), turning text into a
command (shell=True, os.system), and unpacking an archive wherever it says. The exceptions stand in ALLOWED, each with
its reason; an exception that is no longer used is a finding too, so the list stays short.
"""

import ast
from pathlib import Path

from .score import Finding

BANNED_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "imp"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_METHODS = {"os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load", "tempfile.mktemp"}

# "where": {what: why it is right there}
ALLOWED = {
    "lessons/record.py": {
        "exec()": "runs the cells of minigen's own lessons one by one, as a notebook would",
        "compile()": "so that an error in a cell shows the lesson's own line",
    },
    "kernels/cpu/cache.py": {
        "import pickle": "Numba keeps compiled kernels as pickles; only checked files that this user owns are read"
    },
}


def banned_code(count=None, seed=0):
    """Search every Python file of the package, and of the tests where they are at hand."""
    files, used, found = 0, set(), []
    for name, path in sources():
        files += 1
        for line, what in violations(path.read_text(encoding="utf-8")):
            if what in ALLOWED.get(name, {}):
                used.add((name, what))
            else:
                found.append(f"{name}:{line} {what}")
    stale = [f"{name} {what}" for name, reasons in ALLOWED.items() for what in reasons if (name, what) not in used]
    if found or stale:
        return Finding(False, "; ".join(found + [f"no longer used: {entry}" for entry in stale]))
    return Finding(True, f"{files} files, {len(used)} exceptions with a reason")


def sources():
    """(name, path) of every Python file: of minigen, its kernels and its lessons, wherever they are installed."""
    import minigen
    import minigen.kernels
    import minigen.lessons

    for module in (minigen, minigen.kernels, minigen.lessons):
        for folder in map(Path, module.__path__):
            for path in sorted(folder.rglob("*.py")):
                name = f"{module.__name__.rpartition('.')[2]}/{path.relative_to(folder).as_posix()}"
                if not name.startswith(("minigen/kernels/", "minigen/lessons/")):  # inside minigen, as a wheel has it
                    yield name, path
    tests = Path(minigen.__file__).resolve().parent.parent / "tests"
    for path in sorted(tests.rglob("*.py")):
        yield f"tests/{path.relative_to(tests).as_posix()}", path


def violations(source):
    """(line, what) for every banned thing in a piece of Python."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in BANNED_MODULES:
                    yield node.lineno, f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            if not node.level and node.module.split(".")[0] in BANNED_MODULES:
                yield node.lineno, f"import {node.module}"
        elif isinstance(node, ast.Call):
            yield from _bad_call(node)


def _bad_call(node):
    name = ast.unparse(node.func)
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    first = node.args[0] if node.args else None
    if name.rpartition(".")[2] in ("__import__", "import_module") and isinstance(first, ast.Constant):
        if str(first.value).split(".")[0] in BANNED_MODULES:
            yield node.lineno, f"import {first.value}"
    elif isinstance(node.func, ast.Name) and name in BANNED_CALLS:
        yield node.lineno, f"{name}()"
    if name in BANNED_METHODS:
        yield node.lineno, f"{name}()"
    if name.endswith((".extractall", ".unpack_archive")):
        yield node.lineno, "extractall()"
    for option in ("allow_pickle", "shell"):
        if option in options and not _is_false(options[option]):
            yield node.lineno, f"{option}={ast.unparse(options[option])}"


def _is_false(node):
    return isinstance(node, ast.Constant) and node.value is False
