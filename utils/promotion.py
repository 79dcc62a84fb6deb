"""What decides whether a version may go into production, and the history of who stood there: pure functions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from utils.paired_decision import Decision, decide

KEPT_MOVES = 25  # a tag of the registry holds 5,000 characters


@dataclass(frozen=True)
class Verdict:
    """share: of the rows that the candidate has right (0 to 1). against: beside the version in production, if any."""

    passed: bool
    reason: str
    share: float
    against: Decision | None = None


@dataclass(frozen=True)
class Gate:
    """least_right: share of rows (0 to 1). tolerance: share of rows by which a candidate may be behind production."""

    least_right: float
    tolerance: float

    def decide(self, candidate: Sequence[bool], production: Sequence[bool] | None = None) -> Verdict:
        """Good enough by itself, and not behind what is in production on the same rows.

        Args:
            candidate: whether each row is right.
            production: the same rows, answered by the version in production; None where there is none.

        Raises:
            ValueError: no rows, or not the same number of rows.
        """
        if not candidate:
            raise ValueError("A gate without rows would pass anything.")
        share = sum(candidate) / len(candidate)
        against = decide(production, candidate) if production is not None else None
        if share < self.least_right:
            return Verdict(False, f"{share:.3f} of the rows right, {self.least_right:.3f} wanted", share, against)
        if against is None:
            return Verdict(True, f"{share:.3f} of the rows right, and nothing in production to compare", share)
        said = f"{against.better} rows better, {against.worse} worse than production"
        return Verdict(against.gain >= -self.tolerance, said, share, against)


@dataclass(frozen=True)
class Move:
    """An alias that was moved. at: UTC, ISO 8601. before: None where it pointed nowhere."""

    at: str
    alias: str
    before: str | None
    version: str
    why: str


def read_history(text: str) -> list[Move]:
    """The moves that a tag holds, oldest first."""
    return [Move(**move) for move in json.loads(text)]


def with_move(text: str, move: Move) -> str:
    """The tag's next text: at most KEPT_MOVES, the oldest are dropped."""
    return json.dumps([asdict(each) for each in [*read_history(text), move][-KEPT_MOVES:]])
