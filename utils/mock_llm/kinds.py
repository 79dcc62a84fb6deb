"""What sort of help a request needs, and what sort of help a tool, an agent or a route offers."""

import re
from typing import Any

from .text import content_words, overlap

NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?"
_UNIT_NAMES = (
    "km kilometers kilometres kilometer kilometre miles mile m meters metres meter metre cm "
    "centimeters centimetres mm inches inch feet foot "
    "ft yards yard kg kilograms kilogram g grams gram pounds pound lb lbs ounces ounce oz "
    "celsius fahrenheit kelvin liters litres liter litre ml "
    "gallons gallon cups hours hour minutes minute seconds second days day weeks week bytes kb "
    "mb gb tb kmh mph knots acres hectares "
    "tonnes tons stone joules calories kcal watts kilowatts psi bar pascal"
)
_UNITS = _UNIT_NAMES.split()
UNIT = r"(?:degrees? )?(?:" + "|".join(sorted(_UNITS, key=len, reverse=True)) + r"|°?[CF])\b"
_CONVERT = re.compile(
    rf"\bconvert\b|{NUMBER}\s*{UNIT}\s*(?:in|to|into|as)\s+{UNIT}|\bhow many {UNIT}\s+(?:is|"
    rf"are|in|make|do)\b.{{0,20}}{NUMBER}\s*{UNIT}|{NUMBER}\s*{UNIT} (?:is|equals) how many|"
    rf"\b(?:that|it|this|which)\b(?: \w+)? (?:in|to|into) {UNIT}|"
    rf"\bhow many {UNIT} (?:is|are) (?:that|it|this)\s*(?:\?|$)",
    re.I,
)
_MATH = re.compile(
    rf"{NUMBER}\)?\s*(?:[+*/^×÷]|\*\*|-(?=\s*[\d(])|x(?=\s*\d))\s*\(?{NUMBER}|\b(?:calculate|"
    rf"compute|multipl\w+|divided?|subtract\w*|square root|squared|cubed|percent of|plus|minus|"
    rf"times|sum of|"
    rf"average of|add up|double|twice|triple|half of)\b|{NUMBER}\s*%\s*of\b|\bhow much (?:do|"
    rf"would|will|are|does) {NUMBER}\b|\b(?:total )?(?:cost|price) (?:of|for) {NUMBER}\b",
    re.I,
)
_DATE = re.compile(
    r"\btoday\b|\btomorrow\b|\byesterday\b|\bcurrent (?:date|time|year|month|day)\b|\bwhat "
    r"(?:day|date|time|year|month) (?:is|was|will)\b|\bday of the week\b|\bweekday\b|"
    r"\b(?:days|weeks|months)\b.{0,24}\b(?:until|till|between|from now|ago|after|before|"
    r"since)\b|\bwhich day\b|\bwhat(?:'s| is) the (?:date|time)\b",
    re.I,
)
_LOOK = re.compile(r"\b(?:search|look up|find|which documents?|list|mention(?:s|ing)?|browse)\b", re.I)
_QUESTION = re.compile(
    r"\?|^\s*(?:(?:for|on|in|at|by|to|from|with|of) )?"
    r"(?:what|who|where|when|why|how|which|is|are|does|do|can|tell|explain|describe)\b",
    re.I,
)

_OFFERS = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        ("final", r"^final[_ ]?answer|provides? (?:a|the) final answer"),
        ("convert", r"\bconver\w*|\bunits?\b"),
        (
            "math",
            r"\bcalcul\w*|\barithmetic|\bmath\w*|\bexpressions?\b|"
            r"\b(?:add|multiply|divide|subtract)s?\b(?! (?:day|week|month|year)s?\b)|"
            r"\bcomput(?:e|es|ation)\b|\bsum\b|\bpercent",
        ),
        (
            "date",
            r"\bdates?\b|\bcalendar|\bweekday|\bclock|\bcurrent time|\btoday|\bdays between|"
            r"\b(?:add|subtract)s? (?:day|week|month|year)s?\b",
        ),
        ("search", r"^find\b|\bsearch\w*|\bkeywords?\b|\bsnippets?\b|\btitles?\b|\bgrep|\bbrowse"),
        (
            "ask",
            r"\brag\b|\bretriev\w*|\bknowledge|\bpassages?\b|\bdocument\w*|\bdocs?\b|\blook\w* ?up|\bwiki\w*|"
            r"\banswers? (?:a |the )?questions?\b|\bresearch\w*|\bfacts?\b",
        ),
    )
)
_ISO_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_ACT_NAMES = """
    send create delete book cancel refund issue update order pay transfer submit open close escalate
    schedule notify write place start stop restart approve reject remove post publish move
"""
_ACTS = frozenset(_ACT_NAMES.split())
_ROUTE_PREFIX = re.compile(r"^(?:transfer|hand_?off|delegate|route|forward)_?(?:back_)?to_", re.I)


def need_of(request: str) -> str:
    """What a request needs: convert, math, date, search (documents), ask (a fact), or nothing."""
    request = _ISO_DATE.sub("that date", request)  # its hyphens are no subtraction
    for kind, pattern in (
        ("convert", _CONVERT),
        ("math", _MATH),
        ("date", _DATE),
        ("search", _LOOK),
        ("ask", _QUESTION),
    ):
        if pattern.search(request):
            return kind
    return ""


def is_hand_off(name: str) -> bool:
    """Whether a tool of this name hands the request to another agent."""
    return bool(_ROUTE_PREFIX.match(name))


def offer_of(name: str, description: str = "") -> str:
    """What a tool or agent offers, by its name first and its description second: a kind of need, act, or
    nothing."""
    name = _ROUTE_PREFIX.sub("", name)
    plain = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)).lower()
    if plain.split()[:1] and plain.split()[0] in _ACTS:
        return "act"
    for text in (plain, re.split(r"\n\s*(?:Args|Parameters|Returns)\b", description)[0]):
        for kind, pattern in _OFFERS:
            if pattern.search(text):
                return kind
    return ""


def score_tool(function: dict[str, Any], request: str, need: str = "") -> float:
    """How well a tool fits a request, or another need than its words say; under 1.5 it does not."""
    name, description = str(function.get("name", "")), str(function.get("description") or "")
    offer, need = offer_of(name, description), need or need_of(request)
    asked = set(content_words(request))
    named = content_words(" ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", _ROUTE_PREFIX.sub("", name))))
    if offer == "final" or (offer == "act" and not set(named[:1]) & asked):
        return 0.0
    parameters = " ".join((function.get("parameters") or {}).get("properties") or {})
    shared = 2.0 * len(asked & set(named)) + 0.6 * len(asked & set(content_words(description)))
    score = shared + 0.3 * len(asked & set(content_words(parameters.replace("_", " "))))
    if offer and offer == need:
        return score + 3.0
    if {offer, need} <= {"search", "ask"}:
        return score + 2.0
    return score - 2.0 if offer in ("math", "date", "convert") else score


def pick_route(options: list[str], request: str) -> str | None:
    """The option (an agent, a route) that offers what the request needs, or None when that is open."""
    need = need_of(request)
    similar = {"search": ("search", "ask"), "ask": ("ask", "search")}.get(need, (need,))
    for kind in filter(None, similar):
        for option in options:
            if offer_of(option) == kind:
                return option
    asked = content_words(request)
    best = max(options, key=lambda option: overlap(content_words(option.replace("_", " ")), asked), default=None)
    return best if best and overlap(content_words(best.replace("_", " ")), asked) else None
