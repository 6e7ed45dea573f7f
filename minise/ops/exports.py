"""What a package of ops exports: the functions of its files, under the names of the protocol.

An op is written into the file of its family, and declared in class Backend of protocol.py. No other
list names it: every back end of minise that is a package finds its own functions here.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from minise.ops.protocol import FUNCTIONS


def exported(package: str) -> dict[str, Callable[..., Any]]:
    """Return every function of the protocol that a file of a package defines, by name.

    Parameters
    ----------
    package : str
        The dotted name of a package that is being imported, or is imported already. Its files are
        imported, but not those of its sub-packages.
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
