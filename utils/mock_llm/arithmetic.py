"""Turning arithmetic in words into an expression; operands may be phrases whose number has yet to be
found."""

import re
from collections.abc import Callable

from .kinds import NUMBER
from .text import content_words, overlap, sentences

_NUMBER_NAMES = "one two three four five six seven eight nine ten eleven twelve"
_WORD_NUMBERS = {name: value for value, name in enumerate(_NUMBER_NAMES.split(), 1)}
_LITERAL = re.compile(
    r"[-(]*\$?\d[\d,]*(?:\.\d+)?(?:\s*[)]*\s*(?:\*\*|[-+*/^×÷x])\s*[-(]*\s*\$?\d[\d,]*(?:\.\d+)?[)]*)+"
)
_A, _B = r"(?P<a>[^,;?]+?)", r"(?P<b>[^,;?.]+(?:\.\d+)?)"
_FORMS = (
    (rf"(?P<a>{NUMBER}) ?(?:%|percent) of {_B}", "{b} * {a} / 100"),
    (rf"\bmultipl(?:y|ied|ying) {_A} (?:by|with|times|and) {_B}", "{a} * {b}"),
    (rf"\bdivid(?:e|ed|ing) {_A} by {_B}", "{a} / {b}"),
    (rf"\bsubtract(?:ed|ing)? {_A} from {_B}", "{b} - {a}"),
    (rf"\badd(?:ed|ing)? {_A} (?:to|and) {_B}", "{a} + {b}"),
    (rf"\bincreas(?:e|ed|ing) {_A} by (?P<b>{NUMBER}) ?(?:%|percent)", "{a} * (100 + {b}) / 100"),
    (rf"\b(?:reduc|decreas)(?:e|ed|ing) {_A} by (?P<b>{NUMBER}) ?(?:%|percent)", "{a} * (100 - {b}) / 100"),
    (rf"\b(?:sum|total) of {_A} and {_B}", "{a} + {b}"),
    (rf"\bproduct of {_A} and {_B}", "{a} * {b}"),
    (rf"\bdifference between {_A} and {_B}", "{a} - {b}"),
    (rf"\bsquare root of {_B}", "{b} ** 0.5"),
    (rf"{_A} squared", "{a} ** 2"),
    (rf"\b(?:double|twice) {_B}", "{b} * 2"),
    (rf"\b(?:triple|three times) {_B}", "{b} * 3"),
    (rf"\bhalf (?:of )?{_B}", "{b} / 2"),
    (rf"\bhow much (?:do|would|will|are|does) (?P<a>{NUMBER}|\w+) (?P<b>[^,;?]+?) cost", "{a} * {b}"),
    (rf"\b(?:total )?(?:cost|price) (?:of|for) (?P<a>{NUMBER}) {_B}", "{a} * {b}"),
    (rf"{_A}(?<!\bmany)(?<!\bof)(?<!\bseveral) (?:times|multiplied by) {_B}", "{a} * {b}"),
    (rf"{_A} divided by {_B}", "{a} / {b}"),
    (rf"{_A} plus {_B}", "{a} + {b}"),
    (rf"{_A} minus {_B}", "{a} - {b}"),
)
_LEAD = re.compile(
    r"^\s*(?:please |can you |could you |then |and |so )*(?:what(?:'s| is| are| would be)|how "
    r"much (?:is|are)|calculate|compute|evaluate|work out|tell me|find)\s+",
    re.I,
)
_COSTS = re.compile(r"\bhow much|\bcost|\bprice", re.I)


def find_literal(text: str) -> str:
    """An expression that stands in the text as such, in Python's spelling, or an empty string."""
    found = max(_LITERAL.findall(text), key=len, default="")
    plain = (
        found.replace("$", "").replace(",", "").replace("×", "*").replace("÷", "/").replace("^", "**").replace("x", "*")
    )
    while plain.count("(") > plain.count(")") and plain.startswith("("):
        plain = plain[1:]
    while plain.count(")") > plain.count("(") and plain.endswith(")"):
        plain = plain[:-1]
    return plain.strip() if plain.count("(") == plain.count(")") else ""


