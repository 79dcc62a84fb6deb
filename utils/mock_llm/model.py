"""The mock model: a pure function from a chat request to a reply."""

from dataclasses import dataclass, replace
from typing import Any

from . import chat
from .prompt import read_prompt
from .reply import Reply
from .tokens import TOKENS_PER_ANSWER, count_json, count_prompt, count_tokens, pieces


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def complete(request: dict[str, Any]) -> Reply:
    """Answer the body of a `/v1/chat/completions` request: the same request, the same reply, everywhere.

    Raises:
        ValueError: the request has no usable `messages`.
    """
    reply = chat.answer(read_prompt(request))
    reply = _stop_at(reply, request.get("stop"))
    return _cut_to(reply, request.get("max_completion_tokens") or request.get("max_tokens"))


def _stop_at(reply: Reply, stop: str | list[str] | None) -> Reply:
    """The text before the first stop sequence."""
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        if sequence and sequence in reply.text:
            reply = replace(reply, text=reply.text.split(sequence)[0])
    return reply


def _cut_to(reply: Reply, limit: int | None) -> Reply:
    if limit is None or reply.calls or count_tokens(reply.text) <= limit:
        return reply
    return replace(reply, text="".join(pieces(reply.text)[:limit]), finish_reason="length")


def usage_of(request: dict[str, Any], reply: Reply) -> Usage:
    """Tokens of a request and its reply by the rule of `tokens.py`."""
    extras = (request.get("tools"), request.get("response_format"))
    completion = count_tokens(reply.text)
    for call in reply.calls:
        completion += TOKENS_PER_ANSWER + count_tokens(call.name) + count_json(call.arguments)
    return Usage(count_prompt(request.get("messages", ()), extras), completion)
