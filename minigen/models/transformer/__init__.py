"""Transformers: attention over the elements of a sequence."""
