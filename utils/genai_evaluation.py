"""What an evaluation left in the store, counted: MLflow itself only warns when a scorer fails or a trace is missing."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from utils.errors import CheckFailed

if TYPE_CHECKING:
    from mlflow.entities import Span, Trace

# What the user has set wins. SQLite has one writer: more rows at once only wait for it.
SETTINGS = {
    "MLFLOW_GENAI_EVAL_SKIP_TRACE_VALIDATION": "true",
    "MLFLOW_GENAI_EVAL_MAX_WORKERS": "4",
    "MLFLOW_GENAI_SIMULATOR_MAX_WORKERS": "4",
}


@contextmanager
def quiet_evaluation(workers: int | None = None) -> Iterator[None]:
    """Around mlflow.genai.evaluate and simulations: no notice of several lines, and predict_fn is called once per row.

    workers: how many rows are asked about at once, whatever the user has set; 1 where latency is measured.
    """
    before = {name: os.environ.get(name) for name in SETTINGS}
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if workers is not None:
        os.environ["MLFLOW_GENAI_EVAL_MAX_WORKERS"] = str(workers)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        for name, earlier in before.items():
            if earlier is None:
                del os.environ[name]
            else:
                os.environ[name] = earlier


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
        scores = {scorer: _score(trace, root, scorer) for scorer in scorers}
        found[int(root.inputs["row"])] = trace, scores
    if len(found) != rows or len(traces) != rows:
        raise CheckFailed(f"{len(traces)} traces for {rows} rows in the run {run_id}", "look at the run's Traces")
    return found


def read_session_scores(traces: Sequence["Trace"], scorers: Sequence[str]) -> dict[str, Any]:
    """The newest value of each scorer for one session, from the trace of its first turn, where MLflow keeps it.

    Args:
        traces: of the session, read after the evaluation, at least one.
        scorers: names of session-level scorers.

    Raises:
        CheckFailed: a scorer gave no value.
    """
    first = _first_turn(traces)
    scores = read_session(traces, scorers)
    for name, value in scores.items():
        if value is None:
            newest = _newest(first, name)
            why = f": {newest.error.error_message}" if newest is not None and newest.error else ""
            raise CheckFailed(
                f"{name} gave no value for the session of trace {first.info.trace_id}{why}",
                f"mlflow.get_trace({first.info.trace_id!r})",
            )
    return scores


def read_session(traces: Sequence["Trace"], scorers: Sequence[str]) -> dict[str, Any]:
    """As read_session_scores, with None for a scorer that gave no value: its failure is counted, not averaged."""
    newest = {name: _newest(_first_turn(traces), name) for name in scorers}
    return {name: None if item is None or item.error else item.value for name, item in newest.items()}


def _first_turn(traces: Sequence["Trace"]) -> "Trace":
    return min(traces, key=lambda trace: trace.info.timestamp_ms)


def _newest(trace: "Trace", scorer: str) -> Any:
    given = [item for item in trace.info.assessments if item.name == scorer]
    return max(given, key=lambda item: item.create_time_ms, default=None)


@contextmanager
def short_errors(logger: str) -> Iterator[None]:
    """What this logger reports is one line on the screen, without the stack that MLflow adds to it."""

    def shorten(record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        record.msg, record.args = " ".join(record.getMessage().split())[:300], ()
        return True

    found = logging.getLogger(logger)
    found.addFilter(shorten)
    try:
        yield
    finally:
        found.removeFilter(shorten)


def _score(trace: "Trace", root: "Span", scorer: str) -> Any:
    from mlflow.entities import SpanStatusCode

    values = [item.value for item in trace.info.assessments if item.name == scorer]
    if len(values) == 1 and values[0] is not None:
        return values[0]
    row, cure = root.inputs["row"], f"mlflow.get_trace({trace.info.trace_id!r})"
    if root.status.status_code == SpanStatusCode.ERROR:  # no answer, so the scorer had nothing to judge
        raise CheckFailed(f"row {row} has no answer: {root.status.description}", cure)
    raise CheckFailed(f"{scorer} gave no value for row {row}", cure)
