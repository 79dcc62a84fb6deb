"""What routers cost and keep: by hand, by properties, and the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.cascade import curve
from utils.routing import Half, Requests, Router, cheapest_keeping, costs, draw_routes, ratio, report, route

FOUR = Requests([True, False, True, False], [True, True, True, False], [1.0] * 4, [10.0] * 4)
SURE = [0.9, 0.2, 0.8, 0.4]
ASKED = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=2, max_size=20)


def test_asked_first_is_paid_for_whatever_comes_next():
    assert costs(Router("a", SURE, asks_first=True), FOUR, 0.5) == [1, 11, 1, 11]
    assert costs(Router("b", SURE, asks_first=False), FOUR, 0.5) == [1, 10, 1, 10]


def test_one_router_by_hand():
    found = route(Router("a", SURE, asks_first=True), FOUR, 0.3)
    assert (found.share, found.quality, found.cost) == (0.25, 0.75, 3.5)
    assert found.kept == 1 and found.saved == pytest.approx(1 - 14 / 40)
    assert found.saved and found.saved_interval
    assert found.saved_interval[0] <= found.saved <= found.saved_interval[1]
    assert found.as_row("USD")["USD/1,000"] == "3500.0000"


@given(ASKED, st.integers(0, 20).map(lambda number: number / 20))
def test_the_cheapest_threshold_that_keeps_the_quality(rows, keep):
    small, large, sure = (list(column) for column in zip(*rows, strict=True))
    steps = curve(sure, small, large)
    wanted = keep * steps[-1].quality
    chosen = cheapest_keeping(steps, wanted)
    assert chosen.quality >= wanted
    assert all(step.quality < wanted for step in steps if step.share < chosen.share)


def test_the_threshold_of_one_half_is_used_on_the_other():
    turned = Requests(FOUR.large, FOUR.small, FOUR.small_cost, FOUR.large_cost)
    routers = (Router("by confidence", SURE, True),)
    points, lines = report(Half(FOUR, routers), Half(turned, routers), 1.0, ("s", "l"))
    assert [point.name for point in points] == ["s", "by confidence", "l"]
    chosen = cheapest_keeping(curve(SURE, FOUR.small, FOUR.large), 0.75)
    assert points[1] == route(routers[0], turned, chosen.threshold) and points[1].quality == 0.5
    assert points[0].cost == 1 and points[2].cost == 10 and points[2].saved == 0
    axes = draw_routes(lines, (points[0], points[-1]), 0.7, "USD").axes[0]
    lines_drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    drawn = {tuple(line[0]) for line in lines_drawn if len(line) == 1}
    assert {(point.cost, point.quality) for point in points} <= drawn


def test_a_ratio_to_nothing_is_no_number():
    assert ratio([1.0, 0.0], [0.0, 0.0]) == (None, None)
    assert ratio([1.0] * 4, [0.0, 0.0, 0.0, 1.0]) == (4.0, None), "0 in many resamples: no interval"
    value, interval = ratio([1.0, 2.0] * 20, [2.0, 4.0] * 20)
    assert value == 0.5 and interval == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError):
        ratio([], [])


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (Requests([True] * 60, [True] * 60, [1.0] * 60, [2.0] * 60), "keeps 95%"),
        (Requests([False] * 60, [True] * 60, [1.0] * 60, [2.0] * 60), "keeps less than 95%"),
        (Requests([True, False] * 5, [True, True] * 4 + [True, False], [1.0] * 10, [2.0] * 10), "keeps less than 95%"),
        (Requests([True] * 9 + [False], [True] * 10, [1.0] * 10, [2.0] * 10), "do not tell"),
        (Requests([False] * 3, [False] * 3, [1.0] * 3, [2.0] * 3), "too little right"),
    ],
)
def test_the_verdict_is_that_of_the_interval(requests, said):
    found = route(Router("a", [1.0] * len(requests), True), requests, 0.0)
    assert said in found.verdict(0.95)
