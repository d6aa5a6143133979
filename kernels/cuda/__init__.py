"""Kernels for CUDA GPUs, in CUDA C++. Each file of kernels is compiled when it is first used; see compile.py."""
