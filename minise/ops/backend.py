"""Look up a back end by name, module or file, for the command line; code passes the value itself.

protocol.py lists the functions of a back end.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from minise.checks import Array, did_you_mean
from minise.ops.protocol import Algorithm as Algorithm
from minise.ops.protocol import Backend as Backend
from minise.ops.protocol import Listener as Listener

# mypy compares the modules with the protocol, name by name, when this file has changed or without
# its cache: `mypy --cache-dir=/dev/null`.
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
    """Import a back end of minise by name and return it.

    Parameters
    ----------
    name : str
        One of BACKENDS.
    threads : int
        Number of threads, ignored by a back end without its own threads; 0 is its default.
    algorithm : {"auto", "direct", "winograd"}
        Algorithm of convolutions; only "auto" for a back end with a single algorithm.

    Raises
    ------
    ValueError
        If the name is unknown, there are fewer threads, or the back end has a single algorithm.
    ImportError
        If the back end cannot run on this machine; the message names the missing part.
    """
    if name not in BACKENDS:
        raise ValueError(f"ops {name!r} is unknown, expected one of {', '.join(BACKENDS)}")
    ops = cast(Backend, importlib.import_module(BACKENDS[name]))
    ops.require()
    return adjusted(ops, threads or None, algorithm)


def adjusted(ops: Backend, threads: int | None, algorithm: Algorithm = "auto") -> Backend:
    """Return the back end with these settings, or the same object if none is set.

    Raises
    ------
    ValueError
        If there are fewer threads, or an algorithm is chosen and the back end has only one.
    """
    if threads is None and algorithm == "auto":
        return ops
    return ops.using(threads=threads, algorithm=None if algorithm == "auto" else algorithm)


def in_place(ops: Backend, training: bool) -> Backend:
    """Return the back end for a layer's forward, which may update the layer's own state.

    In training this is ops.in_place, if ops has this attribute (see protocol.Backend): the results
    are the same, without a copy of the running statistics.
    """
    return getattr(ops, "in_place", ops) if training else ops


def shaped(ops: Backend, shape: tuple[int, ...], dtype: Any) -> Array | None:
    """Return an array without values if the back end computes shapes only, else None."""
    shaped_array = getattr(ops, "shaped", None)
    return None if shaped_array is None else shaped_array(shape, dtype)


def copies(ops: Backend, arrays: Sequence[Array]) -> list[Array]:
    """Return a copy of each array, by one call if the back end has `copies`."""
    copy_all = getattr(ops, "copies", None)
    return [array.copy() for array in arrays] if copy_all is None else copy_all(arrays)


def sgd_updates(
    ops: Backend,
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    *,
    weight_decays: Sequence[float],
    **settings: Any,
) -> None:
    """Update parameters in place by SGD, by one call if the back end has `sgd_updates`.

    Parameters
    ----------
    ops : back end
        The back end of the arrays.
    params, grads, velocities : sequence of ndarray
        Of equal length; a parameter, its gradient and its velocity have one shape and dtype, and
        no two parameters share memory.
    weight_decays : sequence of float
        Coefficient of the L2 penalty of each parameter.
    **settings
        rate, momentum and nesterov, as in reference.sgd_update.
    """
    update_all = getattr(ops, "sgd_updates", None)
    if update_all is not None:
        update_all(params, grads, velocities, weight_decays=weight_decays, **settings)
        return
    for *arrays, decay in zip(params, grads, velocities, weight_decays, strict=True):
        ops.sgd_update(*arrays, weight_decay=decay, **settings)


@contextmanager
def on_compile(listener: Listener) -> Iterator[None]:
    """Call listener for every kernel that an imported back end of minise compiles.

    Its arguments are the kernel's name, the number compiled so far and the total number of kernels.
    """
    with ExitStack() as stack:
        for path in BACKENDS.values():
            if (module := sys.modules.get(path)) is not None:
                stack.enter_context(cast(Backend, module).on_compile(listener))
        yield


def compile_seconds() -> float:
    """Return the seconds that this Python thread has spent on compilation, 0 without jit."""
    compiler = sys.modules.get("minise.ops.jit.compiler.compile")
    return compiler.compile_seconds() if compiler else 0.0


def is_compiling() -> bool:
    """Return True if this Python thread compiles a kernel, or waits for another process to."""
    compiler = sys.modules.get("minise.ops.jit.compiler.compile")
    return compiler.is_compiling() if compiler else False


def load_ops(name: str, threads: int = 0, algorithm: Algorithm = "auto") -> Backend:
    """Return a back end by its name, a dotted module name or the path of a Python file.

    Parameters
    ----------
    name : str
        One of BACKENDS, a module such as my_package.my_ops, or a file such as my_ops.py, which is
        imported and therefore executed. The reference supplies functions that a user's file or
        module does not define (minise/ops/user/completed.py).
    threads, algorithm
        As in `backend`.

    Raises
    ------
    ValueError
        If no back end, module or file has this name, or it cannot be imported or has no op.
    ImportError
        If a back end of minise cannot run on this machine.
    """
    if name in BACKENDS:
        return backend(name, threads, algorithm)
    return adjusted(_user_ops(name), threads or None, algorithm)


def name_of(ops: Backend) -> str:
    """Return the name of a back end of minise, with or without settings; "" for another one."""
    module = ops.__name__ if isinstance(ops, ModuleType) else type(ops).__module__
    return next((n for n, path in BACKENDS.items() if f"{module}.".startswith(f"{path}.")), "")


def is_file(name: str) -> bool:
    """Return True if the name of a back end is the path of a Python file."""
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
        file = f"{name}.py"
        hint = did_you_mean(name, [file] if Path(file).is_file() else BACKENDS)
        raise ValueError(unknown + hint)
    if name.startswith("minise."):
        return cast(Backend, module)
    ops = from_module(module)
    if ops is None:
        raise ValueError(f"{unknown}: the module {name} has no op such as relu_forward")
    return cast(Backend, ops)
