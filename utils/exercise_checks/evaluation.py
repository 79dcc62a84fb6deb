"""Module 6: rows from complaints, and scores whose gaps are counted."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import TRIES, exercise_runs, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Trace

COMPLAINTS, HELPFUL = "library-complaints", "helpful"


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
