"""The frontier by its properties, and a picture that holds every point."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from utils.frontier import Point, draw_frontier, frontier

SHARE = st.integers(0, 4).map(lambda number: number / 4)  # few values, so that ties come up
COST = st.none() | st.integers(0, 4).map(float)
POINTS = st.lists(st.tuples(SHARE, COST), min_size=1, max_size=8).map(
    lambda pairs: [Point(str(i), q, (q, q), c, 10.0 * (i + 1)) for i, (q, c) in enumerate(pairs)]
)


def beats(first: Point, second: Point) -> bool:
    assert first.cost_usd is not None and second.cost_usd is not None
    at_least = first.quality >= second.quality and first.cost_usd <= second.cost_usd
    return at_least and (first.quality, first.cost_usd) != (second.quality, second.cost_usd)


@settings(deadline=None)
@given(POINTS)
def test_nobody_on_the_frontier_is_beaten_and_everybody_else_is(points):
    found = frontier(points)
    priced = {point.name: point for point in points if point.cost_usd is not None}
    for name, point in priced.items():
        assert (name in found) == (not any(beats(other, point) for other in priced.values()))
    assert set(found) <= set(priced) and bool(found) == bool(priced)
    costs = [priced[name].cost_usd for name in found]
    qualities = [priced[name].quality for name in found]
    assert costs == sorted(costs) and qualities == sorted(qualities)


@settings(deadline=None)
@given(POINTS, st.randoms())
def test_the_order_of_the_points_does_not_matter(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)
    assert frontier(shuffled) == frontier(points)


def test_the_picture_holds_every_point_with_its_interval_and_its_latency():
    points = [
        Point("free", 0.5, (0.3, 0.7), 0.0, 900.0),
        Point("small", 0.6, (0.4, 0.8), 0.02, 20.0),
        Point("large", 0.9, (0.8, 0.95), 0.3, 400.0),
        Point("unknown", 0.8, (0.7, 0.9), None, 10.0),
    ]
    (axes,) = draw_frontier(points, "fictional").axes
    legend = axes.get_legend()
    labels = [text.get_text() for text in legend.get_texts()] if legend else []
    assert [label.split(",")[0] for label in labels if "price not known" not in label] == ["free", "small", "large"]
    assert any(label == "unknown, 10 ms, price not known" for label in labels)
    circles = [collection for collection in axes.collections if isinstance(collection, PathCollection)]
    drawn = {
        tuple(np.asarray(circle.get_offsets())[0].tolist()): float(np.asarray(circle.get_sizes())[0])
        for circle in circles
    }
    assert set(drawn) >= {(0.0, 0.5), (0.02, 0.6), (0.3, 0.9)}
    assert drawn[0.0, 0.5] > drawn[0.3, 0.9] > drawn[0.02, 0.6], "the slower, the larger"
    assert "fictional" in axes.get_title()


def test_one_point_without_a_price_can_still_be_drawn():
    assert frontier([Point("a", 0.5, (0.4, 0.6), None, 1.0)]) == []
    assert draw_frontier([Point("a", 0.5, (0.4, 0.6), None, 1.0)], "").axes
