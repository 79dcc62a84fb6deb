"""Agreement of two raters: as scikit-learn and statistics say, and missing ratings in no figure."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from utils.judge_agreement import agreement, plot_versions
from utils.reviews import LABELS

RATING = st.sampled_from(LABELS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(RATING, RATING), min_size=1, max_size=40))
def test_kappa_is_scikit_learns_and_the_share_lies_in_its_interval(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    found = agreement(first, second)
    assert found.share == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert 0 <= found.low <= found.share <= found.high <= 1
    if len(set(first) | set(second)) > 1:
        assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
        assert found.metrics()["kappa"] == found.kappa
    else:
        assert math.isnan(found.kappa) and "kappa" not in found.metrics(), "no number is logged for what is none"
    assert agreement(second, first).kappa == pytest.approx(found.kappa, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(RATING, RATING), min_size=1, max_size=20), st.integers(1, 5))
def test_what_is_missing_is_counted_and_changes_no_figure(pairs, missing):
    first, second = map(list, zip(*pairs, strict=True))
    whole, holed = agreement(first, second), agreement([*first, *[LABELS[0]] * missing], [*second, *[None] * missing])
    assert holed.missing == missing and holed.rows == whole.rows == len(pairs)
    assert (holed.share, holed.low, holed.high) == (whole.share, whole.low, whole.high)
    assert f"{missing} without a rating" in str(holed) and "without" not in str(whole)


def test_a_judge_that_always_says_the_same_agrees_with_nobody_beyond_chance():
    people = list(LABELS) * 10
    assert agreement(people, ["positive"] * 30).kappa == pytest.approx(0)
    assert agreement(people, people).kappa == pytest.approx(1)


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="No row"):
        agreement(["positive"], [None])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        agreement(["positive"], [])


def test_the_picture_holds_every_version_and_its_interval():
    rows = [{"version": n, "points": n / 10, "low": n / 10 - 0.1, "high": n / 10 + 0.2} for n in (1, 2, 3)]
    (axes,) = plot_versions(rows, "points").axes
    container: Any = axes.containers[0]
    assert container.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert axes.get_ylabel() == "points" and [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
