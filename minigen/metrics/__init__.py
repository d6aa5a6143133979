"""Measures of a generative model. Each is a function of arrays or tensors; the worlds know the exact answers."""
