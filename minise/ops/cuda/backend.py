"""The back end as a value: every op, bound to the launcher that runs its kernels."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from minise.ops import reference
from minise.ops.checks import check_choice, check_one_algorithm, positional_names
from minise.ops.cuda import squeeze_excite as se
from minise.ops.cuda.launcher import Launcher
from minise.ops.exports import exported
from minise.ops.protocol import Listener

OWN = exported("minise.ops.cuda")
UNCHECKED = {"asarray", "asnumpy", "sgd_update"}  # and branches


class Backend:
    """The ops as functions, as a module has them.

    An op that has no kernel of its own is the reference's: NumPy's functions, called on CuPy's
    arrays, are CuPy's (NEP 13 and 18), so that whole-array lines run on the GPU as they stand.

    Parameters
    ----------
    launcher : Launcher
        Which arrays the ops take, and where kernels run.
    """

    folds = True  # nets predict by the functions for inference

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.__all__ = reference.FUNCTIONS

    def require(self) -> None:
        """Raise ImportError if anything is missing for kernels to run here."""
        _ = self.launcher.xp

    def on_compile(self, listener: Listener) -> AbstractContextManager[None]:
        """Return a context in which the listener is never called: NVRTC is quick."""
        return reference.on_compile(listener)

    def using(
        self,
        *,
        squeeze_excite: str = "auto",
        threads: int | None = None,
        algorithm: str | None = None,
    ) -> "Backend":
        """Return the same ops, run as it is told here.

        Parameters
        ----------
        squeeze_excite : {"auto", "simple", "tile"}
            By which kernels; minise.ops.cuda.squeeze_excite states the rule of "auto". The bits of
            a result depend on it.
        threads : int, optional
            Of no effect: the ops have no threads on the CPU.
        algorithm : {"auto"}, optional
            By which convolutions are computed.

        Raises
        ------
        ValueError
            If there is no such way, or another algorithm is chosen.
        """
        check_choice("using", "squeeze_excite", squeeze_excite, se.WAYS)
        check_one_algorithm("cuda", algorithm)
        launcher = copy.copy(self.launcher)  # with the kernels that are compiled already
        launcher.squeeze_excite = squeeze_excite
        return Backend(launcher)

    def __getattr__(self, name: str) -> Any:
        """Return one of the ops, bound when it is first asked for."""
        if name.startswith("_") or name == "launcher":  # not there yet while it is being copied
            raise AttributeError(name)
        if name not in reference.FUNCTIONS:
            raise AttributeError(f"the cuda back end has no {name}")
        function = self._bound(name)
        setattr(self, name, function)
        return function

    def _bound(self, name: str) -> Callable[..., Any]:
        plain: Callable[..., Any] = getattr(reference, name)
        own = OWN.get(name)
        function = plain if own is None else functools.partial(own, self.launcher)
        if name in UNCHECKED or name.endswith("_branches"):
            return functools.wraps(plain)(function) if own else plain

        op = name.removesuffix("_forward").removesuffix("_backward")
        signature = inspect.signature(plain)

        @functools.wraps(plain if own is None else own)
        def run(*arguments: Any, **settings: Any) -> Any:
            names = positional_names(signature, len(arguments))
            self._check(op, [*zip(names, arguments, strict=False), *settings.items()])
            return function(*arguments, **settings)

        run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return run

    def _check(self, op: str, arguments: Iterable[tuple[str, Any]]) -> None:
        """Refuse arrays of another library, or on another device than the current one."""
        for name, array in _arrays(arguments):
            if not isinstance(array, self.launcher.xp.ndarray):
                library = type(array).__module__.partition(".")[0]
                raise TypeError(
                    f"{op}: {name} is an array of {library}, expected one of "
                    f"{self.launcher.xp.__name__}: pass ops.asarray({name})"
                )
            if not self.launcher.here(array):
                raise ValueError(
                    f"{op}: {name} lies on GPU {array.device.id}, expected the current one: call "
                    f"it within cupy.cuda.Device({array.device.id})"
                )


def _arrays(arguments: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield every array among arguments, with its name; those of a cache as cache.x."""
    for name, value in arguments:
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", range(len(value)))
            pairs = zip(fields, value, strict=True)
            yield from _arrays((f"{name}.{field}", one) for field, one in pairs)
        elif hasattr(value, "dtype") and not isinstance(value, np.generic):
            yield name, value
