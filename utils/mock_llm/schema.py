"""Filling a JSON schema from what the prompt says: labels, scores, facts, never simply the first value
allowed."""

import re
from typing import Any

from .answering import answer_question, find_question
from .arguments import find_dates, pick_text, resolve
from .classify import choose_label
from .kinds import NUMBER, pick_route
from .labels import find_text
from .prompt import Prompt
from .sentiment import judge_text
from .small_talk import summarise
from .text import content_words, overlap, shorten, words

_SCORE = re.compile(r"score|rating|stars|polarity|grade|intensity", re.I)
_CONFIDENCE = re.compile(r"confiden|probab|certain", re.I)
_REASON = re.compile(r"reason|explan|rationale|why|evidence|justif|thought", re.I)
_ANSWER = re.compile(r"answer|response|reply|output|message|content|text|result", re.I)


def fill_schema(prompt: Prompt, schema: dict[str, Any]) -> Any:
    """A value that the schema allows, made from the prompt's own text."""
    return _Filler(prompt, schema).fill(schema, "")


class _Filler:
    def __init__(self, prompt: Prompt, root: dict[str, Any]) -> None:
        self._prompt = prompt
        self._root = root
        self._text = find_text(prompt.bare_user) or prompt.user
        self._opinion = judge_text(self._text, prompt.large)
        self._numbers = re.findall(rf"(?<![\w.-]){NUMBER}", self._text)
        self._dates = find_dates(self._text)

    def fill(self, schema: dict[str, Any], name: str) -> Any:
        schema = resolve(schema, self._root)
        hint = f"{name} {schema.get('description') or ''}"
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choose(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if kind == "object":
            return {key: self.fill(part, key) for key, part in (schema.get("properties") or {}).items()}
        if kind == "array":
            return self._list(schema, name)
        if kind == "boolean":
            return self._decide(hint)
        if kind in ("number", "integer"):
            return self._measure(schema, name, hint, kind)
        return None if kind == "null" else self._write(schema, name, hint)

    def _choose(self, values: list[Any]) -> Any:
        """The allowed value that fits the text: a sentiment, a route, or the one that shares most with it."""
        by_name = {str(value): value for value in values}
        labels = tuple(by_name)
        text_words = content_words(self._text)
        named = [label for label in labels if overlap(content_words(label.replace("_", " ")), text_words) == 1]
        if len(named) == 1 and self._opinion.sign == 0:
            return by_name[named[0]]
        chosen = choose_label(labels, self._text, self._opinion)
        route = pick_route(list(labels), find_question(self._prompt))
        shares = overlap(content_words(chosen), text_words)
        is_sentiment = any(word in ("positive", "negative", "neutral") for label in labels for word in words(label))
        return by_name[chosen if is_sentiment or shares or route is None else route]

    def _decide(self, hint: str) -> bool:
        """True or false by what the field is called: a verdict on the text, or whether it mentions
        something."""
        named = [w for w in content_words(hint.replace("_", " ")) if w not in ("is", "ha", "should")]
        if re.search(r"negative|complain|unhappy|dissatisf|angry|problem|issue", hint, re.I):
            return self._opinion.sign < 0
        if re.search(r"positive|recommend|happy|satisf|like|good", hint, re.I):
            return self._opinion.sign > 0
        if re.search(r"answerable|can_answer|found|known", hint, re.I):
            return not answer_question(self._prompt).startswith("I do not know")
        return overlap(named, content_words(self._text)) >= 0.5

    def _measure(self, schema: dict[str, Any], name: str, hint: str, kind: str) -> float | int:
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get(
            "maximum", schema.get("exclusiveMaximum")
        )
        if _CONFIDENCE.search(name):
            value = self._opinion.confidence * (100 if high and high > 1 else 1)
        elif _SCORE.search(hint) and not self._numbers_named(name):
            value = self._on_scale(*self._range(hint, low, high))
        else:
            value = float(self._numbers.pop(0).replace("$", "").replace(",", "")) if self._numbers else (low or 0)
        value = max(low, value) if low is not None else value
        value = min(high, value) if high is not None else value
        return round(value) if kind == "integer" else round(value, 3)

    def _numbers_named(self, name: str) -> bool:
        return bool(re.search(rf"\b{re.escape(name)}\b\W{{0,4}}\d", self._text, re.I))

    def _range(self, hint: str, low: float | None, high: float | None) -> tuple[float, float]:
        named = re.search(
            r"(-?\d+(?:\.\d+)?)\s*(?:to|-|–|and|through)\s*(-?\d+(?:\.\d+)?)", f"{hint} {self._prompt.frame}"
        )
        if low is not None and high is not None:
            return low, high
        return (
            (float(named[1]), float(named[2]))
            if named and float(named[1]) < float(named[2])
            else (low or 0.0, high or 1.0)
        )

    def _on_scale(self, low: float, high: float) -> float:
        share = 0.5 + max(-3.0, min(3.0, self._opinion.score)) / 6 if self._opinion.sign else 0.5
        return low + share * (high - low)

    def _list(self, schema: dict[str, Any], name: str) -> list[Any]:
        item = resolve(schema.get("items") or {}, self._root)
        if "enum" in item:
            mentioned = [v for v in item["enum"] if overlap(content_words(str(v)), content_words(self._text)) == 1]
            return mentioned or [self._choose(item["enum"])]
        if item.get("type") in ("number", "integer"):
            return [float(n.replace("$", "").replace(",", "")) for n in self._numbers]
        if item.get("type") == "object" or "properties" in item:
            return [self.fill(item, name)]
        if re.search(r"source|citation|reference", name, re.I):
            return list(dict.fromkeys(p.source for p in self._prompt.passages if p.source))
        seen = [
            word
            for word in words(self._text)
            if len(word) > 3 and set(content_words(word)) & set(content_words(self._text))
        ]
        return list(dict.fromkeys(seen))[:3]

    def _write(self, schema: dict[str, Any], name: str, hint: str) -> str:
        if schema.get("format") in ("date", "date-time") or re.search(r"(?:^|_)date$", name, re.I):
            return self._dates.pop(0) if self._dates else ""
        if re.search(r"sentiment|label|category|class", name, re.I):
            return choose_label(("positive", "negative", "neutral"), self._text, self._opinion)
        if re.search(r"summary|gist|tl", name, re.I):
            return summarise(self._text)
        if _REASON.search(name):
            return f"Judged from the words of: {shorten(self._text, 80)}"
        if self._prompt.passages and _ANSWER.search(name):
            return answer_question(self._prompt)
        found = pick_text(name, hint, self._text, shorten(self._text, 200), self._dates, True)
        return found or ""
