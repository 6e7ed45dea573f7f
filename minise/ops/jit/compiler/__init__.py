"""Compiling kernels once per machine."""
