"""What an evaluation run says of each of its rows: values, and apart from them what went wrong.

MLflow leaves a scorer's failure out of the mean and warns; here it is counted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from utils.errors import CheckFailed
from utils.evaluation_rows import row_key
from utils.span_tree import roots

if TYPE_CHECKING:
    from mlflow.entities import Trace

PAGE = 500  # traces that a store gives at once


@dataclass(frozen=True)
class RowScores:
    """By scorer and by key of a row (utils/evaluation_rows.py::row_key).

    values: what the scorer said, several values where it judges several things (each passage of a row); only where it
    said something. errors: why it said nothing. failed: rows that have no answer, with the reason: what a judge says
    about such a row is about no answer, and stands in neither.
    """

    run_id: str
    traces: dict[str, "Trace"]
    values: dict[str, dict[str, list[Any]]]
    errors: dict[str, dict[str, str]]
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, scorer: str) -> dict[str, Any]:
        """The one value of each row.

        Raises:
            CheckFailed: a row has no answer, or the scorer gave it no value.
        """
        if self.failed:
            key, reason = next(iter(self.failed.items()))
            raise self._missing(key, f"a row has no answer: {reason}")
        if self.errors[scorer]:
            key, reason = next(iter(self.errors[scorer].items()))
            raise self._missing(key, f"{scorer} gave no value for a row: {reason}")
        return {key: values[0] for key, values in self.values[scorer].items()}

    def _missing(self, key: str, problem: str) -> CheckFailed:
        return CheckFailed(problem, f"mlflow.get_trace({self.traces[key].info.trace_id!r})")


def read_row_scores(run_id: str, scorers: Sequence[str], rows: Collection[str]) -> RowScores:
    """The scores of an evaluation run, read back from its traces.

    Args:
        scorers: names of the assessments.
        rows: keys of the rows that were evaluated.

    Raises:
        CheckFailed: the run does not hold exactly one trace for each of these rows.
    """
    import mlflow
    from mlflow.entities import SpanStatusCode

    mlflow.flush_trace_async_logging()
    listed = mlflow.search_traces(run_id=run_id, max_results=len(rows) + PAGE, return_type="list")
    traces: dict[str, Trace] = {}
    failed = {}
    for trace in listed:
        (root,) = roots(trace)
        key = row_key(root.inputs or {})
        traces[key] = trace
        if root.status.status_code == SpanStatusCode.ERROR:
            failed[key] = root.status.description or "its call failed"
    if len(listed) != len(rows) or traces.keys() != set(rows):
        raise CheckFailed(f"{len(listed)} traces for {len(rows)} rows in the run {run_id}", "look at the run's Traces")
    found = RowScores(run_id, traces, {}, {}, failed)
    for scorer in scorers:
        found.values[scorer], found.errors[scorer] = {}, {}
        for key, trace in traces.items():
            if key not in failed:
                _sort_in(found, scorer, key, trace)
    return found


def _sort_in(found: RowScores, scorer: str, key: str, trace: "Trace") -> None:
    """One error among the values of a row makes the row an error: half of a judgement is none."""
    given = [item for item in trace.info.assessments if item.name == scorer]
    errors = [item.error.error_message or item.error.error_code for item in given if item.error]
    values = [item.value for item in given if item.error is None and item.value is not None]
    if errors or not values:
        found.errors[scorer][key] = errors[0] if errors else "no value was logged"
    else:
        found.values[scorer][key] = values
