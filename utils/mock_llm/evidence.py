"""Finding the sentences that answer a question: overlap of stemmed content words, weighted by how rare each
word is."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from .passages import Passage
from .text import content_words, sentences, words

# A passage is data. Sentences in it that give orders to a model are never quoted and never followed.
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass) (?:all|any|the|your|every|previous|prior|"
    r"earlier|above|these|those)\b|\bsystem prompt\b|"
    r"\byou (?:must|should|will|shall) (?:now |only |always |instead )*(?:answer|say|reply|"
    r"respond|output|print|call|reveal)\b|\bnew instructions?\b|"
    r"^\W*(?:instructions?|note to (?:the )?(?:ai|assistant|model)|assistant|system|ai|"
    r"llm)\s*[:,]|\b(?:respond|reply|answer) (?:only )?with\b|\bas an ai\b|"
    r"\b(?:dear|attention) (?:ai|assistant|model|llm)\b|\binstead,? (?:say|answer|reply|output|write)\b",
    re.I,
)
# Comments, calls and chat markers are no sentences about the world either, whatever words they hold.
_MARKUP = re.compile(r"<!--.*?-->|<(\w*(?:tool|function)\w*)\b[^>]*>.*?</\1>|<\|[^|<>\n]{1,40}\|>", re.S | re.I)
_PRONOUN = re.compile(r"\W*(?:it|its|they|their|these|this|those|that|he|she|his|her|both|such)\b", re.I)
# What a word of the question counts that a pronoun refers to, that stands in the sentence before, or elsewhere around.
_REFERRED, _NEIGHBOUR, _PASSAGE = 0.9, 0.6, 0.35


@dataclass(frozen=True)
class Evidence:
    """Sentences that answer a question, in reading order, from one passage.

    `coverage` is the share (0 to 1) of the question's weighted words that the best of them holds.
    """

    sentences: tuple[str, ...]
    passage: Passage
    coverage: float


@dataclass(frozen=True)
class _Candidate:
    text: str
    place: int
    own: frozenset[str]
    beside: frozenset[str]
    around: frozenset[str]
    passage: Passage


def find_evidence(question: str, passages: tuple[Passage, ...], large: bool, limit: int = 2) -> Evidence | None:
    """The best sentences for the question, or None when no sentence shares a word with it.

    The large model weighs every sentence of all passages; the small one takes the first passage that matches
    at all.
    """
    candidates = _candidates(passages)
    weights = _weigh(question, candidates)
    if not weights or not candidates:
        return None
    if not large:
        candidates = _first_matching(candidates, weights) or candidates
    best = max(candidates, key=lambda c: _cover(c, weights) + _kind_bonus(question, c.text))
    coverage = _cover(best, weights)
    if not coverage:
        return None
    return Evidence(_with_more(best, candidates, weights, limit), best.passage, coverage)


def missing_names(question: str, passages: tuple[Passage, ...]) -> set[str]:
    """Names and numbers of the question that no passage mentions."""
    inner = re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z]{2,}|(?<!\w)\d[\d.,]*\d|(?<!\w)\d(?!\w)", question)
    known = {concept for p in passages for concept in content_words(f"{p.source} {p.text}")}
    return {name for name in inner if not set(content_words(name)) <= known}


def lacks_number(question: str, evidence: Evidence) -> bool:
    """Whether the question asks for a number and the sentences found hold none."""
    asked, held = _ASKED_FOR[0]
    return bool(asked.search(question)) and not any(held.search(text) for text in evidence.sentences)


def is_order(sentence: str) -> bool:
    """Whether a sentence in a passage speaks to the model instead of about the world."""
    return bool(_ORDERS.search(sentence))


def _candidates(passages: tuple[Passage, ...]) -> list[_Candidate]:
    """All sentences, each with the words of the one before it; paragraphs without a source read on from each other."""
    found: list[_Candidate] = []
    before: frozenset[str] = frozenset()
    for passage in passages:
        texts = [text for text in sentences(_MARKUP.sub(" ", passage.text)) if not is_order(text)]
        sets = [frozenset(content_words(text)) for text in texts]
        around = frozenset(content_words(re.sub(r"[_./-]", " ", passage.source))).union(*sets)
        before = frozenset() if passage.source else before
        for place, (text, own) in enumerate(zip(texts, sets, strict=True)):
            found.append(_Candidate(text, place, own, before, around, passage))
            before = own if not _PRONOUN.match(text) else own | before
    return found


def _weigh(question: str, candidates: list[_Candidate]) -> dict[str, float]:
    """Inverse sentence frequency of the question's words; a word that stands nowhere weighs most."""
    frequency = Counter(concept for candidate in candidates for concept in candidate.own)
    total = max(1, len(candidates))
    return {concept: math.log(1 + total / (frequency[concept] or 0.5)) for concept in content_words(question)}


