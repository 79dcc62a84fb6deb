"""Module 6: Evaluation."""

from utils.exercise_checks import evaluation
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="6.7a",
        title="Write the rule of a gate, and let it say no to what is missing",
        file="genai/exercises/own_gate.py",
        task="Four candidates were scored on the rows of a baseline: one is the same, one differs by noise, one got "
        "worse, and one was not scored on every row. Write the rule that passes the first two and refuses the others, "
        "and leave each verdict on the run of its candidate, with the p that it rests on.",
        proof="a verdict on each of four candidates, two passed and two refused, with the p of what was compared",
        hints=(
            "The candidate lost has no wrong row at all. Why is its share of right rows no comfort?",
            "Seven rows of the candidate noise changed sides. Which of the forty rows say anything about a difference?",
            "A coin is thrown once for each row that changed sides. How often does it give so one-sided a count?",
            "Look at utils/evaluation.py::mcnemar_exact and utils/gate_decision.py::find_missing; then compare with "
            "tests/solutions/own_gate.py.",
        ),
        check=evaluation.find_own_gate,
    ),
)
