"""Einstein's summation: einsum("bqd,bkd->bqk", query, key).

Each operand names its dimensions. A name in the output stays; any other is summed over. Two operands at a time are
brought to one batched matrix product, in an order that keeps the arithmetic small. All of it is made of ops, so
gradients of every order come by themselves.
"""

import functools

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from .linalg import _matmul
from .rearranging import _diagonal
from .shape import _expand, _permute, _reshape


def einsum(equation, *operands):
    """The sum of products that `equation` describes: "ij,jk->ik" is a matrix product, "ii->i" a diagonal.

    "..." stands for any further dimensions, which broadcast. Without "->" the output has, in alphabetical order, the
    names that occur once. Numbers may stand for letters: einsum(a, [0, 1], b, [1, 2], [0, 2]).
    Raises ArgumentError for an equation that does not parse, ShapeError for sizes that do not fit.
    """
    if not isinstance(equation, str):
        equation, operands = _from_lists(equation, operands)
    elif len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = operands[0]
    for x in operands:
        expect(hasattr(x, "shape"), "einsum: every operand must be a tensor", x, error=DtypeError)
    inputs, output = _parse(equation, tuple([x.ndim for x in operands]))
    sizes = _sizes(equation, inputs, operands)
    absent = [name for name in output if name not in sizes]
    expect(not absent, f"einsum: {equation!r}: the output names what no operand has", error=ArgumentError)
    terms = [_prepare(x, names, sizes) for x, names in zip(operands, inputs)]
    for i, j in _order(tuple([names for _, names in terms]), output, tuple(sizes.items())):
        right, left = terms.pop(j), terms.pop(i)
        kept = {*output}.union(*[names for _, names in terms])
        terms.append(_contract(_reduced(*left, kept | {*right[1]}), _reduced(*right, kept | {*left[1]}), kept, sizes))
    x, names = _reduced(*terms[0], {*output})
    return _arrange(x, names, output)


# Reading the equation


def _from_lists(first, rest):
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as an equation with letters."""
    entries = [first, *rest]
    result = entries.pop() if len(entries) % 2 else None
    operands, lists = entries[::2], entries[1::2]

    def write(names):
        try:
            return "".join("..." if n is Ellipsis else _letter(n) for n in names)
        except (IndexError, TypeError):
            raise ArgumentError(
                f"einsum: {names!r} does not name dimensions\n"
                f'  write einsum("ij,jk->ik", a, b), or lists of integers from 0 to 51'
            ) from None

    equation = ",".join(write(names) for names in lists)
    return equation if result is None else f"{equation}->{write(result)}", operands


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LETTERS.upper() + _LETTERS  # the order that an implicit output has


def _letter(n):
    if n < 0:
        raise IndexError
    return _LETTERS[n]


@functools.lru_cache(maxsize=512)
def _parse(equation, ndims):
    """Names of the operands' and of the output's dimensions; those of "..." are numbered from the last, -1, -2, ..."""

    def wrong(why):
        return ArgumentError(f"einsum: {equation!r}: {why}")

    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise wrong(f"{len(terms)} terms for {len(ndims)} operands")
    for term in (*terms, right):
        for letter in term.replace("...", "", 1):
            if letter not in _LETTERS:
                raise wrong(f"{letter!r} is not a letter")
    inputs, widest = [], 0
    for term, ndim in zip(terms, ndims):
        before, dots, after = term.partition("...")
        hidden = ndim - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            raise wrong(f"the term {term!r} does not name the {ndim} dimensions of its operand")
        widest = max(widest, hidden)
        inputs.append((*before, *range(-hidden, 0), *after))
    if arrow:
        before, dots, after = right.partition("...")
        output = (*before, *(range(-widest, 0) if dots else ()), *after)
        if len({*output}) != len(output):
            raise wrong("the output names a dimension twice")
    else:
        letters = [letter for letter in left if letter in _LETTERS]
        output = (*range(-widest, 0), *sorted(letter for letter in letters if letters.count(letter) == 1))
    return inputs, output


def _sizes(equation, inputs, operands):
    sizes = {}
    for names, x in zip(inputs, operands):
        for name, n in zip(names, x.shape):
            known = sizes.get(name, 1)
            if known != n and 1 not in (known, n):
                shown = name if isinstance(name, str) else "..."
                shapes = ", ".join(describe(x) for x in operands)
                raise ShapeError(f"einsum: {equation!r}: {shown} is both {known} and {n}\n  got {shapes}")
            sizes[name] = n if known == 1 else known
    return sizes


# Contracting


def _prepare(x, names, sizes):
    """Diagonals taken where a name repeats, and dimensions of size 1 that others stretch dropped."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            shape = [sizes[n] if i in (first, second) else x.shape[i] for i, n in enumerate(names)]
            if tuple(shape) != tuple(x.shape):
                x = _expand(x, tuple(shape))
            x = _diagonal(x, 0, first, second)
            names = [n for i, n in enumerate(names) if i not in (first, second)] + [name]
    kept = [i for i, name in enumerate(names) if x.shape[i] == sizes[name]]
    if len(kept) < len(names):
        x = _reshape(x, tuple([x.shape[i] for i in kept]))
    return x, tuple([names[i] for i in kept])


