"""Random words by number: word (seed, epoch, purpose, row) is the same whoever asks, and when.

Philox is a counter run through a keyed bijection: every counter gives four words of 64 bits,
without those before it. Counter i is image i's; a batch, an epoch or a single image can thus be
drawn again alone, in any order, batch size or process.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x64-10).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from minise.checks import check_choice, check_integer

Words: TypeAlias = NDArray[np.uint64]

PURPOSES = ("order", "augment", "folder", "layout", "scene", "noise")  # a place is a key: append
ROW = 4  # words a counter gives


def stream(seed: int, epoch: int, purpose: str) -> np.random.Philox:
    """Return the bit generator of one purpose in one epoch, at counter 0.

    Parameters
    ----------
    seed, epoch : int
        At least 0.
    purpose : str
        One of PURPOSES, so that two uses of one seed never share words.

    Examples
    --------
    >>> table = stream(0, 7, "augment").random_raw(4 * 100).reshape(100, 4)
    >>> alone = stream(0, 7, "augment").advance(42).random_raw(4)
    >>> bool((alone == table[42]).all())
    True
    """
    check_integer("stream", "seed", seed, 0)
    check_integer("stream", "epoch", epoch, 0)
    check_choice("stream", "purpose", purpose, PURPOSES)
    key = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), epoch))
    return np.random.Philox(key)


def rows(bits: np.random.Philox, start: int, count: int, width: int = ROW) -> Words:
    """Return rows start .. start + count - 1 of a fresh stream cut into rows of so many words.

    A row starts at a counter of its own, so its width counts up to the next multiple of four.
    """
    counters = -(-width // ROW)
    words = bits.advance(start * counters).random_raw(count * counters * ROW)
    return words.reshape(count, counters * ROW)[:, :width]


def below(words: Words, bound: int) -> NDArray[np.int64]:
    """Return an integer in 0..bound-1 for each word, from its upper half.

    The upper 32 bits times bound, shifted down by 32: no division, and each integer is off its
    fair share by less than bound in 2**32.
    """
    return ((words >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def unit(words: Words) -> NDArray[np.float64]:
    """Return a float64 in [0, 1) for each word, from its upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
