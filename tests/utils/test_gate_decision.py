"""The gate's rule: refuses what fell, lets noise through, and compares nothing that is not there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, wilcoxon

from utils.gate_decision import check_scores, find_missing

QUICK = 200  # resamples: enough to see on which side of 0 an interval lies
ROWS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)


def by_row(values):
    return dict(enumerate(map(float, values)))


def one(before, now, floors=None, alpha=0.05):
    (check,) = check_scores({"right": by_row(before)}, {"right": by_row(now)}, floors or {}, alpha, QUICK)
    return check


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_it_counts_what_fell_and_rose_and_its_p_is_mcnemars(pairs):
    before, now = zip(*pairs, strict=True)
    check = one(before, now)
    fell = tuple(i for i, (a, b) in enumerate(pairs) if a and not b)
    rose = tuple(i for i, (a, b) in enumerate(pairs) if b and not a)
    assert (check.worse, check.better) == (fell, rose)
    assert check.now - check.before == pytest.approx((len(rose) - len(fell)) / len(pairs))
    n = len(fell) + len(rose)
    assert check.p == pytest.approx(binomtest(len(fell), n).pvalue if n else 1.0)
    assert check.low <= check.now - check.before <= check.high
    if check.now >= check.before:
        assert check.refusal is None, "what did not fall is never refused"


@settings(max_examples=20, deadline=None)
@given(ROWS)
def test_the_same_scores_pass(pairs):
    before = [first for first, _ in pairs]
    assert one(before, before).refusal is None


def test_a_real_fall_is_refused_with_its_figures():
    check = one([1] * 20 + [0] * 10, [1] * 8 + [0] * 22)
    assert check.refusal is not None and check.refusal.startswith("right fell from 0.667 to 0.267 (")
    assert check.worse == tuple(range(8, 20))


def test_numbers_that_are_no_shares_are_ranked():
    before, now = [0.1 * i for i in range(1, 13)], [0.1 * i - 0.01 * i for i in range(1, 13)]
    check = one(before, now)
    assert check.p == pytest.approx(float(wilcoxon([b - a for a, b in zip(before, now, strict=True)]).pvalue))
    assert check.refusal


def test_noise_is_refused_no_more_often_than_alpha_and_a_fall_is_found():
    """Two answers of one system: each row has a chance of its own to be right. Three scorers, seeded."""
    import numpy as np

    rng, trials, rows = np.random.default_rng(7), 100, 70
    refused = {0.0: 0, 0.4: 0}
    for fall in refused:
        for _ in range(trials):
            before, now = {}, {}
            for scorer in ("right", "found", "cited"):
                chance = rng.beta(2, 1, rows)
                before[scorer] = by_row(rng.random(rows) < chance)
                now[scorer] = by_row(rng.random(rows) < chance * (1 - fall))
            refused[fall] += any(check.refusal for check in check_scores(before, now, {}, 0.05, QUICK))
    assert refused[0.0] / trials <= 0.05
    assert refused[0.4] / trials >= 0.8


def test_three_scorers_need_stronger_evidence_than_one():
    before, now = by_row([1] * 6 + [0] * 10), by_row([0] * 6 + [0] * 10)
    (alone,) = check_scores({"a": before}, {"a": now}, {}, 0.05, QUICK)
    same = {"b": before, "c": before}
    first, *_ = check_scores({"a": before, **same}, {"a": now, **same}, {}, 0.05, QUICK)
    assert alone.refusal and alone.p == pytest.approx(2 / 2**6)
    assert first.refusal is None and first.p == pytest.approx(3 * alone.p)


def test_a_floor_refuses_also_where_nothing_fell():
    check = one([0, 0, 1], [0, 0, 1], {"right": 0.5})
    assert check.refusal == "right is 0.333, below its floor of 0.500"
    assert one([0, 0, 1], [0, 0, 1], {"right": 1 / 3}).refusal is None


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({}, "was not scored by right"),
        ({"other": {1: 1.0, 2: 1.0}}, "was not scored by right"),
        ({"right": {1: 1.0}}, "1 of the baseline's 2 rows have no score right"),
        ({"right": {}}, "2 of the baseline's 2 rows"),
        ({"right": {3: 1.0, 4: 1.0}}, "2 of the baseline's 2 rows"),
    ],
)
def test_what_is_missing_is_named_and_never_compared(candidate, said):
    baseline = {"right": {1: 0.0, 2: 0.0}}
    assert said in (find_missing(baseline, candidate) or "")
    with pytest.raises(ValueError, match="right"):
        check_scores(baseline, candidate, {})


def test_more_than_the_baseline_has_is_not_compared():
    baseline, candidate = {"right": {1: 1.0, 2: 1.0}}, {"right": {1: 1.0, 2: 1.0, 3: 0.0}, "new": {1: 0.0}}
    assert find_missing(baseline, candidate) is None
    (check,) = check_scores(baseline, candidate, {}, 0.05, QUICK)
    assert (check.scorer, check.now, check.worse) == ("right", 1.0, ())


@pytest.mark.parametrize("baseline", [{}, {"right": {}}, {"right": {1: 1.0}, "found": {}}])
def test_an_empty_baseline_lets_nothing_through(baseline):
    assert find_missing(baseline, {"right": {1: 1.0}, "found": {1: 1.0}}) == "the baseline has no scores"


@pytest.mark.parametrize(("floors", "alpha"), [({"other": 0.5}, 0.05), ({}, 0.0), ({}, 1.0)])
def test_a_floor_of_nothing_and_a_level_that_is_none(floors, alpha):
    scores = {"right": {1: 1.0, 2: 1.0}}
    with pytest.raises(ValueError, match=r"scorer other|alpha"):
        check_scores(scores, scores, floors, alpha)
