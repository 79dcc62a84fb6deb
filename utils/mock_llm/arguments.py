"""Filling a tool's arguments from the words of a request, by the types and names in its JSON schema."""

import re
from datetime import date
from typing import Any

from .kinds import NUMBER, UNIT
from .text import content_words, stem

_MONTH_NAMES = "january february march april may june july august september october november december"
_MONTHS = _MONTH_NAMES.split()
_MONTH = "|".join(_MONTHS) + "|" + "|".join(month[:3] for month in _MONTHS)
_ISO = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_DATE = re.compile(
    rf"\b(?:(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({_MONTH})\.?,? (\d{{4}})|({_MONTH})\.? "
    rf"(\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}}))\b",
    re.I,
)
_QUOTED = re.compile(r"[\"“”'‘`]([^\"“”'‘’`]{1,200})[\"”'’`](?!\w)")
_PROPER = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w-]+(?: (?:[A-Z][\w-]+|of|de|the (?=[A-Z])))*(?<! of)(?<! de)")
_PLACE = re.compile(r"\b(?:in|at|for|to|from|near) ((?:[A-Z][\w'-]+)(?: [A-Z][\w'-]+)*)")
_CODE = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z-])[\w-]{2,}\b|#\d+|\b\d{3,}\b")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_URL = re.compile(r"https?://\S+|\b[\w/-]+\.(?:md|txt|csv|json|py|html|pdf)\b")
_ASKING = re.compile(
    r"^\s*(?:please |can you |could you |and |then |also |now |first |finally )*(?:(?:search|"
    r"look|find|browse|check)(?: (?:in|through))?(?: (?:the|our|my))?(?: (?:documents?|docs|"
    r"knowledge base|manual|files))?(?: (?:for|up|out))?|tell me|show me|look up|"
    r"use [\w_]+ to|ask)\s+",
    re.I,
)


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """A property's schema with its reference followed and `null` dropped from its alternatives."""
    for _ in range(8):
        if "$ref" in schema:
            target: Any = root
            for key in schema["$ref"].lstrip("#/").split("/"):
                target = target.get(key, {}) if isinstance(target, dict) else {}
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
            continue
        options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if not options:
            break
        kept = [option for option in options if option.get("type") != "null"]
        schema = {
            **{k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "allOf")},
            **(kept[0] if kept else {"type": "null"}),
        }
    if isinstance(schema.get("type"), list):
        schema = {**schema, "type": next((kind for kind in schema["type"] if kind != "null"), "string")}
    return schema


def fill(parameters: dict[str, Any], request: str, query: str = "") -> dict[str, Any]:
    """Arguments for a tool, JSON values by name.

    Optional ones are given only when the request names their value.
    """
    required = parameters.get("required", [])
    numbers = [float(n.replace("$", "").replace(",", "")) for n in re.findall(rf"(?<![\w.-]){NUMBER}", request)]
    dates = find_dates(request)
    filled: dict[str, Any] = {}
    for name, given in (parameters.get("properties") or {}).items():
        schema = resolve(given, parameters)
        value = _fill_one(name, schema, request, query or clean_query(request), numbers, dates, name in required)
        if value is not None:
            filled[name] = value
    return filled


def _fill_one(
    name: str,
    schema: dict[str, Any],
    request: str,
    query: str,
    numbers: list[float],
    dates: list[str],
    required: bool,
) -> Any:
    kind = schema.get("type", "string")
    if "enum" in schema or "const" in schema:
        return pick_enum(schema.get("enum") or [schema["const"]], request, required)
    if kind in ("number", "integer"):
        return _pick_number(name, kind, request, numbers, required, schema.get("default"))
    if kind == "boolean":
        return _pick_flag(name, request, required)
    if kind == "array":
        return _pick_list(schema, request, query, numbers, required)
    if kind == "object":
        return fill(schema, request, query) if required else None
    return pick_text(name, str(schema.get("description") or ""), request, query, dates, required)


def pick_enum(values: list[Any], request: str, required: bool) -> Any:
    """The value that the request names, by its words; else the first one, if one must be given."""
    stems = {stem(word) for word in re.findall(r"[\w°]+", request.lower())}
    for value in values:
        if all(stem(word) in stems for word in re.findall(r"[\w°]+", str(value).lower().replace("_", " "))):
            return value
    return values[0] if required and values else None


def _pick_number(
    name: str, kind: str, request: str, numbers: list[float], required: bool, default: Any
) -> float | int | None:
    counted = re.search(r"\b(?:top|first|best|limit|at most|up to)[ -](\d+)\b", request, re.I)
    if re.search(r"top_?k|limit|max|count|^k$|^n$|num", name, re.I):
        value: float | None = (
            float(counted.group(1)) if counted else (default if required and default is not None else None)
        )
        value = 3.0 if value is None and required else value
    else:
        value = numbers.pop(0) if numbers and (required or default is None) else (default if required else None)
        value = 0.0 if value is None and required else value
    if value is None:
        return None
    return int(value) if kind == "integer" or value == int(value) else value


