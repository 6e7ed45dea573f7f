"""One thread that works ahead of its consumer."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last thing a worker hands over: why it stopped."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield items while a daemon thread prepares up to depth more.

    An exception in the thread is raised here in its place among the items. Closing this generator,
    or losing it, ends the thread before close returns.
    """
    ready: SimpleQueue[T | _End] = SimpleQueue()
    room = threading.Semaphore(depth)
    closed = threading.Event()

    def work() -> None:
        error = None
        try:
            while room.acquire() and not closed.is_set():
                ready.put(next(items))
        except StopIteration:
            pass
        except BaseException as caught:
            error = caught
        ready.put(_End(error))

    worker = threading.Thread(target=work, name="minise-prefetch", daemon=True)
    worker.start()
    try:
        while not isinstance(item := ready.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        room.release()
        worker.join()
