"""Units for agents, by pint. What pint does not know, or cannot convert, is a text that begins with `error:`."""

import functools
import math
import re
from typing import TYPE_CHECKING

from utils.calculator import format_number

if TYPE_CHECKING:
    import pint

# A name, or a quotient of two: nothing that pint would calculate with.
UNIT = re.compile(r"[A-Za-z]+(?: (?:per|/) [A-Za-z]+|/[A-Za-z]+)?")
MAX_CHARACTERS = 40
SIGNIFICANT = 6  # digits of a result
SPELLINGS = {
    "celsius": "degC", "c": "degC", "fahrenheit": "degF", "f": "degF", "kmh": "km/hour", "kph": "km/hour",
    "lbs": "lb", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte", "kb": "kilobyte", "tons": "metric_ton",
    "tonnes": "metric_ton",
}  # fmt: skip


def convert_units(value: float, from_unit: str, to_unit: str) -> str:
    """The value in the other unit ("6.21371 miles"), or "error: …" with the reason."""
    if not math.isfinite(value):
        return f"error: {value} is no number that can be converted"
    try:
        source, target = _unit(from_unit), _unit(to_unit)
        converted = _registry().Quantity(float(value), source).to(target).magnitude
    except ValueError as error:
        return f"error: {error}"
    except _pint_errors():
        return f"error: {from_unit.strip()} cannot be converted into {to_unit.strip()}"
    if not math.isfinite(converted):
        return f"error: the result in {to_unit.strip()} is too large"
    return f"{format_number(float(f'{converted:.{SIGNIFICANT}g}'))} {to_unit.strip()}"


def same_unit(first: str, second: str) -> bool:
    """Whether two names mean one unit: km and kilometres. Names that pint does not know are compared as texts."""
    try:
        return bool(_unit(first) == _unit(second))
    except ValueError:
        return first.strip().lower() == second.strip().lower()


def _unit(text: str) -> "pint.Unit":
    plain = re.sub(r"^(?:degrees? |°)", "", text.strip(), flags=re.I)
    if len(plain) > MAX_CHARACTERS or not UNIT.fullmatch(plain):
        raise ValueError(f"{text.strip()[:MAX_CHARACTERS]!r} is no unit: write its name, like km or miles")
    try:
        return _registry().Unit(SPELLINGS.get(plain.lower(), plain))
    except _pint_errors() as error:
        raise ValueError(f"there is no unit {plain}") from error


@functools.cache
def _registry() -> "pint.UnitRegistry":
    import pint

    return pint.UnitRegistry()


def _pint_errors() -> tuple[type[Exception], ...]:
    import pint

    return (pint.PintError, AttributeError, OverflowError)
