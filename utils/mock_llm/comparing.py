"""Comparing texts the way a careful but literal reader would: shared words, numbers that agree, negation that
agrees."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from .lexicon import NEGATORS
from .text import content_words, numbers, overlap, sentences, shorten, words

UNKNOWN = re.compile(
    r"^\W*(?:i|we) (?:do not|don't|cannot|can't|could not) (?:know|answer|find|say|tell)|\bno "
    r"(?:passages|information)\b|\bnot enough information|\bdo(?:es)? not contain",
    re.I,
)
_OPPOSITES = [
    ("increas", "decreas"), ("true", "fals"), ("positiv", "negativ"), ("allow", "forbid"), ("open", "close"),
    ("before", "after"), ("above", "below"), ("minimum", "maximum"), ("first", "last"), ("posit", "negat"),
    ("success", "fail"), ("enabl", "disabl"), ("includ", "exclud"), ("more", "fewer"), ("buy", "sell"),
    ("hot", "cold"), ("correct", "incorrect"), ("yes", "no"), ("free", "paid"), ("start", "stop"),
    ("neutral", "negativ"), ("neutral", "positiv"),
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """How far a statement is supported (0 to 1), and why."""

    score: float
    reason: str


def support(statement: str, evidence: str, question: str = "", careful: bool = True) -> Finding:
    """How far `evidence` says what `statement` says; words that the question already holds count less.

    A careful reader also wants the numbers and the negation to agree.
    """
    wanted = content_words(statement) or words(statement)
    if not wanted or not evidence.strip():
        return Finding(0.0, "there is nothing to compare")
    asked = set(content_words(question))
    weights = {concept: 0.3 if concept in asked else 1.0 for concept in wanted}
    best, score = _best_sentence(weights, evidence)
    missing = [w for w in dict.fromkeys(wanted) if w not in content_words(evidence) and w not in words(evidence)]
    reason = f"{score:.0%} of the words of {shorten(statement, 70)!r} are there"
    if missing:
        reason += f" (not: {', '.join(missing[:5])})"
    if careful:
        return _check_details(statement, best, evidence, score, reason)
    return Finding(score, reason)


def _best_sentence(weights: dict[str, float], evidence: str) -> tuple[str, float]:
    """The sentence, or pair of neighbours, or whole text that holds most of the wanted words."""
    total = sum(weights.values())
    options = [
        (sum(weight for concept, weight in weights.items() if concept in found) / total * trust, text)
        for text, found, trust in _read_evidence(evidence)
    ]
    score, best = max(options, key=lambda option: option[0])
    return best, score


@lru_cache(maxsize=32)
def _read_evidence(evidence: str) -> list[tuple[str, set[str], float]]:
    """(text, its words, trust) of every sentence, pair of neighbours, and the whole, which may mix unrelated
    things."""
    parts = [(part, {*content_words(part), *words(part)}) for part in sentences(evidence)]
    read = [(text, found, 1.0) for text, found in parts]
    read += [(f"{a} {b}", in_a | in_b, 0.97) for (a, in_a), (b, in_b) in pairwise(parts)]
    return [*read, (evidence, set().union(*(found for _, found in parts)), 0.9)]


def _check_details(statement: str, best: str, evidence: str, score: float, reason: str) -> Finding:
    lost = numbers(statement) - numbers(evidence)
    if lost:
        return Finding(min(score, 0.2), f"{reason}; the number {', '.join(sorted(lost))} is not there")
    if score > 0.3 and contradicts(statement, best):
        return Finding(min(score, 0.2), f"{reason}; one affirms what the other denies")
    return Finding(score, reason)


def contradicts(first: str, second: str) -> bool:
    """Whether one of two texts on the same matter negates the other, or uses the opposite word."""
    a, b = words(first), words(second)
    if _negations(a) % 2 != _negations(b) % 2:
        return True
    stems_a, stems_b = set(content_words(first)), set(content_words(second))
    for left, right in _OPPOSITES:
        in_a, in_b = (_has(stems_a, left), _has(stems_a, right)), (_has(stems_b, left), _has(stems_b, right))
        if in_a != in_b and in_a == in_b[::-1] and any(in_a):
            return True
    return False


def _negations(found: list[str]) -> int:
    return min(1, sum(word in NEGATORS for word in found))


def _has(stems: set[str], start: str) -> bool:
    return any(stem.startswith(start) for stem in stems)


def same_meaning(first: str, second: str, careful: bool = True) -> Finding:
    """Whether two texts say the same: support in both directions."""
    if " ".join(words(first)) == " ".join(words(second)):
        return Finding(1.0, "both texts are the same words")
    forward, backward = support(first, second, careful=careful), support(second, first, careful=careful)
    return min(forward, backward, key=lambda finding: finding.score)


def relevance(question: str, answer: str) -> Finding:
    """How far an answer speaks of what the question asks."""
    if UNKNOWN.search(answer):
        return Finding(0.1, "the answer says that it does not know")
    asked, said = content_words(question), content_words(answer)
    share = overlap(asked, said)
    if share < 0.34 and len(said) <= 4 and _fits_kind(question, answer):
        return Finding(0.7, "the answer is short and of the kind that the question asks for")
    common = ", ".join(sorted(set(asked) & set(said))[:5]) or "nothing"
    return Finding(share, f"question and answer share {common}")


def _fits_kind(question: str, answer: str) -> bool:
    if re.search(r"\bhow (?:many|much|long|old|far|often)|\bwhen\b|what (?:year|date)", question, re.I):
        return bool(re.search(r"\d", answer))
    if re.match(r"\s*(?:is|are|do|does|did|can|was|were|has|have)\b", question, re.I):
        return bool(re.match(r"\W*(?:yes|no)\b", answer, re.I))
    if re.search(r"\b(?:sentiment|classif|label)", question, re.I):
        return bool(re.search(r"\b(?:positive|negative|neutral|mixed)\b", answer, re.I))
    return bool(re.search(r"\b[A-Z][a-z]+", answer))
