"""Kernels for the CPU, in Numba. Each is compiled when it is first called and kept in a cache."""
