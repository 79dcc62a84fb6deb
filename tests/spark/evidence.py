"""What a Spark lesson left in MLflow, read back from the store."""

import json
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, Span, SpanType, Trace

SENTIMENT, RAG = "2-tracing", "5-rag"  # experiments


def runs(experiment: str, *statuses: str) -> list[Run]:
    """Newest first; without statuses all of them."""
    found = mlflow.get_experiment_by_name(experiment)
    every = MlflowClient().search_runs([found.experiment_id]) if found else []
    return [run for run in every if not statuses or run.info.status in statuses]


def only_run(experiment: str) -> Run:
    """The one run that there is, which has finished."""
    (run,) = runs(experiment)
    assert run.info.status == "FINISHED"
    return run


def traces(experiment: str) -> list[Trace]:
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        return []
    listed = mlflow.search_traces(locations=[found.experiment_id], return_type="list", max_results=500)
    return [mlflow.get_trace(trace.info.trace_id) for trace in listed]


def only_trace(experiment: str) -> Trace:
    (trace,) = traces(experiment)
    return trace


def root_of(trace: Trace) -> Span:
    """The one root, below which every other span hangs."""
    (root,) = [span for span in trace.data.spans if span.parent_id is None]
    known = {span.span_id for span in trace.data.spans}
    assert len(known) == len(trace.data.spans)
    assert all(span.parent_id in known for span in trace.data.spans if span is not root)
    return root


def llm_spans(trace: Trace) -> list[Span]:
    return of_type(trace, SpanType.CHAT_MODEL)


def of_type(trace: Trace, span_type: str) -> list[Span]:
    return [span for span in trace.data.spans if span.span_type == span_type]


def spent_tokens(trace: Trace) -> tuple[int, int]:
    usage = trace.info.token_usage or {}
    return usage.get("input_tokens", 0), usage.get("output_tokens", 0)


def answers_of(run: Run) -> pd.DataFrame:
    """The table that the run keeps."""
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="answers.json")
    table = json.loads(Path(path).read_text(encoding="utf-8"))
    return pd.DataFrame(table["data"], columns=table["columns"])


def artifacts_of(run: Run) -> set[str]:
    return {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}


def flags(**given: object) -> Sequence[object]:
    """`flags(num_samples=5, spans=True)` as a command line."""
    line: list[object] = []
    for name, value in given.items():
        line += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", value]
    return line
