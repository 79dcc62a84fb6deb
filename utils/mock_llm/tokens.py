"""How the mock counts tokens: a rule that anyone can repeat by hand.

A word costs one token per six letters begun, a number one token per three digits begun, every other visible
character one token. A message costs four tokens beside its text, and the answer's opening costs three. Tools
and JSON schemas are counted as the JSON that they are sent as. Prompt and completion are counted by the same
rule.
"""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

TOKENS_PER_MESSAGE = 4
TOKENS_PER_ANSWER = 3
_PIECE = re.compile(r"[^\W\d_]{1,6}|\d{1,3}|[^\w\s]|_")


def count_tokens(text: str) -> int:
    """Number of tokens in `text`: about 1.3 per English word."""
    return len(_PIECE.findall(text))


def pieces(text: str) -> list[str]:
    """The text cut in as many pieces as it has tokens; white space stays with the piece that follows it."""
    starts = [match.start() for match in _PIECE.finditer(text)]
    if not starts:
        return []
    cuts = [0, *(_before_space(text, start) for start in starts[1:]), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _before_space(text: str, start: int) -> int:
    while start > 0 and text[start - 1].isspace():
        start -= 1
    return start


def count_json(value: Any) -> int:
    """Tokens of a value as compact JSON."""
    return count_tokens(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def count_prompt(messages: Iterable[dict[str, Any]], extras: Iterable[Any] = ()) -> int:
    """Tokens of a chat request: its messages, and `extras` (tools, schema) as JSON."""
    total = TOKENS_PER_ANSWER
    for message in messages:
        total += TOKENS_PER_MESSAGE + count_tokens(text_of(message.get("content")))
        if message.get("tool_calls"):
            total += count_json(message["tool_calls"])
    return total + sum(count_json(extra) for extra in extras if extra)


def text_of(content: Any) -> str:
    """The text of a message's content, which may be a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part_text(part) for part in content)
    return "" if content is None else str(content)


def _part_text(part: Any) -> str:
    if isinstance(part, dict):
        return str(part.get("text") or part.get("content") or "")
    return str(part)