def build(text: str, resolve: Callable[[str], str | None]) -> tuple[str, str]:
    """(expression, missing): the expression, or the operand phrase that `resolve` found no number for.

    Both are empty when the text holds no arithmetic.
    """
    literal = find_literal(text)
    if literal:
        return literal, ""
    listed = _average(text)
    if listed:
        return listed, ""
    plain = _LEAD.sub("", text.strip().rstrip(".?!"))
    for form, template in _FORMS:
        match = re.search(form, plain, re.I)
        if match is None:
            continue
        operands: dict[str, str] = {}
        for name, phrase in match.groupdict().items():
            value = to_number(phrase) or resolve(phrase.strip())
            if value is None:
                return "", _as_query(phrase, text)
            operands[name] = value
        return template.format(**operands), ""
    return "", ""


def _average(text: str) -> str:
    match = re.search(rf"\b(average|mean|sum|total) of ((?:{NUMBER}(?:,? and |, ?)?){{2,}})", text, re.I)
    if match is None:
        return ""
    parts = [to_number(part) or "0" for part in re.findall(NUMBER, match[2].replace(", ", " ; "))]
    added = " + ".join(parts)
    return f"({added}) / {len(parts)}" if match[1].lower() in ("average", "mean") else added


def _as_query(phrase: str, text: str) -> str:
    """What to look up for a phrase: its noun phrase, with the price if the question is about money."""
    plain = re.sub(
        r"^(?:the |a |an |our |my )?(?:number|amount|value|result) of ",
        "",
        _LEAD.sub("", phrase.strip()),
        flags=re.I,
    )
    return f"price of {plain}" if _COSTS.search(text) and not _COSTS.search(plain) else plain


def to_number(phrase: str) -> str | None:
    """The number that a phrase such as "$1,200", "12 days" or "three" stands for, or None."""
    found = re.findall(NUMBER, phrase)
    if len(found) == 1 and not re.search(r"\b(?:of|the|in) ", phrase):
        return str(found[0]).replace("$", "").replace(",", "")
    word = phrase.strip().lower()
    return str(_WORD_NUMBERS[word]) if word in _WORD_NUMBERS else None


def number_in(results: list[str], phrase: str) -> str | None:
    """The number in earlier results that a phrase refers to: in the latest sentence that shares most words
    with it."""
    wanted = content_words(phrase)
    best, best_score = None, 0.0
    for age, result in enumerate(reversed(results)):
        for sentence in sentences(result) or [result]:
            found = re.findall(rf"(?<![\w.-]){NUMBER}", re.sub(r"\[[^\]]*\]|\b\d{4}-\d\d-\d\d\b", "", sentence))
            score = (overlap(wanted, content_words(sentence)) if wanted else 0.5) - 0.01 * age
            if found and score > best_score:
                best, best_score = _nearest(found, sentence, wanted), score
    return best.replace("$", "").replace(",", "") if best and best_score >= (0.4 if wanted else 0.1) else None


def _nearest(found: list[str], sentence: str, wanted: list[str]) -> str:
    """Of several numbers, the one with a wanted word right behind or before it; money first where a price is
    asked."""

    def closeness(number: str) -> float:
        place = sentence.find(number)
        near = content_words(sentence[max(0, place - 15) : place + len(number) + 25])
        behind = content_words(sentence[place + len(number) : place + len(number) + 20])
        money = (
            0.6
            if re.match(r"\s*(?:euros?|dollars?|eur|usd|€|\$)", sentence[place + len(number) :], re.I) or "$" in number
            else 0.0
        )
        return overlap(wanted, near) + overlap(wanted, behind) + (money if "price" in wanted else 0.0)

    return max(found, key=closeness)