def _cover(candidate: _Candidate, weights: dict[str, float]) -> float:
    found = 0.0
    beside = _REFERRED if _PRONOUN.match(candidate.text) else _NEIGHBOUR
    for concept, weight in weights.items():
        if concept in candidate.own:
            found += weight
        elif concept in candidate.beside:
            found += weight * beside
        elif concept in candidate.around:
            found += weight * _PASSAGE
    # A heading or a bare list entry repeats the question's words without answering it.
    share = found / sum(weights.values())
    return share if any(concept in candidate.own for concept in weights) else share * 0.5


# (what the question asks, what a sentence that answers it holds): a number, a person, a time, a reason.
_ASKED_FOR = tuple(
    (re.compile(asked, re.I), re.compile(held))
    for asked, held in (
        (
            r"\bhow (?:many|much|long|often|old|far|fast|large|big|high|tall)\b|"
            r"\bwhat (?:percent|share|temperature|price)",
            r"(?i)\d|\bone (?=[a-z])|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve)\b|"
            r"\b(?:once|twice|daily|weekly)\b",
        ),
        (r"^\s*(?:who|whose|whom)\b|\bwhich (?:person|author)", r"(?<=[a-z,] )[A-Z][a-z]+"),
        (
            r"\bwhen\b|\bwhat (?:year|date|day|time)\b",
            r"(?i)\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:january|march|april|june|july|august)\b",
        ),
        (r"\bwhy\b", r"(?i)\bbecause|\bsince\b|\bdue to|\bso that|\btherefore"),
    )
)


def _kind_bonus(question: str, sentence: str) -> float:
    """A little extra for the kind of answer that the question's words ask for; less for questions and scraps."""
    bonus = -0.25 if sentence.endswith("?") or len(words(sentence)) < 4 else 0.0
    return bonus + sum(0.12 for asked, held in _ASKED_FOR if asked.search(question) and held.search(sentence))


def _first_matching(candidates: list[_Candidate], weights: dict[str, float]) -> list[_Candidate]:
    """All sentences of the first passage in which two of the question's words, or the only one, stand
    together."""
    needed = min(2, len(weights))
    for candidate in candidates:
        if len(candidate.own & weights.keys()) >= needed:
            return [other for other in candidates if other.passage is candidate.passage]
    return []


def _with_more(
    best: _Candidate, candidates: list[_Candidate], weights: dict[str, float], limit: int
) -> tuple[str, ...]:
    """The best sentence, and further ones of its passage that add words of the question, in reading order."""
    chosen = [best]
    missing = weights.keys() - best.own
    same = [c for c in candidates if c.passage is best.passage and c is not best]
    while len(chosen) < limit and missing:
        more = max(same, key=lambda c: sum(weights[w] for w in c.own & missing), default=None)
        if more is None or not more.own & missing:
            break
        chosen.append(more)
        same.remove(more)
        missing -= more.own
    return tuple(c.text for c in sorted(chosen, key=lambda c: c.place))
