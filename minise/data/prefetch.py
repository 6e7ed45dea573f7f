"""Prepare items ahead of their use in a background thread."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last entry in the queue: the error that stopped the worker, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield items while a daemon thread prepares up to depth more.

    An exception in the thread is raised here after the items before it. Closing or deleting this
    generator stops the thread and waits for its end.
    """
    ready: SimpleQueue[T | _End] = SimpleQueue()
    free_slots = threading.Semaphore(depth)
    closed = threading.Event()

    def produce() -> None:
        error = None
        try:
            while free_slots.acquire() and not closed.is_set():
                ready.put(next(items))
        except StopIteration:
            pass
        except BaseException as caught:
            error = caught
        ready.put(_End(error))

    worker = threading.Thread(target=produce, name="minise-prefetch", daemon=True)
    worker.start()
    try:
        while not isinstance(item := ready.get(), _End):
            free_slots.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        free_slots.release()
        worker.join()
