"""Random streams of layers: the caller's generator, or the next from the package's seed sequence.

A layer built without rng draws from its own stream, the next that one seed sequence spawns, so that
no two layers have equal weights or equal dropout masks. The sequence starts from seed 0 when the
package is imported: a program that builds the same layers in the same order gets the same numbers
in every run.
"""

import os
import threading
from typing import Any, TypeAlias

import numpy as np

from minise.checks import Array, as_generator, check_integer
from minise.ops.backend import Backend

Rng: TypeAlias = np.random.Generator | int | None

SPAWN_KEY = 0x6E6E  # of the package's streams: default_rng(n).spawn(k) returns none of them

_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child process must not inherit a lock that is held
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
_sequence = np.random.SeedSequence(0, spawn_key=(SPAWN_KEY,))


def seed(n: int) -> None:
    """Restart the streams of the layers that are built without `rng`, from seed n.

    Parameters
    ----------
    n : int
        0 or more. Until the first call the seed is 0.

    Raises
    ------
    TypeError, ValueError
        If n is not an integer, or is negative.

    Notes
    -----
    Existing layers keep their streams. `models.build` does not depend on this seed: without `rng`
    it draws from seed 0. Threads that build layers at the same time get different streams, in the
    order of their calls. A forked process starts with its parent's sequence and so draws the same
    streams as its parent: call `seed` in it with a different number.

    Examples
    --------
    >>> from minise import nn
    >>> nn.seed(7)
    >>> first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> bool((first.params["weight"] == second.params["weight"]).any())
    False
    >>> nn.seed(7)
    >>> bool((first.params["weight"] == nn.Linear(3, 2).params["weight"]).all())
    True
    """
    global _sequence
    check_integer("nn.seed", "n", n, 0)
    with _lock:
        _sequence = np.random.SeedSequence(int(n), spawn_key=(SPAWN_KEY,))


def generator(where: str, rng: Rng) -> np.random.Generator:
    """Return rng if it is a generator, else a new one from a seed or the package's next stream.

    Parameters
    ----------
    where : str
        Name of the function with the argument `rng`, with which an error message begins.
    rng : numpy.random.Generator, int or None
        A generator, a seed of 0 or more, or None.

    Returns
    -------
    numpy.random.Generator
        For None, a stream that no other call returns until `seed` restarts the sequence.

    Raises
    ------
    TypeError, ValueError
        If rng is anything else, such as a numpy.random.RandomState, or a negative integer.

    Examples
    --------
    >>> generator("Conv2d", 3).random() == np.random.default_rng(3).random()
    True
    """
    if rng is not None:
        return as_generator(where, rng)
    with _lock:
        (spawned,) = _sequence.spawn(1)
    return np.random.default_rng(spawned)


def draws_from(where: str, rng: Rng, ops: Backend) -> dict[str, Array]:
    """Return the state of a layer that draws in training: a seed from rng, and a counter of draws.

    Both are in every checkpoint, so a restored layer draws what the saved layer would.
    """
    seed = generator(where, rng).integers(1 << 63)
    zero = np.zeros((), np.int64)
    return {"seed": ops.asarray(np.array(seed, np.int64)), "draws": ops.asarray(zero)}


def next_draw(layer: Any) -> np.random.Generator:
    """Return the generator for a layer's next draw, and count it; it depends on the state only."""
    seed, draws = (int(layer.ops.asnumpy(layer.state[name])) for name in ("seed", "draws"))
    layer.state["draws"][...] += 1
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, draws]))
