"""Two models, one of which answers a request: what a router costs and how good it is, beside the large one alone.

Pure functions, no MLflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.cascade import Step, curve, is_right
from utils.evaluation import Interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 5_000


@dataclass(frozen=True)
class Requests:
    """The same requests answered by both models, lists of equal length.

    small, large: which answers are right. small_cost, large_cost: of each request, all in the same unit.
    """

    small: list[bool]
    large: list[bool]
    small_cost: list[float]
    large_cost: list[float]

    def __len__(self) -> int:
        return len(self.small)

    def part(self, rows: slice) -> "Requests":
        return Requests(self.small[rows], self.large[rows], self.small_cost[rows], self.large_cost[rows])


@dataclass(frozen=True)
class Router:
    """How sure it is of the small model, request by request. asks_first: the small model has been asked and paid for by
    then; otherwise only one of the two is."""

    name: str
    sure: list[float]
    asks_first: bool


@dataclass(frozen=True)
class Routed:
    """A router at a threshold. quality: share right, with its Wilson interval; cost: mean of a request; kept: quality
    over that of the large model; saved: share of the large model's cost; both with bootstrap intervals (95 %), None
    where the large model has nothing right, or costs nothing."""

    name: str
    threshold: float
    share: float
    quality: float
    interval: Interval
    cost: float
    kept: float | None
    kept_interval: Interval | None
    saved: float | None
    saved_interval: Interval | None

    def verdict(self, keep: float) -> str:
        """What so many requests say of the quality that was asked for, a share of the large model's."""
        if self.kept_interval is None:
            return "the large model has too little right to compare with"
        low, high = self.kept_interval
        if low >= keep:
            return f"keeps {keep:.0%} of the large model's quality"
        return (
            f"keeps less than {keep:.0%}" if high < keep else f"these requests do not tell whether it keeps {keep:.0%}"
        )

    def as_row(self, unit: str) -> dict[str, str]:
        """A line of the table that sets routers side by side."""
        return {
            "way": self.name,
            "to the large": f"{self.share:.2f}",
            "right": _shown(self.quality, self.interval),
            "of the large's": _shown(self.kept, self.kept_interval),
            "cost saved": _shown(self.saved, self.saved_interval),
            f"{unit}/1,000": f"{1000 * self.cost:.4f}",
        }


def costs(router: Router, requests: Requests, threshold: float) -> list[float]:
    """Of each request, with what was asked for it."""
    rows = zip(router.sure, requests.small_cost, requests.large_cost, strict=True)
    if router.asks_first:
        return [small + (large if sure < threshold else 0.0) for sure, small, large in rows]
    return [large if sure < threshold else small for sure, small, large in rows]


def cheapest_keeping(steps: Sequence[Step], quality: float) -> Step:
    """The step with the smallest share of dear answers whose quality is at least this.

    Raises ValueError where none is.
    """
    enough = [step for step in steps if step.quality >= quality]
    if not enough:
        raise ValueError(f"No step reaches a quality of {quality}.")
    return min(enough, key=lambda step: step.share)


def route(router: Router, requests: Requests, threshold: float) -> Routed:
    """What this router at this threshold gives on these requests."""
    right = is_right(router.sure, requests.small, requests.large, threshold)
    paid, sent = costs(router, requests, threshold), sum(sure < threshold for sure in router.sure)
    kept, kept_interval = ratio([float(r) for r in right], [float(r) for r in requests.large])
    spent, spent_interval = ratio(paid, requests.large_cost)
    return Routed(
        router.name,
        threshold,
        sent / len(requests),
        sum(right) / len(right),
        wilson_interval(sum(right), len(right)),
        sum(paid) / len(paid),
        kept,
        kept_interval,
        None if spent is None else 1 - spent,
        None if spent_interval is None else (1 - spent_interval[1], 1 - spent_interval[0]),
    )


