"""Decoding ahead of the consumer in a background thread."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL = 0.1  # s between looks at whether the consumer has left


def prefetch(items: Iterable[T], size: int = 8) -> Generator[T, None, None]:
    """Iterates over `items` in a background thread that runs ahead.

    An exception of `items` is raised here, after the items before it. Closing the iterator
    early stops the thread.

    Args:
        items: what to iterate over.
        size: most items held ready.
    Returns:
        The same items in the same order.
    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    return _run(items, size)


def _run(items: Iterable[T], size: int) -> Generator[T, None, None]:
    # Entries are (item, None), or (None, error) once at the end; no error means a normal end.
    ready: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(size)
    left = threading.Event()

    def put(entry: tuple[list[T], BaseException | None]) -> bool:
        while not left.is_set():
            try:
                ready.put(entry, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    thread = threading.Thread(target=_produce, args=(items, put), daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if not item:
                return
            yield item[0]
    finally:
        left.set()
        thread.join()


def _produce(
    items: Iterable[T], put: Callable[[tuple[list[T], BaseException | None]], bool]
) -> None:
    try:
        for item in items:
            if not put(([item], None)):
                return
        put(([], None))
    except BaseException as error:  # handed to the consumer
        put(([], error))
