"""Sources of training batches: a data set's batches, or any sequence of (inputs, targets)."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from minise.checks import check_within
from minise.data.batches import Batches
from minise.data.dataset import Dataset, listed
from minise.data.fingerprint import fingerprint, new_digest, update
from minise.ops.dependencies import UNKNOWN


class EpochBatches(Protocol):
    """Batches with a different order in each epoch, such as minise.data.Batches.

    To resume a run within an epoch, epoch(k) has to yield the same batches again. If it accepts the
    keyword argument `start`, epoch(k, start=s) yields the same batches without the first s; without
    that argument, a resumed run iterates over them.
    """

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, epoch: int) -> Iterable[tuple[Any, Any]]:
        """Yield the batches of an epoch, counted from 0: inputs (n, …) and targets."""
        ...


BatchSource: TypeAlias = EpochBatches | Sequence[tuple[Any, Any]]


def check_batches(where: str, title: str, batches: Any) -> None:
    """Raise an error unless batches are a nonempty sequence of pairs or a data set's batches."""
    in_order = isinstance(batches, Sequence)
    if not in_order and not (hasattr(batches, "__len__") and hasattr(batches, "epoch")):
        pairs = f"list({title})" if isinstance(batches, Iterator) else "[(inputs, targets)]"
        raise TypeError(
            f"{where}: {title} is a {type(batches).__name__}, expected a sequence of (inputs, "
            f"targets), or an object with __len__ and epoch(k): pass {pairs}"
        )
    if not len(batches):
        raise ValueError(f"{where}: {title} is empty, expected at least one batch")
    if in_order:  # other sequences than lists may read batches from disk: check only the first
        for k, batch in enumerate(batches if isinstance(batches, list | tuple) else batches[:1]):
            check_batch(where, f"{title}[{k}]", batch)


def check_classes(where: str, sources: dict[str, Any], names: Sequence[str] | None) -> None:
    """Raise ValueError if the data sets of batches number their labels by different classes.

    names is data["classes"] of a run, or None. Other names for the same classes are accepted; the
    same names in another order, or another number of names, are refused.
    """
    expected: Sequence[str] | None = None
    for title, source in sources.items():
        classes = getattr(getattr(source, "dataset", None), "classes", None)
        if classes is None:
            continue
        owner = "batches"
        same = names is not None and sorted(map(str, names)) == sorted(classes)
        if names is not None and (same or len(names) != len(classes)):
            expected, owner = names, 'data["classes"]'
        expected = classes if expected is None else expected
        if list(classes) != list(expected):
            raise ValueError(
                f"{where}: the labels of {title} are numbered by the classes {listed(classes)}, "
                f"expected those of {owner}, {listed(expected)}: pass Batches of "
                "dataset.with_classes(classes)"
            )


def check_batch(where: str, title: str, batch: Any) -> None:
    """Raise an error if a batch is not a pair (inputs, targets) with at least one input."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(
            f"{where}: {title} is a {type(batch).__name__}, expected a pair (inputs, "
            "targets): pass [(inputs, targets)]"
        )
    inputs = batch[0]
    if not hasattr(inputs, "__len__") or getattr(inputs, "shape", None) == ():
        raise TypeError(
            f"{where}: {title} has inputs of type {type(inputs).__name__}, expected an array: "
            "pass (inputs, targets)"
        )
    if not len(inputs):
        raise ValueError(
            f"{where}: {title} has 0 inputs, expected at least one: leave out the empty batch"
        )


def shape_of(batches: BatchSource) -> tuple[int, ...] | None:
    """Return the shape of a batch of inputs, None for an unknown source, which is not read."""
    if isinstance(batches, Batches):
        return (min(batches.batch_size, len(batches.dataset)), *batches.dataset.images.shape[1:])
    if isinstance(batches, list | tuple):
        return tuple(getattr(batches[0][0], "shape", ())) or None
    return None


def epoch_batches(batches: BatchSource, epoch: int, start: int = 0) -> Iterable[tuple[Any, Any]]:
    """Return the batches of an epoch, at most len(batches); a sequence is the same every epoch.

    Parameters
    ----------
    batches
        As for `run`.
    epoch : int
        Number of the epoch, from 0.
    start : int
        Number of batches to skip, at most len(batches). The skipped batches of a
        sequence are not read; those of an object whose epoch has no argument `start` are made and
        discarded.
    """
    hint = "an epoch has no more batches"
    check_within("epoch_batches", "start", start, 0, len(batches), hint)
    if isinstance(batches, Sequence):
        return batches if not start else (batches[k] for k in range(start, len(batches)))
    if start and _accepts_start(batches):
        rest = cast(Any, batches).epoch(epoch, start=start)
        return islice(rest, len(batches) - start)
    return islice(batches.epoch(epoch), start, len(batches))


def _accepts_start(batches: EpochBatches) -> bool:
    """Return True if epoch has a parameter `start` that can be passed by name."""
    try:
        parameter = inspect.signature(batches.epoch).parameters.get("start")
    except (TypeError, ValueError):  # a function of C without a signature
        return False
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY


def group_batches(batches: Iterable[tuple[Any, Any]], size: int) -> Iterator[list[tuple[Any, Any]]]:
    """Yield lists of `size` batches each; the last list may be shorter."""
    group: list[tuple[Any, Any]] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def batches_fingerprint(batches: BatchSource) -> str:
    """Return a text that differs if the data of batches differ, or "unknown".

    The text is the attribute `fingerprint` of the batches (a text, or a method that returns one),
    the fingerprint of their data set, or the fingerprint of all arrays in a list of batches.
    For other batches, and for lists with objects other than NumPy arrays, numbers and strings, the
    text is "unknown".
    """
    own = getattr(batches, "fingerprint", None)
    if own is not None:
        return str(own() if callable(own) else own)
    dataset = getattr(batches, "dataset", None)
    if isinstance(dataset, Dataset):
        return fingerprint(dataset)
    if not isinstance(batches, list | tuple):
        return UNKNOWN
    digest = new_digest("minise-batches-1")
    try:
        _update(digest, batches)
    except TypeError:
        return UNKNOWN
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    """Add nested lists of arrays and numbers to a digest; raise TypeError for other objects."""
    if isinstance(value, list | tuple):
        digest.update(f"{len(value)} items:".encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        array = np.asarray(value)
        digest.update(f"{array.dtype.name} {array.shape}:".encode())
        update(digest, array)
    elif value is None or isinstance(value, bool | int | float | str):
        digest.update(f"{value!r};".encode("utf-8", "surrogatepass"))
    else:
        raise TypeError(type(value).__name__)
