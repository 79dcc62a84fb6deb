"""What a request to several agents may take, and what it has taken."""

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict


def _joined(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


class TeamState(TypedDict, total=False):
    """What the nodes of the graph hand on. steps: coordinator's turns and hand-offs; tokens: of all model calls."""

    messages: Annotated[list[Any], _joined]
    pending: list[dict[str, Any]]
    findings: Annotated[list[str], _joined]
    steps: int
    tokens: int
    answer: str
    stopped_by: str


@dataclass(frozen=True)
class Budget:
    """Looked at before every step, so that the last step may go over the tokens but never over the steps."""

    steps: int
    tokens: int

    def spent(self, state: TeamState) -> str:
        """Which part of it is used up, or nothing."""
        if state["steps"] >= self.steps:
            return f"{self.steps} steps"
        return f"{self.tokens} tokens" if state["tokens"] >= self.tokens else ""


def used(state: TeamState, tokens: int) -> dict[str, int]:
    """The counts after one more step with so many tokens."""
    return {"steps": state["steps"] + 1, "tokens": state["tokens"] + tokens}


@dataclass(frozen=True)
class Reply:
    """What came of one request. stopped_by: the part of the budget that ended it, or nothing; failed: a model call did.

    Steps and tokens are those of the steps that were completed.
    """

    answer: str
    steps: int
    tokens: int
    stopped_by: str
    trace_id: str
    failed: bool = False
