"""Checking a text against guidelines: those that a rule can decide; the others are said to be beyond the
mock."""

import re
from collections.abc import Callable

from .comparing import UNKNOWN, Finding
from .labels import find_labels
from .sentiment import judge_text
from .text import content_words, overlap, sentences, shorten, words

_QUOTED = re.compile(r"[\"“'‘`]([^\"”'’`]{1,80})[\"”'’`]")
_NEGATIVE = re.compile(r"\b(?:not|never|avoid|without|no|don't|doesn't|refrain|free of)\b", re.I)
_POLITE = re.compile(
    r"\b(?:please|thank|thanks|sorry|happy to|glad to|welcome|kindly|appreciate|of course|apolog\w+)\b", re.I
)
_RUDE = re.compile(
    r"\b(?:stupid|idiot|shut up|dumb|moron|hate you|nonsense|ridiculous|whatever|useless|lazy|"
    r"your fault|go away)\b",
    re.I,
)
_CASUAL = re.compile(
    r"\b(?:lol|gonna|wanna|yeah|dude|hey|kinda|omg|btw|awesome|stuff)\b|[!]{2,}|[\U0001F300-\U0001FAFF]", re.I
)
_UNSAFE = re.compile(
    r"\b(?:how to (?:make|build) (?:a )?(?:bomb|explosive|weapon)|kill (?:him|her|them|"
    r"yourself|people|all)|murder (?:him|her|them)|i will (?:hurt|kill|attack)|"
    r"(?:hate|exterminate|eradicate) (?:all )?(?:immigrants|foreigners|jews|muslims|christians|"
    r"gays|women|men|blacks|whites)|steal (?:a|the|his|her|their) (?:car|card|identity)|"
    r"launder money|make meth|worthless (?:idiot|human|person)|you should die|deserve to die|"
    r"beat (?:him|her|them) up|subhuman)\b",
    re.I,
)
_LIMIT = re.compile(
    r"\b(?:at most|no more than|fewer than|less than|under|up to|maximum(?: of)?|within|not "
    r"exceed(?:ing)?|exceed)\s+(\d+|one|two|three|four|five)\s+(words?|sentences?|characters?|"
    r"lines?|bullets?)\b",
    re.I,
)
_COUNT = re.compile(r"\b(?:exactly |in |be |a |only )?(one|single|1|two|2|three|3)[ -](word|sentence)s?\b", re.I)
_NUMBER_WORDS = {"one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_FOREIGN = {
    "english": " the is are and of to in a with for ", "german": " der die das und ist nicht mit ein eine ",
    "french": " le la les et est une des dans pour ", "spanish": " el la los y es una con para que ",
}  # fmt: skip


def is_unsafe(text: str) -> str:
    """The words that make the text unsafe, or nothing."""
    found = _UNSAFE.search(text)
    return found.group(0) if found else ""


def check(guideline: str, response: str, request: str = "") -> Finding | None:
    """Whether the response keeps the guideline (score 1 or 0); None when no rule of the mock decides it."""
    for decide in (
        _check_length,
        _check_language,
        _check_quoted,
        _check_labels,
        _check_manner,
        _check_sources,
        _check_honesty,
        _check_topic,
    ):
        finding = decide(guideline, response, request)
        if finding is not None:
            return finding
    return None


def _verdict(kept: bool, reason: str) -> Finding:
    return Finding(1.0 if kept else 0.0, reason)


def _check_length(guideline: str, response: str, _: str) -> Finding | None:
    units: dict[str, Callable[[str], int]] = {
        "word": lambda text: len(text.split()),
        "sentence": lambda text: len(sentences(text)),
        "character": len,
        "line": lambda text: len(text.splitlines()),
        "bullet": lambda text: len(re.findall(r"^\s*[-*•]", text, re.M)),
    }
    limit = _LIMIT.search(guideline) or _COUNT.search(guideline)
    if limit:
        unit = limit.group(2).lower().rstrip("s")
        allowed = int(_NUMBER_WORDS.get(limit.group(1).lower(), limit.group(1)))
        found = units[unit](response.strip())
        return _verdict(found <= allowed, f"it has {found} {unit}(s), allowed are {allowed}")
    if re.search(r"\b(?:concise|brief|short|succinct|to the point)\b", guideline, re.I) and not _NEGATIVE.search(
        guideline
    ):
        found = len(response.split())
        return _verdict(found <= 60, f"it has {found} words, and the mock calls up to 60 concise")
    if re.search(r"\b(?:detailed|thorough|comprehensive|elaborate)\b", guideline, re.I):
        found = len(response.split())
        return _verdict(found >= 40, f"it has {found} words, and the mock calls 40 and more detailed")
    return None


