"""All pairs, against statsmodels and by properties."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar
from statsmodels.stats.multitest import multipletests

from utils.pairwise import best_and_equals, cochran_q, compare_pairs


@pytest.fixture(scope="module", autouse=True)
def cheap_collections() -> Iterator[None]:
    """statsmodels' multipletests collects garbage at each call: a second each time beside all of MLflow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@st.composite
def versions(draw, least=2, most=4):
    rows = draw(st.integers(2, 30))
    names = "abcd"[: draw(st.integers(least, most))]
    return {name: draw(st.lists(st.booleans(), min_size=rows, max_size=rows)) for name in names}


@settings(deadline=None, max_examples=60)
@given(versions())
def test_p_and_its_correction_are_those_of_statsmodels(scores):
    pairs = compare_pairs(scores, resamples=50)
    for pair in pairs:
        a, b = np.array(scores[pair.first]), np.array(scores[pair.second])
        table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
        assert pair.p == pytest.approx(min(1.0, mcnemar(table, exact=True).pvalue))
        assert pair.gain == pytest.approx(b.mean() - a.mean())
    corrected = multipletests([pair.p for pair in pairs], method="holm")[1]
    assert [pair.corrected for pair in pairs] == pytest.approx(list(corrected))
    assert len(pairs) == len(scores) * (len(scores) - 1) // 2


@settings(deadline=None, max_examples=60)
@given(versions())
def test_cochrans_q_is_that_of_statsmodels(scores):
    table = np.array(list(scores.values()), dtype=int).T
    q, p = cochran_q(scores)
    if (table.min(axis=1) == table.max(axis=1)).all():
        assert (q, p) == (0.0, 1.0), "where statsmodels divides by zero"
    else:
        reference = cochrans_q(table)
        assert (q, p) == pytest.approx((reference.statistic, reference.pvalue))


@settings(deadline=None, max_examples=60)
@given(versions())
def test_properties_of_pairs(scores):
    pairs = compare_pairs(scores, resamples=50)
    best, equals = best_and_equals(scores, pairs)
    assert best not in equals and sum(scores[best]) == max(map(sum, scores.values()))
    for pair in pairs:
        assert 0 <= pair.p <= pair.corrected <= 1
        assert -1 <= pair.low <= pair.high <= 1
        assert (pair.winner is None) == (not pair.is_real)
        if pair.winner:
            loser = pair.first if pair.winner == pair.second else pair.second
            assert sum(scores[pair.winner]) > sum(scores[loser])
            assert pair.winner != best or loser not in equals


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(2, 4))
def test_equal_versions_are_never_told_apart(values, count):
    scores = {str(number): list(values) for number in range(count)}
    pairs = compare_pairs(scores, resamples=50)
    assert all(pair.same and pair.corrected == 1 and pair.gain == 0 for pair in pairs)
    best, equals = best_and_equals(scores, pairs)
    assert [best, *equals] == list(scores) and cochran_q(scores) == (0.0, 1.0)


def test_of_many_equal_triples_one_in_twenty_at_most_is_told_apart():
    """Without the correction it would be far more than the level says."""
    rng = np.random.default_rng(7)
    found = uncorrected = 0
    for _ in range(300):
        scores = {name: list(rng.random(60) < 0.5) for name in "abc"}
        pairs = compare_pairs(scores, resamples=2)
        found += any(pair.is_real for pair in pairs)
        uncorrected += any(pair.p < 0.05 for pair in pairs)
    assert found / 300 <= 0.05 < uncorrected / 300


@pytest.mark.parametrize("scores", [{}, {"a": [True]}, {"a": [True], "b": [True]}, {"a": [True, False], "b": [True]}])
def test_what_cannot_be_compared(scores):
    with pytest.raises(ValueError):
        compare_pairs(scores)


@pytest.mark.parametrize("alpha", [0, 1, -1])
def test_a_level_outside_its_range(alpha):
    with pytest.raises(ValueError):
        compare_pairs({"a": [True, False], "b": [True, True]}, alpha)
