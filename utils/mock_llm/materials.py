"""What a judge's prompt holds: the rules in it, and the texts to be judged, by name."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .prompt import Prompt

_TAG = re.compile(
    r"<(question|claim|document|answer|guidelines|actual_output|expected_output|text|request|"
    r"actual_tool_calls|expected_tool_calls|available_tools|tools_called|"
    r"conversation|summary|response|context|reference|output|input|inputs|outputs|"
    r"expected_response|last_response|goal)>\s*(.*?)\s*</\1>",
    re.S,
)
_FIELD = re.compile(
    r"^(inputs|outputs|expectations|conversation): (.*?)(?=^(?:inputs|outputs|expectations|" r"conversation): |\Z)",
    re.M | re.S,
)
_JUDGE = re.compile(
    r"\byou must determine whether\b|\bexpert judge\b|\bevaluation rating\b|"
    r"[\"']rationale[\"']\s*:|\bassess whether the inputs fully comply\b|\bcontent safety "
    r"classifier\b|"
    r"\bhas the user's goal been\b|\bprovide your assessment\b|\bevaluating the fluency\b|"
    r"\byou are (?:an? )?(?:strict |impartial |fair |careful )?(?:judge|evaluator|grader)\b",
    re.I,
)
# Each way of asking holds one of these: most prompts are spared the pattern above.
_JUDGE_HINTS = ("determine", "judge", "evaluat", "rationale", "assess", "classifier", "goal been", "grader")


@dataclass(frozen=True)
class Materials:
    """`rules` is the prompt without the texts, `texts` the texts by tag or field name, `tags` all tagged ones
    in order."""

    rules: str
    texts: Mapping[str, str]

    def get(self, *names: str) -> str:
        """The first of the named texts that is there."""
        return next((self.texts[name] for name in names if self.texts.get(name)), "")

    def has(self, *names: str) -> bool:
        return all(name in self.texts for name in names)


def is_judgement(prompt: Prompt) -> bool:
    """Whether the prompt asks for a judgement in the way that MLflow's judges, or judges like them, ask."""
    properties = (prompt.schema or {}).get("properties") or {}
    if "result" in properties and "rationale" in properties:
        return True
    return _sounds_like_judge(prompt.system) or _sounds_like_judge(prompt.user)


@lru_cache(maxsize=256)
def _sounds_like_judge(text: str) -> bool:
    lowered = text.lower()
    return any(hint in lowered for hint in _JUDGE_HINTS) and bool(_JUDGE.search(text))


def read_materials(prompt: Prompt) -> Materials:
    """Take the prompt apart. Texts of `inputs: {json}` fields are unpacked to plain text."""
    whole = f"{prompt.system}\n{prompt.user}"
    texts: dict[str, str] = {}
    for match in _TAG.finditer(whole):
        _collect(match, texts)
    for name, value in _FIELD.findall(prompt.user):
        texts[name] = plain_text(value.strip()) if name != "conversation" else value.strip()
    return Materials(_FIELD.sub("", _TAG.sub("", whole)), texts)


def _collect(match: re.Match[str], texts: dict[str, str]) -> None:
    """A tag's text, and those of the tags inside it; the first tag of a name counts."""
    inner = list(_TAG.finditer(match.group(2)))
    for nested in inner if match.group(1) == "claim" else ():
        _collect(nested, texts)
    if not re.fullmatch(r"\{\{\s*\w+\s*\}\}", match.group(2)):  # a placeholder: the text stands in the user message
        texts.setdefault(match.group(1), match.group(2))


def plain_text(value: str) -> str:
    """The texts inside a JSON value, one per line; a value that is no JSON stays as it is."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return "\n".join(_leaves(parsed))


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            value = [m for m in value["messages"] if isinstance(m, dict) and m.get("role") in ("user", None)] or value[
                "messages"
            ]
            return _leaves([m.get("content", m) if isinstance(m, dict) else m for m in value])
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [] if value is None else [str(value)]


def read_turns(conversation: str) -> list[tuple[str, str]]:
    """(role, text) of each turn of a conversation in JSON, or in lines that begin with a role."""
    try:
        parsed = json.loads(conversation)
    except ValueError:
        parsed = None
    if isinstance(parsed, list):
        return [(str(turn.get("role", "")), str(turn.get("content", ""))) for turn in parsed if isinstance(turn, dict)]
    found = re.findall(
        r"^\s*(user|assistant|tool|system|human|ai)\s*:\s*(.*?)(?=^\s*(?:user|assistant|tool|"
        r"system|human|ai)\s*:|\Z)",
        conversation,
        re.M | re.S | re.I,
    )
    return [
        ({"human": "user", "ai": "assistant"}.get(role.lower(), role.lower()), text.strip()) for role, text in found
    ]
