"""What the guards and the agent tell each other about the request that is being served, and how a guard says no."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health",)  # no key, no limit: whoever restarts the service asks here
ASKING_PATHS = ("/invocations", "/responses")  # the agent answers


@dataclass
class Record:
    """One request.

    failure: what went wrong in the agent, for the status. version: of the agent that answers. trace_id: None while
    there is no trace, or where the request was not sampled.
    """

    key: str = ""
    version: str = ""
    trace_id: str | None = None
    traced: bool = False
    failure: Exception | None = None


CURRENT: ContextVar[Record] = ContextVar("request-record")


async def say_no(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a status and a JSON body, as FastAPI writes its own errors: {"detail": …}."""
    body = json.dumps({"detail": detail}).encode()
    named = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: str) -> str:
    """A header of the request; empty where it is missing or no text."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted), "")
