"""Which labels a prompt allows, in what form it wants the answer, and which text it wants labelled."""

import re
from dataclasses import dataclass
from functools import lru_cache

from .lexicon import WORDS

SENTIMENT_LABELS = ("positive", "negative", "neutral")
_TASK = re.compile(
    r"\bonly (?:with )?(?:one |the |a )?label\b|\blabels?\s*[:=]|\b(?:choose|pick|select|"
    r"answer with|reply with) (?:exactly )?one of\b|"
    r"\bsentiments?\b(?! analysis\?)|\bclassif(?:y|ies|ier|ication)\b|\bpolarity\b|"
    r"\bcategori[sz]e\b|\bpositive\b.{0,60}\bnegative\b|"
    r"\bnegative\b.{0,60}\bpositive\b|\brates?\b.{0,40}\b(?:reviews?|texts?|comments?|tweets?|"
    r"from -?\d|\d to|1-5)\b|\bhow does the (?:reviewer|author|customer|writer) feel",
    re.I | re.S,
)
_ITEM = r"[\"'`*]{0,2}(?:(?:very|strongly|somewhat|slightly|mostly) )?[A-Za-z][\w-]{1,24}[\"'`*]{0,2}"
_LIST = re.compile(
    rf"({_ITEM}(?:\s*(?:,|/|\||;)\s*(?:or |and |\bor\b )?{_ITEM})+(?:,?\s*(?:or|"
    rf"and)\s+{_ITEM})?|{_ITEM}\s+(?:or|and)\s+{_ITEM})"
)
_BULLETS = re.compile(r"^\s*[-*•]\s*[\"'`*]{0,2}([A-Za-z][\w /-]{1,24}?)[\"'`*]{0,2}\s*(?:[:(–-].*)?$", re.M)
_AFTER_COLON = re.compile(
    r"(?:labels?|categories|classes|options|one of|among|values?)\b[^:\n.]{0,30}:\s*([^\n.]+)", re.I
)
_SCALE = re.compile(
    r"\b(?:from |scale of |scale )?(-?\d+)\s*(?:to|-|–|and|through|" r"…)\s*(-?\d+)\b(?:\s*(?:stars?|scale|points?))?",
    re.I,
)
_ONE_WORD = re.compile(
    r"\b(?:one|single|1)[- ]word\b|\bonly (?:with )?(?:the |one |a single |its )?(?:\w+ "
    r")?(?:label|word|sentiment|categor|class|name|number|digit|score)|"
    r"\bjust (?:the |one )(?:\w+ )?(?:label|word|sentiment|category|class|number)|\blabel "
    r"only\b|\bnothing else\b|\bno (?:other|extra) (?:text|words)|"
    r"\b(?:no|without|don't add|do not add)(?: any)? (?:explanation|comment|further text|"
    r"punctuation)|\bdo(?:n't| not) explain\b|\bexactly one (?:of|label|word)|"
    r"\b(?:answer|respond|reply|output|return|say)(?: me)?(?: with)? (?:only|just|exactly|"
    r"strictly)\b|\bone of these (?:words|labels)\b|"
    r"\bone label per (?:line|row|review|text)|\blabel[s]? (?:alone|per line)",
    re.I,
)
_ANSWER_LINE = re.compile(
    r"(?:^|\n)\s*(?:sentiment|label|answer|category|class|output|result|rating|classification)\s*:\s*$", re.I
)
_FIELD = (
    r"review|text|input|tweet|sentence|comment|feedback|message|customer review|document|"
    r"statement|post|content|email|ticket"
)
_MARK = re.compile(rf"(?:^|(?<=[\s.!?\"(]))(?:{_FIELD})(?: text| below)?\s*(?:#?\d+)?\s*:[ \t]*\n?", re.I)
_TAG = re.compile(rf"<({_FIELD.replace(' ', '_')})\b[^>]*>(.*?)</\1>", re.S | re.I)
_FENCE = re.compile(r"(?:\"\"\"|```|''')\s*(.+?)\s*(?:\"\"\"|```|''')", re.S)
_ANSWER_MARK = re.compile(
    r"\n\s*(?:sentiment|label|answer|category|class|output|result|rating|classification)\s*:", re.I
)
_ORDER_WORDS = re.compile(
    r"\b(?:sentiment|classif\w*|label\w*|categor\w*|one word|positive|negative|neutral|json|"
    r"reply|respond|answer|output|return|explain|explanation|polarity|the following|word)\b",
    re.I,
)
_ORDER_START = re.compile(
    r"^\W*(?:classify|answer|respond|reply|decide|determine|return|output|label|rate|tell|what|"
    r"you are|you're|use|only|consider|is the|is this|do not|don't|give|judge|"
    r"say|choose|pick|think|analy[sz]e|identify|read|please|assign|the (?:label|answer|"
    r"sentiment)|no |be |if |when |how|irony|sarcasm|allowed|possible|here|predict|detect|"
    r"mixed|watch|pay|count|treat|one|write|write|for each)\b",
    re.I,
)
_ROW = re.compile(
    r"^\s*(?:\[?(\d{1,3})[.):\]]|<(\d{1,3})>)\s+(.*?)(?=^\s*(?:\[?\d{1,3}[.):\]]|<\d{1,3}>)\s+|\Z)",
    re.S | re.M,
)


