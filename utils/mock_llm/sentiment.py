"""Sentiment by a lexicon: negation, intensifiers, contrast and some irony for the large model, bare words for
the small.

The method follows the well-known rules of lexicon-based analysis (Taboada et al. 2011; Hutto and Gilbert
2014) with word weights of this project's own.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from .lexicon import (
    CONTRASTS,
    DIMINISHERS,
    INTENSIFIERS,
    IRONIC_OPENINGS,
    MISHAPS,
    NEGATORS,
    NEUTRAL_CUES,
    NEUTRAL_PHRASES,
    PHRASES,
    WORDS,
)

_TOKEN = re.compile(r"[a-z]+(?:[-'][a-z]+)*|\d+|[.,;:!?()]")
_PHRASES_BY_FIRST: dict[str, list[tuple[list[str], float]]] = {}
for _phrase, _weight in sorted(PHRASES.items(), key=lambda item: -len(item[0].split())):
    _PHRASES_BY_FIRST.setdefault(_phrase.split()[0], []).append((_phrase.split(), _weight))
_EXCLAIMED = re.compile(
    r"\W*(?:oh |how |well |wow |just )?(?:great|wonderful|fantastic|perfect|brilliant|lovely|awesome|nice|super|"
    r"excellent|amazing|charming|marvell?ous|terrific|splendid|delightful|congratulations)\s*[,.!]"
)
_NEGATION_SCOPE = 5  # words
_NEGATED = -0.7  # a negated word turns and weakens: "not great" is milder than "awful"
_STRONG, _MIXED = 2.2, 1.5


@dataclass(frozen=True)
class Opinion:
    """How favourable and how unfavourable a text is (both at least 0), and the verdict drawn from them.

    `doubts` counts the words that the reader saw but could not interpret.
    """

    favourable: float
    unfavourable: float
    neutral_cues: int
    score: float
    doubts: int = 0

    @property
    def sign(self) -> int:
        """1 positive, -1 negative, 0 neutral."""
        limit = 1.6 if self.neutral_cues else 0.6
        balanced = min(self.favourable, self.unfavourable) >= 1 and abs(self.score) < 0.8
        if abs(self.score) < limit or balanced:
            return 0
        return 1 if self.score > 0 else -1

    @property
    def strong(self) -> bool:
        return abs(self.score) >= _STRONG and min(self.favourable, self.unfavourable) < 1

    @property
    def mixed(self) -> bool:
        return min(self.favourable, self.unfavourable) >= _MIXED

    @property
    def confidence(self) -> float:
        """Between 0.5 and 0.99: near the limits of neutral it is low."""
        distance = abs(self.score) if self.sign else max(0.0, 1.2 - abs(self.score))
        contested = min(self.favourable, self.unfavourable)
        return round(max(0.5, min(0.99, 0.55 + 0.15 * distance - 0.08 * contested - 0.12 * self.doubts)), 2)


def judge_text(text: str, large: bool) -> Opinion:
    """Read one text. The small model adds up words; the large one also reads negation, contrast and irony."""
    lowered = text.lower().replace("’", "'")
    tokens = _TOKEN.findall(lowered)
    hits = _find_hits(tokens, large)
    if large:
        hits = [(place, weight * _emphasis(place, tokens)) for place, weight in hits]
    favourable = sum(weight for _, weight in hits if weight > 0)
    unfavourable = -sum(weight for _, weight in hits if weight < 0)
    score = (favourable - unfavourable) / max(1.0, len(hits)) ** 0.5
    cues = sum(token in NEUTRAL_CUES for token in tokens) + sum(phrase in lowered for phrase in NEUTRAL_PHRASES)
    if large and _sounds_ironic(lowered, tokens, favourable):
        score, favourable, unfavourable = -max(1.5, favourable / 2), 0.0, max(unfavourable, favourable, 1.5)
    # The small model cannot read negation and contrast, but it can tell that they are there.
    doubts = 0 if large else sum(token in NEGATORS or token in CONTRASTS for token in tokens)
    return Opinion(favourable, unfavourable, cues if large else min(cues, 1), score, doubts)


def _find_hits(tokens: list[str], large: bool) -> list[tuple[int, float]]:
    """(place, weight) of every opinion word or phrase."""
    hits: list[tuple[int, float]] = []
    place = 0
    while place < len(tokens):
        length, weight = _weigh(tokens, place, large)
        if weight:
            hits.append((place, _modified(tokens, place, length, weight) if large else weight))
        place += length
    return hits


def _weigh(tokens: list[str], place: int, large: bool) -> tuple[int, float]:
    """How many tokens the expression at this place has, and its weight."""
    if large:
        for phrase, weight in _PHRASES_BY_FIRST.get(tokens[place], ()):
            if tokens[place : place + len(phrase)] == phrase:
                return len(phrase), weight
    return 1, word_weight(tokens[place])


@lru_cache(maxsize=50_000)
def word_weight(word: str) -> float:
    """The weight of a word, or of the word it is plainly inflected from; 0 for a word that carries no
    opinion."""
    if word in WORDS:
        return WORDS[word]
    for suffix in ("ly", "s", "ed", "d", "ing", "er", "est", "ness"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            base = word[: -len(suffix)]
            for candidate in (base, base + "e", base[:-1] + "y" if base.endswith("i") else base):
                if candidate in WORDS:
                    return WORDS[candidate]
    return 0.0


def _modified(tokens: list[str], place: int, length: int, weight: float) -> float:
    """The weight after intensifiers, diminishers and negators before the word."""
    if length > 1 and weight == 0:
        return 0.0
    before = _clause_before(tokens, place)
    for distance, word in enumerate(reversed(before[-2:])):
        weight *= INTENSIFIERS.get(word, DIMINISHERS.get(word, 1.0)) if distance < 2 else 1.0
    if length == 1 and tokens[place + 1 : place + 2] == ["enough"] and "not" in before:
        return -abs(weight) * 0.8
    scope = [word for word in before[-_NEGATION_SCOPE:] if word in NEGATORS]
    only = "not only" in " ".join(before[-_NEGATION_SCOPE:])
    negated = len(scope) % 2 == 1 and not only and not (length > 1 and tokens[place] in NEGATORS)
    if not negated:
        return weight
    return weight * (_NEGATED if weight > 0 else _NEGATED * 0.7)


def _clause_before(tokens: list[str], place: int) -> list[str]:
    """The words before `place` in the same clause."""
    start = place
    while (
        start > 0 and place - start < 6 and tokens[start - 1] not in ".,;:!?()" and tokens[start - 1] not in CONTRASTS
    ):
        start -= 1
    return tokens[start:place]


def _emphasis(place: int, tokens: list[str]) -> float:
    """What stands after "but" in its sentence weighs more than what stands before it; "although" is the
    reverse."""
    start = max((i + 1 for i in range(place) if tokens[i] in ".!?"), default=0)
    end = next((i for i in range(place, len(tokens)) if tokens[i] in ".!?"), len(tokens))
    for turn in range(start, end):
        if tokens[turn] in ("although", "though") and turn == start:
            comma = next((i for i in range(turn, end) if tokens[i] == ","), end)
            return 0.5 if place < comma else 1.4
        if tokens[turn] in ("but", "however", "yet", "unfortunately", "nevertheless", "except"):
            return 0.5 if place < turn else 1.4
    return 1.0


def _sounds_ironic(text: str, tokens: list[str], favourable: float) -> bool:
    """A warm opening that people use ironically, or exclaimed praise, together with a mishap."""
    mishap = any(token in MISHAPS for token in tokens)
    opening = any(text.startswith(cue) or f". {cue}" in text or f", {cue}" in text for cue in IRONIC_OPENINGS)
    opening = opening or bool(_EXCLAIMED.match(text))
    quoted = bool(
        re.search(
            r"(?:so-called|\"(?:new|fast|fresh|premium|quality|service|support|luxury|deluxe|helpful)\")",
            text,
        )
    )
    return mishap and (opening or (quoted and favourable < 4))
