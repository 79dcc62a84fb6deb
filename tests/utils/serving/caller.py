"""Calls an ASGI app without a network, with a body in pieces, a client that leaves, and time between them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.serving.record import CURRENT, Record


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    parts: list[bytes]

    @property
    def body(self) -> Any:
        return json.loads(b"".join(self.parts) or b"null")


async def call(
    app, path: str = "/invocations", method: str = "POST", headers: dict[str, str] | None = None,
    pieces: Sequence[bytes | float | None] = (b"{}",), record: Record | None = None,
) -> Reply:  # fmt: skip
    """pieces: of the body; a number waits so many seconds, None is a client that leaves."""
    CURRENT.set(record or Record())
    waiting = list(pieces)
    raw = [(name.encode("latin-1"), value.encode("utf-8")) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
    sent: list[Any] = []

    async def receive():
        while waiting:
            piece = waiting.pop(0)
            if piece is None:
                return {"type": "http.disconnect"}
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    if not starts:
        return Reply(0, {}, [])
    assert len(starts) == 1 and sent[0] is starts[0], "an answer begins once"
    named = {name.decode(): value.decode() for name, value in starts[0]["headers"]}
    return Reply(starts[0]["status"], named, [message["body"] for message in sent[1:]])


async def hello(scope, receive, send) -> None:
    """An app that says what it was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"bytes": len(body)}).encode()})
