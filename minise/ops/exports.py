"""Collect the functions that a package of ops exports: those declared in the protocol.

An op is defined in the file of its family and declared in class Backend of protocol.py. No other
list names it: every back end of minise that is a package collects its functions with `exported`.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from minise.ops.protocol import FUNCTIONS


def exported(package: str) -> dict[str, Callable[..., Any]]:
    """Return the functions of the protocol that the files of a package define, by name.

    Parameters
    ----------
    package : str
        The dotted name of a package in sys.modules, possibly during its import. Its modules are
        imported, its sub-packages are not.
    """
    files = [
        file.name for file in pkgutil.iter_modules(sys.modules[package].__path__) if not file.ispkg
    ]
    modules = [importlib.import_module(f"{package}.{file}") for file in files]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name in FUNCTIONS and inspect.isfunction(value) and value.__module__ == module.__name__
    }
