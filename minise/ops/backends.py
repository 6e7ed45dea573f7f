"""The back ends by name, for the command line; in code one passes the module itself."""

import importlib
from typing import Any

BACKENDS = {"reference": "minise.ops.reference"}


def backend(name: str) -> Any:
    """Return the back end of a name, imported when it is asked for."""
    if name not in BACKENDS:
        raise ValueError(f"ops {name!r} is unknown, expected one of {', '.join(BACKENDS)}")
    return importlib.import_module(BACKENDS[name])
