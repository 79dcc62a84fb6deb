"""What the server did, counted under a lock."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock

from .model import Usage


@dataclass(frozen=True)
class Counts:
    """A snapshot.

    `requests` by (path, status), a held connection with status 0; tokens of answers sent in full.
    """

    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    chat_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    embedding_tokens: int = 0
    disconnects: int = 0
    max_in_flight: int = 0

    @property
    def total_requests(self) -> int:
        return sum(self.requests.values())


class Tally:
    """The running counts behind `Counts`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._faults: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._in_flight = 0
        self._max_in_flight = 0

    def enter(self) -> None:
        with self._lock:
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)

    def leave(self, path: str, status: int) -> None:
        with self._lock:
            self._in_flight -= 1
            self._requests[path, status] += 1

    def add_fault(self, kind: str) -> None:
        with self._lock:
            self._faults[kind] += 1

    def add_chat(self, usage: Usage) -> None:
        with self._lock:
            self._totals["chat_calls"] += 1
            self._totals["prompt_tokens"] += usage.prompt_tokens
            self._totals["completion_tokens"] += usage.completion_tokens

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._totals[name] += amount

    def snapshot(self) -> Counts:
        with self._lock:
            return Counts(dict(self._requests), dict(self._faults), max_in_flight=self._max_in_flight, **self._totals)
