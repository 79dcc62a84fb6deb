"""Several versions on the same rows, every pair compared: pure functions.

Sources: McNemar's exact test for a pair (utils/evaluation.py::mcnemar_exact), Holm, 1979 for all pairs together,
Cochran, 1950, doi 10.1093/biomet/37.3-4.256 for the question before them: does any version differ?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from utils.evaluation import holm_correction, mcnemar_exact, paired_bootstrap_difference


@dataclass(frozen=True)
class Pair:
    """The second version against the first: `better` rows right only in the second, `worse` only in the first.

    gain: share of rows, with an interval that holds for all pairs together (each at 1 - alpha / pairs). p: as if it
    were the only pair; corrected: for having looked at all of them.
    """

    first: str
    second: str
    better: int
    worse: int
    gain: float
    low: float
    high: float
    p: float
    corrected: float
    alpha: float

    @property
    def is_real(self) -> bool:
        return self.corrected < self.alpha

    @property
    def winner(self) -> str | None:
        """None while the difference could be luck."""
        if not self.is_real:
            return None
        return self.second if self.gain > 0 else self.first

    @property
    def same(self) -> bool:
        """Not a single row differs."""
        return not self.better and not self.worse


def compare_pairs(scores: Mapping[str, Sequence[bool]], alpha: float = 0.05, resamples: int = 5_000) -> list[Pair]:
    """All pairs of versions, in the order given.

    Args:
        scores: for each version whether row i is right; row i is the same row in all of them.
        alpha: how often, of all pairs together, equal versions may be told apart.

    Raises ValueError for fewer than two versions, for lists of different lengths or of fewer than two rows, and for
    alpha outside 0 to 1.
    """
    if len(scores) < 2:
        raise ValueError("One version has nothing to be compared with.")
    if not 0 < alpha < 1:
        raise ValueError(f"The level alpha lies between 0 and 1, not at {alpha}.")
    names = list(combinations(scores, 2))
    counts = [_disagreeing(scores[first], scores[second]) for first, second in names]
    p_values = [mcnemar_exact(worse, better) for better, worse in counts]
    level = 1 - alpha / len(names)
    pairs = []
    for (first, second), (better, worse), p, corrected in zip(
        names, counts, p_values, holm_correction(p_values), strict=True
    ):
        gain = paired_bootstrap_difference(scores[first], scores[second], level=level, resamples=resamples)
        pairs.append(Pair(first, second, better, worse, gain.mean, gain.low, gain.high, p, corrected, alpha))
    return pairs


def best_and_equals(scores: Mapping[str, Sequence[bool]], pairs: Sequence[Pair]) -> tuple[str, list[str]]:
    """The version with most rows right (the first of equals), and those that no pair tells from it."""
    best = max(scores, key=lambda name: sum(scores[name]))
    worse = {name for pair in pairs if pair.is_real for name in (pair.first, pair.second) if pair.winner == best}
    return best, [name for name in scores if name != best and name not in worse]


def cochran_q(scores: Mapping[str, Sequence[bool]]) -> tuple[float, float]:
    """Cochran's Q and its p (chi-squared with versions - 1 degrees of freedom); 0 and 1 where all versions agree on
    every row."""
    from scipy.stats import chi2

    columns = [list(map(int, values)) for values in scores.values()]
    if len(columns) < 2 or len({len(column) for column in columns}) != 1 or not columns[0]:
        raise ValueError("Cochran's Q needs two versions or more, on the same rows.")
    versions, rows = len(columns), [sum(row) for row in zip(*columns, strict=True)]
    spread = sum(row * (versions - row) for row in rows)
    if not spread:
        return 0.0, 1.0
    totals, mean = [sum(column) for column in columns], sum(rows) / versions
    q = versions * (versions - 1) * sum((total - mean) ** 2 for total in totals) / spread
    return q, float(chi2.sf(q, versions - 1))


def _disagreeing(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int]:
    better = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    worse = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    return better, worse
