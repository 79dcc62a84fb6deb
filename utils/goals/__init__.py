"""What a learner should know, show and have ready: learning goals, success criteria, and the production checklist.

What MLflow can prove has evidence and is ticked from the store. What only the learner can know has none and is a
question. A goal whose lesson is not in the manifest is still to come; the lesson brings its evidence or its question.
"""

from utils.goals import advanced, agents, evaluation, fundamentals, production, prompts, rag, tracing
from utils.goals.entries import KINDS, Goal, is_reached

__all__ = ["CHECKLIST", "CRITERIA", "GOALS", "KINDS", "LEARNING", "Goal", "goals_of", "is_reached"]

_MODULES = (fundamentals, tracing, prompts, agents, rag, evaluation, production, advanced)
LEARNING: tuple[Goal, ...] = tuple(goal for module in _MODULES for goal in module.LEARNING)
CRITERIA: tuple[Goal, ...] = tuple(goal for module in _MODULES for goal in module.CRITERIA)
CHECKLIST: tuple[Goal, ...] = tuple(goal for module in _MODULES for goal in module.CHECKLIST)
GOALS: tuple[Goal, ...] = (*LEARNING, *CRITERIA, *CHECKLIST)


def goals_of(kind: str, module: int | None = None) -> list[Goal]:
    """The goals of a kind, of one module or of all."""
    return [goal for goal in GOALS if goal.kind == kind and module in (None, goal.module)]
