"""A probabilistic context-free grammar, compiled into an automaton: from then on every question about it is quick.

    rules = {
        "<story>": [(0.5, "<one> sat ."), (0.5, "<one> saw <one> .")],
        "<one>": [(0.7, "tom"), (0.3, "the <kind>")],
        "<kind>": [(1.0, "cat")],
    }
    automaton = compile_grammar(rules, "<story>", end="\\n")

A derivation that always expands its leftmost symbol is a pushdown automaton: what the grammar still has to say is a
stack. Where the stacks cannot grow without bound there are finitely many of them, and each is a state; a symbol is
spoken, and the stack changes. So a grammar may repeat at the end of a rule (<more> -> <sentence> <more>), as often as
it likes, but not nest without bound in the middle of one: such a language has no finite automaton.

It is also asked that the next symbol always tell which rule was used (the grammar is LL(1), Rosenkrantz & Stearns
1970). Then every text has one derivation, the state is known from the text, and the entropy of the texts is that of
the rules chosen. A grammar where two rules begin alike is rewritten with the common beginning in front.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import ArgumentError, expect

MOST_STATES = 200_000
MOST_DEPTH = 400  # symbols on the stack; and nonterminals expanded before a word comes


@dataclass
class Automaton:
    """States and what they say; state 0 is the beginning of a story.

    symbols   the V symbols, the end mark last
    chances   (S, V) p(symbol | state); each row adds up to 1
    after     (S, V) the state after the symbol; 0 where it cannot come, and after the end mark
    said      {(state, symbol): the rules expanded before it, [(head, body), ...]}, for derivations
    """

    symbols: list
    chances: np.ndarray
    after: np.ndarray
    said: dict


def compile_grammar(rules, start, end="\n"):
    """The Automaton of a grammar: {head: [(probability, "body of heads and words"), ...]}.

    Raises ArgumentError for a grammar that is not one, that is nested without bound, or that is not LL(1).
    """
    rules = checked_rules(rules, start)
    words = sorted({s for bodies in rules.values() for _, body in bodies for s in body if s not in rules})
    expect(end not in words, "a grammar's end mark is not one of its words", end, error=ArgumentError)
    number = {word: i for i, word in enumerate([*words, end])}
    first = (start,)
    states, waiting, edges, said = {first: 0}, [first], [], {}
    while waiting:
        stack = waiting.pop()
        for word, (p, rest, path) in _spoken(stack, rules, first, end).items():
            if rest not in states:
                states[rest] = len(states)
                waiting.append(rest)
                good = len(states) <= MOST_STATES and len(rest) <= MOST_DEPTH
                rule = f"the grammar nests without bound: more than {MOST_STATES:,} states, or so much left to say"
                expect(good, rule, " ".join(rest[:9]), error=ArgumentError)
            edges.append((states[stack], number[word], states[rest], p))
            said[states[stack], number[word]] = path
    return Automaton([*words, end], *tables(edges, len(states), len(number)), said)


def tables(edges, states, symbols):
    """(chances, after) of edges (state, symbol, next state, probability)."""
    chances, after = np.zeros((states, symbols)), np.zeros((states, symbols), np.int32)
    source, symbol, target, p = (np.array(column) for column in zip(*edges))
    chances[source, symbol], after[source, symbol] = p, target
    return chances / chances.sum(1, keepdims=True), after


def checked_rules(rules, start):
    """{head: [(probability, body as a tuple), ...]}, after all that can be wrong with them."""
    expect(start in rules, f"the grammar has no rule for {start}", error=ArgumentError)
    split = {head: [(float(p), tuple(body.split())) for p, body in bodies] for head, bodies in rules.items()}
    for head, bodies in split.items():
        total = sum(p for p, _ in bodies)
        good = abs(total - 1) < 1e-9 and all(p > 0 for p, _ in bodies)
        expect(good, f"the probabilities of {head} are positive and add up to 1", total, error=ArgumentError)
        for _, body in bodies:
            lost = [s for s in body if s.startswith("<") and s not in rules]
            expect(not lost, f"{head} speaks of {' '.join(lost)}, for which there is no rule", error=ArgumentError)
    return split


def _spoken(stack, rules, first, end):
    """{word: (probability, what is left to say, rules used)}: what may come where `stack` is to be said."""
    found = {}
    _say(stack, 1.0, [], rules, first, end, found)
    return found


def _say(stack, p, path, rules, first, end, found):
    """Put into `found` what may come where `stack` is to be said, which has the probability p and took these rules."""
    expect(len(path) <= MOST_DEPTH, "a rule begins with itself", " ".join(stack[:3]), error=ArgumentError)
    if stack and stack[0] in rules:
        for chance, body in rules[stack[0]]:
            _say(body + stack[1:], p * chance, [*path, (stack[0], body)], rules, first, end, found)
        return
    word, rest = (stack[0], stack[1:]) if stack else (end, first)
    before, known, other = found.get(word, (0.0, rest, path))
    if known != rest:
        raise ArgumentError(
            f"two rules of the grammar begin with {word!r}: {_show(other)} and {_show(path)}\n"
            "  put the common beginning in front of both, in one rule"
        )
    found[word] = before + p, rest, other


def _show(path):
    return ", ".join(f"{head} -> {' '.join(body)}" for head, body in path) or "what follows"


def spelled(automaton, spell):
    """The same stories letter by letter: an Automaton whose symbols are characters.

    spell  a function of (word, whether it begins a story) that gives its letters, one at least

    A state is a word state and the letters of the next word so far. Raises ArgumentError where the letters leave open
    which word was meant.
    """
    words = automaton.symbols
    end = words[-1]
    # What may come in each state: (letters, next state, probability).
    outs = [
        [(spell(words[v], s == 0), int(automaton.after[s, v]), p)
         for v, p in zip(*(lambda row: (np.flatnonzero(row), row[row > 0]))(automaton.chances[s]))]
        for s in range(len(automaton.chances))
    ]  # fmt: skip
    letters = sorted({c for row in outs for text, _, _ in row for c in text} - {end}) + [end]
    number = {c: i for i, c in enumerate(letters)}

    def key_of(options):
        """The options that are left after a letter, scaled; a word that is over and alone is its next state."""
        total = sum(p for _, _, p in options)
        options = tuple((text, state, p / total) for text, state, p in options)
        return ("word", options[0][1]) if len(options) == 1 and not options[0][0] else options

    def open_up(options):
        """Options whose letters have all begun: a word that is over is followed by the next one's."""
        found = []
        for text, state, p in options:
            found += [(text, state, p)] if text else [(t, s, p * q) for t, s, q in outs[state]]
        return found

    first = ("word", 0)
    states, waiting, edges = {first: 0}, [first], []
    while waiting:
        key = waiting.pop()
        options = outs[key[1]] if key[0] == "word" else open_up(key)
        for c in sorted({text[0] for text, _, _ in options}):
            begun = [(text[1:], state, p) for text, state, p in options if text[0] == c]
            over = [text for text, _, _ in begun if not text]
            expect(len(over) <= 1, "two ways of spelling a text: words run into each other at", c, error=ArgumentError)
            target = key_of(begun)
            if target not in states:
                states[target] = len(states)
                waiting.append(target)
                expect(len(states) <= MOST_STATES, f"more than {MOST_STATES:,} states", error=ArgumentError)
            edges.append((states[key], number[c], states[target], sum(p for _, _, p in begun)))
    return Automaton(letters, *tables(edges, len(states), len(letters)), {})