@functools.lru_cache(maxsize=512)
def _order(terms, output, sizes):
    """Which two terms to contract next, as pairs of places: they leave the list and their product joins its end."""
    if len(terms) < 2:
        return []
    if len(terms) == 2:
        return [(0, 1)]
    sizes = dict(sizes)
    letters = {name: _LETTERS[i] for i, name in enumerate(sizes)}
    text = ",".join("".join(letters[n] for n in names) for names in terms)
    text += "->" + "".join(letters[n] for n in output)
    shaped = [np.broadcast_to(np.float32(0), [sizes[n] for n in names]) for names in terms]
    path, _ = np.einsum_path(text, *shaped, optimize="optimal" if len(terms) < 6 else "greedy")
    pairs, count = [], len(terms)
    for step in path[1:]:
        places = sorted(step)
        while len(places) > 1:  # NumPy may put several into one step
            pairs.append((places[0], places[1]))
            count -= 1
            places = sorted([p - 1 - (p > places[1]) for p in places[2:]] + [count - 1])
    return [(min(p), max(p)) for p in pairs]


def _reduced(x, names, kept):
    """The term summed over the dimensions that nobody else names."""
    over = tuple([i for i, name in enumerate(names) if name not in kept])
    if not over:
        return x, names
    return x.sum(over), tuple([name for name in names if name in kept])


def _arrange(x, names, order):
    if names == tuple(order):
        return x
    return _permute(x, tuple([names.index(name) for name in order]))


def _contract(left, right, kept, sizes):
    """Two terms as one: names in both that are still needed are the batch, names in both that are not are summed."""
    (a, in_a), (b, in_b) = left, right
    both = [name for name in in_a if name in in_b]
    batch = [name for name in both if name in kept]
    summed = [name for name in both if name not in kept]
    rows = [name for name in in_a if name not in in_b]
    columns = [name for name in in_b if name not in in_a]

    def count(names):
        product = 1
        for name in names:
            product *= sizes[name]
        return product

    def shape(names):
        return tuple([sizes[name] for name in names])

    narrow = a.dtype.itemsize == 2  # rounded products of these are not to be summed: leave the sum to the product
    if not summed or not (rows or columns or narrow):  # element by element
        a = _reshape(
            _arrange(a, in_a, batch + rows + summed), shape(batch + rows) + (1,) * len(columns) + shape(summed)
        )
        b = _reshape(
            _arrange(b, in_b, batch + columns + summed), shape(batch) + (1,) * len(rows) + shape(columns + summed)
        )
        y = a * b
        if summed:
            y = y.sum(tuple(range(y.ndim - len(summed), y.ndim)))
        return y, (*batch, *rows, *columns)
    lead = (count(batch),) if batch else ()
    a = _reshape(_arrange(a, in_a, batch + rows + summed), (*lead, count(rows), count(summed)))
    if columns and in_b == (*batch, *columns, *summed):  # the product takes it transposed: no copy
        b = _reshape(b, (*lead, count(columns), count(summed))).swapaxes(-1, -2)
    else:
        b = _reshape(_arrange(b, in_b, batch + summed + columns), (*lead, count(summed), count(columns)))
    return _reshape(_matmul(a, b), shape(batch + rows + columns)), (*batch, *rows, *columns)
