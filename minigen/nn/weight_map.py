"""Weights under other names: how a published file's tensors become a model's, and back.

    WeightMap(
        ("transformer.wte.weight", "embedding.weight"),
        ("transformer.h.*.ln_1.*", "blocks.*.norm1.*"),                              # `*` is one part of a name
        ("transformer.h.*.attn.c_attn.weight", "blocks.*.attention.in_proj_weight", transposed),
        (["h.*.q.weight", "h.*.k.weight", "h.*.v.weight"], "blocks.*.in_proj_weight", joined(64, 64, 64)),
        ("encoder.**", "encoder.**"),                                                # `**` is any number of parts
    )

A rule is (published, ours) or (published, ours, transform). For each of the model's own names the first rule that
matches it applies; what its stars stood for is put for the published stars, in order. Several names on a side are a
list. A model whose names are the published ones needs one rule, `("**", "**")`, which is the default.

A parameter that two names share (a tied output layer) is read from the first of them; the other may be absent, is not
looked at, and is left out when the model is saved.
"""

import re
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError, CheckpointError, expect
from .state import collect, write

__all__ = ["Transform", "WeightMap", "joined", "reshaped", "split", "transposed"]

SHOWN = 200  # lines of each kind of fault: all of a real model's, and an end to a hostile file's


class Transform(NamedTuple):
    """`read(*published arrays)` gives ours, `write(*ours)` the published ones: an array, or a list where several are.

    `a.then(b)` reads by `a` first, then by `b`.
    """

    read: callable
    write: callable

    def then(self, other):
        return Transform(
            lambda *published: other.read(*_several(self.read(*published))),
            lambda *ours: self.write(*_several(other.write(*ours))),
        )


same = Transform(lambda *arrays: list(arrays), lambda *arrays: list(arrays))
transposed = Transform(lambda x: x.T, lambda x: x.T)


def joined(*sizes, dim=0):
    """Published apart, one tensor of ours: joined along `dim`, where they have these `sizes`."""
    ends = np.cumsum(sizes)[:-1]
    return Transform(lambda *parts: np.concatenate(parts, dim), lambda whole: np.split(whole, ends, dim))


def split(*sizes, dim=0):
    """Published as one, several tensors of ours: cut along `dim` into pieces of these `sizes`."""
    apart = joined(*sizes, dim=dim)
    return Transform(apart.write, apart.read)


def reshaped(published, ours):
    """The same numbers in the same order in two shapes: a 1x1 convolution that is a linear layer here."""
    return Transform(lambda x: x.reshape(ours), lambda x: x.reshape(published))


