"""The Responses API in terms of chat requests."""

import json
from collections.abc import Iterator
from typing import Any

from .reply import Reply
from .wire import split_words


def to_chat(body: dict[str, Any]) -> dict[str, Any]:
    """The chat request that a `/v1/responses` body amounts to."""
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    messages.extend(_message(item) for item in items)
    request = {"model": body.get("model"), "messages": messages, "max_tokens": body.get("max_output_tokens")}
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": form.get("name"), "schema": form.get("schema")},
        }
    elif form.get("type") == "json_object":
        request["response_format"] = form
    functions = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    if functions:
        request["tools"] = [{"type": "function", "function": tool} for tool in functions]
    return request


def _message(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call":
        call = {
            "id": item.get("call_id"),
            "type": "function",
            "function": {"name": item["name"], "arguments": item["arguments"]},
        }
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else json.dumps(output)
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": text}
    return {"role": item.get("role", "user"), "content": item.get("content")}


def events(body: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    """The events of a streamed response; `body` is the finished response."""
    numbered = enumerate(_bare_events(body, reply))
    return ({**event, "sequence_number": number} for number, event in numbered)


def _bare_events(body: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    for index, item in enumerate(body["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        yield {
            "type": "response.output_item.added",
            "output_index": index,
            "item": {**item, "status": "in_progress"},
        }
        if item["type"] == "message":
            part = {**place, "content_index": 0}
            yield {"type": "response.content_part.added", **part, "part": {**item["content"][0], "text": ""}}
            for word in split_words(reply.text):
                yield {"type": "response.output_text.delta", **part, "delta": word, "logprobs": []}
            yield {"type": "response.output_text.done", **part, "text": reply.text, "logprobs": []}
            yield {"type": "response.content_part.done", **part, "part": item["content"][0]}
        else:
            yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
            yield {
                "type": "response.function_call_arguments.done",
                **place,
                "arguments": item["arguments"],
                "name": item["name"],
            }
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": body}
