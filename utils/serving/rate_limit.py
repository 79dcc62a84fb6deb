"""So many requests a minute for each key: a token bucket, in memory, of this process."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from utils.serving.record import CURRENT, OPEN_PATHS, App, Receive, Scope, Send, say_no


@dataclass
class Bucket:
    tokens: float
    filled: float  # when it was filled last, by the clock


class RateLimit:
    """`burst` at once, and `per_second` of them after that. Who waits is told how long."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Raises:
            ValueError: a rate that lets nothing through.
        """
        if per_second <= 0 or burst < 1:
            raise ValueError(f"A rate needs more than 0 a second and a burst of at least 1: {per_second}, {burst}.")
        self.per_second, self.burst, self.clock = per_second, burst, clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str) -> float:
        """0 if the request may go on (its token is taken), otherwise the seconds until the next one may."""
        now = self.clock()
        bucket = self._buckets.setdefault(name, Bucket(self.burst, now))
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.filled) * self.per_second)
        bucket.filled = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self.per_second


class RateGuard:
    """429 with Retry-After for a key over its limit; the others go on."""

    def __init__(self, app: App, limit: RateLimit) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            wait = self.limit.take(CURRENT.get().key)
            if wait > 0:
                seconds = str(max(1, math.ceil(wait)))
                await say_no(send, 429, f"too many requests: wait {seconds} s", {"retry-after": seconds})
                return
        await self.app(scope, receive, send)
