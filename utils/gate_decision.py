"""Whether a candidate passes a gate: pure functions on the scores of a baseline and a candidate for the same rows.

The tests are those of utils/evaluation.py: McNemar's exact test where all scores are 0 or 1, Wilcoxon's signed-rank
test otherwise, corrected by Holm for the number of scorers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import InputError
from utils.evaluation import holm_correction, mcnemar_exact, paired_bootstrap_difference, wilcoxon_p

Scores = Mapping[str, Mapping[int, float]]  # scorer → row → score; True and False count as 1 and 0


@dataclass(frozen=True)
class Check:
    """One scorer on the rows of the baseline.

    before, now: mean scores. low, high: interval (level 1 - alpha) of their difference over the same rows. p: two-sided
    and corrected. floor: the least mean that is allowed, None for any. worse, better: rows whose score fell or rose.
    """

    scorer: str
    before: float
    now: float
    low: float
    high: float
    p: float
    alpha: float
    floor: float | None
    worse: tuple[int, ...]
    better: tuple[int, ...]

    @property
    def refusal(self) -> str | None:
        """Why the candidate does not pass, or None. A fall that chance explains is no reason."""
        if self.p < self.alpha and self.high < 0:
            interval = f"{self.low:+.3f} to {self.high:+.3f}"
            return f"{self.scorer} fell from {self.before:.3f} to {self.now:.3f} ({interval}, p {self.p:.2g})"
        if self.floor is not None and self.now < self.floor:
            return f"{self.scorer} is {self.now:.3f}, below its floor of {self.floor:.3f}"
        return None


@dataclass(frozen=True)
class Verdict:
    """On one candidate run; `questions` by row."""

    run_id: str
    checks: list[Check]
    questions: Mapping[int, str]

    @property
    def refusals(self) -> list[str]:
        return [check.refusal for check in self.checks if check.refusal]

    def worse_rows(self, refused_only: bool = False) -> list[dict[str, Any]]:
        """Each row whose score fell, with the scorer that says so."""
        checks = [check for check in self.checks if check.refusal or not refused_only]
        return [
            {"scorer": check.scorer, "fell": self.questions[row]} for check in checks for row in sorted(check.worse)
        ]


def find_missing(baseline: Scores, candidate: Scores) -> str | None:
    """The first thing of the baseline that the candidate lacks: a scorer, or rows of one; None when all is there."""
    if not baseline or not all(baseline.values()):
        return "the baseline has no scores"
    if absent := [scorer for scorer in baseline if scorer not in candidate]:
        return f"the candidate was not scored by {', '.join(absent)}"
    for scorer, rows in baseline.items():
        if absent_rows := [row for row in rows if row not in candidate[scorer]]:
            return f"{len(absent_rows)} of the baseline's {len(rows)} rows have no score {scorer} in the candidate"
    return None


def check_scores(
    baseline: Scores, candidate: Scores, floors: Mapping[str, float], alpha: float = 0.05, resamples: int = 5_000
) -> list[Check]:
    """One check for each scorer of the baseline; rows and scorers that only the candidate has are not compared.

    Raises:
        ValueError: something is missing (ask `find_missing` first), there are fewer than two rows, a floor is of no
            scorer, or alpha is not between 0 and 1.
    """
    if missing := find_missing(baseline, candidate):
        raise ValueError(missing)
    if not 0 < alpha < 1:
        raise ValueError(f"The level alpha lies between 0 and 1, not at {alpha}.")
    if unknown := [scorer for scorer in floors if scorer not in baseline]:
        raise ValueError(f"There is no scorer {unknown[0]} to have a floor.")
    pairs = {
        scorer: [(row, float(score), float(candidate[scorer][row])) for row, score in rows.items()]
        for scorer, rows in baseline.items()
    }
    corrected = holm_correction([_p(rows) for rows in pairs.values()])
    checks = []
    for (scorer, rows), p in zip(pairs.items(), corrected, strict=True):
        before, now = [first for _, first, _ in rows], [second for _, _, second in rows]
        difference = paired_bootstrap_difference(before, now, level=1 - alpha, resamples=resamples)
        checks.append(
            Check(
                scorer, sum(before) / len(rows), sum(now) / len(rows), difference.low, difference.high, p, alpha,
                floors.get(scorer),
                worse=tuple(row for row, first, second in rows if second < first),
                better=tuple(row for row, first, second in rows if second > first),
            )
        )  # fmt: skip
    return checks


def describe(check: Check) -> dict[str, Any]:
    return {
        "scorer": check.scorer, "before": check.before, "now": check.now, "worse": len(check.worse),
        "better": len(check.better), "difference": f"{check.low:+.3f} to {check.high:+.3f}", "p": check.p,
        "floor": check.floor, "verdict": "refused" if check.refusal else "passes",
    }  # fmt: skip


def parse_floors(given: Sequence[str], scorers: Sequence[str]) -> dict[str, float]:
    """`right=0.5` as {"right": 0.5}.

    Raises:
        InputError: no such scorer, or no share.
    """
    floors = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in scorers or not re.fullmatch(r"0(\.\d+)?|1(\.0+)?", value):
            raise InputError(
                f"--at-least {text} is not understood", f"--at-least {scorers[0]}=0.5   (scorers: {', '.join(scorers)})"
            )
        floors[name] = float(value)
    return floors


def _p(rows: list[tuple[int, float, float]]) -> float:
    before, now = [first for _, first, _ in rows], [second for _, _, second in rows]
    if {*before, *now} <= {0.0, 1.0}:
        return mcnemar_exact(sum(b < a for a, b in zip(before, now, strict=True)), sum(map(float.__lt__, before, now)))
    return wilcoxon_p(before, now)
