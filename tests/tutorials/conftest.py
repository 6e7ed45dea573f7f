"""A lesson runs once per process."""

import importlib.util
import sys
import time
from typing import Any, NamedTuple

import pytest


class Run(NamedTuple):
    """What a lesson defines and shows."""

    module: Any
    definitions: dict[str, Any]
    outputs: tuple[Any, ...]  # of its cells
    seconds: float


@pytest.fixture(scope="session")
def ran():
    """Return a function that runs a lesson once."""
    runs = {}

    def run(path):
        if path not in runs:
            spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # marimo reads the source of a class from here
            spec.loader.exec_module(module)
            started = time.process_time()  # independent of other load on the machine
            outputs, definitions = module.app.run()
            runs[path] = Run(module, definitions, outputs, time.process_time() - started)
        return runs[path]

    return run
