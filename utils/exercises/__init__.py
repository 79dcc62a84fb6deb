"""The manifest of the exercises: what the learner writes, and the check that finds it in MLflow.

Importing it costs nothing: no MLflow, no click.
"""

from utils.exercises import advanced, agents, evaluation, fundamentals, production, prompts, rag, tracing
from utils.exercises.entries import Check, Exercise

__all__ = ["EXERCISES", "Check", "Exercise", "exercise", "next_exercise"]

EXERCISES: tuple[Exercise, ...] = (
    *fundamentals.EXERCISES,
    *tracing.EXERCISES,
    *prompts.EXERCISES,
    *agents.EXERCISES,
    *rag.EXERCISES,
    *evaluation.EXERCISES,
    *production.EXERCISES,
    *advanced.EXERCISES,
)


def exercise(number: str) -> Exercise:
    """The exercise with this id.

    Raises:
        KeyError: there is none.
    """
    for entry in EXERCISES:
        if entry.id == number:
            return entry
    raise KeyError(number)


def next_exercise(number: str) -> Exercise | None:
    """The exercise after this one, or None after the last."""
    ids = [entry.id for entry in EXERCISES]
    index = ids.index(number) + 1
    return EXERCISES[index] if index < len(EXERCISES) else None
