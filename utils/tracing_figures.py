"""What a look at traces in production found, as records and as metrics of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampled:
    """share: of the ordinary requests, with its interval. always, never: traces of those that no ratio touches."""

    share: float
    low: float
    high: float
    always: int
    never: int


@dataclass(frozen=True)
class Retention:
    """What a retention did.

    size: megabytes before, after the delete and after VACUUM; None where the store is no file of this machine.
    left, assessments: of old traces and of the ratings on them, how many should be left, and how many are.
    """

    deleted: int
    size: tuple[float, float, float] | None
    left: tuple[int, int] = (0, 0)
    assessments: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        sizes = "{:.2f} MB, then {:.2f}, after VACUUM {:.2f}".format(*self.size) if self.size else "size not known here"
        return f"{self.deleted} traces deleted; {sizes}"


def figures(
    kept: Mapping[str, int], lives: int, sampled: Sampled, masked: int, retention: Retention
) -> dict[str, float]:
    """Metrics of a run. `kept`: traces in the store by how their process ended, of `lives`; `masked`: parts masked."""
    lost = {f"lost_{re.sub(r'[^a-z0-9]+', '_', ending.lower())}": lives - number for ending, number in kept.items()}
    share = {"sampled_share": sampled.share, "sampled_low": sampled.low, "sampled_high": sampled.high}
    (old_due, old), (rated_due, rated) = retention.left, retention.assessments
    left = {"old_traces_to_keep": old_due, "old_traces_left": old, "ratings_to_keep": rated_due, "ratings_left": rated}
    size = dict(zip(("mb_before", "mb_deleted", "mb_vacuumed"), retention.size or (), strict=False))
    return {**lost, **share, "masked": masked, "deleted": retention.deleted, **left, **size}
