"""How much a request may send, and how long it may take."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from utils.serving.record import App, Message, Receive, Scope, Send, header, say_no

EVENT_STREAM = b"text/event-stream"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Limits:
    """Of one service. burst: requests of a key at once. seconds: for one request. threads: worked on at once."""

    requests_per_minute: float = 600.0  # of a key
    burst: int = 60
    max_body_bytes: int = 65_536
    seconds: float = 30.0
    threads: int = 32
    traces_per_second: float = 25.0


def limit_options(command: F) -> F:
    """A flag for each of the Limits."""
    default = Limits()
    for option in reversed(
        [
            click.option("--requests-per-minute", type=click.FloatRange(1), default=default.requests_per_minute,
                         show_default=True, help="Of one key, once its burst is used up."),
            click.option("--burst", type=click.IntRange(1), default=default.burst, show_default=True,
                         help="Requests of one key at once."),
            click.option("--max-body-bytes", type=click.IntRange(1), default=default.max_body_bytes,
                         show_default=True, help="Of one request."),
            click.option("--seconds", type=click.FloatRange(0, min_open=True), default=default.seconds,
                         show_default=True, help="For one request."),
            click.option("--threads", type=click.IntRange(1), default=default.threads, show_default=True,
                         help="Requests that are worked on at once."),
            click.option("--traces-per-second", type=click.FloatRange(0, min_open=True),
                         default=default.traces_per_second, show_default=True,
                         help="Above it, a share of the requests is traced."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


class BodyLimit:
    """413 for a body over `max_bytes`, whatever its Content-Length says; 408 for one that does not arrive in time.

    The agent's app gets the body whole, so that nobody behind this guard waits for a slow sender.
    """

    def __init__(self, app: App, max_bytes: int, seconds: float) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = header(scope, "content-length")
        too_long = announced.isdigit() and int(announced) > self.max_bytes
        try:
            body = None if too_long else await asyncio.wait_for(self.read(receive), self.seconds)
        except TimeoutError:
            await say_no(send, 408, f"the body did not arrive within {self.seconds:g} s", {"connection": "close"})
            return
        except ConnectionError:  # nobody is there to be told
            return
        if body is None:
            closing = {"connection": "close"}  # the rest of the body is not read
            await say_no(send, 413, f"the body has more than {self.max_bytes} bytes", closing)
            return
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()  # http.disconnect, when the client leaves
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, whole, send)

    async def read(self, receive: Receive) -> bytes | None:
        """The whole body; None as soon as it is too long.

        Raises:
            ConnectionError: the client left before it was complete.
        """
        parts, length = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client left")
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > self.max_bytes:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


class TimeLimit:
    """504 for an answer that has not begun in time. A stream that has begun ends with an event that says so."""

    def __init__(self, app: App, seconds: float) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = streaming = False

        async def watched(message: Message) -> None:
            nonlocal started, streaming
            if message["type"] == "http.response.start":
                started = True
                streaming = any(EVENT_STREAM in value for _name, value in message["headers"])
            await send(message)

        try:
            async with asyncio.timeout(self.seconds) as limit:
                await self.app(scope, receive, watched)
        except TimeoutError:
            if not limit.expired():
                raise
            said = f"the request took more than {self.seconds:g} s"
            if not started:
                await say_no(send, 504, said)
            else:
                last = f"data: {json.dumps({'error': said})}\n\ndata: [DONE]\n\n" if streaming else ""
                await send({"type": "http.response.body", "body": last.encode()})
