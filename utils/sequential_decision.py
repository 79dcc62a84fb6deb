"""When an A/B test may stop: looks planned beforehand, which share one level. Pure functions.

Looking again and again at the level 0.05 finds a winner among equals far more often than 5 % of the time. Here the
level is spent: look k of K gets alpha * ((k/K)^2 - ((k-1)/K)^2), so that all looks together spend alpha.
Sources: Lan and DeMets, 1983, doi 10.1093/biomet/70.3.659 (spending); Fisher's exact test at each look, and the union
bound over them, which together hold the level for every number of users.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Arm:
    """One variant so far: users, and how many of them were satisfied."""

    users: int
    satisfied: int

    @property
    def rate(self) -> float:
        """Share of satisfied users; raises ZeroDivisionError while there are none."""
        return self.satisfied / self.users


@dataclass(frozen=True)
class Plan:
    """`looks` looks, each after `users_per_look` further users, of which `share` see the candidate."""

    looks: int
    users_per_look: int
    share: float = 0.5
    alpha: float = 0.05  # two-sided: half of it for either winner

    def __post_init__(self) -> None:
        if self.looks < 1 or self.users_per_look < 1 or not 0 < self.share < 1 or not 0 < self.alpha < 1:
            raise ValueError(f"No plan for a test: {self}.")

    def level(self, look: int) -> float:
        """What look number `look` (from 1) may spend, two-sided."""
        return self.alpha * (look**2 - (look - 1) ** 2) / self.looks**2

    def winner(self, look: int, production: Arm, candidate: Arm) -> str | None:
        """`candidate`, `production`, or None as long as the difference could be luck at this look's level."""
        level = self.level(look) / 2
        if better_p(candidate, production) < level:
            return "candidate"
        return "production" if better_p(production, candidate) < level else None


@dataclass(frozen=True)
class Expected:
    """What a plan does at given rates, by simulation: shares of tests (0 to 1), and users until the stop."""

    candidate_wins: float
    production_wins: float
    mean_users: float


def better_p(first: Arm, second: Arm) -> float:
    """One-sided exact p (Fisher) that `first` satisfies no more users than `second`; 1 where an arm has no users."""
    return float(_tail(first.users, first.satisfied, second.users, second.satisfied))


def simulate(
    plan: Plan, production_rate: float, candidate_rate: float, repetitions: int = 1_000, seed: int = 0
) -> Expected:
    """Run the plan again and again on users who are satisfied at these rates; the arms are drawn user by user."""
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (plan.looks, repetitions)
    candidates = rng.binomial(plan.users_per_look, plan.share, shape)
    satisfied = rng.binomial(candidates, candidate_rate).cumsum(axis=0)
    satisfied_before = rng.binomial(plan.users_per_look - candidates, production_rate).cumsum(axis=0)
    users = candidates.cumsum(axis=0)
    users_before = (np.arange(1, plan.looks + 1) * plan.users_per_look)[:, None] - users
    levels = np.array([plan.level(look) for look in range(1, plan.looks + 1)])[:, None] / 2
    up = _tail(users, satisfied, users_before, satisfied_before) < levels
    down = _tail(users_before, satisfied_before, users, satisfied) < levels
    stopped = up | down
    at = np.where(stopped.any(axis=0), stopped.argmax(axis=0), plan.looks - 1)
    columns = np.arange(repetitions)
    return Expected(
        float(up[at, columns].mean()), float(down[at, columns].mean()), float(((at + 1) * plan.users_per_look).mean())
    )


def _tail(
    users: "int | np.ndarray",
    satisfied: "int | np.ndarray",
    others: "int | np.ndarray",
    others_satisfied: "int | np.ndarray",
) -> "np.ndarray":
    """P(X >= satisfied) when all satisfied users were dealt to the arms by chance."""
    import numpy as np
    from scipy.stats import hypergeom

    tail = hypergeom.sf(satisfied - 1, users + others, satisfied + others_satisfied, users)
    return np.where(np.asarray(users + others) > 0, tail, 1.0)  # nobody came: not a number for scipy
