"""From what went wrong inside an agent to the status that its caller sees, without the words of the exception."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from utils.errors import InputError, UserError
from utils.model_servers import describe_failed_call
from utils.serving.record import CURRENT, App, Message, Receive, Record, Scope, Send, say_no
from utils.time_limits import OutOfTime

RETRY_SECONDS = "5"  # until a caller may look whether the model is back


def status_of(failure: Exception) -> tuple[int, str]:
    """Status and what the caller is told: what the caller can mend is said, a bug of ours is not."""
    from openai import APITimeoutError

    if isinstance(failure, InputError):
        return 422, f"{failure.problem}: {failure.cure}"
    if isinstance(failure, OutOfTime | APITimeoutError):
        return 504, "the model did not answer in time"
    if isinstance(failure, UserError) or describe_failed_call(failure):
        return 503, "the model's server does not answer"
    return 500, "the agent failed; the trace says why"


class Outcomes:
    """Puts the version, the trace and the right status on an answer.

    AgentServer answers 500 with the words of the exception, and begins a stream before the agent has said anything. So
    the start of an answer waits for its first piece: an agent that fails before it is a status, later it is an event.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        refused = False

        async def judged(message: Message) -> None:
            nonlocal start, refused
            if refused:
                return
            if message["type"] == "http.response.start":
                start = message
                return
            record = CURRENT.get()
            if start is not None:
                if record.failure is not None:
                    refused = True
                    await refuse(send, record)
                    return
                start["headers"] = [*start["headers"], *named(record)]
                await send(start)
                start = None
            elif record.failure is not None and message.get("body", b"").startswith(b'data: {"error"'):
                said = json.dumps({"error": status_of(record.failure)[1]})
                message = {**message, "body": f"data: {said}\n\n".encode()}
            await send(message)

        await self.app(scope, receive, judged)


async def refuse(send: Send, record: Record) -> None:
    assert record.failure
    status, said = status_of(record.failure)
    headers = {name.decode(): value.decode() for name, value in named(record)}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = RETRY_SECONDS
    await say_no(send, status, said, headers)


def named(record: Record) -> list[tuple[bytes, bytes]]:
    pairs = (("x-agent-version", record.version), ("x-trace-id", record.trace_id or ""))
    return [(name.encode(), value.encode()) for name, value in pairs if value]


@contextmanager
def noting_failure() -> Iterator[None]:
    """AgentServer makes a 500 of every exception; the guard Outcomes looks here for what it was."""
    try:
        yield
    except Exception as error:
        CURRENT.get().failure = error
        raise
