"""Module 8: hand-offs that can be seen, loops that end, and calls that are paid for once."""

from typing import TYPE_CHECKING, Any

from utils.cascade import best_within, curve, step_at
from utils.exercise_checks.common import exercise_runs, exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Span, Trace

GIVEN = "calculator"
MOST_TO_THE_LLM, FEWEST_IN_A_PART = 0.5, 40
STOPPED = ("stopped", "gave up", "not done", "without a result", "do not know")


def find_own_specialist(client: "MlflowClient", experiments: list[str]) -> str | None:
    """8.1a: hand-offs to two specialists in one trace, each with its request, its answer and its own work below it."""

    def lacks(trace: "Trace") -> str | None:
        where = f"the trace {trace.info.trace_id}"
        hand_offs = {str(span.attributes.get("handoff.to")): span for span in _below_root(trace, "AGENT")}
        own = sorted(set(hand_offs) - {GIVEN, "None"})
        if not own:
            return f"{where} has no hand-off to a specialist of your own: an AGENT span with the attribute handoff.to"
        if GIVEN not in hand_offs:
            return f"{where} has no hand-off to the {GIVEN} any more: the question needs both"
        span = hand_offs[own[0]]
        if not span.attributes.get("handoff.from"):
            return f"the hand-off to {own[0]} in {where} has no attribute handoff.from"
        if not span.inputs or not span.outputs:
            return f"the hand-off to {own[0]} in {where} lacks its request or its answer: set_inputs and set_outputs"
        if not any(below.parent_id == span.span_id for below in trace.data.spans):
            return f"nothing stands below the hand-off to {own[0]} in {where}: what did it do? (TOOL or RETRIEVER)"
        return None

    return first_lack(exercise_traces(client, experiments, "8.1a"), lacks)


def find_bounded_loop(client: "MlflowClient", experiments: list[str]) -> str | None:
    """8.1b: no more hand-offs than the limit on the root, a guardrail that says so, and an answer that does."""

    def lacks(trace: "Trace") -> str | None:
        where = f"the trace {trace.info.trace_id}"
        root = next(span for span in trace.data.spans if span.parent_id is None)
        limit, steps = root.attributes.get("budget.limit"), len(_below_root(trace, "AGENT"))
        if not isinstance(limit, int) or isinstance(limit, bool):
            return f"the root of {where} has no attribute budget.limit, and there are {steps} hand-offs below it"
        if steps > limit:
            return f"{where} has {steps} hand-offs, over its budget of {limit}"
        if root.attributes.get("budget.steps") != steps:
            return f"{where} has {steps} hand-offs, but budget.steps is {root.attributes.get('budget.steps')}"
        if not _below_root(trace, "GUARDRAIL"):
            return f"{where} has no span of type GUARDRAIL that shows what ended it"
        answer = str((root.outputs or {}).get("answer", "")).lower()
        if not any(word in answer for word in STOPPED):
            return f"the answer of {where} does not say that the work was stopped: {answer[:80] or 'it is empty'}"
        return None

    return first_lack(exercise_traces(client, experiments, "8.1b"), lacks)


def find_paid_once(client: "MlflowClient", experiments: list[str]) -> str | None:
    """8.2a: every row answered rightly, by no more calls than distinct texts and the one in flight at the kill."""

    def lacks(run: "Run") -> str | None:
        name, metrics = run.info.run_name, run.data.metrics
        needed = ("rows", "distinct_texts", "killed_after", "answered_rows", "wrong_rows", "first_calls", "calls")
        for metric in needed:
            if metric not in metrics:
                return f"the run {name} has no metric {metric}"
        rows, distinct, calls = metrics["rows"], metrics["distinct_texts"], metrics["calls"]
        if metrics["first_calls"] != metrics["killed_after"]:
            return f"the first run of {name} made {metrics['first_calls']:.0f} calls: it was not killed in the middle"
        if calls > distinct + 1:
            return f"the two runs of {name} made {calls:.0f} calls for {distinct:.0f} distinct texts"
        if metrics["answered_rows"] != rows:
            return f"{metrics['answered_rows']:.0f} of {rows:.0f} rows of the run {name} have an answer"
        if metrics["wrong_rows"]:
            return f"{metrics['wrong_rows']:.0f} rows of the run {name} have the answer of another text"
        return None

    runs = exercise_runs(client, experiments, "8.2a")
    return first_lack([run for run in runs if "mlflow.parentRunId" not in run.data.tags], lacks)


def find_chosen_elsewhere(client: "MlflowClient", experiments: list[str]) -> str | None:
    """8.3a: every row in one part, the threshold the best one of the first, the accuracy that of the second."""

    def lacks(run: "Run") -> str | None:
        name, metrics = run.info.run_name, run.data.metrics
        parts = _rows_by_part(run)
        if parts is None or not {"threshold", "accuracy"} <= set(metrics):
            return f"the run {name} does not hold the table rows.json and the metrics threshold and accuracy"
        choose, report = parts.get("choose", []), parts.get("report", [])
        if min(len(choose), len(report)) < FEWEST_IN_A_PART:
            counts = f"{len(choose)} rows of the run {name} are to choose on and {len(report)} to report on"
            return f"{counts}: at least {FEWEST_IN_A_PART} of each, and no row is both"
        best = best_within(curve(*_columns(choose)), MOST_TO_THE_LLM)
        there = step_at(*_columns(choose), metrics["threshold"])
        if there.share > MOST_TO_THE_LLM or there.quality < best.quality:
            return (
                f"the threshold of the run {name} is not the best one of the rows to choose on: {best.threshold:.3f} is"
            )
        right = step_at(*_columns(report), metrics["threshold"]).quality
        if abs(metrics["accuracy"] - right) > 1e-9:
            said = f"the run {name} reports an accuracy of {metrics['accuracy']:.3f}"
            return f"{said}; on the rows to report on it is {right:.3f}"
        return None

    return first_lack(exercise_runs(client, experiments, "8.3a"), lacks)


def _rows_by_part(run: "Run") -> dict[str, list[dict[str, Any]]] | None:
    """The rows of the run's table; None where it has none, or one that holds a row twice."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/rows.json")
    except (MlflowException, OSError):
        return None
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    needed = {"id", "sure", "cheap", "dear", "part"}
    if not rows or not needed <= set(rows[0]) or len({row["id"] for row in rows}) < len(rows):
        return None
    return {part: [row for row in rows if row["part"] == part] for part in {row["part"] for row in rows}}


def _columns(rows: list[dict[str, Any]]) -> tuple[list[float], list[bool], list[bool]]:
    return [row["sure"] for row in rows], [row["cheap"] for row in rows], [row["dear"] for row in rows]


def _below_root(trace: "Trace", kind: str) -> list["Span"]:
    return [span for span in trace.data.spans if span.parent_id and span.span_type == kind]
