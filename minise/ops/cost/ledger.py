"""Count the bytes of arrays while they live, as the memory of the back end that is modelled.

An array holds a `Memory`, which its views share; when the last of them is freed, so is the Memory.
"""

from collections import Counter


class Ledger:
    """The bytes of live arrays, and their peak.

    Parameters
    ----------
    heap : float
        Resident bytes for each byte of an array from the C library, whose heap keeps freed blocks
        between others.

    Attributes
    ----------
    live : int
        Bytes of all arrays that live.
    peak : float
        Largest number of resident bytes since the last `reset`.
    most_live : int
        Largest value of `live` since a caller last set this attribute.
    owner : str or None
        Name under which the bytes of new arrays are counted, until they are freed.
    live_by_owner : Counter
        Bytes of the arrays that live, by the name that was `owner` when they were made.
    paused : bool
        True while arrays are made that the modelled back end does not make: these count only if
        `Memory.count` is called.
    """

    def __init__(self, heap: float = 1) -> None:
        self.heap = heap
        self.live = self.used = self.cached_bytes = 0  # used and cached by a caching allocator
        self.peak: float = 0
        self.most_live = 0
        self.owner: str | None = None
        self.live_by_owner: Counter[str | None] = Counter()
        self.paused = False

    def resident(self, workspace: int = 0) -> float:
        """Return the resident bytes with `workspace` bytes in use besides the arrays."""
        return self.used + self.cached_bytes + self.heap * (self.live - self.used + workspace)

    def take(self, size: int, pooled: bool) -> None:
        """Count an array of `size` bytes, pooled if the back end's allocator may cache it."""
        self.live += size
        self.most_live = max(self.most_live, self.live)
        self.note(0)

    def give(self, size: int, pooled: bool) -> None:
        """Count an array of `size` bytes as freed."""
        self.live -= size

    def note(self, workspace: int) -> None:
        """Update the peak with `workspace` bytes in use besides the arrays."""
        self.peak = max(self.peak, self.resident(workspace))

    def reset(self) -> None:
        """Restart the measurement of the peak."""
        self.peak = self.resident()


class CachingLedger(Ledger):
    """The bytes of the caching allocator of minise.ops.jit, which keeps all memory that it used.

    Parameters
    ----------
    smallest : int
        Pooled arrays of more bytes than this are from the allocator.
    heap : float
        Of other arrays, as in Ledger.
    """

    def __init__(self, smallest: int, heap: float = 1) -> None:
        super().__init__(heap)
        self.smallest = smallest

    @property
    def most_used(self) -> int:
        """Largest number of bytes that were in use at once."""
        return self.used + self.cached_bytes

    def take(self, size: int, pooled: bool) -> None:
        """Count an array, which takes cached memory first."""
        if pooled and size > self.smallest:
            self.used += size
            self.cached_bytes = max(0, self.cached_bytes - size)
        super().take(size, pooled)

    def give(self, size: int, pooled: bool) -> None:
        """Count an array as freed; its memory is cached."""
        super().give(size, pooled)
        if pooled and size > self.smallest:
            self.used -= size
            self.cached_bytes += size


class Memory:
    """The memory of an array and of its views: its bytes count as long as it lives."""

    __slots__ = ("counted", "ledger", "owner", "pooled", "size")

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger, self.size, self.counted = ledger, size, False
        if not ledger.paused:
            self.count(pooled=False)

    def count(self, *, pooled: bool) -> None:
        """Count the bytes, once."""
        if not self.counted:
            self.counted, self.pooled, self.owner = True, pooled, self.ledger.owner
            self.ledger.live_by_owner[self.owner] += self.size
            self.ledger.take(self.size, pooled)

    def __del__(self) -> None:
        if self.counted:
            self.ledger.live_by_owner[self.owner] -= self.size
            self.ledger.give(self.size, self.pooled)
