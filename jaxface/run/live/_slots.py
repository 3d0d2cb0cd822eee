"""Between threads: room for one thing, the latest."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds what was put in last; what nobody took before the next came is dropped.

    Who is slow misses things, and nothing waits for him: so no queue grows.
    """

    def __init__(self) -> None:
        """Empty."""
        self._changed = threading.Condition()
        self._number = 0  # of what it holds, from 1
        self._item: T | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nothing more is going to come."""
        return self._closed

    def put(self, item: T) -> None:
        """Replaces what it holds."""
        with self._changed:
            self._number += 1
            self._item = item
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is going to come; what it holds stays."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def get(self, after: int, timeout: float) -> tuple[int, T] | None:
        """Waits for something newer than what one had.

        Args:
            after: number of the thing that one had last, 0 for none.
            timeout: s to wait at most.
        Returns:
            Number and thing; None where nothing newer came in time, or nothing will.
        """

        def newer() -> bool:
            return self._number > after

        with self._changed:
            self._changed.wait_for(lambda: newer() or self._closed, timeout)
            if not newer() or self._item is None:
                return None
            return self._number, self._item
