"""A label and numbers out of what models answer."""

import pytest

from utils.json_answers import Reading, read_answer

LABELS = ("good", "bad")


@pytest.mark.parametrize(
    ("answer", "label", "numbers"),
    [
        ('{"label": "good", "confidence": 0.8, "score": -1}', "good", {"confidence": 0.8, "score": -1.0}),
        ('Sure: ```json\n{"label": "Bad"}\n```', "bad", {}),
        ({"label": "bad", "sure": True, "score": 2}, "bad", {"score": 2.0}),
        ('{"label": "good or bad", "score": 1}', None, {"score": 1.0}),
        ('{"label": "none of them"} but it is good', None, {}),
        ('{"score": NaN, "confidence": Infinity, "label": "bad"}', "bad", {}),
        ("I would say good.", "good", {}),
        ("{broken, good", "good", {}),
        ("[1, 2]", None, {}),
        ("", None, {}),
        (None, None, {}),
    ],
)
def test_what_is_read(answer, label, numbers):
    assert read_answer(answer, LABELS) == Reading(label, numbers)
