"""The gate before production: good enough, not behind, never on nothing; and a history that fits into its tag."""

import json

import pytest

from utils.promotion import KEPT_MOVES, Gate, Move, read_history, with_move

GATE = Gate(least_right=0.5, tolerance=0.0)


def rows(right: int, wrong: int) -> list[bool]:
    return [True] * right + [False] * wrong


@pytest.mark.parametrize(("right", "passes"), [(4, False), (5, True), (10, True), (0, False)])
def test_the_first_version_only_has_to_be_good_enough(right, passes):
    verdict = GATE.decide(rows(right, 10 - right))
    assert verdict.passed is passes and verdict.share == right / 10 and verdict.against is None


def test_a_version_behind_production_is_refused_and_an_equal_one_is_not():
    assert GATE.decide(rows(8, 2), rows(8, 2)).passed
    assert GATE.decide(rows(9, 1), rows(8, 2)).passed
    refused = GATE.decide(rows(7, 3), rows(8, 2))
    assert not refused.passed and "0 rows better, 1 worse" in refused.reason


def test_the_tolerance_is_a_share_of_the_rows():
    for tolerance, passes in ((0.05, False), (0.1, True)):
        assert Gate(0.5, tolerance).decide(rows(7, 3), rows(8, 2)).passed is passes


def test_better_than_production_is_not_good_enough():
    assert not GATE.decide(rows(4, 6), rows(2, 8)).passed


def test_nothing_passes_without_rows_or_on_other_rows():
    with pytest.raises(ValueError):
        GATE.decide([])
    with pytest.raises(ValueError):
        GATE.decide(rows(5, 5), rows(5, 4))


def test_the_history_keeps_the_newest_moves_and_fits_into_a_tag():
    text = "[]"
    for number in range(KEPT_MOVES + 5):
        text = with_move(text, Move("2026-01-01T00:00:00Z", "production", str(number), str(number + 1), "x" * 60))
    kept = read_history(text)
    assert [move.version for move in kept] == [str(n) for n in range(6, KEPT_MOVES + 6)] and len(text) < 5000
    assert json.loads(text)[-1]["before"] == str(KEPT_MOVES + 4)
