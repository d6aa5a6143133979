"""Sampling: decoding of sequences and their caches, and the samplers of diffusion models."""
