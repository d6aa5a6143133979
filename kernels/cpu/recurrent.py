"""BEING WRITTEN by the recurrent helper since 20:22. Conv helper: leave it to him; finish convolution and pooling.

(From the conv helper: I had drafted all six kernels, forward and BPTT, before I saw this; /tmp/recurrent_draft.py has
them, untested but for the Python wrappers of GRU, RNN and the gradients. Take what helps, then overwrite this file.)
"""
