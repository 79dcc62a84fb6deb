"""Answering a judge's prompt: which criterion, what verdict, in which shape."""

import json
import re
from collections.abc import Callable
from typing import Any

from .arguments import resolve
from .classify import choose_label
from .comparing import Finding, relevance, same_meaning, support
from .criteria import CRITERIA, SUPPORTED
from .guidelines import check
from .labels import find_labels, polarity
from .lexicon import WORDS
from .materials import Materials, read_materials
from .prompt import Prompt
from .sentiment import judge_text
from .sessions import SESSION_CRITERIA, frustration
from .text import sentences, shorten

_VERDICTS = (
    ("yes", "no"),
    ("pass", "fail"),
    ("true", "false"),
    ("correct", "incorrect"),
    ("relevant", "irrelevant"),
    ("good", "bad"),
)
_QUOTED = re.compile(r"[\"'`“]([A-Za-z][\w -]{0,30}|\d+)[\"'`”]")
_SCALE = re.compile(r"(?:from|between|scale of|scale)\s+(-?\d+(?:\.\d+)?)\s*(?:to|and|-|–)\s*(-?\d+(?:\.\d+)?)", re.I)
_SCALE_BARE = re.compile(r"\b(-?\d+)\s*(?:to|-|–)\s*(-?\d+)\b")


def judge(prompt: Prompt, extra: dict[str, str] | None = None) -> str:
    """The verdict as the JSON that the prompt asks for. `extra` holds texts that were fetched with tools."""
    materials = read_materials(prompt)
    if extra:
        materials = Materials(materials.rules, {**materials.texts, **extra})
    schema = prompt.schema or {}
    properties = schema.get("properties") or {"rationale": {"type": "string"}, "result": {"type": "string"}}
    result_schema = resolve(properties.get("result", {"type": "string"}), schema)
    verdict, reason = _decide(materials, result_schema, prompt.large)
    filled = {name: verdict if name == "result" else f"mock judge: {reason}." for name in properties}
    return json.dumps(filled, ensure_ascii=False)


def _decide(m: Materials, result: dict[str, Any], large: bool) -> tuple[Any, str]:
    if re.search(r"user's emotional trajectory", m.rules):
        value = frustration(m)
        return (
            value,
            f"searched the user's turns for signs of frustration and of satisfaction at the end; found " f"{value}",
        )
    finding = _find(m, large)
    if finding is not None and result.get("type", "string") == "string" and "enum" not in result:
        return ("yes" if finding.score >= SUPPORTED[large] else "no"), finding.reason
    if finding is None:
        sentiment = _as_sentiment(m, result, large)
        if sentiment is not None:
            return sentiment
        finding = _by_instructions(m, large)
    return shape(finding.score, result, m.rules, SUPPORTED[large]), finding.reason


def _find(m: Materials, large: bool) -> Finding | None:
    """The finding of the built-in criterion that the rules describe, or None."""
    table: tuple[tuple[re.Pattern[str], Callable[[Materials, bool], Finding]], ...] = (
        *SESSION_CRITERIA,
        *CRITERIA,
    )
    decide = next((decide for pattern, decide in table if pattern.search(m.rules)), None)
    return decide(m, large) if decide else None


def _as_sentiment(m: Materials, result: dict[str, Any], large: bool) -> tuple[Any, str] | None:
    """For judges that rate a text's sentiment: the label or the point on the scale."""
    if not re.search(
        r"\bsentiment|\bhow (?:positive|favou?rable|satisfied|happy)|\bpolarity|\bopinion|\bmood|\bemotion",
        m.rules,
        re.I,
    ):
        return None
    if m.has("expectations") or (
        (m.has("outputs") and m.has("inputs")) and re.search(r"\bcorrect|\bagree|\bmatch|\bwhether", m.rules, re.I)
    ):
        return _label_is_right(m, result, large)
    text = m.get("inputs", "outputs", "text")
    opinion = judge_text(text, large)
    reason = f"favourable words weigh {opinion.favourable:.1f}, unfavourable ones {opinion.unfavourable:.1f}"
    labels = tuple(map(str, result.get("enum") or ())) or find_labels(m.rules)
    if (
        labels
        and (any(map(polarity, labels)) or all(re.fullmatch(r"-?\d+", label) for label in labels))
        and result.get("type") != "boolean"
    ):
        label = choose_label(labels, text, opinion)
        return _typed(label, result), reason
    share = 0.5 + max(-3.0, min(3.0, opinion.score)) / 6 if opinion.sign else 0.5
    return shape(share, result, m.rules, 0.5), reason


def _label_is_right(m: Materials, result: dict[str, Any], large: bool) -> tuple[Any, str] | None:
    """Whether a label given as output fits the text given as input, or the label that was expected."""
    given = m.get("outputs")
    if m.has("expectations"):
        finding = support(m.get("expectations"), given, careful=large)
        return shape(finding.score, result, m.rules, SUPPORTED[large]), finding.reason
    labels = ("positive", "negative", "neutral")
    named = [label for label in labels if label in given.lower()]
    own = choose_label(labels, m.get("inputs"), judge_text(m.get("inputs"), large))
    right = named == [own]
    return (
        shape(float(right), result, m.rules, 0.5),
        f"the mock reads the text as {own}, the output says {shorten(given, 40)!r}",
    )


