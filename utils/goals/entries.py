"""What a list of goals is made of, and short ways to write one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils import curriculum
from utils.curriculum import Evidence

if TYPE_CHECKING:
    from utils.progress import Store

KINDS = ("learning", "criterion", "production")


@dataclass(frozen=True)
class Goal:
    """One line of a list.

    kind: `learning`, `criterion` or `production`. lesson: its number, or None where no lesson is meant. command: what
    makes it true, or what shows what is asked; empty while the lesson is to come.
    """

    text: str
    module: int
    kind: str
    lesson: str | None = None
    evidence: Evidence | None = None
    command: str = ""

    @property
    def to_come(self) -> bool:
        return self.lesson is not None and self.lesson not in {entry.number for entry in curriculum.LESSONS}

    @property
    def asked(self) -> bool:
        """Only the learner knows."""
        return self.evidence is None and not self.to_come


def is_reached(goal: Goal, store: "Store | None") -> bool:
    """Whether the store proves it; never for what is asked or to come."""
    from utils.progress import COUNTERS, Finding

    if store is None or goal.to_come or goal.evidence is None or goal.lesson is None:
        return False
    entry = curriculum.lesson(goal.lesson)
    return Finding(goal.evidence, COUNTERS[goal.evidence.kind](store, entry, goal.evidence)).proved


def asked(kind: str, lesson: str, text: str, command: str) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson, None, command)


def proved(kind: str, lesson: str, text: str, command: str, evidence: Evidence) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson, evidence, command)


def later(kind: str, lesson: str, text: str) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson)


def trace(name: str, further: str, minimum: int = 1) -> Evidence:
    return Evidence("trace", f"{name}: {further}", minimum, filter=f"trace.name = '{name}' AND {further}")


def run(further: str, minimum: int = 1) -> Evidence:
    return Evidence("run", further, minimum, filter=further)
