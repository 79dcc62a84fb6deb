"""Personal data in texts: found by patterns and check digits, replaced by what it was.

    mask_text("Call +49 30 5550 1234")   # "Call [phone]"

Found are e-mail addresses, card numbers (Luhn's check digit), IBANs (their check digits), phone numbers written with a
plus, with a leading zero or in groups, and keys of the usual forms. Names and postal addresses have no pattern and are
not found: for those a model that marks entities is needed (Presidio is one), at a hundred times the cost.

Sources: Luhn in ISO/IEC 7812-1, IBAN in ISO 13616, phone numbers in ITU-T E.164 (at most 15 digits).
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan

# Each pattern begins where a word begins and has bounded parts, so that a long text takes linear time.
EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)")
KEY = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        (?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,200}       # OpenAI, Anthropic, Stripe
        | gh[opsur]_[A-Za-z0-9]{20,200} | github_pat_\w{20,200}
        | (?:AKIA|ASIA)[0-9A-Z]{16} | AIza[\w-]{35} | hf_[A-Za-z0-9]{20,200}
        | xox[abeprs]-[A-Za-z0-9-]{10,200}
        | eyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]{8,4000}  # a JSON web token
        )(?![A-Za-z0-9])""",
    re.X,
)
# What stands behind such a word is a secret, whatever its form.
NAMED_SECRET = re.compile(
    r"(?i)(?<![A-Za-z0-9])(?P<name>bearer\s|(?:api[_-]?key|access[_-]?token|secret|password|passwd)[\"']?\s{0,3}[:=]\s{0,3})"
    r"[\"']?(?P<secret>[^\s\"',;]{6,500})"
)
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?!\w)")
CARD = re.compile(
    r"(?<![\w.+])(?:2[2-7]|[3-6]\d)(?:[ -]?\d){11,17}(?!\w)"
)  # 13 to 19 digits; the first two: who issues
PHONE = re.compile(
    r"""(?<![\w+.-])(?:
        (?:\+|00)[1-9](?:[ ./()-]{0,2}\d){6,14}               # +49 30 5550-1234
        | \(?0[1-9]\d{0,4}\)?(?:[ ./-]{0,2}\d){5,10}          # 030 / 5550 1234
        | \(\d{3}\)[ ]?\d{3}[ .-]?\d{4} | \d{3}([ .-])\d{3}\1\d{4}   # (212) 555-0123
        )(?![\w-])""",
    re.X,
)
KINDS = ("key", "email", "iban", "card", "phone")
# Ids and counts that MLflow needs as they are; no user writes into them.
KEPT_ATTRIBUTES = frozenset(
    f"mlflow.{name}"
    for name in (
        "traceRequestId", "experimentId", "spanType", "spanLogLevel", "spanFunctionName", "chat.tokenUsage",
        "llm.cost", "llm.model", "llm.provider", "message.format", "source.run",
    )
)  # fmt: skip
FAILED = "[masking failed]"


def passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others. Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def passes_iban(text: str) -> bool:
    """Whether an IBAN without spaces has right check digits: modulo 97 it leaves 1. Source: ISO 13616."""
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def _find(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of what is to be masked; one that lies in another is found again."""
    for found in KEY.finditer(text):
        yield *found.span(), "key"
    for found in NAMED_SECRET.finditer(text):
        yield *found.span("secret"), "key"
    for found in EMAIL.finditer(text):
        yield *found.span(), "email"
    for found in IBAN.finditer(text):
        if passes_iban(re.sub("[ -]", "", found[0])):
            yield *found.span(), "iban"
    for found in CARD.finditer(text):
        if passes_luhn(re.sub(r"\D", "", found[0])):
            yield *found.span(), "card"
    for found in PHONE.finditer(text):
        yield *found.span(), "phone"


def find(text: str) -> list[tuple[int, int, str]]:
    """Start, end and kind (one of KINDS) of each part to be masked, in order and without overlaps: the first kind in
    KINDS wins."""
    chosen: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(_find(text), key=lambda part: KINDS.index(part[2])):
        if all(end <= left or start >= right for left, right, _ in chosen):
            chosen.append((start, end, kind))
    return sorted(chosen)


def mask_text(text: str) -> str:
    """The text with each e-mail address, key, card, IBAN and phone number replaced by `[email]`, `[key]`, …"""
    parts, done = [], 0
    for start, end, kind in find(text):
        parts += [text[done:start], f"[{kind}]"]
        done = end
    return "".join([*parts, text[done:]])


def mask(value: Any) -> Any:
    """The same for everything inside lists, tuples and dictionaries (their keys too). A number that is a card number
    becomes a text; other values stay as they are."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {mask(key): mask(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [mask(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return text if (text := mask_text(str(value))) != str(value) else value
    return value


def mask_error(span: "LiveSpan") -> None:
    """Mask what an exception has left on a span: its events (message, stack trace) and the text of its status.

    MLflow has no call that changes an event, so the list that OpenTelemetry keeps for the span is replaced.
    """
    from mlflow.entities import SpanStatus
    from opentelemetry.sdk.trace import Event
    from opentelemetry.sdk.util import BoundedList

    own = span._span
    if events := span.events:
        masked = [Event(event.name, mask(dict(event.attributes)), event.timestamp) for event in events]
        own._events = BoundedList.from_seq(own._events._dq.maxlen, masked)
    if description := span.status.description:
        span.set_status(SpanStatus(span.status.status_code, mask_text(description)))


def blank(span: "LiveSpan") -> None:
    """Take everything from a span that a user could have written: for a span that could not be masked."""
    from mlflow.entities import SpanStatus
    from opentelemetry.sdk.util import BoundedList

    for key in span.attributes:
        if key not in KEPT_ATTRIBUTES:
            span.set_attribute(key, FAILED)
    own = span._span
    own._events = BoundedList(own._events._dq.maxlen)
    if span.status.description:
        span.set_status(SpanStatus(span.status.status_code, FAILED))


def secrets_of(texts: Iterable[str]) -> dict[str, str]:
    """Each part of the texts that would be masked, and its kind."""
    return {text[start:end]: kind for text in texts for start, end, kind in find(text)}
