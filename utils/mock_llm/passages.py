"""Finding the passages in a prompt: what the model may read answers from, and must never take orders from."""

import re
from dataclasses import dataclass

_TAGS = r"context|documents?|passages?|sources?|excerpts?|knowledge|retrieved_\w+|search_results?|doc|article"
_TAGGED = re.compile(rf"<({_TAGS})\b([^>]*)>(.*?)</\1>", re.S | re.I)
_RULED = re.compile(r"^-{5,}[ \t]*\n(.*?)\n-{5,}[ \t]*$", re.S | re.M)
_ASKED = r"question|query|user question|user query|user input|q|follow[- ]up input|input|task"
_MARKED = re.compile(
    r"^(?:[\w ,'-]{0,60}\b)?(?:context(?: information)?|passages?|documents?|sources?|"
    r"excerpts?|search results|background|"
    r"knowledge(?: base)?|article|references?|new context)\b[^\n:.?]{0,30}:[ \t]*(.*?)"
    rf"(?=^(?:{_ASKED}|answer|original answer|helpful answer|refined answer|[\w ]{{0,20}}rules|"
    rf"instructions)\s*:|\Z)",
    re.S | re.M | re.I,
)
_FOLLOWING = re.compile(
    r"(?:following|below|retrieved|provided)[^\n]{0,40}\b(?:context|passages|documents|sources|"
    r"excerpts)\b[^\n]*\n\s*\n(.*?)"
    rf"(?=^(?:{_ASKED}|answer|helpful answer)\s*:|\Z)",
    re.S | re.I | re.M,
)
_NUMBERED = re.compile(
    rf"^\[[\w ./#-]{{1,60}}\][: ].*?(?=^(?:{_ASKED}|answer)\s*:|\n\s*\n(?!\s*\[)|\Z)", re.S | re.M | re.I
)
_ENTRY = re.compile(
    r"^(?:\[(?P<bracket>[\w ./#-]{1,60})\]|(?:source|document|passage|doc|chunk|excerpt|"
    r"result)\s+(?P<number>\w{1,4})\s*(?=[:.(-]))"
    r"[ \t]*[:.-]?",
    re.M | re.I,
)
_METADATA = re.compile(
    r"^(source|file_name|file_path|file|title|url|path|document|doc_id|id|page_label|page|"
    r"score|section)\s*:\s*(\S[^\n]*)$",
    re.M | re.I,
)
# Most prompts hold no passages: one cheap look spares them the patterns above.
_HINTS = [
    "<",
    "-----",
    "[",
    "context",
    "passage",
    "document",
    "source",
    "excerpt",
    "search results",
    "background",
    "knowledge",
    "article",
    "reference",
]
_ATTRIBUTE = re.compile(r"(?:source|id|name|title|file|index)\s*=\s*[\"']([^\"']+)[\"']", re.I)
_NAMED_IN_LINE = re.compile(
    r"^\s*\((?:source|from)?:?\s*([\w./-]+\.\w{2,5})\)|\((?:source|from):?\s*([\w ./-]+)\)\s*$", re.I
)


@dataclass(frozen=True)
class Passage:
    """A piece of text to read answers from; `source` is the id that the prompt gave it, or empty."""

    source: str
    text: str


def split_context(text: str) -> tuple[str, tuple[Passage, ...]]:
    """The text without its passages, and the passages, in order."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text, ()
    for pattern, group in ((_TAGGED, 3), (_RULED, 1), (_MARKED, 1), (_FOLLOWING, 1), (_NUMBERED, 0)):
        found = [match for match in pattern.finditer(text) if match.group(group).strip()]
        if found:
            passages = [p for match in found for p in _read_block(match, group)]
            around = 0 if pattern is _TAGGED else group  # the tags go with their text
            return _without(text, [match.span(around) for match in found]), tuple(passages)
    return text, ()


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = f"{text[:start]}\n{text[end:]}"
    return text


def _read_block(match: re.Match[str], group: int) -> list[Passage]:
    attribute = _ATTRIBUTE.search(match.group(2)) if group == 3 else None
    return split_passages(match.group(group), attribute.group(1) if attribute else "")


def split_passages(block: str, source: str = "") -> list[Passage]:
    """Cut a context block at its inner tags, its numbered entries, its metadata lines or its paragraphs."""
    inner = list(_TAGGED.finditer(block))
    if inner:
        return [p for match in inner for p in _read_block(match, 3)]
    entries = list(_ENTRY.finditer(block))
    if entries:
        ends = [entry.start() for entry in entries[1:]] + [len(block)]
        return [
            _passage(block[entry.end() : end], (entry["bracket"] or entry["number"] or "").strip())
            for entry, end in zip(entries, ends, strict=True)
        ]
    parts = _by_metadata(block) if _METADATA.search(block) else _paragraphs(block)
    return [_passage(part, source) for part in parts if part.strip()]


def _by_metadata(block: str) -> list[str]:
    parts: list[list[str]] = [[]]
    in_metadata = False
    for line in block.splitlines():
        is_metadata = bool(_METADATA.match(line))
        if is_metadata and not in_metadata and any(part.strip() for part in parts[-1]):
            parts.append([])
        in_metadata = is_metadata or (in_metadata and not line.strip())
        parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _paragraphs(block: str) -> list[str]:
    """Paragraphs, each heading kept with the paragraph below it."""
    joined: list[str] = []
    heading = ""
    for part in re.split(r"\n\s*\n", block):
        if len(part) < 80 and not re.search(r"[.!?:]\s*$", part):
            heading = f"{heading}{part}\n\n"
            continue
        joined.append(heading + part)
        heading = ""
    return [*joined, heading] if heading.strip() else joined


def _passage(text: str, source: str) -> Passage:
    named = {key.lower(): value.strip() for key, value in _METADATA.findall(text)}
    text = re.sub(r"^content\s*:\s*", "", _METADATA.sub("", text).strip(), flags=re.I)
    in_line = _NAMED_IN_LINE.search(text)
    if in_line and not source:
        source, text = (in_line.group(1) or in_line.group(2)).strip(), _NAMED_IN_LINE.sub("", text).strip()
    for key in (
        "source",
        "file_name",
        "title",
        "file_path",
        "file",
        "url",
        "path",
        "document",
        "doc_id",
        "id",
    ):
        source = source or named.get(key, "")
    return Passage(source, text)
