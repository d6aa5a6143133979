"""Modules from their written form: "Conv2d(3, 6, kernel_size=(3, 3), padding=(1, 1))", nested or not.

Nothing is evaluated: names must be classes of minigen.nn, arguments literals.
"""

import ast
import re

from minigen import nn

from . import NotCovered

RENAMED = {"NonDynamicallyQuantizableLinear": "Linear"}


class Described:
    """A class of minigen.nn with its arguments and named children, as read from text."""

    def __init__(self, name, args, kwargs, children):
        self.name, self.args, self.kwargs, self.children = name, args, kwargs, children

    def build(self):
        """The module. Children are only built for containers: other modules make their own."""
        cls = getattr(nn, self.name, None)
        if cls is None:
            raise NotCovered(f"minigen.nn has no {self.name}")
        if self.name in ("Sequential", "ModuleList"):
            children = [child.build() for child in self.children.values()]
            return cls(*children) if self.name == "Sequential" else cls(children)
        return cls(*self.args, **self.kwargs)


def read(text):
    """The module that `text` describes. Raises NotCovered if it describes none."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    described, used = _read(lines, 0)
    if used != len(lines):
        raise NotCovered(f"the note does not describe a module: {text[:60]!r}")
    return described


def find(text):
    """The first module described anywhere in `text`: some notes have a sentence before it."""
    for start in re.finditer(r"\b[A-Z]\w*\(", text):
        try:
            return read(text[start.start() :])
        except NotCovered:
            continue
    raise NotCovered(f"the note describes no module: {text[:60]!r}")


def _read(lines, i):
    head = re.fullmatch(r"\s*(?:\(([\w.\-]+)\): )?(?:(\d+) x )?(\w+)\((.*)", lines[i])
    if not head:
        raise NotCovered(f"not a module: {lines[i]!r}")
    name = RENAMED.get(head[3], head[3])
    if head[4].endswith(")"):
        return Described(name, *_arguments(head[4][:-1]), {}), i + 1
    if head[4]:
        raise NotCovered(f"not a module: {lines[i]!r}")
    children, args, kwargs = {}, [], {}
    i += 1
    while i < len(lines) and lines[i].strip() != ")":
        child = re.match(r"\s*\(([\w.\-]+)\): (?:(\d+) x )?", lines[i])
        if not child:  # a line of arguments before the children
            args, kwargs = _arguments(lines[i].strip())
            i += 1
            continue
        described, i = _read(lines, i)
        first = int(child[1].split("-")[0]) if child[2] else None
        names = [child[1]] if child[2] is None else [str(first + k) for k in range(int(child[2]))]
        children.update(dict.fromkeys(names, described))
    if i == len(lines):
        raise NotCovered("the note breaks off")
    return Described(name, args, kwargs, children), i + 1


def _arguments(text):
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        return [_literal(a) for a in call.args], {k.arg: _literal(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as fault:
        raise NotCovered(f"not literals: {text!r} ({fault})") from None


def _literal(node):
    if isinstance(node, ast.Name) and node.id not in ("inf", "nan"):
        return node.id  # padding=same, padding_mode=circular
    return float(node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
