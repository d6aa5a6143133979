"""Decoding a Markov chain, of which every probability is known."""

import itertools

import numpy as np
import pytest

import minigen
from minigen import Tensor, nn
from minigen.data.worlds import MarkovText
from minigen.errors import ArgumentError, ShapeError
from minigen.random import Generator
from minigen.sampling import logits as rules
from minigen.sampling.decoding import beam_search, generate, stream

V = 5


class Chain:
    """A language model whose every probability is known: a Markov chain of order 2.

    Its state is the last symbol of each row: enough, and gone if a step forgets to hand it on.
    """

    def __init__(self, seed=1, contrast=1.5, symbols=V):
        self.table = MarkovText.random(symbols=symbols, order=2, contrast=contrast, seed=seed).table
        self.calls = []

    def step(self, ids, state=None):
        ids = ids.data
        assert ids.dtype == np.int64 and ids.ndim == 2
        self.calls.append(ids.shape)
        before = np.concatenate([ids[:, :1] if state is None else state.last, ids[:, :-1]], 1)
        return Tensor(np.log(self.table[before, ids]).astype(np.float32)), State(ids[:, -1:])

    def chances(self, text):
        """p of each symbol of `text` after its first, which counts as standing twice."""
        text = [text[0], *text]
        return [self.table[a, b, c] for a, b, c in zip(text, text[1:], text[2:])]

    def every(self, prompt, new):
        """All texts of `new` symbols after `prompt`, and log p of each."""
        texts = [tuple(prompt) + rest for rest in itertools.product(range(self.table.shape[0]), repeat=new)]
        return texts, np.array([np.log(self.chances(text)[len(prompt) - 1 :]).sum() for text in texts])


class State:
    def __init__(self, last):
        self.last = last

    def select(self, rows):
        return State(self.last[rows])


def chi_squared(counts, p):
    """In standard deviations: about -2 to 2 where the counts follow p."""
    expected = counts.sum() * p
    seen = expected > 0
    assert not counts[~seen].any()
    freedom = seen.sum() - 1
    return (((counts - expected)[seen] ** 2 / expected[seen]).sum() - freedom) / np.sqrt(2 * freedom)


def test_greedy_is_argmax():
    chain = Chain()
    for prompt in ([0], [3, 1, 4]):
        text = generate(chain, prompt, 6, temperature=0).tolist()
        want = list(prompt)
        for _ in range(6):
            want.append(int(chain.table[want[-2] if len(want) > 1 else want[-1], want[-1]].argmax()))
        assert text == want


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, lambda p: p),
        ({"temperature": 0.5}, lambda p: p**2),
        ({"top_k": 2}, lambda p: np.where(p >= np.sort(p)[-2], p, 0)),
        ({"min_p": 0.5}, lambda p: np.where(p >= p.max() / 2, p, 0)),
        ({"processors": [lambda logits, ids: rules.forbid(logits, [2])]}, lambda p: np.where(np.arange(V) != 2, p, 0)),
    ],
    ids=["plain", "temperature", "top_k", "min_p", "processor"],
)
def test_frequencies(options, change):
    """20000 texts of three symbols, counted as wholes, against the product of the chain's changed rows."""
    chain = Chain(contrast=0.8)
    texts = generate(chain, np.zeros((20000, 1), int), 3, generator=Generator(0), **options)
    rows = np.apply_along_axis(lambda p: change(p) / change(p).sum(), -1, chain.table)
    law = np.einsum("a,ab,abc->abc", rows[0, 0], rows[0], rows)
    counts = np.bincount(texts[:, 1:] @ [V * V, V, 1], minlength=V**3)
    assert abs(chi_squared(counts, law.ravel())) < 4


def test_a_prompt_of_any_length_is_read_to_its_end():
    """Rows of a batch with unequal prompts are what each would be alone; the state is handed on piece by piece."""
    chain, prompts = Chain(), [[0], [1, 2, 3, 4], [4, 4], [2, 0, 1]]
    together = generate(chain, prompts, 5, temperature=0)
    assert [len(row) for row in together] == [6, 9, 7, 8]
    for row, prompt in zip(together, prompts):
        assert row.tolist() == generate(chain, prompt, 5, temperature=0).tolist()
    assert chain.calls[:2] == [(4, 1), (4, 1)]


