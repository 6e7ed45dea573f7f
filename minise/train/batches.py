"""What training takes its batches from: a data set's, or any sequence of pairs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias


class Epochs(Protocol):
    """Batches that come in another order each epoch, such as minise.data.Batches."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, epoch: int) -> Iterable[tuple[Any, Any]]:
        """Yield the batches of an epoch, counted from 0: inputs (n, …) and targets."""
        ...


Batched: TypeAlias = Epochs | Sequence[tuple[Any, Any]]


def check_batches(where: str, title: str, batches: Any) -> None:
    """Refuse what is no sequence of pairs and no data set's batches, and what is empty."""
    in_order = isinstance(batches, Sequence)
    if not in_order and not (hasattr(batches, "__len__") and hasattr(batches, "epoch")):
        raise TypeError(
            f"{where}: {title} is a {type(batches).__name__}, expected a sequence of (inputs, "
            f"targets), or an object with __len__ and epoch(k): pass list({title})"
        )
    if not len(batches):
        raise ValueError(f"{where}: {title} is empty, expected at least one batch")
    if in_order and not (isinstance(batches[0], tuple | list) and len(batches[0]) == 2):
        raise TypeError(
            f"{where}: {title}[0] is a {type(batches[0]).__name__}, expected a pair (inputs, "
            "targets): pass [(inputs, targets)]"
        )


def epoch_of(batches: Batched, epoch: int) -> Iterable[tuple[Any, Any]]:
    """Return the batches of an epoch; a sequence has the same in each."""
    return batches if isinstance(batches, Sequence) else batches.epoch(epoch)


def groups_of(batches: Iterable[tuple[Any, Any]], size: int) -> Iterator[list[tuple[Any, Any]]]:
    """Yield lists of as many batches, the last maybe of fewer."""
    group: list[tuple[Any, Any]] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