def _by_instructions(m: Materials, large: bool) -> Finding:
    """A judge of one's own: compare with what is expected, check what rules can check, else ask whether the
    output is on topic."""
    outputs, inputs = m.get("outputs", "answer", "response", "output", "text"), m.get(
        "inputs", "question", "request", "input"
    )
    expected = m.get("expectations", "expected_response", "expected_output", "reference")
    if expected:
        short = min(len(expected), len(outputs)) < 40
        return (
            same_meaning(outputs, expected, large)
            if short and len(outputs) < 40
            else support(expected, outputs, inputs, large)
        )
    rules = [s for s in sentences(_instructions(m.rules)) if len(s) > 10]
    checked = [(finding, s) for s in rules if (finding := check(s, outputs, inputs)) is not None]
    if checked:
        share = sum(finding.score for finding, _ in checked) / len(checked)
        worst, rule = min(checked, key=lambda pair: pair[0].score)
        return Finding(share, f"{len(checked)} instruction(s) checked; weakest {shorten(rule, 60)!r}: {worst.reason}")
    context = m.get("context", "document")
    if context:
        return support(outputs, context, inputs, large)
    finding = relevance(inputs, outputs)
    return Finding(
        min(1.0, finding.score * 1.8),
        f"{finding.reason}; the mock has no rule for these instructions beyond that",
    )


def _instructions(rules: str) -> str:
    """The part of the rules that the judge's author wrote."""
    rules = re.sub(r"\{\{\s*inputs\s*\}\}", "the question", re.sub(r"\{\{\s*outputs\s*\}\}", "the answer", rules))
    own = re.split(r"your task:|^Instructions\s*-+", rules, flags=re.I | re.M)[-1]
    return re.split(r"you \*must\* format your evaluation", own, flags=re.I)[0]


def shape(score: float, result: dict[str, Any], rules: str, threshold: float) -> Any:
    """A score from 0 to 1 as the type that is asked for: a literal, a boolean, a number on the scale, or a
    word."""
    if result.get("enum"):
        return _on_options(score, [str(value) for value in result["enum"]], result, threshold)
    kind = result.get("type", "string")
    if kind == "boolean":
        return score >= threshold
    if kind in ("integer", "number"):
        low, high = _find_scale(rules, result)
        value = low + score * (high - low)
        return round(value) if kind == "integer" else round(value, 3)
    options = _named_options(rules)
    return _on_options(score, options, result, threshold)


def _find_scale(rules: str, result: dict[str, Any]) -> tuple[float, float]:
    if "minimum" in result and "maximum" in result:
        return float(result["minimum"]), float(result["maximum"])
    for pattern in (_SCALE, _SCALE_BARE):
        found = pattern.search(_instructions(rules))
        if found and float(found[1]) < float(found[2]):
            return float(found[1]), float(found[2])
    return (0.0, 1.0) if result.get("type") == "number" else (1.0, 5.0)


def _named_options(rules: str) -> list[str]:
    """The verdicts that the instructions name, in quotes or as a known pair; else yes and no."""
    own = _instructions(rules)
    quoted = [option for option in dict.fromkeys(_QUOTED.findall(own)) if _rank(option)]
    if len(quoted) >= 2:
        return quoted
    for pair in _VERDICTS:
        if all(re.search(rf"\b{word}\b", own, re.I) for word in pair):
            return list(pair)
    return ["yes", "no"]


def _on_options(score: float, options: list[str], result: dict[str, Any], threshold: float) -> Any:
    """The option at the score's place, options ordered from bad to good; of two, the good one from the
    threshold on."""
    if all(re.fullmatch(r"-?\d+(?:\.\d+)?", option) for option in options):
        ordered = sorted(options, key=float)
    else:
        ranks = {option: (_rank(option), -place) for place, option in enumerate(options)}
        # Options that no rule ranks keep the order in which authors write them: the best first.
        ordered = sorted(options, key=lambda option: ranks[option])
    if len(ordered) == 2:
        return _typed(ordered[score >= threshold], result)
    return _typed(ordered[min(len(ordered) - 1, int(score * len(ordered)))], result)


def _rank(option: str) -> float:
    word = option.lower().strip()
    for good, bad in _VERDICTS:
        if word in (good, bad):
            return 2.0 if word == good else -2.0
    known = {
        "partially": -0.1, "partial": -0.1, "somewhat": 0.1, "fully": 2.0, "full": 2.0, "high": 2.0,
        "medium": 0.0, "low": -2.0, "none": -2.5, "acceptable": 0.5, "supported": 1.5, "unsupported": -1.5,
        "grounded": 1.5, "ungrounded": -1.5, "complete": 1.5, "incomplete": -1.5, "not": -2.0, "very": 2.0,
        "always": 2.0, "never": -2.0, "concise": 1.5, "verbose": -1.5, "safe": 1.5, "unsafe": -1.5,
        "fair": -0.2, "ok": 0.3, "okay": 0.3,
    }  # fmt: skip
    first = re.split(r"[\s_-]", word)[0]
    return known.get(word, known.get(first, WORDS.get(word, WORDS.get(first, 0.0))))


def _typed(label: str, result: dict[str, Any]) -> Any:
    if result.get("enum"):
        return next(value for value in result["enum"] if str(value) == label)
    if result.get("type") in ("integer", "number") and re.fullmatch(r"-?\d+(?:\.\d+)?", label):
        return int(label) if result["type"] == "integer" else float(label)
    return label
