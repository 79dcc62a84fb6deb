"""What a request to the agent has to look like: 422 for everything else, before the agent's server sees it."""

import json
from typing import Any

from pydantic import BaseModel, Field, StrictBool

from utils.serving.record import ASKING_PATHS, App, Message, Receive, Scope, Send, say_no

NESTING = 64  # lists and objects inside each other; more is no conversation
REFUSALS = {  # by the guards, as OpenAPI describes them
    401: "no key, or one that is unknown",
    403: "a key that was revoked",
    408: "the body came too slowly",
    413: "the body is too long",
    422: "no such request",
    429: "too many requests",
    503: "no model answers, or a trace may be on its way still: ask again after Retry-After",
    504: "it took too long",
}


class Feedback(BaseModel):
    """What a caller says about an answer that it was given."""

    trace_id: str = Field(pattern=r"^tr-[0-9a-f]{32}$")
    thumbs_up: StrictBool
    comment: str = Field("", max_length=2000)


class BadShape(ValueError):
    """The body is no request to an agent."""


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object whose texts can be stored and sent back.

    Raises:
        BadShape: says what is wrong; never with the text itself, which may be personal.
    """
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadShape(f"the body is no JSON in UTF-8 ({type(error).__name__})") from error
    if not isinstance(data, dict):
        raise BadShape("the body is no JSON object")
    _check_texts(data, NESTING)
    return data


def check_request(data: dict[str, Any]) -> None:
    """Whether it is a ResponsesAgent's request, with an optional flag `stream`.

    Raises:
        BadShape: it is not; names the first part that is wrong.
    """
    from mlflow.types.responses import ResponsesAgentRequest
    from pydantic import ValidationError

    if not isinstance(data.get("stream", False), bool):
        raise BadShape("stream is neither true nor false")
    try:
        ResponsesAgentRequest(**{name: value for name, value in data.items() if name != "stream"})
    except (ValidationError, ValueError, TypeError) as error:
        raise BadShape(f"this is no request to an agent: {_first_line(error)}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_texts(value: Any, depth: int) -> None:
    """No text that cannot be stored (half a surrogate pair, NUL), and no nesting without end."""
    if depth == 0:
        raise BadShape(f"more than {NESTING} objects and lists inside each other")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise BadShape("a text holds characters that are none")
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_texts(part, depth - 1)


def _first_line(error: Exception) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return type(error).__name__


class ShapeGuard:
    """422 for a body that is no request. Stands behind BodyLimit, which hands on the body whole."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        first = await receive()
        try:
            data = read_json(first.get("body", b""))
            if scope["path"] in ASKING_PATHS:
                check_request(data)
        except BadShape as error:
            await say_no(send, 422, str(error))
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return first

        await self.app(scope, again, send)


def request_schema() -> dict[str, Any]:
    """OpenAPI's request body of the asking paths: AgentServer's own schema leaves it out."""
    from mlflow.types.responses import ResponsesAgentRequest

    schema = ResponsesAgentRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs", {})
    schema["properties"]["stream"] = {"type": "boolean", "default": False}
    return {"body": {"required": True, "content": {"application/json": {"schema": schema}}}, "parts": parts}
