"""Module 8: hand-offs that can be seen, and loops that end."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Span, Trace

GIVEN = "calculator"
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


def _below_root(trace: "Trace", kind: str) -> list["Span"]:
    return [span for span in trace.data.spans if span.parent_id and span.span_type == kind]
