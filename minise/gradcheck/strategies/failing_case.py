"""A case that a Hypothesis strategy drew for a user's op: arrays, settings, and their check."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minise.gradcheck.check import assert_gradients
from minise.gradcheck.report import Report
from minise.gradcheck.strategies.reproduce import gradient_check

PLAIN = "contiguous"  # the layout of an array in C order
PROGRAM_TITLE = "This program reproduces the failure:"


class Case:
    """The arrays and settings of one call of forward.

    Attributes
    ----------
    inputs : list of ndarray or None
        The positional arrays of forward, float64 unless the line says int or bool. None where an
        optional array is left out.
    settings : dict
        The keyword arguments of forward: settings, and the arrays after the semicolon.
    sizes : dict of str to int
        The size of every axis; for "..." a shape, and for "_" one size for each of *xs.
    seed : int
        The seed of the numbers in the arrays.
    names : sequence of str
        The names of the inputs.
    layout : str
        The memory layout of the arrays.
    """

    def __init__(
        self,
        inputs: list[Any],
        settings: dict[str, Any],
        sizes: dict[str, Any],
        seed: int,
        names: Sequence[str],
        layout: str = PLAIN,
    ) -> None:
        self.inputs, self.settings, self.sizes, self.seed = inputs, settings, sizes, seed
        self.names, self.layout = names, layout

    def __repr__(self) -> str:
        """Return sizes, settings, layout and seed in one line, without the arrays."""
        shown = {"...": "shape", "_": "sizes"}
        parts = {shown.get(axis, axis): size for axis, size in self.sizes.items()}
        parts |= {k: v for k, v in self.settings.items() if not isinstance(v, np.ndarray)}
        parts |= {n: None for n, v in zip(self.names, self.inputs, strict=True) if v is None}
        parts |= {} if self.layout == PLAIN else {"layout": self.layout}
        parts["seed"] = self.seed
        return f"Case({', '.join(f'{key}={value!r}' for key, value in parts.items())})"

    def assert_gradients(
        self, forward: Callable[..., Any], backward: Callable[..., Any], **options: Any
    ) -> Report:
        """Assert that backward is the transpose of forward's derivative at this case.

        Parameters
        ----------
        forward : callable
            Maps the inputs, with the settings as keywords, to ``(out, cache)``.
        backward : callable
            Maps ``(dout, cache)`` to one gradient per input.
        **options
            Keyword arguments of minise.gradcheck.assert_gradients, such as branches or mode.

        Returns
        -------
        Report
            The report of the check.

        Raises
        ------
        AssertionError
            If a gradient is wrong or could not be checked. The message has the report and a
            program that reproduces it.
        TypeError
            If forward does not take these arrays and settings. Other errors of forward and backward
            propagate, with the program as a note.

        Examples
        --------
        >>> from minise.ops.reference import relu_backward, relu_forward
        >>> case = Case([np.array([1.0, -2.0])], {}, {"N": 2}, seed=0, names=["x"])
        >>> case.assert_gradients(relu_forward, relu_backward).ok
        True
        """
        __tracebackhide__ = True
        self._check_signature(forward)
        options = {"rng": self.seed, **options}
        copies = [None if a is None else np.array(a) for a in self.inputs]  # forward may write them
        bound = partial(forward, **self.settings) if self.settings else forward
        try:
            return assert_gradients(bound, backward, self.inputs, **options)
        except AssertionError as error:
            report = str(error)
        except Exception as error:
            error.add_note(
                f"{PROGRAM_TITLE}\n\n{self._program(forward, backward, copies, options)}"
            )
            raise
        # raised outside the handler, without a context: Hypothesis then sees one kind of failure
        raise AssertionError(
            f"{report}\n\n{PROGRAM_TITLE}\n\n{self._program(forward, backward, copies, options)}"
        )

    def program(
        self, forward: Callable[..., Any], backward: Callable[..., Any], **options: Any
    ) -> str:
        """Return a program that calls minise.gradcheck.assert_gradients on this case.

        The parameters are those of the method assert_gradients. Arrays are written exactly.
        """
        return self._program(forward, backward, self.inputs, {"rng": self.seed, **options})

    def _program(self, forward: Any, backward: Any, inputs: list[Any], options: Any) -> str:
        layout = "" if self.layout == PLAIN else self.layout
        settings = self.settings
        return gradient_check(forward, backward, inputs, settings, options, self.names, layout)

    def _check_signature(self, forward: Callable[..., Any]) -> None:
        try:
            signature = inspect.signature(forward)
        except (TypeError, ValueError):
            return
        try:
            signature.bind(*self.inputs, **self.settings)
        except TypeError as error:
            settings = f" and the settings {', '.join(self.settings)}" if self.settings else ""
            name = getattr(forward, "__name__", "forward")
            raise TypeError(
                f"{name}{signature} does not take the arrays {', '.join(self.names)}{settings}: "
                f"{error}; use {name}'s arguments in the line and the keywords of cases(...)"
            ) from None
