"""Module 6: rows from complaints, scores whose gaps are counted, and verdicts that rest on both."""

import re
from typing import TYPE_CHECKING

from utils.exercise_checks.common import TRIES, exercise_runs, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Trace

COMPLAINTS, HELPFUL = "library-complaints", "helpful"
RIGHT_NUMBER, LEAST_ANSWERS, TINY = "right_number", 6, 1e-6
# The candidates of 6.7a: what the gate says to each, and whether there is anything to compare.
VERDICTS = {"same": "passed", "noise": "passed", "worse": "refused", "lost": "refused"}
NOT_COMPARED = "lost"
LEVEL = 0.05


def find_rows_from_complaints(client: "MlflowClient", experiments: list[str]) -> str | None:
    """6.1a: the dataset holds the traces with a thumb down, each once and with its expectation, and no other."""

    def lacks(run: "Run") -> str | None:
        traces = client.search_traces(locations=experiments, run_id=run.info.run_id, max_results=TRIES)
        thumbs = {_question(trace): _thumb(trace) for trace in traces}
        complaints = {question for question, thumb in thumbs.items() if thumb is False}
        if not complaints:
            return f"the run {run.info.run_name} holds no trace with a thumb down (feedback {HELPFUL})"
        return _lacks_rows(client, experiments, complaints, set(thumbs) - complaints)

    return first_lack(exercise_runs(client, experiments, "6.1a"), lacks)


def find_unjudged_answers(client: "MlflowClient", experiments: list[str]) -> str | None:
    """6.2a: a true value where an answer holds one number, an error where not, and figures that keep the two apart."""

    def lacks(run: "Run") -> str | None:
        name = run.info.run_name
        traces = client.search_traces(locations=experiments, run_id=run.info.run_id, max_results=TRIES)
        if len(traces) < LEAST_ANSWERS:
            return f"the run {name} holds {len(traces)} judged answers: run mlflow.genai.evaluate over all of them"
        if problem := next(filter(None, map(_lacks_true_judgement, traces)), None):
            return problem
        return _lacks_figures(run, [_judgement(trace) for trace in traces])

    return first_lack(exercise_runs(client, experiments, "6.2a"), lacks)


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


def _judgement(trace: "Trace") -> object:
    """True, False, an error, or None where the scorer said nothing at all."""
    given = next((item for item in trace.info.assessments if item.name == RIGHT_NUMBER), None)
    return None if given is None else given.error or given.value


def _lacks_true_judgement(trace: "Trace") -> str | None:
    said = _judgement(trace)
    root = next(span for span in trace.data.spans if span.parent_id is None)
    numbers = re.findall(r"\d+", str(root.outputs))
    expected = next((item.value for item in trace.info.assessments if item.name == "number"), None)
    if said is None:
        return f"the answer {root.outputs!r} has neither a value nor an error named {RIGHT_NUMBER}"
    if len(numbers) != 1:
        return (
            f"{RIGHT_NUMBER} judges {root.outputs!r}: raise where not one number is there"
            if said in (True, False)
            else None
        )
    if said is not (int(numbers[0]) == expected):
        return f"{RIGHT_NUMBER} says {said} to {root.outputs!r}, and the right number is {expected}"
    return None


def _lacks_figures(run: "Run", said: list[object]) -> str | None:
    judged = [value for value in said if value in (True, False)]
    wanted: dict[str, float] = {"judged": len(judged), "not_judged": len(said) - len(judged)}
    wanted["right_share"] = sum(map(bool, judged)) / len(judged) if judged else 0
    for name, value in wanted.items():
        found = run.data.metrics.get(name)
        if found is None:
            return f"the run {run.info.run_name} has no metric {name}"
        if abs(found - value) > TINY:
            return f"{name} of the run {run.info.run_name} is {found:.3f}, and its rows say {value:.3f}"
    return None


def _lacks_rows(
    client: "MlflowClient", experiments: list[str], complaints: set[str | None], praised: set[str | None]
) -> str | None:
    found = list(client.search_datasets(experiment_ids=experiments, filter_string=f"name = '{COMPLAINTS}'"))
    if not found:
        return f"there is no dataset {COMPLAINTS}: create it, and merge the traces with a thumb down"
    if len(found) > 1:
        return f"there are {len(found)} datasets named {COMPLAINTS}: look for it before you create one"
    rows = {row.inputs.get("question"): row for row in found[0].records}
    if missing := sorted(map(str, complaints - rows.keys())):
        return f"{COMPLAINTS} has no row for the complaint {missing[0]!r}"
    if wrong := sorted(map(str, praised & rows.keys())):
        return f"{COMPLAINTS} holds {wrong[0]!r}, about which nobody complained"
    for question, row in rows.items():
        if not (row.expectations or {}).get("expected_response"):
            return f"the row {question!r} has no expectation expected_response: log it before you read the trace again"
        if row.source_type != "TRACE":
            return f"the row {question!r} does not say from which trace it came: merge the traces themselves"
    return None


def _question(trace: "Trace") -> str | None:
    root = next((span for span in trace.data.spans if span.parent_id is None), None)
    return (root.inputs or {}).get("question") if root else None


def _thumb(trace: "Trace") -> object:
    return next((item.value for item in trace.info.assessments if item.name == HELPFUL), None)


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
