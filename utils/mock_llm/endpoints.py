"""What each path answers."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import responses_api, wire
from .counts import Tally
from .embedding import embed, to_base64
from .faults import FaultPlan, parse_faults
from .model import complete, usage_of
from .tokens import count_tokens

if TYPE_CHECKING:
    from .server import MockSettings

_HEADERS = {"x-mock-llm": "true"}
_RETRY_AFTER = 0.05  # seconds
_HELD = 300  # seconds that a timeout fault keeps the connection without an answer
_FIRST_TOKEN_SHARE = 0.3  # of the latency; the rest is spread over the words


class RequestError(Exception):
    """A request that cannot be served; becomes an OpenAI-style error body."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Endpoints:
    """The handler of all paths, with its faults and its counts."""

    def __init__(self, settings: "MockSettings", tally: Tally) -> None:
        self._latency = settings.latency_ms / 1000
        self._plan = FaultPlan(parse_faults(settings.faults), settings.seed)
        self._tally = tally
        self._posts: dict[str, Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]] = {
            "/v1/chat/completions": self._chat,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._tally.enter()
        status = 0
        try:
            response = await self._route(request)
            status = response.status
        except RequestError as error:
            status = error.status
            kind = "server_error" if status >= 500 else "invalid_request_error"
            response = _json(wire.error_body(str(error), kind, error.code), status)
        except (ConnectionResetError, asyncio.CancelledError):
            self._tally.add("disconnects")
            raise
        finally:
            self._tally.leave(request.path, status)
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path == "/v1/models" and request.method == "GET":
            return _json(wire.model_list())
        if path.startswith("/v1/models/") and request.method == "GET":
            return self._model(path.removeprefix("/v1/models/"))
        serve = self._posts.get(path)
        if serve is None:
            raise RequestError(404, f"Unknown path {request.path}. The base URL ends in /v1.", "unknown_url")
        if request.method != "POST":
            raise RequestError(405, f"{request.path} takes POST, not {request.method}.", "method_not_allowed")
        raw = await request.read()
        body = _parse(raw)
        _check_model(body)
        fault = self._plan.decide(raw, str(body["model"]))
        return await (self._fail(fault, body) if fault else serve(request, body))

    def _model(self, name: str) -> web.Response:
        found = next((model for model in wire.model_list()["data"] if model["id"] == name), None)
        if found is None:
            raise _unknown_model(name)
        return _json(found)

    async def _chat(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        arrived = time.perf_counter()
        reply = _refuse_bad_messages(complete, body)
        usage = usage_of(body, reply)
        if body.get("stream"):
            lines = [_event(chunk) for chunk in wire.chat_chunks(body, reply, usage)]
            response = await self._stream(request, [*lines, b"data: [DONE]\n\n"])
        else:
            # What the model needed to think counts: an answer takes the latency, not the latency and a bit.
            await self._wait(self._latency - (time.perf_counter() - arrived))
            response = _json(wire.chat_body(body, reply, usage))
        self._tally.add_chat(usage)
        return response

    async def _responses(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        as_chat = responses_api.to_chat(body)
        reply = _refuse_bad_messages(complete, as_chat)
        usage = usage_of(as_chat, reply)
        if body.get("stream"):
            events = responses_api.events(wire.responses_body(body, reply, usage), reply)
            response = await self._stream(request, [_event(event, event["type"]) for event in events])
        else:
            await self._wait(self._latency)
            response = _json(wire.responses_body(body, reply, usage))
        self._tally.add_chat(usage)
        return response

    async def _embeddings(self, _: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        given = body.get("input")
        texts = (
            [given]
            if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int))
            else given
        )
        if not isinstance(texts, list) or not texts:
            raise RequestError(400, "'input' must be a text, a list of texts, or lists of token ids.")
        tokens = sum(count_tokens(text) if isinstance(text, str) else len(text) for text in texts)
        await self._wait(self._latency)
        as_text = body.get("encoding_format") == "base64"
        vectors = [to_base64(vector) if as_text else vector for vector in embed(texts)]
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        self._tally.add("embedding_tokens", tokens)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        fingerprint = {"system_fingerprint": wire.FINGERPRINT}
        return _json({"object": "list", "data": data, "model": body["model"], "usage": usage, **fingerprint})

    async def _stream(self, request: web.BaseRequest, lines: list[bytes]) -> web.StreamResponse:
        """Send server-sent events, the first word after a part of the latency, the rest spread over what is
        left."""
        response = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await self._wait(self._latency * _FIRST_TOKEN_SHARE)
        await response.prepare(request)
        pause = self._latency * (1 - _FIRST_TOKEN_SHARE) / max(1, len(lines) - 1)
        for number, line in enumerate(lines):
            if number:
                await self._wait(pause)
            await response.write(line)
        await response.write_eof()
        return response

    async def _fail(self, kind: str, body: dict[str, Any]) -> web.StreamResponse:
        self._tally.add_fault(kind)
        if kind == "timeout":
            await asyncio.sleep(_HELD)
            raise RequestError(504, "The mock held this request on purpose.", "mock_fault")
        await self._wait(self._latency)
        if kind == "429":
            body = wire.error_body("The mock limits the rate on purpose.", "rate_limit_error", "rate_limit_exceeded")
            response = _json(body, 429)
            response.headers["Retry-After"] = str(_RETRY_AFTER)
            response.headers["retry-after-ms"] = str(int(_RETRY_AFTER * 1000))
            return response
        if kind == "500":
            raise RequestError(500, "The mock fails on purpose.", "mock_fault")
        return _garble(body)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise RequestError(400, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError(400, "The body must be a JSON object.")
    return body


def _check_model(body: dict[str, Any]) -> None:
    name = body.get("model")
    if not name:
        raise RequestError(400, "'model' is missing.")
    if name not in wire.MODELS:
        raise _unknown_model(str(name))


def _unknown_model(name: str) -> RequestError:
    return RequestError(
        404, f"The model '{name}' does not exist. There are: {', '.join(wire.MODELS)}.", "model_not_found"
    )


def _refuse_bad_messages(serve: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> Any:
    try:
        return serve(body)
    except ValueError as error:
        raise RequestError(400, str(error)) from error


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(body=text.encode(), status=status, headers=_HEADERS, content_type="application/json")


def _garble(body: dict[str, Any]) -> web.Response:
    """A 200 whose body is cut off in the middle, or no JSON at all."""
    whole = json.dumps(
        {"id": "mock-garbage", "object": "chat.completion", "model": body["model"], "choices": [{"index": 0}]}
    )
    text = whole[: len(whole) // 2] if len(str(body)) % 2 else "<html><body>upstream sent something else</body></html>"
    return web.Response(body=text.encode(), headers=_HEADERS, content_type="application/json")


def _event(body: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
