"""The back ends by name, for the command line; in code one passes the module itself."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

Algorithm = Literal["auto", "direct", "winograd"]  # of convolutions, where there is a choice
BACKENDS = {
    "reference": "minise.ops.reference",
    "jit": "minise.ops.jit",
    "cuda": "minise.ops.cuda",
}


def backend(name: str, threads: int = 0, algorithm: Algorithm = "auto") -> Any:
    """Return the back end of a name, imported when it is asked for.

    Parameters
    ----------
    name : str
        One of BACKENDS.
    threads : int
        On how many threads its ops run, where it has threads of its own; 0 is its own choice.
    algorithm : {"auto", "direct", "winograd"}
        By which convolutions are computed; of a back end that has one way only, "auto".

    Raises
    ------
    ValueError
        If there is no such back end, it has not so many threads, or no choice of algorithm.
    ImportError
        If it cannot run here: the message says what is missing.
    """
    if name not in BACKENDS:
        raise ValueError(f"ops {name!r} is unknown, expected one of {', '.join(BACKENDS)}")
    module = importlib.import_module(BACKENDS[name])
    if name == "cuda":
        module.require()
    return adjusted(module, name, threads or None, algorithm)


def adjusted(ops: Any, name: str, threads: int | None, algorithm: Algorithm = "auto") -> Any:
    """Return a back end that runs as asked, where it has a function `using` that takes it.

    Raises
    ------
    ValueError
        If it has no choice of algorithm, but one is chosen.
    """
    using = getattr(ops, "using", None)
    known = {} if using is None else inspect.signature(using).parameters
    if algorithm != "auto" and "algorithm" not in known:
        raise ValueError(
            f"ops {name!r} has one algorithm only, but algorithm is {algorithm!r}: leave it out, "
            "or choose ops 'jit'"
        )
    asked = {"threads": threads, "algorithm": None if algorithm == "auto" else algorithm}
    given = {key: value for key, value in asked.items() if value is not None and key in known}
    return using(**given) if using is not None and given else ops


def on_compile(listener: Callable[[str, int, int], None]) -> AbstractContextManager[None]:
    """Tell a listener of every kernel that has to be compiled: its name, how many so far, of all.

    Where no back end is imported that compiles, there is nothing to tell.
    """
    module = sys.modules.get("minise.ops.jit.compile")
    return nullcontext() if module is None else module.told(listener)


def load_ops(name: str) -> Any:
    """Return a back end by name, by a dotted module name, or from a Python file that is named.

    Raises
    ------
    ValueError
        If there is no such back end, module or file. The file is run, as any import does.
    """
    if name in BACKENDS:
        return backend(name)
    if name.endswith(".py"):
        return _from_file(Path(name))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        names = ", ".join(BACKENDS)
        raise ValueError(
            f"ops {name!r} is unknown ({error}), expected one of {names}, a module, or a .py file"
        ) from None


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"ops {str(path)!r} is not there, expected a Python file with ops")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
