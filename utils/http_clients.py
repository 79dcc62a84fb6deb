"""HTTP clients that forget the API key, and that can be held to a number of requests on the wire.

A server's error text may repeat the key, and spans keep error texts. Masking where the reply comes in reaches every
place that an error can go afterwards: spans that autolog writes, in Spark workers too, logs and messages.

Counting requests where they leave, and not in the pool that makes them, lets other threads prepare the next requests
and read the last replies meanwhile: the server always has as many as it may.
"""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import httpx
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

MASK = "…"
SHORTEST_KEY = 6  # characters; a shorter one is a placeholder, and replacing it would garble every text
# They describe the bytes that were sent, not the text that is left of them.
BODY_HEADERS = {"content-encoding", "content-length", "transfer-encoding"}

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
    """In this process, all clients of this module together have at most so many requests under way.

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


@cache
def ssl_context() -> ssl.SSLContext:
    """Shared by all clients: reading the certificates takes longer than a call to a server on this machine."""
    return httpx.create_ssl_context()


class MaskingClient(DefaultHttpxClient):
    """The OpenAI SDK's own client, whose error replies no longer hold the key that was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"verify": ssl_context(), **options})

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        with on_the_wire():
            response = super().send(request, **options)
        if not response.is_error:
            return response
        response.read()
        response.close()
        return without_key(response)


class CountedTransport(httpx.HTTPTransport):
    """For clients of others, which take a transport (Ollama's): counted like MaskingClient."""

    def __init__(self) -> None:
        super().__init__(verify=ssl_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with on_the_wire():
            return super().handle_request(request)


class AsyncMaskingClient(DefaultAsyncHttpxClient):
    """The same for asynchronous calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"verify": ssl_context(), **options})

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        if not response.is_error:
            return response
        await response.aread()
        await response.aclose()
        return without_key(response)


def without_key(response: httpx.Response) -> httpx.Response:
    """The same reply, already read, without the key of its request in the body or a header."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    if len(key) < SHORTEST_KEY:
        return response
    headers = [(k, v.replace(key, MASK)) for k, v in response.headers.multi_items() if k.lower() not in BODY_HEADERS]
    encoding = response.encoding or "utf-8"
    masked = httpx.Response(
        response.status_code,
        headers=[(name.encode(), value.encode()) for name, value in headers],
        content=response.text.replace(key, MASK).encode(encoding, errors="replace"),
        request=response.request,
    )
    masked.extensions = response.extensions
    return masked
