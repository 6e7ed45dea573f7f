"""Count the bytes of arrays while they live, as the memory of the back end that is modelled.

An array holds a `Memory`, which its views share; when the last of them is freed, so is the Memory.
"""


class Ledger:
    """The bytes of living arrays, and their largest sum so far.

    Attributes
    ----------
    live, peak : int
        Bytes of all arrays that live, and their largest value since the last `reset`.
    paused : bool
        True while arrays are made that the modelled back end does not make: they do not count
        unless `Memory.count` is called.
    """

    def __init__(self) -> None:
        self.live = self.peak = 0
        self.paused = False

    @property
    def held(self) -> int:
        """Bytes that are held without an array: the caches of an allocator."""
        return 0

    def take(self, size: int, pooled: bool) -> None:
        """Count an array of `size` bytes, pooled if the back end's allocator may cache it."""
        self.live += size
        self.note(0)

    def give(self, size: int, pooled: bool) -> None:
        """Count an array of `size` bytes as freed."""
        self.live -= size

    def note(self, workspace: int) -> None:
        """Update the peak for a moment at which `workspace` more bytes are in use."""
        self.peak = max(self.peak, self.live + self.held + workspace)

    def reset(self) -> None:
        """Start to measure the peak from now on."""
        self.peak = self.live + self.held


class CachingLedger(Ledger):
    """The bytes of the caching allocator of minise.ops.jit, which reuses memory by size.

    Parameters
    ----------
    smallest : int
        Pooled arrays of more bytes than this are from the allocator.
    slack : float
        Largest ratio of used and cached bytes to the peak of used bytes.
    """

    def __init__(self, smallest: int, slack: float) -> None:
        super().__init__()
        self.smallest, self.slack = smallest, slack
        self.cached: dict[int, int] = {}  # number of arrays by size, requested last at the end
        self.cached_bytes = self.used = self.most_used = 0

    @property
    def held(self) -> int:
        """Bytes that the allocator caches."""
        return self.cached_bytes

    def take(self, size: int, pooled: bool) -> None:
        """Count an array, from the cache if one of its size is cached."""
        if pooled and size > self.smallest:
            count = self.cached.pop(size, 0)
            if count:
                self.cached_bytes -= size
            else:
                self._drop(int(self.slack * max(self.most_used, self.used + size)) - size)
            if count > 1:
                self.cached[size] = count - 1
            self.used += size
            self.most_used = max(self.most_used, self.used)
        super().take(size, pooled)

    def give(self, size: int, pooled: bool) -> None:
        """Count an array as freed; its memory is cached."""
        super().give(size, pooled)
        if pooled and size > self.smallest:
            self.cached[size] = self.cached.get(size, 0) + 1
            self.used -= size
            self.cached_bytes += size

    def _drop(self, most: int) -> None:
        """Drop cached arrays until used and cached bytes are at most `most`."""
        while self.cached and self.used + self.cached_bytes > most:
            size = next(iter(self.cached))
            self.cached_bytes -= size
            self.cached[size] -= 1
            if not self.cached[size]:
                del self.cached[size]


class Memory:
    """The memory of an array and of its views: its bytes count as long as it lives."""

    __slots__ = ("counted", "ledger", "pooled", "size")

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger, self.size, self.counted = ledger, size, False
        if not ledger.paused:
            self.count(pooled=False)

    def count(self, *, pooled: bool) -> None:
        """Count the bytes, once."""
        if not self.counted:
            self.counted, self.pooled = True, pooled
            self.ledger.take(self.size, pooled)

    def __del__(self) -> None:
        if self.counted:
            self.ledger.give(self.size, self.pooled)
