"""Cheap where it is sure, dear elsewhere: by properties, and the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.cascade import at_shares, best_within, by_chance, curve, draw_curve, is_right, step_at

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=30).map(
    lambda rows: tuple(list(column) for column in zip(*rows, strict=True))
)


@given(ROWS)
def test_a_curve_goes_from_the_cheap_way_to_the_dear_one(rows):
    sure, cheap, dear = rows
    steps = curve(sure, cheap, dear)
    assert (steps[0].share, steps[0].quality) == (0, sum(cheap) / len(cheap))
    assert (steps[-1].share, steps[-1].quality) == (1, sum(dear) / len(dear))
    shares = [step.share for step in steps]
    assert shares == sorted(set(shares)) and len(steps) == len(set(sure)) + 1
    assert all(step.interval[0] <= step.quality <= step.interval[1] for step in steps)
    assert all(step == step_at(sure, cheap, dear, step.threshold) for step in steps)


@given(ROWS, st.integers(0, 4).map(lambda quarter: quarter / 4))
def test_the_chosen_step_keeps_to_the_share_and_none_allowed_is_better(rows, most):
    steps = curve(*rows)
    chosen = best_within(steps, most)
    allowed = [step for step in steps if step.share <= most]
    assert chosen in allowed and chosen.quality == max(step.quality for step in allowed)
    assert chosen.share == min(step.share for step in allowed if step.quality == chosen.quality)


@given(ROWS)
def test_the_ends_of_the_line_by_lot_are_the_two_ways(rows):
    _, cheap, dear = rows
    assert by_chance(cheap, dear, 0) == sum(cheap) / len(cheap)
    assert by_chance(cheap, dear, 1) == sum(dear) / len(dear)


def test_the_least_sure_rows_change_hands():
    sure, cheap, dear = [0.9, 0.4, 0.6], [True, False, True], [False, True, False]
    assert is_right(sure, cheap, dear, 0.5) == [True, True, True]
    assert is_right(sure, cheap, dear, 0.4) == cheap, "a row at the threshold stays"
    assert best_within(curve(sure, cheap, dear), 1).share == pytest.approx(1 / 3)
    assert [step.share for step in at_shares(curve(sure, cheap, dear), (0, 0.5, 1))] == pytest.approx([0, 1 / 3, 1])


@pytest.mark.parametrize(("sure", "cheap", "dear"), [([], [], []), ([0.5], [True], [])])
def test_no_rows_and_rows_that_do_not_pair(sure, cheap, dear):
    with pytest.raises(ValueError):
        is_right(sure, cheap, dear, 0.5)


def test_the_picture_marks_the_chosen_step():
    steps = curve([0.9, 0.4, 0.6], [True, False, True], [False, True, True])
    axes = draw_curve(steps, steps[1], ("a", "b")).axes[0]
    assert np.asarray(axes.collections[-1].get_offsets()).tolist() == [[steps[1].share, steps[1].quality]]
    assert axes.get_xlabel() == "share of rows to b"
