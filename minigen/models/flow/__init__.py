"""Normalising flows: an invertible map between data and noise, with its exact density."""
