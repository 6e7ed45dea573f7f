"""The back ends by name, module or file, for the command line; in code one passes the value itself.

What a back end has is in protocol.py.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast

from minise.ops.protocol import Algorithm as Algorithm
from minise.ops.protocol import Backend as Backend
from minise.ops.protocol import Listener as Listener

# mypy compares the modules with the protocol, name by name. It does so again when this file has
# changed, or without its cache: `mypy --cache-dir=/dev/null`.
if TYPE_CHECKING:
    from minise.ops import jit, reference

    _reference: Backend = reference
    _jit: Backend = jit

BACKENDS = {
    "reference": "minise.ops.reference",
    "jit": "minise.ops.jit",
    "cuda": "minise.ops.cuda",
}


def backend(name: str, threads: int = 0, algorithm: Algorithm = "auto") -> Backend:
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
    ops = cast(Backend, importlib.import_module(BACKENDS[name]))
    ops.require()
    return adjusted(ops, threads or None, algorithm)


def adjusted(ops: Backend, threads: int | None, algorithm: Algorithm = "auto") -> Backend:
    """Return a back end that runs as asked, itself where nothing is.

    Raises
    ------
    ValueError
        If it has not so many threads, or an algorithm is chosen but it has one only.
    """
    if threads is None and algorithm == "auto":
        return ops
    return ops.using(threads=threads, algorithm=None if algorithm == "auto" else algorithm)


@contextmanager
def on_compile(listener: Listener) -> Iterator[None]:
    """Call a listener for every kernel that an imported back end of minise has to compile.

    It is given the kernel's name, how many were compiled so far, and how many kernels there are.
    """
    with ExitStack() as stack:
        for path in BACKENDS.values():
            if (module := sys.modules.get(path)) is not None:
                stack.enter_context(cast(Backend, module).on_compile(listener))
        yield


def load_ops(name: str, threads: int = 0, algorithm: Algorithm = "auto") -> Backend:
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
    return adjusted(_user_ops(name), threads or None, algorithm)


def is_file(name: str) -> bool:
    """Tell whether a back end is named by a file."""
    return name.endswith(".py")


def _user_ops(name: str) -> Backend:
    from minise.ops.user.load import from_file, from_module, import_named

    if is_file(name):
        return cast(Backend, from_file(name))
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
        return cast(Backend, module)
    ops = from_module(module)
    if ops is None:
        raise ValueError(f"{unknown}: the module {name} has no op such as relu_forward")
    return cast(Backend, ops)
