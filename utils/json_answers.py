"""A label and numbers out of a model's JSON answer. Pure functions."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from utils.sentiment_job import parse_label

OBJECT = re.compile(r"\{.*?\}", re.S)


@dataclass(frozen=True)
class Reading:
    """What a model said of a row: its label (None where it names none), and every number in its answer by name."""

    label: str | None
    numbers: dict[str, float]


def read_answer(answer: Any, labels: tuple[str, ...]) -> Reading:
    """The label and the finite numbers of a JSON object; of any other answer the one label that it names.

    answer: text, None, or an object already, as MLflow gives back the output of a span that is one.
    """
    said, text = answer, answer if isinstance(answer, str) else None
    if not isinstance(answer, dict):
        found = OBJECT.search(text or "")
        try:
            said = json.loads(found[0]) if found else None
        except ValueError:
            said = None
    said = said if isinstance(said, dict) else {}
    numbers = {
        str(name): float(value)
        for name, value in said.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return Reading(parse_label(str(said["label"]) if "label" in said else text, labels), numbers)
