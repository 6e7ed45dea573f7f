"""Compile kernels once per machine, and cache them on disk."""
