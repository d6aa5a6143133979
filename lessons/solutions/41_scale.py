# %% [markdown]
# # Solutions for lesson 41

# %%
import math

import numpy as np

# %% [markdown]
# ## 1. Halving the rounds
#
# After round j everyone has the sum of the 2^(j+1) machines whose numbers differ from his own in the last j + 1 bits.

# %%


def butterfly(arrays):
    N = len(arrays)
    rounds = N.bit_length() - 1
    for j in range(rounds):
        arrays = arrays + arrays[np.arange(N) ^ 2**j]
    return arrays, rounds


# %% [markdown]
# ## 2. Parts of different sizes

# %%


def together(gradients, rows):
    rows = np.asarray(rows)
    return (rows[:, None] * gradients).sum(0) / rows.sum()


# %% [markdown]
# ## 3. The best segment
#
# Near sqrt(L / c), as the derivative of L / k + c k says.

# %%


def best_segment(L, c):
    return min(range(1, L + 1), key=lambda k: math.ceil(L / k) + c * k)


# %% [markdown]
# ## 4. Break it and see: clip, then unscale
#
# Nearly every gradient is longer than `most` when it has been multiplied by 65536. So all are made as long as `most`,
# and then 65536 times as short.

# %%


def clip_then_unscale(gradient, scale, most):
    return gradient * min(1.0, most / np.linalg.norm(gradient)) / scale


# %% [markdown]
# ## 5. Break it and see: everyone reads the same rows

# %%


def rows_of(rank, size, batch):
    return batch[: len(batch) // size]
