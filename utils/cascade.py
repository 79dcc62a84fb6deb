"""A cheap answer where it is sure, a dear one where it is not: what each share of dear answers brings.

Pure functions, no MLflow. Rows are given as lists of equal length: how sure the cheap way is of its answer (any number,
higher is surer), whether its answer is right, and whether the dear way's is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import TYPE_CHECKING

from utils.evaluation import Interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Step:
    """Rows whose confidence lies below `threshold` go the dear way: `share` of them, 0 to 1; `quality` is the share of
    all rows that is then right, with its Wilson interval (95 %)."""

    threshold: float
    share: float
    quality: float
    interval: Interval


def is_right(confidence: Sequence[float], cheap: Sequence[bool], dear: Sequence[bool], threshold: float) -> list[bool]:
    """Row by row, whether the answer that is taken is right.

    Raises ValueError for lists of different lengths and for no rows.
    """
    if not len(confidence) or not len(confidence) == len(cheap) == len(dear):
        raise ValueError(f"{len(confidence)} confidences do not pair with {len(cheap)} and {len(dear)} answers.")
    return [bool(d if sure < threshold else c) for sure, c, d in zip(confidence, cheap, dear, strict=True)]


def step_at(confidence: Sequence[float], cheap: Sequence[bool], dear: Sequence[bool], threshold: float) -> Step:
    """What this threshold gives on these rows."""
    right = is_right(confidence, cheap, dear, threshold)
    share = sum(sure < threshold for sure in confidence) / len(right)
    return Step(threshold, share, sum(right) / len(right), wilson_interval(sum(right), len(right)))


def curve(confidence: Sequence[float], cheap: Sequence[bool], dear: Sequence[bool]) -> list[Step]:
    """Every step that a threshold can give, from no row the dear way to all of them; rows of equal confidence go
    together."""
    thresholds = sorted(set(confidence))
    last = nextafter(thresholds[-1], inf) if thresholds else inf
    return [step_at(confidence, cheap, dear, threshold) for threshold in [*thresholds, last]]


def best_within(steps: Sequence[Step], most: float) -> Step:
    """The step with the highest quality among those whose share is at most `most`; of equals the smallest share."""
    allowed = [step for step in steps if step.share <= most]
    if not allowed:
        raise ValueError(f"No step sends at most {most} of the rows the dear way.")
    return max(allowed, key=lambda step: (step.quality, -step.share))


def at_shares(steps: Sequence[Step], shares: Sequence[float]) -> list[Step]:
    """For each share the last step that does not go over it: what a table of a few lines shows of a long curve."""
    return [max((step for step in steps if step.share <= share), key=lambda step: step.share) for share in shares]


def by_chance(cheap: Sequence[bool], dear: Sequence[bool], share: float) -> float:
    """The quality to expect where rows for the dear way are drawn by lot, instead of by confidence."""
    return ((1 - share) * sum(cheap) + share * sum(dear)) / len(cheap)


def draw_curve(steps: Sequence[Step], chosen: Step, names: tuple[str, str]) -> "Figure":
    """Quality up against the share of dear answers, with its interval; dashed: rows drawn by lot.

    names: of the cheap and of the dear way.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    shares, quality = [step.share for step in steps], [step.quality for step in steps]
    low, high = [step.interval[0] for step in steps], [step.interval[1] for step in steps]
    axes.fill_between(shares, low, high, alpha=0.2, step="post", label="95 % interval")
    axes.step(shares, quality, where="post", label=f"least sure rows to {names[1]}")
    axes.plot([0, 1], [quality[0], quality[-1]], color="grey", linestyle="--", label="rows drawn by lot")
    axes.scatter([chosen.share], [chosen.quality], color="C3", zorder=3, label="threshold chosen on other rows")
    axes.set(xlabel=f"share of rows to {names[1]}", ylabel="share of rows right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{names[0]} where it is sure, {names[1]} elsewhere", fontsize=10)
    axes.legend(loc="lower right")
    return figure
