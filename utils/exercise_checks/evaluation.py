"""Module 6: scores that a decision can rest on."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import exercise_runs, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# The candidates of 6.7a: what the gate says to each, and whether there is anything to compare.
VERDICTS = {"same": "passed", "noise": "passed", "worse": "refused", "lost": "refused"}
NOT_COMPARED = "lost"
LEVEL = 0.05


def find_own_gate(client: "MlflowClient", experiments: list[str]) -> str | None:
    """6.7a: four nested runs with their verdicts, and a p where rows were compared that agrees with its verdict."""
    runs = exercise_runs(client, experiments, "6.7a")

    def lacks(run: "Run") -> str | None:
        nested = {
            child.info.run_name: child for child in runs if child.data.tags.get("mlflow.parentRunId") == run.info.run_id
        }
        if absent := [name for name in VERDICTS if name not in nested]:
            return f"the run {run.info.run_name} has no nested run {absent[0]}"
        return next(filter(None, (_lacks_verdict(name, nested[name]) for name in VERDICTS)), None)

    return first_lack([run for run in runs if "mlflow.parentRunId" not in run.data.tags], lacks)


def _lacks_verdict(name: str, run: "Run") -> str | None:
    verdict, p = run.data.tags.get("verdict"), run.data.metrics.get("p")
    if verdict not in ("passed", "refused"):
        return f"the nested run {name} has no tag verdict that is passed or refused"
    if name == NOT_COMPARED:
        if verdict != "refused":
            return f"the candidate {name} passed, although rows of it have no score"
        return None if p is None else f"the nested run {name} has a p, but its rows cannot be compared"
    if p is None or not 0 <= p <= 1:
        return f"the nested run {name} has no metric p between 0 and 1"
    if verdict != VERDICTS[name]:
        return f"the candidate {name} is {verdict}, with a p of {p:.3f}"
    if (p < LEVEL) != (verdict == "refused"):
        return f"the candidate {name} is {verdict}, which a p of {p:.3f} does not say"
    return None
