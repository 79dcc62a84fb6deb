"""Answering a classification prompt in the form that it asks for, or chattily where it asks for none."""

import json
import re

from .faults import unit_hash
from .kinds import offer_of, pick_route
from .labels import SENTIMENT_LABELS, LabelTask, polarity, read_task
from .prompt import Prompt
from .sentiment import Opinion, judge_text
from .text import content_words, overlap, shorten, words

_KEYS = re.compile(
    r"[\"'](\w+)[\"']\s*:|\b(?:keys?|fields?)\b[^\n:]{0,20}:?\s*((?:[\"'`]?\w+[\"'`]?(?:,\s*| and )?){1,5})",
    re.I,
)
_CONFIDENCE = re.compile(
    r"(?:label|sentiment|answer|word)>?(\s*[|,;:/]\s*)<?(?:your )?confidence|\byour " r"confidence\b", re.I
)
_OPENINGS = (
    "The review sounds rather {feel}, though a reader might see it differently.",
    "Reading it, I would call the overall mood {feel}; the main impression is of {why}.",
    "This comes across as {feel} to me, with some shades in between.",
)
_FEEL = {1: "favourable", -1: "unfavourable", 0: "balanced, with little that speaks for either side,"}
_SLIPS_PER_ROW = {
    True: (0.002, 0.04),
    False: (0.015, 0.25),
}  # large, small: per further row in a call, and at most


def classify(prompt: Prompt) -> str:
    """Answer a prompt that asks for a label, on one text or on the numbered rows of a batch."""
    task = read_task(prompt.system, prompt.bare_user)
    found = [_label(task, text, prompt.large, len(task.texts)) for text in task.texts]
    if task.numbered:
        return _answer_rows(prompt, [label for label, _ in found])
    label, opinion = found[0]
    if prompt.json_object or _wants_json(prompt.frame):
        return json.dumps(_fill_keys(prompt.frame, label, opinion, task.texts[0]))
    with_confidence = _CONFIDENCE.search(prompt.frame)
    if with_confidence:
        return f"{label}{with_confidence.group(1) or ', '}{opinion.confidence}"
    if task.bare:
        return label
    if task.listed:
        return _sentence(label, opinion)
    return _chat(opinion, task.texts[0])


def _label(task: LabelTask, text: str, large: bool, rows: int) -> tuple[str, Opinion]:
    opinion = judge_text(text, large)
    label = choose_label(task.labels, text, opinion)
    per_row, most = _SLIPS_PER_ROW[large]
    if rows > 1 and unit_hash("slip", large, rows, text) < min(most, per_row * (rows - 1)):
        others = [other for other in task.labels if other != label]
        label = others[int(unit_hash("which", text) * len(others))] if others else label
    return label, opinion


def choose_label(labels: tuple[str, ...], text: str, opinion: Opinion) -> str:
    """The label that fits the text: by its sentiment where labels are sentiments or a scale, else by shared
    words."""
    if all(re.fullmatch(r"-?\d+", label) for label in labels):
        return _on_scale(labels, opinion)
    signs = {label: polarity(label) for label in labels}
    if any(signs.values()):
        return _by_sign(signs, opinion)
    if sum(bool(offer_of(label)) for label in labels) >= 2:  # the labels are agents or tools to send the text to
        return pick_route(list(labels), text) or labels[-1]
    text_words = content_words(text)
    best = max(labels, key=lambda label: (overlap(content_words(label), text_words), _shared_letters(label, text)))
    if overlap(content_words(best), text_words) or _shared_letters(best, text) > 0.5:
        return best
    return next((label for label in labels if label.lower() in ("other", "unknown", "none", "general")), best)


