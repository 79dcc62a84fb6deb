"""Module 7: Production."""

from utils.exercise_checks import production
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="7.2a",
        title="Let a version into production only after its tests",
        file="genai/exercises/gate_first.py",
        task="Two versions are registered, and the newest went into production because it is the newest. Test both on "
        "CASES, log the share of right answers as the metric right in a run of each version, tag the versions tests = "
        "passed or tests = failed, and point the alias production at the newest version that passed.",
        proof="a run and a true tag for each version, and the alias on the newest that passed",
        hints=(
            "What does production say about 100 °C, and who could have known it before?",
            "A version cannot be changed any more. Where can what you found out about it be written all the same?",
            "Somebody runs your file again tomorrow. Which version does the alias point at then, and why?",
            "Look at genai/deployment/promote_agent.py::propose; then compare with tests/solutions/gate_first.py.",
        ),
        check=production.find_gated_alias,
    ),
)
