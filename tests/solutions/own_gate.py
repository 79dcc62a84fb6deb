"""Exercise 6.7a solved: write the rule of a gate, and let it say no to what is missing.

Begin with:  genai/exercises/own_gate.py
Run it:      uv run python tests/solutions/own_gate.py
"""

from dataclasses import dataclass

import mlflow

from utils.cli import show_table
from utils.evaluation import mcnemar_exact
from utils.exercise_cli import exercise_command

LEVEL = 0.05
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
    if "." in candidate or len(candidate) != len(baseline):
        return Ruling(passes=False, p=None)
    pairs = list(zip(baseline, candidate, strict=True))
    fell, rose = pairs.count(("r", "w")), pairs.count(("w", "r"))
    p = mcnemar_exact(fell, rose)
    return Ruling(passes=not (fell > rose and p < LEVEL), p=p)


@exercise_command("6.7a")
def main() -> None:
    rows = []
    with mlflow.start_run(run_name="own-gate"):
        for name, candidate in CANDIDATES.items():
            ruling = rule(BASELINE, candidate)
            with mlflow.start_run(run_name=name, nested=True):
                mlflow.log_metrics({"right": candidate.count("r"), "rows": len(candidate)})
                mlflow.set_tag("verdict", "passed" if ruling.passes else "refused")
                if ruling.p is not None:
                    mlflow.log_metric("p", ruling.p)
            rows.append({"candidate": name, "passes": ruling.passes, "p": ruling.p})
    show_table(rows)


if __name__ == "__main__":
    main()
