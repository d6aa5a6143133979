"""Diffusion models: noise is added in small steps, and a network learns to take it away."""