@dataclass(frozen=True)
class LabelTask:
    """What a classification prompt asks: the labels in its spelling, whether it insists on the bare label,
    and on what texts."""

    labels: tuple[str, ...]
    listed: bool
    bare: bool
    texts: tuple[str, ...]
    numbered: bool


def asks_for_label(instructions: str) -> bool:
    """Whether the instructions ask to classify, label or rate a text."""
    return bool(_TASK.search(instructions))


def read_task(system: str, user: str) -> LabelTask:
    """Read a classification prompt. The labels come from the instructions, never from the text to label."""
    rows = _find_rows(user)
    texts = tuple(rows) if rows else (find_text(user, whole=asks_for_label(system)),)
    instructions = f"{system}\n{_instructions_in(user, texts)}"
    labels = find_labels(instructions)
    shown = _labels_of_examples(user)
    bare = _wants_bare_label(instructions) or bool(_ANSWER_LINE.search(user) and (shown or labels))
    return LabelTask(labels or shown or SENTIMENT_LABELS, bool(labels or shown), bare, texts, bool(rows))


@lru_cache(maxsize=1_000)
def _wants_bare_label(instructions: str) -> bool:
    return bool(_ONE_WORD.search(instructions))


def _instructions_in(user: str, texts: tuple[str, ...]) -> str:
    for text in texts:
        user = user.replace(text, " ", 1) if text != user else user
    return user


@lru_cache(maxsize=1_000)
def find_labels(instructions: str) -> tuple[str, ...]:
    """Labels that the instructions list, or an empty tuple. A scale such as 1 to 5 gives its numbers."""
    explicit = _AFTER_COLON.search(instructions)
    for candidate in (explicit.group(1) if explicit else "", *_LIST.findall(instructions)):
        labels = _split_labels(candidate)
        if len(labels) >= 2 and ((explicit and candidate == explicit.group(1)) or _opposed(labels)):
            return labels
    bullets = tuple(label.strip() for label in _BULLETS.findall(instructions))
    if len(bullets) >= 2 and _opposed(bullets):
        return bullets
    scale = _SCALE.search(instructions)
    if scale and -10 <= int(scale[1]) < int(scale[2]) <= 10:
        return tuple(str(value) for value in range(int(scale[1]), int(scale[2]) + 1))
    return ()


def _opposed(labels: tuple[str, ...]) -> bool:
    """Whether one of the labels is favourable and another is not: what makes a list of words a list of
    sentiments."""
    signs = [polarity(label) for label in labels]
    return max(signs) > 0 > min(signs)


