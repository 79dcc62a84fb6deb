"""Reading what tools returned: as passages, as a short value, or as an error."""

import ast
import json
import re
from typing import Any

from .passages import Passage, split_passages
from .text import sentences, shorten

_ERROR = re.compile(
    r"^\s*(?:error\b|\W?\w*(?:error|exception)\b\s*[:(]|traceback|failed\b|failure\b|tool "
    r".{0,40}\b(?:failed|error)|could not\b|cannot\b|timed out|invalid\b)|"
    r"^\s*\{\s*[\"'](?:error|detail)[\"']\s*:",
    re.I,
)
# A file can be opened again, a title only looked for.
_SOURCES = ("source", "file_name", "file", "path", "document", "url", "title", "doc_id", "id", "name")
_TEXTS = (
    "answer",
    "text",
    "content",
    "page_content",
    "snippet",
    "passage",
    "result",
    "output",
    "value",
    "body",
    "summary",
)


def is_error(result: str) -> bool:
    """Whether a tool's result says that the tool failed."""
    return bool(_ERROR.search(result))


def parse(result: str) -> Any:
    """The result as JSON or as a Python literal, else the text itself."""
    text = result.strip()
    if not text or text[0] not in "[{\"'(-0123456789":
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text) if len(text) < 20_000 else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def to_passages(result: str) -> tuple[Passage, ...]:
    """The result cut into passages, with the sources that it names."""
    value = parse(result)
    if isinstance(value, dict) and isinstance(value.get("results"), list):
        value = value["results"]
    if isinstance(value, dict):
        return (_from_record(value),)
    if isinstance(value, list):
        return tuple(_from_record(item) if isinstance(item, dict) else Passage("", str(item)) for item in value)
    return tuple(split_passages(result))


def _from_record(record: dict[str, Any]) -> Passage:
    metadata = record.get("metadata") if isinstance(record.get("metadata"), dict) else {}
    merged = {**(metadata or {}), **record}
    source = next((str(merged[key]) for key in _SOURCES if merged.get(key)), "")
    if not source and isinstance(merged.get("sources"), list):
        source = ", ".join(map(str, merged["sources"]))
    text = next((str(merged[key]) for key in _TEXTS if merged.get(key)), "")
    return Passage(source, text or "; ".join(f"{key}: {value}" for key, value in record.items()))


def short_value(result: str) -> str:
    """The result as a short value: the number, date or sentence in it."""
    value = parse(result)
    if isinstance(value, dict):
        found = next((value[key] for key in _TEXTS if key in value), None)
        value = found if found is not None else "; ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return shorten(str(value), 400)


def is_sentence(text: str) -> bool:
    """Whether the text can stand in an answer as it is."""
    return len(text.split()) > 3 and len(sentences(text)) >= 1 and text.rstrip()[-1:] in ".!?]"