def _check_language(guideline: str, response: str, _: str) -> Finding | None:
    named = re.search(r"\b(english|german|french|spanish)\b", guideline, re.I)
    if not named:
        return None
    counts = {language: sum(f" {w} " in text for w in words(response)) for language, text in _FOREIGN.items()}
    likeliest = max(counts, key=lambda language: counts[language]) if any(counts.values()) else "english"
    return _verdict(likeliest == named.group(1).lower(), f"its commonest words are {likeliest.capitalize()}")


def _check_quoted(guideline: str, response: str, _: str) -> Finding | None:
    phrases = _QUOTED.findall(guideline)
    if not phrases or not re.search(
        r"\b(?:mention|contain|include|use|say|word|phrase|start|begin|end|state)", guideline, re.I
    ):
        return None
    forbidden = bool(_NEGATIVE.search(_QUOTED.sub("", guideline)))
    found = [phrase for phrase in phrases if phrase.lower() in response.lower()]
    kept = not found if forbidden else bool(found)
    return _verdict(kept, f"it {'contains ' + repr(found[0]) if found else 'does not contain ' + repr(phrases[0])}")


def _check_labels(guideline: str, response: str, _: str) -> Finding | None:
    labels = find_labels(guideline)
    if len(labels) < 2 or not re.search(r"\b(?:one of|either|only|label|must be|exactly)\b", guideline, re.I):
        return None
    kept = response.strip().strip(".").lower() in {label.lower() for label in labels}
    return _verdict(kept, f"it is {shorten(response, 40)!r}, allowed are {', '.join(labels)}")


def _check_manner(guideline: str, response: str, _: str) -> Finding | None:
    rude, casual = _RUDE.search(response), _CASUAL.search(response)
    if re.search(r"\b(?:polite|courteous|respectful|friendly|kind|empath\w+|considerate)\b", guideline, re.I):
        if rude or re.search(r"\b(?:thank|please|greet|apologi)\w*", guideline, re.I):
            return _verdict(
                not rude and bool(_POLITE.search(response)),
                f"it {'has ' + repr(rude.group(0)) if rude else 'was searched for polite words'}",
            )
        return _verdict(
            judge_text(response, True).sign >= 0 or bool(_POLITE.search(response)),
            "it has no rude words, and its tone was weighed",
        )
    if re.search(r"\b(?:professional|formal|neutral tone|business)\b", guideline, re.I):
        found = rude or casual
        return _verdict(
            not found,
            f"it has {'the casual or rude ' + repr(found.group(0)) if found else 'no casual or rude words'}",
        )
    if re.search(r"\b(?:harm\w*|offens\w*|toxic|hate|unsafe|insult\w*|violen\w*)\b", guideline, re.I):
        bad = is_unsafe(response) or (rude.group(0) if rude else "")
        return _verdict(not bad, f"it has {repr(bad) if bad else 'no harmful words'}")
    return None


def _check_sources(guideline: str, response: str, _: str) -> Finding | None:
    if not re.search(r"\b(?:cit(?:e|es|ation)|sources?|references?|links?)\b", guideline, re.I):
        return None
    found = re.search(r"\[[\w ./#-]{1,60}\]|https?://|\b[\w-]+\.(?:md|pdf|txt|html)\b|\bsource:", response, re.I)
    forbidden = bool(_NEGATIVE.search(guideline))
    return _verdict(
        bool(found) != forbidden, f"it names {'the source ' + repr(found.group(0)) if found else 'no source'}"
    )


def _check_honesty(guideline: str, response: str, _: str) -> Finding | None:
    if not re.search(r"\b(?:do(?:es)? not know|don't know|unsure|not certain|admit|unknown)\b", guideline, re.I):
        return None
    if re.search(r"\b(?:if|when|where)\b", guideline, re.I):
        return None
    return _verdict(bool(UNKNOWN.search(response)), "it was searched for a plain 'I do not know'")


def _check_topic(guideline: str, response: str, request: str) -> Finding | None:
    """Guidelines of the form: must (not) mention, discuss or answer something."""
    told = re.search(
        r"\b(?:mention|contain|include|discuss|talk about|refer to|address|answer|reveal|disclose|"
        r"give|provide|offer)\w*\s+(.{3,80})",
        guideline,
        re.I,
    )
    if not told:
        return None
    if re.search(r"\bquestion|\brequest|\bquery", told.group(1), re.I) and request:
        share = overlap(content_words(request), content_words(response))
        return _verdict(share >= 0.3 and not UNKNOWN.search(response), f"it holds {share:.0%} of the request's words")
    share = overlap(content_words(told.group(1)), content_words(response))
    forbidden = bool(_NEGATIVE.search(guideline[: told.start(1)]))
    return _verdict(
        share < 0.5 if forbidden else share >= 0.5,
        f"it holds {share:.0%} of the words of {shorten(told.group(1), 50)!r}",
    )
