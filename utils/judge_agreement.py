"""How far two raters agree, rows without a rating counted apart; and a metric over versions as a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.evaluation import cohens_kappa, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Agreement:
    """On `rows` texts that both rated; `missing` ones have no rating from one of them and are in no figure.

    share: of equal labels, low and high its Wilson interval. kappa: Cohen's; NaN where both only say one thing.
    """

    rows: int
    missing: int
    share: float
    low: float
    high: float
    kappa: float

    def metrics(self) -> dict[str, float]:
        """For a run: kappa is left out where it is no number."""
        figures = {"rows": self.rows, "missing": self.missing, "share": self.share, "kappa": self.kappa}
        return {name: value for name, value in figures.items() if not math.isnan(value)}

    def __str__(self) -> str:
        apart = f", {self.missing} without a rating" if self.missing else ""
        return f"kappa {self.kappa:.3f}, same label {self.share:.3f} ({self.low:.3f} to {self.high:.3f}){apart}"


def agreement(first: Sequence[str | None], second: Sequence[str | None]) -> Agreement:
    """Compare two raters row by row; None is a rating that is missing.

    Raises:
        ValueError: the lists differ in length, or no row has both ratings.
    """
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both:
        raise ValueError("No row has both ratings.")
    same = sum(a == b for a, b in both)
    low, high = wilson_interval(same, len(both))
    kappa = cohens_kappa([a for a, _ in both], [b for _, b in both])
    return Agreement(len(both), len(first) - len(both), same / len(both), low, high, kappa)


def plot_versions(rows: Sequence[Mapping[str, Any]], metric: str) -> "Figure":
    """The metric by version with its interval; rows have the keys version, low, high and the metric's name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = [str(row["version"]) for row in rows]
    means = [row[metric] for row in rows]
    ranges = [[row[metric] - row["low"] for row in rows], [row["high"] - row[metric] for row in rows]]
    axes.errorbar(names, means, yerr=ranges, marker="o", capsize=4)
    axes.set(xlabel="version of the prompt", ylabel=metric, ylim=(-0.02, 1.02))
    return figure
