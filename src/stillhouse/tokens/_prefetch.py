"""A thread that makes the next few things of a numbered sequence before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread, current_thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """`take(n)` gives what `make(n)` makes; meanwhile a thread makes up to `depth` of those that follow.

    What is made ahead is only remembered: `forget` drops it, and a `take` out of order does so too. What `make` raises
    is raised by the `take` that comes to it. The thread holds no reference to its owner and ends with `close`.
    """

    def __init__(self, make: Callable[[int], T], depth: int) -> None:
        self._make = make
        self._depth = depth
        self._changed = Condition()
        self._made: deque[tuple[int, T | None, BaseException | None]] = deque()
        self._next = 0
        self._turn = 0
        """Grows whenever what is being made is no longer wanted."""
        self._ahead = False
        """Whether the thread may go on: from the first `take` after a `forget`."""
        self._closed = False
        self._thread: Thread | None = None

    def take(self, number: int) -> T:
        """What is numbered so."""
        with self._changed:
            if self._closed:
                return self._make(number)
            if not (self._ahead and number == (self._made[0][0] if self._made else self._next)):
                self._begin(number)
            self._changed.wait_for(lambda: self._made or self._closed)
            if not self._made:
                return self._make(number)
            _, value, error = self._made.popleft()
            self._changed.notify_all()
            if error is not None:
                self._drop()  # asked again, it is tried again
                raise error
            return value  # type: ignore[return-value]  # without an error there is a value

    def forget(self) -> None:
        """Drop what was made ahead; it would be made differently now."""
        with self._changed:
            self._drop()

    def close(self) -> None:
        """End the thread and wait for it. Taking goes on without one."""
        with self._changed:
            self._closed = True
            self._drop()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not current_thread():  # the last reference may go in the thread itself
            thread.join()

    def _begin(self, number: int) -> None:
        self._drop()
        self._next, self._ahead = number, True
        if self._thread is None:
            self._thread = Thread(target=self._work, name="stillhouse-prefetch", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _drop(self) -> None:
        self._made.clear()
        self._turn += 1
        self._ahead = False
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._ahead and len(self._made) < self._depth))
                if self._closed:
                    return
                number, turn = self._next, self._turn
            value: T | None = None
            error: BaseException | None = None
            try:
                value = self._make(number)
            except BaseException as raised:  # the reader's to handle, whatever it is
                error = raised
            with self._changed:
                if turn != self._turn:
                    continue
                self._made.append((number, value, error))
                self._next = number + 1
                self._ahead = self._ahead and error is None
                self._changed.notify_all()
