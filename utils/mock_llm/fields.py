"""DSPy's field markers: `[[ ## name ## ]]` before every input and output."""

import json
import re
from typing import Any

from .answering import answer_question
from .labels import find_labels
from .passages import Passage
from .prompt import Prompt
from .reflecting import rewrite_template
from .schema import fill_schema
from .text import shorten

_MARK = re.compile(
    r"^\[\[ ## (\w+) ## \]\][ \t]*\n?(.*?)(?=^\[\[ ## \w+ ## \]\]|^Respond with the corresponding|\Z)",
    re.M | re.S,
)
_WANTED = re.compile(r"^Respond with (?:the corresponding output fields|a JSON object)[^\n]*", re.M)
_OUTPUTS = re.compile(r"your output fields are:\n(.*?)(?=\n\s*\n?All interactions|\Z)", re.I | re.S)
_DESCRIBED = re.compile(r"^\d+\. `(\w+)` \((.*?)\):(.*?)$", re.M)
_OBJECTIVE = re.compile(r"your objective is:\s*(.*)", re.S)
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def has_field_markers(prompt: Prompt) -> bool:
    """Whether the prompt is laid out in DSPy's way."""
    return "[[ ## " in prompt.system and "[[ ## " in prompt.user


def answer_fields(prompt: Prompt) -> str:
    """Every output field under its marker, then the marker `completed`; or a JSON object where DSPy asks for
    one."""
    given = {name: text.strip() for name, text in _MARK.findall(_WANTED.sub("", prompt.user))}
    outputs = _read_outputs(prompt.system)
    objective = _OBJECTIVE.search(prompt.system)
    task = objective.group(1).strip() if objective else ""
    filled = {name: _fill(prompt, task, given, name, kind, note) for name, kind, note in outputs}
    if "JSON object" in (_WANTED.search(prompt.user) or [""])[0] or prompt.json_object or prompt.schema:
        return json.dumps(filled)
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in filled.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _read_outputs(system: str) -> list[tuple[str, str, str]]:
    """(name, type, description) of the output fields."""
    section = _OUTPUTS.search(system)
    return [(name, kind, note.strip()) for name, kind, note in _DESCRIBED.findall(section.group(1) if section else "")]


def _fill(prompt: Prompt, task: str, given: dict[str, str], name: str, kind: str, note: str) -> Any:
    if name in ("reasoning", "rationale", "thought"):
        return f"Looking at {', '.join(given) or 'the input'}: {shorten(next(iter(given.values()), ''), 80)}"
    if re.search(r"instruction|proposed|prompt", name):
        current = next((text for key, text in given.items() if re.search(r"instruction|prompt", key)), task)
        return rewrite_template(current, [])
    allowed = re.findall(r"'([^']+)'|\"([^\"]+)\"", kind) if kind.startswith("Literal") else []
    text = _main_text(given)
    if allowed:
        return fill_schema(prompt.asking(task, text), {"enum": [a or b for a, b in allowed]})
    if kind in _TYPES and kind != "str":
        return fill_schema(
            prompt.asking(task, text),
            {"type": "object", "properties": {name: {"type": _TYPES[kind], "description": note}}},
        )[name]
    return _say(prompt, task, given, name, note)


def _main_text(given: dict[str, str]) -> str:
    texts = {key: text for key, text in given.items() if not re.search(r"context|passage|document|history", key)}
    return "\n".join(texts.values())


def _say(prompt: Prompt, task: str, given: dict[str, str], name: str, note: str) -> str:
    """A text field: a label where task, name or note list labels, else an answer from the passages, else
    plain speech."""
    from .chat import speak

    passages = tuple(Passage("", text) for key, text in given.items() if re.search(r"context|passage|document", key))
    text = _main_text(given)
    labels = find_labels(f"{task}\n{note}")
    if labels or re.search(r"sentiment|label", name):
        choice = ", ".join(labels or ("positive", "negative", "neutral"))
        bare = labels or re.search(r"\bone word\b", task, re.I)
        return speak(prompt.asking(f"{task}\nSentiment: one of: {choice}.{' One word.' if bare else ''}", text))
    if passages:
        return answer_question(prompt.asking(task, text), passages)
    return speak(prompt.asking(task, text))
