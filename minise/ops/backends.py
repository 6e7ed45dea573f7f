"""The back ends by name, for the command line; in code one passes the module itself."""

import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
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


def load_ops(name: str, threads: int = 0, algorithm: Algorithm = "auto") -> Any:
    """Return a back end by name, by a dotted module name, or from a Python file that is named.

    Parameters
    ----------
    name : str
        One of BACKENDS, a module such as my_package.my_ops, or a file such as my_ops.py, which is
        run as any import does. What a user's file or module does not define is the reference's
        (minise/ops/user/completed.py).
    threads, algorithm
        As of `backend`, where the back end has a choice.

    Raises
    ------
    ValueError
        If there is no such back end, module or file, or it cannot be imported or has no op.
    ImportError
        If a back end of minise cannot run here.
    """
    if name in BACKENDS:
        return backend(name, threads, algorithm)
    return adjusted(_user_ops(name), name, threads or None, algorithm)


def is_file(name: str) -> bool:
    """Tell whether a back end is named by a file."""
    return name.endswith(".py")


def _user_ops(name: str) -> Any:
    from minise.ops.user.load import from_file, from_module, import_named

    if is_file(name):
        return from_file(name)
    names = ", ".join(BACKENDS)
    unknown = f"ops {name!r} is unknown, expected one of {names}, a module, or a .py file"
    module = None if name.startswith(".") else import_named(name)
    if module is None and name and Path(name).is_dir():
        raise ValueError(f"ops {name!r} is a folder, expected a Python file such as my_ops.py")
    if module is None:
        close = get_close_matches(name, BACKENDS, 1)
        close = [f"{name}.py"] if Path(f"{name}.py").is_file() else close
        raise ValueError(f"{unknown}: did you mean {close[0]}?" if close else unknown)
    if name.startswith("minise."):
        return module
    ops = from_module(module)
    if ops is None:
        raise ValueError(f"{unknown}: the module {name} has no op such as relu_forward")
    return ops
