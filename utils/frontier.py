"""Quality against cost: which choices are worth considering, and their picture. Pure functions, no MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from utils.evaluation import Interval

CENT_OF_CENT = 1e-4  # USD; where a cost axis that begins at 0 stops being logarithmic, if nothing else says so
SMALLEST, LARGEST = 60, 900  # area of a point, in square points


@dataclass(frozen=True)
class Point:
    """A model measured. quality: 0 to 1, with its interval; cost_usd: for 1,000 requests, None where the price is not
    known; latency_ms: median of a request."""

    name: str
    quality: float
    interval: "Interval"
    cost_usd: float | None
    latency_ms: float


def frontier(points: Sequence[Point]) -> list[str]:
    """Names of the points that no other beats: none is at least as good and at most as dear, and better in one of the
    two. Cheapest first; a point whose cost is not known is not among them."""
    priced = [(point.cost_usd, point) for point in points if point.cost_usd is not None]
    kept = [
        (cost, point)
        for cost, point in priced
        if not any(
            other.quality >= point.quality and price <= cost and (other.quality > point.quality or price < cost)
            for price, other in priced
        )
    ]
    return [point.name for _, point in sorted(kept, key=lambda each: (each[0], each[1].name))]


def draw_frontier(points: Sequence[Point], note: str) -> "Figure":
    """Cost across (logarithmic), quality up with its interval, latency as the area of a point; the frontier is a line.

    A point whose price is not known is a dashed line at its quality. note: what has to be said of the costs.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    slowest = max(point.latency_ms for point in points)
    positive = [point.cost_usd for point in points if point.cost_usd]
    for number, point in enumerate(points):
        colour = f"C{number}"
        label = f"{point.name}, {point.latency_ms:,.0f} ms"
        if point.cost_usd is None:
            axes.axhline(point.quality, color=colour, linestyle="--", label=f"{label}, price not known")
            continue
        area = SMALLEST + (LARGEST - SMALLEST) * point.latency_ms / slowest
        low, high = point.interval
        below, above = max(0.0, point.quality - low), max(0.0, high - point.quality)
        axes.errorbar([point.cost_usd], [point.quality], yerr=[[below], [above]], color=colour, capsize=4)
        axes.scatter([point.cost_usd], [point.quality], s=area, color=colour, alpha=0.6, label=label)
    by_name = {point.name: point for point in points}
    line = [by_name[name] for name in frontier(points)]
    axes.plot([point.cost_usd or 0.0 for point in line], [point.quality for point in line], color="grey", zorder=0)
    axes.set_xscale("symlog", linthresh=min(positive, default=CENT_OF_CENT))
    axes.set_xlim(0, 2 * max(positive, default=CENT_OF_CENT))
    axes.set(xlabel="USD for 1,000 requests", ylabel="share of tasks right, with 95 % interval", ylim=(-0.02, 1.02))
    axes.set_title(f"Quality and cost; larger is slower\n{note}", fontsize=10)
    axes.legend(loc="lower right", markerscale=0.5)
    return figure