def _by_sign(signs: dict[str, float], opinion: Opinion) -> str:
    mixed = [label for label in signs if label.lower() in ("mixed", "ambivalent", "both")]
    neutral = [label for label, sign in signs.items() if sign == 0 and label not in mixed]
    if mixed and opinion.mixed:
        return mixed[0]
    if opinion.sign == 0 and (neutral or mixed):
        return next((label for label in neutral if label.lower() in ("neutral", "okay", "ok")), (neutral or mixed)[0])
    sign = opinion.sign or (1 if opinion.score >= 0 else -1)
    wanted = sign * (2 if opinion.strong else 1)
    return min(signs, key=lambda label: (signs[label] == 0, abs(signs[label] - wanted), -signs[label] * sign))


def _on_scale(labels: tuple[str, ...], opinion: Opinion) -> str:
    ordered = sorted(labels, key=int)
    share = 0.5 + max(-3.0, min(3.0, opinion.score)) / 6 if opinion.sign else 0.5
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _shared_letters(label: str, text: str) -> float:
    """Largest share of a label word's first letters that some word of the text begins with."""

    def common(a: str, b: str) -> int:
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    return max((common(a, b) / len(a) for a in words(label) for b in words(text) if len(b) > 3), default=0.0)


def _wants_json(frame: str) -> bool:
    return bool(re.search(r"\bjson\b", frame, re.I)) and not re.search(r"\b(?:no|not|without) json\b", frame, re.I)


def _fill_keys(frame: str, label: str, opinion: Opinion, text: str) -> dict[str, object]:
    found = [
        name for match in _KEYS.finditer(frame) for name in re.findall(r"\w+", match[1] or match[2]) if name != "and"
    ]
    keys = list(dict.fromkeys(found)) or ["sentiment"]
    return {key: _value_for(key, label, opinion, text) for key in keys}


def _value_for(key: str, label: str, opinion: Opinion, text: str) -> object:
    if re.search(r"confiden|probab|certain", key, re.I):
        return opinion.confidence
    if re.search(r"score|rating|stars", key, re.I) and not re.fullmatch(r"-?\d+", label):
        return round(max(-1.0, min(1.0, opinion.score / 3)), 2)
    if re.search(r"reason|explan|rationale|why|evidence|summary", key, re.I):
        return _reason(opinion, text)
    return int(label) if re.fullmatch(r"-?\d+", label) else label


def _reason(opinion: Opinion, text: str) -> str:
    return (
        f"Favourable words weigh {opinion.favourable:.1f}, unfavourable ones {opinion.unfavourable:.1f}, "
        f"in: {shorten(text, 60)}"
    )


def _answer_rows(prompt: Prompt, labels: list[str]) -> str:
    if prompt.json_object or _wants_json(prompt.frame):
        rows: object = {"labels": labels} if prompt.json_object else labels
        return json.dumps(rows)
    if re.search(r"\bnumber|\bn\.|\b1\.\s*(?:positive|label|<)|number(?:ed)? list|same numbers", prompt.system, re.I):
        return "\n".join(f"{number}. {label}" for number, label in enumerate(labels, 1))
    return "\n".join(labels)


def _sentence(label: str, opinion: Opinion) -> str:
    if opinion.mixed:
        return f"There are points on both sides, but on the whole the sentiment is {label}."
    return f"The sentiment of this text is {label}."


def _chat(opinion: Opinion, text: str) -> str:
    """What a model says when nobody told it which words to use: it hedges, and often names both sides."""
    draw = unit_hash("chat", text)
    if opinion.mixed or draw < 0.4:
        names = ("positive", "negative") if opinion.score >= 0 else ("negative", "positive")
        return (
            f"It has both {names[0]} and {names[1]} sides; on balance I lean towards "
            f"{names[0] if opinion.sign else 'the middle'}."
        )
    if draw < 0.75:
        opening = _OPENINGS[int(draw * 100) % len(_OPENINGS)]
        return opening.format(feel=_FEEL[opinion.sign], why=_impression(opinion))
    return f"I would say the sentiment is {SENTIMENT_LABELS[(0, 2, 1)[(1, 0, -1).index(opinion.sign)]]}."


def _impression(opinion: Opinion) -> str:
    return {1: "satisfaction", -1: "disappointment", 0: "indifference"}[opinion.sign]