class WeightMap:
    """The rules of one model; see the head of this file.

    rules     (published, ours[, transform]) tuples
    optional  patterns of published names that a file may lack; then the model keeps what it was built with
    ignored   patterns of published names that a file may have and that mean nothing here (masks, position ids)
    renamed   {regular expression: replacement} put to the file's names first: other spellings of the same thing
    """

    def __init__(self, *rules, optional=(), ignored=(), renamed=None):
        self.rules = [_Rule(*rule) for rule in rules or [("**", "**")]]
        self.optional, self.ignored = _any_of(optional), _any_of(ignored)
        self.renamed = [(re.compile(old), new) for old, new in (renamed or {}).items()]

    def links(self, names):
        """[(published names, our names, transform)] that together give every one of `names`."""
        found, known = {}, set(names)
        for name in names:
            link = next(filter(None, (rule.link(name, known) for rule in self.rules)), None)
            expect(link is not None, "WeightMap: no rule gives this name of the model", name, error=ArgumentError)
            found.setdefault(link.ours, link)
        return list(found.values())

    def load(self, model, file, where):
        """Copy `file`, a lazy mapping of arrays with `.layout` {name: (type, shape, ...)}, into `model`.

        Every name, shape and type is checked before anything is written. Raises one CheckpointError that lists all
        that is missing, unexpected, of another shape or no floating-point number, and says `where` they are read.
        """
        mine = collect(model, keep_vars=True)
        spelling = self._spelling(file.layout, where)
        wanted, missing, misshapen, mistyped = [], [], [], []
        for link in self._needed(mine, spelling):
            shapes = _published_shapes(link, mine)
            absent = [name for name in link.published if name not in spelling]
            if absent:
                if not all(self.optional(name) for name in link.published):
                    missing += [_shown(name, shapes[name], link) for name in absent]
                continue
            good = True
            for name in link.published:
                kind, shape = file.layout[spelling[name]][:2]
                if tuple(shape) != shapes[name]:
                    good = misshapen.append(f"{name}: the file has {tuple(shape)}, the model wants {shapes[name]}")
                elif ("float" in kind) != (mine[link.ours[0]].dtype.kind == "f"):
                    good = mistyped.append(f"{name}: the file has {kind}, the model {mine[link.ours[0]].dtype}")
            if good:
                wanted.append(link)
        known = {name for link in self.links(list(mine)) for name in link.published}
        extra = [name for name in spelling if name not in known and not self.ignored(name)]
        if missing or extra or misshapen or mistyped:
            extra = [f"{name} {tuple(file.layout[spelling[name]][1])}" for name in extra]
            faults = {
                "missing": missing,
                "unexpected": extra,
                "of another shape": misshapen,
                "of another type": mistyped,
            }
            raise CheckpointError(_complaint(where, model, faults))
        for link in wanted:
            arrays = _several(link.transform.read(*(file[spelling[name]] for name in link.published)))
            for name, array in zip(link.ours, arrays):
                write(mine[name], array)

    def published(self, state, names=None):
        """{published name: array} of a model's state (a mapping from all our names to NumPy arrays).

        names   those to write, where a tied one is to be left out
        """
        found = {}
        for link in self.links(list(state)):
            if names is None or any(name in names for name in link.ours):
                arrays = _several(link.transform.write(*(state[name] for name in link.ours)))
                found.update(zip(link.published, arrays))
        return found

    def _spelling(self, names, where):
        """{published name: how this file spells it}."""
        found = {}
        for name in names:
            published = name
            for old, new in self.renamed:
                published = old.sub(new, published)
            if published in found and not self.ignored(published):
                raise CheckpointError(f"{where}: {found[published]} and {name} are two names of one tensor")
            found[published] = name
        return found

    def _needed(self, mine, spelling):
        """The links to read: of those that give one and the same tensor, the first that the file has."""
        links, first = self.links(list(mine)), {}
        for link in sorted(links, key=lambda link: not all(name in spelling for name in link.published)):
            first.setdefault(tuple(id(mine[name]) for name in link.ours), link)
        chosen = {id(link) for link in first.values()}
        return [link for link in links if id(link) in chosen]


class _Link(NamedTuple):
    published: tuple
    ours: tuple
    transform: Transform


class _Rule:
    def __init__(self, published, ours, transform=same):
        self.published, self.ours, self.transform = _names(published), _names(ours), transform
        self.patterns = [_pattern(name) for name in self.ours]
        stars = {len(re.findall(r"\*+", name)) for name in self.published + self.ours}
        expect(
            len(stars) == 1, "WeightMap: both sides of a rule have as many stars", published, ours, error=ArgumentError
        )

    def link(self, name, known):
        for pattern in self.patterns:
            if match := pattern.fullmatch(name):
                ours = _filled(self.ours, match.groups())
                if known.issuperset(ours):
                    return _Link(_filled(self.published, match.groups()), ours, self.transform)
        return None


def _names(side):
    return (side,) if isinstance(side, str) else tuple(side)


def _several(arrays):
    return arrays if isinstance(arrays, (list, tuple)) else [arrays]


def _pattern(name):
    parts = {"**": "(.*)", "*": "([^.]+)"}
    return re.compile("".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", name)))


def _filled(names, groups):
    values = iter(groups * len(names))
    return tuple(re.sub(r"\*+", lambda _: next(values), name) for name in names)


def _any_of(patterns):
    patterns = [_pattern(name) for name in _names(patterns)]
    return lambda name: any(pattern.fullmatch(name) for pattern in patterns)


def _published_shapes(link, mine):
    """The shapes that the published tensors must have: those of the model's, sent through the transform."""
    dummies = [np.broadcast_to(np.zeros((), np.bool_), mine[name].shape) for name in link.ours]
    return {n: x.shape for n, x in zip(link.published, _several(link.transform.write(*dummies)))}


def _shown(name, shape, link):
    return f"{name} {shape}" + ("" if link.ours == (name,) else f", which gives {', '.join(link.ours)}")


def _complaint(where, model, faults):
    lines = [f"{where} does not fit {type(model).__name__}"]
    for what, items in faults.items():
        if items:
            more = [f"    and {len(items) - SHOWN:,} more"] if len(items) > SHOWN else []
            lines += [f"  {len(items):,} {what}:", *(f"    {item}" for item in items[:SHOWN]), *more]
    return "\n".join(lines)
