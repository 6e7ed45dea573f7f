"""How large a case may be, and which smaller shape would do."""

from math import prod

LIMIT = 3000  # numbers that lines give in forward: more is neither seen nor checked in a minute


def refuse_large(name: str, shape: tuple[int, ...], count: int) -> None:
    """Refuse a case in which more numbers pass than can be shown.

    Raises
    ------
    ValueError
        With a smaller shape of the first array, for which that many would not pass.
    """
    if count <= LIMIT:
        return
    smaller = list(shape)
    while prod(smaller) * count > LIMIT * prod(shape) and max(smaller) > 1:
        smaller[smaller.index(max(smaller))] //= 2
    raise ValueError(
        f"walk: at least {count:,} numbers pass in forward, expected at most {LIMIT:,}, for each "
        f"is shown and checked: {name} has shape {tuple(shape)}, try {tuple(smaller)}"
    )