def test_the_end_and_what_stands_after_it():
    chain, prompts = Chain(seed=3), np.arange(V)[:, None]
    free = generate(chain, prompts, 12, temperature=0)
    text = generate(chain, prompts, 12, temperature=0, eos=2, pad=99)
    ends = [list(row[1:]).index(2) + 2 if 2 in row[1:] else 13 for row in free]
    assert text.shape == (V, max(ends)) and len(set(ends)) > 1
    for row, want, end in zip(text, free, ends):
        assert row[:end].tolist() == want[:end].tolist() and (row[end:] == 99).all()
    shown = np.stack(list(stream(chain, prompts, 12, temperature=0, eos=2, pad=-1)), 1)
    np.testing.assert_array_equal(shown, np.where(text == 99, -1, text)[:, 1:])
    listed = generate(chain, [[0], [1, 3]], 12, temperature=0, eos=[2, 3])
    assert all(row[-1] in (2, 3) or len(row) > 12 for row in listed)
    calls = len(chain.calls)
    assert generate(chain, [2, 2], 0).tolist() == [2, 2] and len(chain.calls) == calls


def test_seeds_and_streams():
    chain = Chain()
    one = generate(chain, [[0], [1]], 20, generator=Generator(5))
    assert (one == generate(chain, [[0], [1]], 20, generator=Generator(5))).all()
    assert (one != generate(chain, [[0], [1]], 20, generator=Generator(6))).any()
    pieces = list(stream(chain, [[0], [1]], 20, generator=Generator(5)))
    np.testing.assert_array_equal(np.stack(pieces, 1), one[:, 1:])
    symbols = list(stream(chain, [0], 4, temperature=0))
    assert symbols == generate(chain, [0], 4, temperature=0)[1:].tolist() and type(symbols[0]) is int
    with pytest.raises(ArgumentError, match="one length"):
        next(stream(chain, [[0], [1, 2]], 3))


class Network(nn.Module):
    """A module, for what only a module has: modes, parameters, a graph."""

    def __init__(self):
        self.table = nn.Embedding(V, V)
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.Dropout(0.9).eval()

    def step(self, ids, state=None):
        assert not self.training and not self.dropout.training
        logits = self.dropout(self.frozen(self.table(ids)))
        assert not logits.requires_grad
        return logits, state


def test_a_module_is_asked_in_evaluation_mode_without_a_graph_and_left_as_it_was():
    net = Network()
    want = net.table.weight.detach().numpy().argmax(1)
    text = generate(net, [0], 3, temperature=0)
    assert text.tolist()[1] == want[0]
    assert net.training and net.dropout.training and not net.frozen.training
    consumer = stream(net, [0], 3)
    next(consumer)
    assert minigen.tensor([1.0], requires_grad=True).exp().requires_grad and net.training


# Beam search


@pytest.mark.parametrize("seed", range(4))
def test_full_width_is_exhaustive_search(seed):
    chain = Chain(seed=seed)
    texts, log_p = chain.every((1, 3), 4)
    order = np.argsort(-log_p)
    found, scores = beam_search(chain, [1, 3], 4, beams=V**3, length_penalty=0.0, best=20, scores=True)
    assert [tuple(row) for row in found] == [texts[i] for i in order[:20]]
    np.testing.assert_allclose(scores, log_p[order[:20]], rtol=1e-5)


def test_full_width_with_an_end_symbol_is_exhaustive_too():
    """Texts end at 0 or after 4 symbols; the best by log p / length."""
    chain = Chain(seed=7)
    for penalty in (0.0, 1.0, 2.0):
        best, best_score = None, -np.inf
        texts, _ = chain.every((1,), 4)
        for text in {t[: (t[1:] + (0,)).index(0) + 2] for t in texts}:
            score = np.log(chain.chances(text)).sum() / (len(text) - 1) ** penalty
            if score > best_score:
                best, best_score = text, score
        found, scores = beam_search(chain, [1], 4, beams=V**3, length_penalty=penalty, eos=0, scores=True,
                                    early_stopping="never")  # fmt: skip
        assert tuple(found) == best and scores[0] == pytest.approx(best_score, rel=1e-5)


def test_one_beam_is_greedy_and_more_find_likelier_texts():
    chain = Chain(seed=2)
    prompts = np.arange(V)[:, None]
    np.testing.assert_array_equal(beam_search(chain, prompts, 8, beams=1), generate(chain, prompts, 8, temperature=0))
    scores = [beam_search(chain, prompts, 8, beams=k, scores=True)[1] for k in (1, 8)]
    assert (scores[1] >= scores[0] - 1e-6).all() and (scores[1] > scores[0] + 1e-3).any()


