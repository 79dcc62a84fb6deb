"""How many requests are on the wire, and how often one may leave: for all clients of utils/http_clients.py together.

Counting requests where they leave, and not in the pool that makes them, lets other threads prepare the next requests
and read the last replies meanwhile: the server always has as many as it may.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_gate: AbstractContextManager[Any] = nullcontext()
_pace: "Pace | None" = None
_thread = threading.local()


class Pace:
    """Lets requests leave evenly spaced: a burst at the start of each minute would be one that servers refuse."""

    def __init__(self, per_minute: float) -> None:
        self._interval_s = 60 / per_minute
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until it is this request's turn."""
        with self._lock:
            turn = max(time.monotonic(), self._next_s)
            self._next_s = turn + self._interval_s
        time.sleep(max(0.0, turn - time.monotonic()))


@contextmanager
def at_most_on_the_wire(requests: int, per_minute: float | None = None) -> Iterator[None]:
    """In this process, all clients together have at most so many requests under way.

    per_minute: and let at most so many leave in a minute.
    """
    global _gate, _pace
    before, _gate = (_gate, _pace), threading.BoundedSemaphore(requests)
    _pace = Pace(per_minute) if per_minute else None
    try:
        yield
    finally:
        _gate, _pace = before


@contextmanager
def on_the_wire() -> Iterator[None]:
    """Around one request of a client: waits for a place, and notes when it was there."""
    with _gate:
        if _pace:
            _pace.wait()
        _thread.sent_ns = time.time_ns()
        yield


def forget_sent() -> None:
    """Before a call: see sent_ns."""
    _thread.sent_ns = None


def sent_ns() -> int | None:
    """When the last request of this thread left, since forget_sent (nanoseconds since 1970); None if none did."""
    return getattr(_thread, "sent_ns", None)
