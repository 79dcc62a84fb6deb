"""The OpenAI wire format: bodies of answers, of stream chunks and of errors."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from .model import Usage
from .reply import Reply

FINGERPRINT = "mock"
MODELS = ("mock-small", "mock-large", "mock-embedding")
_CREATED = 1_767_225_600  # seconds; a constant, so that the same request gives the same body


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def model_list() -> dict[str, Any]:
    data = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "mock"} for name in MODELS]
    return {"object": "list", "data": data}


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def chat_body(request: dict[str, Any], reply: Reply, usage: Usage) -> dict[str, Any]:
    """A whole `chat.completion` object."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = _tool_calls(request, reply)
    else:
        message["content"] = reply.text
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return {**_head(request, "chat.completion"), "choices": [choice], "usage": usage_body(usage)}


def chat_chunks(request: dict[str, Any], reply: Reply, usage: Usage) -> Iterator[dict[str, Any]]:
    """The same as `chat.completion.chunk` objects: the role, one per word or tool call, the end, the usage if
    asked for."""
    head = _head(request, "chat.completion.chunk")
    with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    extra = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], **extra}

    yield chunk({"role": "assistant", "content": None if reply.calls else ""})
    for index, call in enumerate(_tool_calls(request, reply)):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    for word in split_words(reply.text):
        yield chunk({"content": word})
    yield chunk({}, reply.finish_reason)
    if with_usage:
        yield {**head, "choices": [], "usage": usage_body(usage)}


def split_words(text: str) -> list[str]:
    """The text word by word; each piece keeps the white space before its word, and joined they are the
    text."""
    found: list[str] = []
    start = place = 0
    while place < len(text):
        while place < len(text) and text[place].isspace():
            place += 1
        while place < len(text) and not text[place].isspace():
            place += 1
        if place == len(text) or text[start:place].strip():
            found.append(text[start:place])
            start = place
    return found


# Fields of a response that the mock never varies, but the OpenAI SDK expects.
_FIXED_FIELDS: dict[str, Any] = {
    "error": None,
    "incomplete_details": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "top_p": None,
    "tool_choice": "auto",
}


def responses_body(request: dict[str, Any], reply: Reply, usage: Usage) -> dict[str, Any]:
    """A `response` object of `/v1/responses`."""
    head = _head(request, "response")
    tokens = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    varied = {"instructions": request.get("instructions"), "tools": request.get("tools") or [], "usage": tokens}
    output = _response_items(request, reply, head["id"])
    return {**head, "created_at": _CREATED, "status": "completed", "output": output, **_FIXED_FIELDS, **varied}


def _response_items(request: dict[str, Any], reply: Reply, response_id: str) -> list[dict[str, Any]]:
    """One message with the text, or one item per tool call."""
    if reply.calls:
        calls = _tool_calls(request, reply)
        kind = {"type": "function_call", "status": "completed"}
        return [{**kind, "id": f"fc_{call['id']}", "call_id": call["id"], **call["function"]} for call in calls]
    part = {"type": "output_text", "text": reply.text, "annotations": []}
    message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return [{**message, "id": f"msg_{response_id}"}]


def _head(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"mock-{_digest(request)}",
        "object": kind,
        "created": _CREATED,
        "model": request.get("model"),
        "system_fingerprint": FINGERPRINT,
    }


def _tool_calls(request: dict[str, Any], reply: Reply) -> list[dict[str, Any]]:
    digest = _digest(request) if reply.calls else ""
    return [
        {
            "id": f"call_{digest}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for index, call in enumerate(reply.calls)
    ]


def _digest(request: dict[str, Any]) -> str:
    text = json.dumps([request.get("model"), request.get("messages") or request.get("input")], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
