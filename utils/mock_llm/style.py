"""How an answer is worded: length, sources, tone, audience, language and layout, as far as the prompt asks
for them."""

import re
from dataclasses import dataclass

_SHORT = re.compile(
    r"\b(?:one|a single|1) (?:short |plain |clear )?sentence\b|\bbrief(?:ly)?\b|"
    r"\bconcise(?:ly)?\b|\bshort(?:ly)?\b|\bterse(?:ly)?\b|\bin a few words\b|\bone line\b",
    re.I,
)
_LONG = re.compile(
    r"\b(?:detailed|in detail|thorough(?:ly)?|elaborate|comprehensive|long|at length|in full|step by step)\b",
    re.I,
)
_WORD_LIMIT = re.compile(
    r"\b(?:at most|up to|maximum(?: of)?|no more than|under|within|fewer than|less than|" r"in)\s+(\d+)\s+words?\b",
    re.I,
)
_CITE = re.compile(
    r"\bcit(?:e|es|ing|ations?)\b|\b(?:name|list|mention|give|state|include|add|quote|with) "
    r"(?:the |its |your |their |a )?(?:\w+ )?(?:sources?|source ids?|references?|file "
    r"names?)\b|"
    r"\[(?:source|id|n|1|number)\]",
    re.I,
)
_BULLETS = re.compile(r"\bbullet(?:s|ed)?\b|\bas a list\b", re.I)
_TONES = {
    r"formal(?:ly)?|professional(?:ly)?|polite": "Thank you for your question. ",
    r"friendly|casual|warm|cheerful|conversational|informal": "Good question, happy to help. ",
    r"enthusiastic|excited|upbeat": "What a good question. ",
    r"empathetic|apologetic|caring": "I understand why you ask. ",
}
_AUDIENCES = {
    r"child(?:ren)?|kids?|beginners?|novices?|laymen|non-experts?|five[- ]year|newcomers?|"
    r"non-technical": "Put simply: ",
    r"experts?|engineers?|developers?|specialists?|technical|professionals": "In technical terms: ",
    r"executives?|managers?": "In short: ",
}
_LANGUAGES = (
    "German|French|Spanish|Italian|Dutch|Portuguese|Japanese|Chinese|Polish|Russian|Korean|" "Turkish|Arabic|Hindi"
)


@dataclass(frozen=True)
class Style:
    """`sentences` is how many to quote at most; `word_limit` 0 means none."""

    sentences: int = 2
    word_limit: int = 0
    cite: bool = False
    bullets: bool = False
    opening: str = ""
    language: str = ""

    def write(self, found: tuple[str, ...], source: str = "") -> str:
        """The sentences found, worded as the prompt asks."""
        found = found[: self.sentences]
        text = "\n".join(f"- {s}" for s in found) if self.bullets else " ".join(found)
        if self.word_limit:
            text = " ".join(text.split()[: self.word_limit])
        if self.cite and source:
            text = f"{text} [{source}]"
        note = f" (The mock cannot write {self.language}; this is the passage's own wording.)" if self.language else ""
        return f"{self.opening}{text}{note}"


def read_style(frame: str) -> Style:
    """What the instructions say about the form of the answer."""
    limit = _WORD_LIMIT.search(frame)
    language = re.search(rf"\b(?:in|into|language:?)\s+({_LANGUAGES})\b", frame)
    number = re.search(
        r"\b(?:at most |up to |maximum |max )?(two|three|four|2|3|4) (?:short )?sentences\b", frame, re.I
    )
    length = 1 if _SHORT.search(frame) and not number else 4 if _LONG.search(frame) else 2
    if number:
        length = {"two": 2, "2": 2, "three": 3, "3": 3}.get(number.group(1).lower(), 4)
    return Style(
        sentences=length,
        word_limit=int(limit.group(1)) if limit else 0,
        cite=bool(_CITE.search(frame)),
        bullets=bool(_BULLETS.search(frame)),
        opening=_opening(frame),
        language=language.group(1) if language else "",
    )


def _opening(frame: str) -> str:
    tone = next(
        (
            text
            for cue, text in _TONES.items()
            if re.search(rf"\b(?:{cue})\b(?: tone| manner| style| way|ly)?", _tone_part(frame), re.I)
        ),
        "",
    )
    reader = re.search(
        r"\b(?:audience|reader|readers|for an?|for|to an?|aimed at|suitable for)\b[^\n.]{0,30}", frame, re.I
    )
    simply = next(
        (
            text
            for cue, text in _AUDIENCES.items()
            if reader and any(re.search(rf"\b(?:{cue})\b", r, re.I) for r in _reader_parts(frame))
        ),
        "",
    )
    return tone + simply


def _tone_part(frame: str) -> str:
    """The places that speak of tone: a passage that is friendly by itself does not count."""
    return " ".join(re.findall(r"[^\n.]{0,40}\b(?:tone|manner|style|voice|way|be)\b[^\n.]{0,40}", frame, re.I))


def _reader_parts(frame: str) -> list[str]:
    return re.findall(r"\b(?:audience|readers?|for|to|aimed at)\b[^\n.]{0,30}", frame, re.I)
