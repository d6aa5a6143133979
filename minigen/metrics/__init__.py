"""Measures of a generative model. Each is a function of arrays or tensors; the worlds know the exact answers.

    likelihood.py   nats, bits a dimension, perplexity, and what dequantisation must pay
    worlds.py       a world's own judgement: KL to a model, modes reached, and what a perfect sampler would score
    digits.py       a small classifier of handwritten digits, and its features
    frechet.py      Frechet and kernel distance of two sets of features
    manifold.py     precision and recall of two sets of features
    labels.py       class accuracy, confusion, Inception score

Name what you use: `from minigen.metrics.frechet import frechet_distance`.
"""
