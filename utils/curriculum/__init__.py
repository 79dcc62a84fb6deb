"""The manifest: every lesson there is, one file a module.

pyproject's scripts, README.md, LEARNING_PLAN.md, the tests and `mlflow-learn` agree with it, and a test says so.
Importing it costs nothing: no MLflow, no click.
"""

from utils.curriculum import advanced, agents, evaluation, fundamentals, production, prompts, rag, tracing
from utils.curriculum.entries import MODULES, TRACKS, Evidence, Lesson, Module

__all__ = ["LESSONS", "MODULES", "TRACKS", "Evidence", "Lesson", "Module", "lesson", "next_lesson", "with_required"]

LESSONS: tuple[Lesson, ...] = (
    *fundamentals.LESSONS,
    *tracing.LESSONS,
    *prompts.LESSONS,
    *agents.LESSONS,
    *rag.LESSONS,
    *evaluation.LESSONS,
    *production.LESSONS,
    *advanced.LESSONS,
)


def lesson(number: str) -> Lesson:
    """The lesson with this number.

    Raises:
        KeyError: there is none.
    """
    for entry in LESSONS:
        if entry.number == number:
            return entry
    raise KeyError(number)


def with_required(chosen: list[Lesson]) -> list[Lesson]:
    """These lessons and those that they build on, in the order of the plan."""
    numbers, waiting = set(), [entry.number for entry in chosen]
    while waiting:
        number = waiting.pop()
        if number not in numbers:
            numbers.add(number)
            waiting += lesson(number).requires
    return [entry for entry in LESSONS if entry.number in numbers]


def next_lesson(number: str) -> Lesson | None:
    """The lesson after this one, or None after the last."""
    numbers = [entry.number for entry in LESSONS]
    index = numbers.index(number) + 1
    return LESSONS[index] if index < len(LESSONS) else None