def ratio(above: Sequence[float], below: Sequence[float], seed: int = 0) -> tuple[float | None, Interval | None]:
    """Sum over sum on the same rows, and its percentile interval (95 %) from resampled rows.

    None and None where the sum below is 0; no interval where it is 0 in more than a fortieth of the resamples.
    """
    import numpy as np

    if not len(above) or len(above) != len(below):
        raise ValueError(f"{len(above)} values do not pair with {len(below)}.")
    top, bottom = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    if bottom.sum() == 0:
        return None, None
    rows = np.random.default_rng(seed).integers(0, len(top), size=(RESAMPLES, len(top)))
    tops, bottoms = top[rows].sum(axis=1), bottom[rows].sum(axis=1)
    ok = bottoms > 0
    value = float(top.sum() / bottom.sum())
    if ok.mean() < 1 - 1 / 40:
        return value, None
    low, high = np.percentile(tops[ok] / bottoms[ok], (2.5, 97.5))
    return value, (float(low), float(high))


def _shown(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


@dataclass(frozen=True)
class Half:
    """Requests, and how sure each router is of the small model on them."""

    requests: Requests
    routers: tuple[Router, ...]

    def steps(self, router: Router) -> list[Step]:
        return curve(router.sure, self.requests.small, self.requests.large)


@dataclass(frozen=True)
class Line:
    """A router in the picture: cost and quality at each of its thresholds, and where it is used."""

    name: str
    costs: list[float]
    quality: list[float]
    chosen: Routed


def report(chosen_on: Half, reported_on: Half, keep: float, names: tuple[str, str]) -> tuple[list[Routed], list[Line]]:
    """Each router's threshold from one half, and what it gives on the other, between the two models alone.

    keep: share of the large model's quality, on the half that is chosen on, that the cheapest threshold has to reach.
    names: of the small and of the large model. The routers come in the same order in both halves.
    """
    wanted = keep * sum(chosen_on.requests.large) / len(chosen_on.requests)
    requests, routed, lines = reported_on.requests, [], []
    for before, after in zip(chosen_on.routers, reported_on.routers, strict=True):
        threshold = cheapest_keeping(chosen_on.steps(before), wanted).threshold
        routed.append(route(after, requests, threshold))
        steps = reported_on.steps(after)
        means = [sum(costs(after, requests, step.threshold)) / len(requests) for step in steps]
        lines.append(Line(after.name, means, [step.quality for step in steps], routed[-1]))
    sure = [1.0] * len(requests)
    small, large = (route(Router(name, sure, False), requests, at) for name, at in zip(names, (0.0, 2.0), strict=True))
    return [small, *routed, large], lines


def draw_routes(lines: Sequence[Line], ends: Sequence[Routed], wanted: float, unit: str) -> "Figure":
    """Cost across, quality up: each router as a line, the two models alone as points, dashed between them what a lot
    would give; `wanted` is the quality that was asked for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, each in enumerate(lines):
        axes.plot(each.costs, each.quality, color=f"C{number}", alpha=0.6, label=each.name)
    chosen = [(f"C{number}", each.chosen, "o") for number, each in enumerate(lines)]
    for colour, point, marker in [*chosen, *(("black", end, "s") for end in ends)]:
        low, high = point.interval
        below, above = max(0.0, point.quality - low), max(0.0, high - point.quality)
        axes.errorbar([point.cost], [point.quality], yerr=[[below], [above]], color=colour, marker=marker, capsize=4)
        axes.annotate(point.name, (point.cost, point.quality), textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.plot([end.cost for end in ends], [end.quality for end in ends], color="grey", linestyle="--", label="by lot")
    axes.axhline(wanted, color="grey", linewidth=0.8, label="quality to keep")
    axes.set(
        xlabel=f"{unit} for a request", ylabel="share right, with 95 % interval", ylim=(-0.02, 1.02), xlim=(0, None)
    )
    axes.set_title("Thresholds chosen on the other half of the requests", fontsize=10)
    axes.legend(loc="lower right")
    return figure
