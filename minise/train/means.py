"""Mean loss and metrics over the inputs of an epoch, read from the GPU only on request."""

from collections.abc import Mapping
from typing import Any

import numpy as np

HOST_TYPES = np.ndarray | np.generic | float | int  # values that can be read without a GPU sync


class Means:
    """Weighted means of numbers by name.

    Parameters
    ----------
    sums : dict of str to float, optional
        Weighted sums so far, to continue with; they are not changed.
    count : int
        Number of inputs of these sums.

    Attributes
    ----------
    sums : dict of str to float
        Weighted sums of the numbers that have been read.
    count : int
        Number of inputs so far.
    last : dict of str to float
        The numbers of the last step that has been read.
    """

    def __init__(self, sums: Mapping[str, float] | None = None, count: int = 0) -> None:
        self.sums: dict[str, float] = dict(sums or {})
        self.count = count
        self.last: dict[str, float] = {}
        self._read = count  # inputs that are part of the sums
        self._unread: list[tuple[Mapping[str, Any], int]] = []

    def add(self, means: Mapping[str, Any], count: int) -> None:
        """Add the means over `count` inputs: floats, or arrays of shape () on a GPU."""
        self.count += count
        self._unread.append((means, count))

    @property
    def on_host(self) -> bool:
        """True if the last numbers can be read without waiting for a GPU."""
        return all(isinstance(value, HOST_TYPES) for value in self._unread[-1][0].values())

    def read(self) -> list[dict[str, float]]:
        """Return the numbers that have not been read yet, one dict for each call of add."""
        read = []
        for means, count in self._unread:
            self.last = {name: float(value) for name, value in means.items()}
            for name, value in self.last.items():
                self.sums[name] = self.sums.get(name, 0.0) + value * count
            self._read += count
            read.append(self.last)
        self._unread = []
        return read

    def means(self) -> dict[str, float]:
        """Return the means over all inputs that have been read."""
        return {name: total / self._read for name, total in self.sums.items()}
