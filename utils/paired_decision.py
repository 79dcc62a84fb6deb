"""Whether one version is really better than another on the same rows: pure functions.

Source of the test: McNemar, 1947, doi 10.1007/BF02295996, in its exact form (utils/evaluation.py::mcnemar_exact).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from utils.evaluation import mcnemar_exact, paired_bootstrap_difference


@dataclass(frozen=True)
class Decision:
    """The second version against the first: `better` rows right only in the second, `worse` only in the first.

    `gain` is a share of the rows, with its bootstrap interval (level 1 - alpha); `p` is two-sided.
    """

    better: int
    worse: int
    gain: float
    low: float
    high: float
    p: float
    alpha: float

    @property
    def is_real(self) -> bool:
        """Both say so: chance alone is unlikely (p below alpha), and the whole interval lies above 0."""
        return self.p < self.alpha and self.low > 0


def decide(first: Sequence[bool], second: Sequence[bool], alpha: float = 0.05, resamples: int = 5_000) -> Decision:
    """Compare two versions row by row; `first[i]` and `second[i]` are the same row.

    Raises ValueError for lists of different lengths, for fewer than two rows and for alpha outside 0 to 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"The level alpha lies between 0 and 1, not at {alpha}.")
    difference = paired_bootstrap_difference(first, second, level=1 - alpha, resamples=resamples)
    better = sum(b and not a for a, b in zip(first, second, strict=True))
    worse = sum(a and not b for a, b in zip(first, second, strict=True))
    p = mcnemar_exact(worse, better)
    return Decision(better, worse, difference.mean, difference.low, difference.high, p, alpha)


def power(
    rows: int, share_better: float, share_worse: float, alpha: float = 0.05, repetitions: int = 2_000, seed: int = 0
) -> float:
    """How often the test finds a gain of share_better - share_worse on this many rows (0 to 1), by simulation.

    Each repetition draws every row anew: better, worse or the same in both versions.
    """
    import numpy as np

    if min(share_better, share_worse) < 0 or share_better + share_worse > 1:
        raise ValueError(f"Shares of rows lie between 0 and 1 together: {share_better} and {share_worse}.")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(rows, [share_better, share_worse, 1 - share_better - share_worse], size=repetitions)
    found = [better > worse and mcnemar_exact(int(worse), int(better)) < alpha for better, worse, _ in drawn]
    return sum(found) / repetitions
