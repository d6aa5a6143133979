"""Generative adversarial networks: a generator that is judged by a network trained to tell its samples from data."""
