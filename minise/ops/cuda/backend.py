"""The back end object: every op, bound to the launcher of its kernels."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from minise.checks import Array, check_choice, check_flag, check_one_algorithm
from minise.ops import reference
from minise.ops.cuda import arrays
from minise.ops.cuda import squeeze_excite as se
from minise.ops.cuda.launcher import Launcher
from minise.ops.exports import exported
from minise.ops.protocol import Listener
from minise.ops.shapes import positional_names

IMPLEMENTED = exported("minise.ops.cuda")
UNCHECKED = {"asarray", "asnumpy", "sgd_update"}  # branches are not checked either


class Backend:
    """The ops as attributes, like a module's functions.

    An op without kernels runs the reference's code: NumPy dispatches calls with CuPy arrays to CuPy
    (NEP 13 and 18), so that whole-array expressions run on the GPU unchanged.

    Parameters
    ----------
    launcher : Launcher
        Runs the kernels; its array library is the library of the ops' arrays.
    """

    folds = True  # nets predict with the functions for inference

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.__all__ = reference.FUNCTIONS

    @functools.cached_property
    def in_place(self) -> "Backend":
        """The same ops, whose normalisations in training update the running statistics in place.

        Nets use it, because a copy of each of these small arrays would cost a launch.
        """
        launcher = copy.copy(self.launcher)
        launcher.in_place = True
        return Backend(launcher)

    def copies(self, of: Sequence[Array]) -> list[Array]:
        """Return a copy of each array, by one launch for all of a dtype."""
        return arrays.copies(self.launcher, of)

    def sgd_updates(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        velocities: Sequence[Array],
        **settings: Any,
    ) -> None:
        """Update many parameters, each as sgd_update does, by one launch for all of a dtype.

        The settings are those of sgd_update, with a sequence weight_decays.
        """
        arrays.sgd_updates(self.launcher, params, grads, velocities, **settings)

    def require(self) -> None:
        """Raise ImportError if kernels cannot run on this machine."""
        _ = self.launcher.xp

    def on_compile(self, listener: Listener) -> AbstractContextManager[None]:
        """Return a context in which listener is never called: NVRTC compiles quickly."""
        return reference.on_compile(listener)

    def using(
        self,
        *,
        squeeze_excite: str | None = None,
        threads: int | None = None,
        algorithm: str | None = None,
        tf32: bool | None = None,
    ) -> "Backend":
        """Return the same ops with other settings.

        Parameters
        ----------
        squeeze_excite : {"auto", "simple", "tile"}, optional
            Kernels of squeeze_excite; the default keeps the current setting, at first "auto", whose
            rule minise.ops.cuda.squeeze_excite states. The choice changes the rounding of results.
        threads : int, optional
            Ignored: the ops have no threads on the CPU.
        algorithm : {"auto"}, optional
            Algorithm of convolutions.
        tf32 : bool, optional
            Whether products of float32 matrices, in convolutions and dense layers, round their
            operands to TF32, which keeps 10 of 23 bits and is several times as fast. The default
            keeps the current setting, at first that of CuPy's environment variable CUPY_TF32.

        Raises
        ------
        ValueError
            If squeeze_excite or algorithm is not one of these.
        """
        check_one_algorithm("cuda", algorithm)
        launcher = copy.copy(self.launcher)  # shares the compiled kernels
        if squeeze_excite is not None:
            check_choice("using", "squeeze_excite", squeeze_excite, se.KERNELS)
            launcher.squeeze_excite = squeeze_excite
        if tf32 is not None:
            check_flag("using", "tf32", tf32)
            launcher.tf32 = bool(tf32)
        return Backend(launcher)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backend":
        """Return the same object: compiled kernels cannot be copied."""
        return self

    def __getattr__(self, name: str) -> Any:
        """Return an op, bound to the launcher on its first use."""
        if name.startswith("_") or name == "launcher":  # a copy has no launcher yet
            raise AttributeError(name)
        if name not in reference.FUNCTIONS:
            raise AttributeError(f"the cuda back end has no {name}")
        function = self._bound(name)
        setattr(self, name, function)
        return function

    def _bound(self, name: str) -> Callable[..., Any]:
        fallback: Callable[..., Any] = getattr(reference, name)
        own = IMPLEMENTED.get(name)
        function = fallback if own is None else functools.partial(own, self.launcher)
        if name in UNCHECKED or name.endswith("_branches"):
            return functools.wraps(fallback)(function) if own else fallback

        op = name.removesuffix("_forward").removesuffix("_backward")
        signature = inspect.signature(fallback)

        @functools.wraps(fallback if own is None else own)
        def run(*arguments: Any, **settings: Any) -> Any:
            usable = self._usable
            if all(map(usable, arguments)) and all(map(usable, settings.values())):
                try:
                    return function(*arguments, **settings)
                except (TypeError, ValueError):
                    self._check(op, signature, arguments, settings)  # arrays of a cache, too
                    raise
            return self._check(op, signature, arguments, settings)

        run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return run

    def _usable(self, value: Any) -> bool:
        """Return False for an array of another library or device; caches are not searched."""
        if isinstance(value, self.launcher.xp.ndarray):
            return self.launcher.on_current_device(value)
        return not hasattr(value, "dtype") or isinstance(value, np.generic)

    def _check(
        self,
        op: str,
        signature: inspect.Signature,
        arguments: tuple[Any, ...],
        settings: dict[str, Any],
    ) -> None:
        """Raise an error for arrays of another library or another device than the current one."""
        names = positional_names(signature, len(arguments))
        for name, array in _arrays([*zip(names, arguments, strict=False), *settings.items()]):
            if not isinstance(array, self.launcher.xp.ndarray):
                library = type(array).__module__.partition(".")[0]
                raise TypeError(
                    f"{op}: {name} is an array of {library}, expected one of "
                    f"{self.launcher.xp.__name__}: pass ops.asarray({name})"
                ) from None
            if not self.launcher.on_current_device(array):
                raise ValueError(
                    f"{op}: {name} is on GPU {array.device.id}, expected the current one: call the "
                    f"op within cupy.cuda.Device({array.device.id})"
                ) from None


def _arrays(arguments: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield every array of arguments with its name; arrays of a cache are named cache.x."""
    for name, value in arguments:
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", range(len(value)))
            pairs = zip(fields, value, strict=True)
            yield from _arrays((f"{name}.{field}", entry) for field, entry in pairs)
        elif hasattr(value, "dtype") and not isinstance(value, np.generic):
            yield name, value