def _split_labels(text: str) -> tuple[str, ...]:
    parts = re.split(r"\s*(?:,|/|\||;|\bor\b|\band\b)\s*", text)
    labels = [part.strip(" \"'`*.()[]{}") for part in parts]
    labels = [re.sub(r"^(?:as|is|either|with|word|words|be|into|one of)\s+", "", label) for label in labels if label]
    return tuple(
        dict.fromkeys(
            label for label in labels if re.fullmatch(r"[A-Za-z][\w -]{1,30}|-?\d+", label) and label.count(" ") < 3
        )
    )


@lru_cache(maxsize=10_000)
def polarity(label: str) -> float:
    """The sentiment that a label stands for: 1 positive, -1 negative, 2 and -2 strong ones, 0 for everything
    else."""
    words = re.findall(r"[a-z]+", label.lower())
    strength = 2.0 if {"very", "strongly", "extremely", "highly"} & set(words) else 1.0
    for word in words:
        if word in ("positive", "pos", "favorable", "favourable", "promoter", "up"):
            return strength
        if word in ("negative", "neg", "unfavorable", "unfavourable", "detractor", "down"):
            return -strength
    weight = next((WORDS[word] for word in words if word in WORDS), 0.0)
    return 0.0 if weight == 0 else strength * (1.0 if weight > 0 else -1.0)


def _labels_of_examples(user: str) -> tuple[str, ...]:
    """Labels used by few-shot examples in the message, in order of first use."""
    shown = re.findall(
        r"^\s*(?:sentiment|label|answer|category|class|output)\s*:\s*([A-Za-z][\w -]{0,20}|\d+)\s*$",
        user,
        re.M | re.I,
    )
    return tuple(dict.fromkeys(label.strip() for label in shown))


def _find_rows(user: str) -> list[str]:
    """The texts of a numbered batch, or nothing when the message is no batch."""
    found = list(_ROW.finditer(user))
    counted = [int(match[1] or match[2]) for match in found]
    if len(found) < 2 or counted != list(range(counted[0], counted[0] + len(found))) or counted[0] > 1:
        return []
    rows = [match[3].strip() for match in found]
    rows[-1] = re.split(r"\n\s*\n|\n\s*(?:answers?|labels?|output)\s*:", rows[-1], flags=re.I)[0].strip()
    orders = sum(bool(_ORDER_START.match(row) and _ORDER_WORDS.search(row)) for row in rows)
    return [] if orders * 2 > len(rows) else rows


def find_text(user: str, whole: bool = False) -> str:
    """The text to label in a user message: the tagged, fenced or marked one, the last of several, else what
    is no order."""
    for pattern, group in ((_TAG, 2), (_FENCE, 1)):
        found = list(pattern.finditer(user))
        if found:
            return found[-1].group(group).strip()
    marks = list(_MARK.finditer(user))
    text = user[marks[-1].end() :] if marks else user
    text = _ANSWER_MARK.split(text)[0] if marks else text
    text = _ANSWER_LINE.sub("", text)
    if whole and not marks:
        return text.strip()
    return (_drop_orders(text) or text).strip().strip('"“”').strip()


def _drop_orders(text: str) -> str:
    """The text without the instructions at its beginning and end."""
    lines = [line for line in re.split(r"\n+|(?<=[.:?])\s+(?=[A-Z\"“])", text) if line.strip()]
    while lines and _is_order(lines[0]):
        lines.pop(0)
    while lines and _is_order(lines[-1]):
        lines.pop()
    return "\n".join(lines)


def _is_order(line: str) -> bool:
    return bool(_ORDER_START.match(line) and _ORDER_WORDS.search(line)) or bool(
        re.match(r"^\s*[-*•]\s*\"?\w+\"?\s*(?::.*)?$", line)
    )
