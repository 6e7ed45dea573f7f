"""Counter-based random words: each is a function of seed, epoch, purpose and row.

Philox applies a keyed bijection to a counter: every counter value gives four words of 64 bits,
independently of earlier ones. Image i uses counter i; so a batch, an epoch or a single image can be
drawn again by itself, with any order, batch size or process.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x64-10).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from minise.checks import check_choice, check_integer

Words: TypeAlias = NDArray[np.uint64]

# the index is a key of the stream: only append
PURPOSES = ("order", "augment", "folder", "layout", "scene", "noise", "moments", "resized crop")
ROW = 4  # words per counter value


def stream(seed: int, epoch: int, purpose: str) -> np.random.Philox:
    """Return the bit generator for a seed, an epoch and a purpose, at counter 0.

    Parameters
    ----------
    seed, epoch : int
        At least 0.
    purpose : str
        One of PURPOSES; different purposes of the same seed never share words.

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
    """Return rows start .. start + count - 1 of a new stream, in rows of `width` words.

    Each row starts at a new counter value, so up to three words after it are skipped.
    """
    counters = -(-width // ROW)
    words = bits.advance(start * counters).random_raw(count * counters * ROW)
    return words.reshape(count, counters * ROW)[:, :width]


def rows_at(bits: np.random.Philox, which: NDArray[np.int64], width: int = ROW) -> Words:
    """Return the rows of a new stream with the indices `which`, drawing only these.

    The result is bit-identical to ``rows(bits, 0, count, width)[which]``; bits is left unchanged.
    """
    start, counters = bits.state, -(-width // ROW)
    words = np.empty((len(which), counters * ROW), np.uint64)
    for k, row in enumerate(which.tolist()):
        bits.state = start
        words[k] = bits.advance(row * counters).random_raw(counters * ROW)
    bits.state = start
    return words[:, :width]


def integers_below(words: Words, bound: int) -> NDArray[np.int64]:
    """Return an integer in 0..bound-1 for each word, from its upper half.

    The result is the upper 32 bits times bound, shifted right by 32: no division, and the
    probability of each integer differs from 1 / bound by less than 2**-32.
    """
    return ((words >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def uniform(words: Words) -> NDArray[np.float64]:
    """Return a float64 in [0, 1) for each word, from its upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