@pytest.mark.parametrize("seed", range(8))
def test_prompts_in_a_batch_do_not_meet(seed):
    chain = Chain(seed=seed, contrast=1.0)
    prompts = np.array([[0, 1], [3, 3], [4, 0]])
    for options in ({}, {"eos": 2}, {"eos": [2, 1], "early_stopping": True}, {"length_penalty": 0.0, "eos": 2}):
        together = beam_search(chain, prompts, 7, beams=3, pad=9, **options)
        for row, prompt in zip(together, prompts):
            alone = beam_search(chain, prompt, 7, beams=3, pad=9, **options)
            assert row[: len(alone)].tolist() == alone.tolist() and (row[len(alone) :] == 9).all()


def test_the_score_is_log_p_over_length():
    chain = Chain(seed=5)
    found, scores = beam_search(chain, [[1], [2]], 6, beams=4, length_penalty=0.7, eos=0, pad=0, best=3, scores=True)
    assert found.shape[0] == 6 and (np.diff(scores.reshape(2, 3)) <= 0).all()
    for row, score in zip(found.tolist(), scores):
        text = row[: (row[1:] + [0]).index(0) + 2]
        p = chain.chances(text)[:6]
        assert score == pytest.approx(np.log(p).sum() / len(p) ** 0.7, rel=1e-5)


def test_processors_in_beam_search():
    found = beam_search(Chain(), [0], 8, beams=4, processors=[lambda p, ids: rules.no_repeat_ngram(p, ids, 2)])
    pairs = list(itertools.pairwise(found))
    assert len(set(pairs)) == len(pairs)


def test_errors():
    chain = Chain()
    for ids in ([], [[]], [[1], []], [0.5], [[[1]]]):
        with pytest.raises(ShapeError, match="at least one symbol"):
            generate(chain, ids, 3)
    with pytest.raises(ArgumentError, match="number of symbols"):
        generate(chain, [0], -1)
    with pytest.raises(ArgumentError, match=r"0 \(greedy\) or above"):
        generate(chain, [0], 3, temperature=-1)
    with pytest.raises(ArgumentError, match="once for each length"):
        beam_search(chain, [[0], [1, 2]], 3)
    with pytest.raises(ArgumentError, match="early_stopping is"):
        beam_search(chain, [0], 3, early_stopping="yes")
    with pytest.raises(ArgumentError, match="best <= beams"):
        beam_search(chain, [0], 3, beams=2, best=3)


def by_hand(chain, prompt, new, beams, length_penalty, early_stopping, eos):
    """The search for one prompt in plain lists: log p and text of each beam, score and text of each that ended."""
    running, ended, improving = [(0.0, list(prompt))], [], True
    while True:
        grown = []
        for p, text in running:
            row = np.log(chain.table[text[-2], text[-1]])
            grown += [(p + row[v], [*text, v]) for v in range(V)]
        grown = sorted(grown, key=lambda pair: -pair[0])[: max(2, 1 + len(eos)) * beams]
        length = len(grown[0][1]) - len(prompt)
        full, old = length == new, list(ended)
        for rank, (p, text) in enumerate(grown):
            closed = not improving or (early_stopping is True and len(old) == beams)
            if (text[-1] in eos or full) and rank < beams and not closed:
                ended.append((p / length**length_penalty, text))
        ended = sorted(ended, key=lambda pair: -pair[0])[:beams]
        running = [(p, t) for p, t in grown if t[-1] not in eos][:beams]
        reach = new if early_stopping == "never" and length_penalty > 0 else length
        worst = ended[-1][0] if len(ended) == beams else -np.inf
        improving = improving and running[0][0] / reach**length_penalty > worst
        if full or not improving or (early_stopping is True and len(ended) == beams):
            return ended


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_every_detail_of_when_it_stops(early_stopping, length_penalty):
    """Small beams, where the search goes wrong in its own way: the same wrong texts as by hand, score for score."""
    for seed in range(12):
        chain = Chain(seed=seed, contrast=1.0)
        for eos in ([0], [0, 3]):
            want = by_hand(chain, [1, 2], 9, 2, length_penalty, early_stopping, eos)
            options = {"length_penalty": length_penalty, "early_stopping": early_stopping, "pad": 9, "eos": eos}
            found, scores = beam_search(chain, [1, 2], 9, beams=2, best=2, scores=True, **options)
            assert [row[row != 9].tolist() for row in found] == [text for _, text in want]
            np.testing.assert_allclose(scores, [score for score, _ in want], rtol=1e-5)
