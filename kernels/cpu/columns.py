"""What convolutions on channels-last arrays see: blocks of columns, and zeros around.

A place q of a result (three indices, of which there are `count`) sees x at

    stride q + start + step t            for every tap t of the kernel (three indices below `taps`)

and 0 outside x. `gather` writes what a run of places sees into a block, a row for each place; `gather_rows` writes
the same transposed. One and two dimensions are three with sizes of 1.
"""

import numpy as np

from .compile import inline_sums

F = np.float32
FEW = 4  # channels: up to so many going in, blocks are built transposed; up to so many coming out, no product is made
BLOCK = 200_000  # numbers in a block of columns: with the weights it should stay in the L2 cache
TASKS = 16  # pieces of work to aim at


@inline_sums
def line_of(place, count):
    """(n, q_d, q_h) of the line along the last dimension that place number `place` stands in."""
    line = place // count[2]
    return line // (count[0] * count[1]), line // count[1] % count[0], line % count[1]


@inline_sums
def gather(x, columns, first, last, channel, channels, count, taps, stride, start, step, row, rows):
    """columns[p - first, (t, c)] = what place p sees of channel `channel` + c at tap t, for `rows` tap rows
    from `row`.
    """
    _, D, H, W, C = x.shape
    width = taps[2] * channels
    whole = channels == C and step[2] == 1  # then a tap row is one run in memory
    p = first
    while p < last:
        n, q_d, q_h = line_of(p, count)
        begin = p % count[2]
        end = min(count[2], begin + last - p)
        block = columns[p - first : p - first + end - begin]
        for r in range(row, row + rows):
            d = q_d * stride[0] + start[0] + r // taps[1] * step[0]
            h = q_h * stride[1] + start[1] + r % taps[1] * step[1]
            left = (r - row) * width
            if d < 0 or d >= D or h < 0 or h >= H:
                for i in range(end - begin):
                    block[i, left : left + width] = F(0)
                continue
            line = x[n, d, h].reshape(W * C)
            for i in range(end - begin):
                w = (begin + i) * stride[2] + start[2]
                if whole:
                    a = min(max(0, -w), taps[2]) * C
                    b = max(a, min(taps[2], W - w) * C)
                    block[i, left : left + a] = F(0)
                    to = block[i, left + a : left + b]
                    seen = line[w * C + a : w * C + b]
                    for c in range(b - a):
                        to[c] = seen[c]
                    block[i, left + b : left + width] = F(0)
                else:
                    for t in range(taps[2]):
                        at = w + t * step[2]
                        to = block[i, left + t * channels : left + (t + 1) * channels]
                        if at < 0 or at >= W:
                            to[:] = F(0)
                        else:
                            seen = line[at * C + channel : at * C + channel + channels]
                            for c in range(channels):
                                to[c] = seen[c]
        p += end - begin


@inline_sums
def gather_rows(x, columns, first, last, channel, channels, count, taps, stride, start, step):
    """The same transposed, columns[(t, c), p - first], for few channels: long rows instead of short ones.

    Every place must see x only (`padded`): the runs are too short for tests at their ends.
    """
    W, C = x.shape[3:]
    apart = stride[2] * C
    p = first
    while p < last:
        n, q_d, q_h = line_of(p, count)
        begin = p % count[2]
        end = min(count[2], begin + last - p)
        d, h, w = q_d * stride[0] + start[0], q_h * stride[1] + start[1], begin * stride[2] + start[2]
        k = 0
        for r in range(taps[0] * taps[1]):
            line = x[n, d + r // taps[1] * step[0], h + r % taps[1] * step[1]].reshape(W * C)
            for t in range(taps[2]):
                for c in range(channel, channel + channels):
                    to = columns[k, p - first : p - first + end - begin]
                    seen = line[(w + t * step[2]) * C + c :]
                    if apart == 1:
                        for i in range(to.size):
                            to[i] = seen[i]
                    else:
                        for i in range(to.size):
                            to[i] = seen[i * apart]
                    k += 1
        p += end - begin


@inline_sums
def place_tile(tile, y, first, columns, count, phase, jump):
    """y[n, phase + jump q, columns] = the rows of `tile`, for the places from number `first` on."""
    for i in range(tile.shape[0]):
        n, q_d, q_h = line_of(first + i, count)
        q_w = (first + i) % count[2]
        to = y[n, phase[0] + jump[0] * q_d, phase[1] + jump[1] * q_h, phase[2] + jump[2] * q_w]
        to = to[columns : columns + tile.shape[1]]
        row = tile[i]
        for o in range(tile.shape[1]):
            to[o] = row[o]


def padded(x, count, taps, stride, start, step):
    """x with zeros around it wherever a place would see beyond it, and the start that goes with that."""
    before = [max(0, -s) for s in start]
    reach = [(n - 1) * j + s + (t - 1) * d + 1 for n, t, j, s, d in zip(count, taps, stride, start, step)]
    after = [max(0, r - size) for r, size in zip(reach, x.shape[1:4])]
    if any(before) or any(after):
        larger = [b + size + a for b, size, a in zip(before, x.shape[1:4], after)]
        y = np.zeros((x.shape[0], *larger, x.shape[4]), np.float32)
        y[:, *[slice(b, b + size) for b, size in zip(before, x.shape[1:4])]] = x
        x = y
    return x, tuple(s + b for s, b in zip(start, before))
