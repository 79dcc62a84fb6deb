"""The decision between two prompts: it finds what is there, and on equal ones it is wrong as seldom as it says."""

import numpy as np
import pytest
from scipy.stats import binom

from utils.paired_decision import decide, power

REPETITIONS, ROWS, ALPHA = 1_000, 60, 0.05


def noisy(rng: np.random.Generator, share_right: float, rows: int = ROWS) -> list[bool]:
    return [bool(value) for value in rng.random(rows) < share_right]


def share_released(first: float, second: float, rows: int = ROWS) -> float:
    """How often the second of two noisy prompts is released."""
    rng = np.random.default_rng(11)
    outcomes = [
        decide(noisy(rng, first, rows), noisy(rng, second, rows), ALPHA, resamples=200).is_real
        for _ in range(REPETITIONS)
    ]
    return sum(outcomes) / REPETITIONS


def test_equal_prompts_are_released_no_more_often_than_the_level_says():
    rate = share_released(0.6, 0.6)
    assert 0 < rate <= binom.ppf(0.999, REPETITIONS, ALPHA) / REPETITIONS


def test_a_prompt_that_is_better_is_found_and_one_that_is_worse_never():
    assert share_released(0.5, 0.85) > 0.9
    assert share_released(0.85, 0.5) == 0


@pytest.mark.parametrize(
    ("better", "worse", "real"),
    [(0, 0, False), (5, 0, False), (6, 0, True), (8, 1, True), (6, 3, False), (0, 9, False)],
)
def test_counts_decide(better, worse, real):
    first = [False] * better + [True] * worse + [True] * 30
    second = [True] * better + [False] * worse + [True] * 30
    decision = decide(first, second)
    assert (decision.better, decision.worse, decision.is_real) == (better, worse, real)
    assert decision.gain == pytest.approx((better - worse) / len(first))
    assert decision.low <= decision.gain <= decision.high


def test_power_grows_with_the_rows_and_is_the_level_at_most_without_a_gain():
    found = [power(rows, 0.12, 0.02) for rows in (20, 60, 120, 240)]
    assert found == sorted(found) and found[0] < 0.2 and found[-1] > 0.95
    assert power(60, 0.1, 0.1) <= binom.ppf(0.999, 2_000, ALPHA / 2) / 2_000
    assert power(60, 0, 0) == 0


def test_power_is_the_share_of_simulated_releases():
    """Drawn in another way: rows are right independently, so 0.2 of them get better and 0.05 worse."""
    first, second = 0.75, 0.9
    better, worse = (1 - first) * second, first * (1 - second)
    assert power(120, better, worse) == pytest.approx(share_released(first, second, 120), abs=0.05)


@pytest.mark.parametrize("arguments", [([True], [True]), ([True, False], [True]), ([], [])])
def test_rows_that_do_not_pair(arguments):
    with pytest.raises(ValueError):
        decide(*arguments)


@pytest.mark.parametrize("alpha", [0, 1, -1, float("nan")])
def test_a_level_that_is_none(alpha):
    with pytest.raises(ValueError, match="alpha"):
        decide([True, False], [True, True], alpha)


def test_shares_that_are_none():
    with pytest.raises(ValueError, match="Shares"):
        power(10, 0.7, 0.5)