def _pick_flag(name: str, request: str, required: bool) -> bool | None:
    named = set(content_words(name.replace("_", " "))) & set(content_words(request))
    if not named and not required:
        return None
    return bool(named) and not re.search(r"\b(?:no|not|without|don't)\b", request, re.I)


def _pick_list(
    schema: dict[str, Any], request: str, query: str, numbers: list[float], required: bool
) -> list[Any] | None:
    item = (schema.get("items") or {}).get("type", "string")
    if item in ("number", "integer"):
        return [int(n) if n == int(n) else n for n in numbers] or ([] if required else None)
    quoted = _QUOTED.findall(request)
    if quoted:
        return quoted
    return [query] if required else None


def pick_text(name: str, description: str, request: str, query: str, dates: list[str], required: bool) -> str | None:
    """A string argument, by what its name says it is; else something quoted, a name, or the request's own
    words."""
    plain = f"{name} {description[:60]}".lower()
    if re.search(r"unit", name, re.I):
        return _pick_unit(name, request)
    if re.search(r"date|day|\bstart\b|\bend\b|when", name, re.I) and (dates or not re.search(r"query|question", name)):
        return dates.pop(0) if dates else _relative(request, required)
    if re.search(r"e-?mail|recipient|^to\b|address", plain) and _EMAIL.search(request):
        return _EMAIL.search(request)[0]  # type: ignore[index]
    if re.search(r"\burl|path|file|^document", name, re.I) and _URL.search(request):
        return _URL.search(request)[0]  # type: ignore[index]
    if re.search(r"(?:^|_)(?:id|number|code|ref(?:erence)?|sku)$", name, re.I) and _CODE.search(request):
        return _CODE.search(request)[0].lstrip("#")  # type: ignore[index]
    if re.search(r"city|location|place|country|town|region|destination|origin", name, re.I):
        place = _PLACE.search(request) or _PROPER.search(request)
        return place.group(place.lastindex or 0) if place else (query if required else None)
    if re.search(r"currency", name, re.I):
        code = re.search(r"\b[A-Z]{3}\b", request)
        return code[0] if code else None
    if re.search(r"quer|question|search|keyword|topic|prompt|request|task|input|text|^q$", name, re.I):
        return request.strip() if re.search(r"question|prompt|request|task", name, re.I) else query
    return _other_text(name, request, query, required)


def _other_text(name: str, request: str, query: str, required: bool) -> str | None:
    quoted = _QUOTED.findall(request)
    if quoted:
        return str(quoted[0])
    labelled = re.search(rf"\b{re.escape(name.replace('_', ' '))}\s*(?:is|:|=|of)?\s+([\w-]+)", request, re.I)
    if labelled and labelled[1].lower() not in ("of", "for", "the", "is", "and"):
        return labelled[1]
    proper = _PROPER.search(request)
    if proper and required:
        return proper[0]
    return query if required else None


def _pick_unit(name: str, request: str) -> str | None:
    found = [re.sub(r"^degrees? ", "", unit, flags=re.I) for unit in re.findall(UNIT, request, re.I)]
    if not found:
        return None
    behind_number = re.search(rf"{NUMBER}\s*({UNIT})", request, re.I)
    source = re.sub(r"^degrees? ", "", behind_number[1], flags=re.I) if behind_number else found[0]
    if re.search(r"to|target|dest|out|new", name, re.I):
        return next((unit for unit in found if unit.lower() != source.lower()), None)
    return source


def find_dates(text: str) -> list[str]:
    """Dates in the text in ISO form, in order."""
    found = [(match.start(), match[0]) for match in _ISO.finditer(text)]
    for match in _DATE.finditer(text):
        day, month, year = (match[1], match[2], match[3]) if match[1] else (match[5], match[4], match[6])
        number = next(i for i, name in enumerate(_MONTHS, 1) if name.startswith(month.lower()[:3]))
        try:
            found.append((match.start(), date(int(year), number, int(day)).isoformat()))
        except ValueError:  # the 31st of June is a slip of the writer: no date to find
            continue
    return [text for _, text in sorted(found)]


def _relative(request: str, required: bool) -> str | None:
    named = re.search(r"\b(?:today|tomorrow|yesterday|next \w+day|next week)\b", request, re.I)
    return named[0].lower() if named else ("today" if required else None)


def clean_query(request: str) -> str:
    """The request as words to search for: no courtesies, no question mark."""
    quoted = _QUOTED.findall(request)
    if quoted and _ASKING.match(request):
        return str(quoted[0])
    return _ASKING.sub("", request.strip()).strip(" ?.!") or request.strip()
