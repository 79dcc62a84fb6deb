"""What an evaluation left in the store, counted: MLflow itself only warns when a scorer fails or a trace is missing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from utils.errors import CheckFailed

if TYPE_CHECKING:
    from mlflow.entities import Trace

# What the user has set wins. SQLite has one writer: more rows at once only wait for it.
SETTINGS = {"MLFLOW_GENAI_EVAL_SKIP_TRACE_VALIDATION": "true", "MLFLOW_GENAI_EVAL_MAX_WORKERS": "4"}


@contextmanager
def quiet_evaluation() -> Iterator[None]:
    """Around mlflow.genai.evaluate: no notice of several lines, and predict_fn is called once per row, no more."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        for name in [name for name, value in before.items() if value is None]:
            del os.environ[name]


def read_scores(run_id: str, scorer: str, rows: int) -> dict[int, Any]:
    """The scorer's value for each row, from the traces of the run; a row is known by the input `row`.

    Raises:
        CheckFailed: there are not as many traces as rows, or a trace has no value from the scorer.
    """
    return {row: scores[scorer] for row, (_, scores) in read_rows(run_id, (scorer,), rows).items()}


def read_rows(run_id: str, scorers: Sequence[str], rows: int) -> dict[int, tuple["Trace", dict[str, Any]]]:
    """Each row's trace and its scores by scorer, from the traces of the run; a row is known by the input `row`.

    Raises:
        CheckFailed: there are not as many traces as rows, or a trace has no value from a scorer.
    """
    import mlflow

    traces = mlflow.search_traces(run_id=run_id, max_results=max(rows, 1) * 2, return_type="list")
    found: dict[int, tuple[Trace, dict[str, Any]]] = {}
    for trace in traces:
        (root,) = [span for span in trace.data.spans if span.parent_id is None]
        scores: dict[str, Any] = {}
        for scorer in scorers:
            values = [item.value for item in trace.info.assessments if item.name == scorer]
            if len(values) != 1 or values[0] is None:
                raise CheckFailed(
                    f"{scorer} gave no value for row {root.inputs['row']} of the run {run_id}",
                    f"mlflow.get_trace({trace.info.trace_id!r})",
                )
            scores[scorer] = values[0]
        found[int(root.inputs["row"])] = trace, scores
    if len(found) != rows or len(traces) != rows:
        raise CheckFailed(f"{len(traces)} traces for {rows} rows in the run {run_id}", "look at the run's Traces")
    return found
