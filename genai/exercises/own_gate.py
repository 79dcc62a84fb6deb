"""6.7a Write the rule of a gate, and let it say no to what is missing.

Four candidates were scored on the rows of a baseline: one is the same, one differs by noise, one got worse, and one was
not scored on every row. Write the rule that passes the first two and refuses the others, and leave each verdict on the
run of its candidate, with the p that it rests on.

Run it:   uv run python genai/exercises/own_gate.py
Check:    uv run mlflow-learn check 6.7a
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Training runs  ->  own-gate: the column verdict
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/
"""

from dataclasses import dataclass

import mlflow

from utils.cli import show_table
from utils.exercise_cli import exercise_command

# One letter a row: r for right, w for wrong, a dot where the scorer gave no value.
BASELINE = "rrrrrrrrrrrrrrrrrrrrrrrrrrrrwwwwwwwwwwww"
CANDIDATES = {
    "same": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrwwwwwwwwwwww",
    "noise": "rrrrrrrrrrrrrrrrrrrrrrrrwwwwwwwwwwwwwrrr",
    "worse": "rrrrrrrrrrrrrrrrwwwwwwwwwwwwwwwwwwwwwwwr",
    "lost": "rrrrrrrrrrrrrrrrrrrrrrrrrrrr............",
}


@dataclass(frozen=True)
class Ruling:
    """p is None where nothing was compared."""

    passes: bool
    p: float | None


def rule(baseline: str, candidate: str) -> Ruling:
    """Whether the candidate may pass."""
    # Your turn (1): a row without a score decides alone. For the others count the rows that fell and those that rose,
    #                and ask whether a coin would give these counts.
    share = candidate.count("r") / max(1, len(candidate.replace(".", "")))
    return Ruling(passes=share >= baseline.count("r") / len(baseline), p=None)


@exercise_command("6.7a")
def main() -> None:
    rows = []
    with mlflow.start_run(run_name="own-gate"):
        for name, candidate in CANDIDATES.items():
            ruling = rule(BASELINE, candidate)
            with mlflow.start_run(run_name=name, nested=True):
                mlflow.log_metrics({"right": candidate.count("r"), "rows": len(candidate)})
                # Your turn (2): the tag verdict says passed or refused, and the metric p what it rests on.
            rows.append({"candidate": name, "passes": ruling.passes, "p": ruling.p})
    show_table(rows)


if __name__ == "__main__":
    main()
