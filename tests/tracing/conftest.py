"""A user's file; its functions are instrumented only if the file is passed by name."""

import importlib.util

import pytest

STUDENT = """
import numpy as np


def square_forward(x):
    y = x * x
    for k in range(2):
        y = y + k
    z: object = 2 * y
    z += 1
    return z, x


def square_backward(dout, cache):
    dz = dout
    dy = 3 * dz
    dx = 2 * cache * dy
    return (dx,)
"""


@pytest.fixture
def student(tmp_path):
    """Return a student's forward and backward, and their file."""
    path = tmp_path / "student.py"
    path.write_text(STUDENT)
    spec = importlib.util.spec_from_file_location("student", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.square_forward, module.square_backward, path
