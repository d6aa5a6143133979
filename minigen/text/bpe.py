"""Byte-pair encoding, on symbols of any kind (Gage 1994; Sennrich, Haddow & Birch 2016, arXiv:1508.07909).

Begin with single symbols. Look for the pair of neighbours that stands most often side by side, make it a symbol of its
own, and repeat. What is learned is the list of pairs, in order. To encode a word, apply the pairs in that order.

    learn(words, symbols, count)      the pairs, from words and how often each occurs
    apply(word, ranks)                a word's symbols after all merges
"""

import heapq
import itertools
from collections import defaultdict


def learn(words, symbols, count, least=2):
    """Learn up to `count` merges: [(a, b), ...], each a pair of symbol numbers; the i-th makes symbol `symbols + i`.

    words    {a word, as a tuple of symbol numbers from 0 to symbols - 1: how often it occurs}
    least    pairs that are rarer than this are left alone

    Of pairs that are equally frequent the one with the smaller numbers comes first, as in the published trainer. Each
    merge looks only at the words that hold its pair.
    """
    words, weights = [list(word) for word in words], list(words.values())
    total, where = defaultdict(int), defaultdict(set)  # of each pair: how often, and in which words
    for i, word in enumerate(words):
        for pair in itertools.pairwise(word):
            total[pair] += weights[i]
            where[pair].add(i)
    heap = [(-often, pair) for pair, often in total.items()]
    heapq.heapify(heap)
    merges = []
    while heap and len(merges) < count:
        often, pair = heapq.heappop(heap)
        if -often != total[pair]:  # it has become rarer since: it waits at its new place
            if total[pair] > 0:
                heapq.heappush(heap, (-total[pair], pair))
            continue
        if -often < max(least, 1):
            break
        made, grown = symbols + len(merges), set()
        merges.append(pair)
        for i in where.pop(pair):
            word = words[i]
            for old in itertools.pairwise(word):
                total[old] -= weights[i]
            word[:] = merged(word, pair, made)
            for new in itertools.pairwise(word):
                total[new] += weights[i]
                where[new].add(i)
                if made in new:
                    grown.add(new)
        for new in grown:
            heapq.heappush(heap, (-total[new], new))
    return merges


def merged(word, pair, made):
    """The word with every occurrence of the pair, from the left, replaced by the symbol `made`."""
    result, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            result.append(made)
            i += 2
        else:
            result.append(word[i])
            i += 1
    return result


def apply(word, ranks):
    """The symbols of `word`, a list, after all merges; `ranks` is {(a, b): (when it was learned, what it makes)}.

    The earliest pair goes first, and of equal ones the one further left. A heap of places and links to the neighbours
    make it n log n steps for a word of n symbols, so that a word of a million is no trap.
    """
    symbols = list(word)
    end = len(symbols)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    heap = []

    def offer(i):
        """Let the pair at places i and right[i] wait for its turn."""
        if i >= 0 and right[i] < end:
            pair = symbols[i], symbols[right[i]]
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair][0], i, pair))

    for i in range(end - 1):
        offer(i)
    while heap:
        _, i, pair = heapq.heappop(heap)
        j = right[i]
        if j >= end or (symbols[i], symbols[j]) != pair:  # one of the two was merged with another neighbour
            continue
        symbols[i], symbols[j] = ranks[pair][1], None
        right[i] = right[j]
        if right[i] < end:
            left[right[i]] = i
        offer(left[i])
        offer(i)
    return [symbol for symbol in symbols if symbol is not None]
