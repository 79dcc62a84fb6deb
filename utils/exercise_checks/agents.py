"""Module 4: agents and their tools, and what whole conversations are judged by."""

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from utils.exercise_checks.common import exercise_runs, exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Trace

GIVEN_TOOL = "calculator"
REPEATS = "repeats_itself"
LONGEST_MS = 2500  # of a tool that is to be given up after half a second, on a busy machine
SESSION, SOURCE_RUN = "mlflow.trace.session", "mlflow.sourceRun"


def find_own_tool(client: "MlflowClient", experiments: list[str]) -> str | None:
    """4.1a: one request in which a tool of the learner's own was called and its number reached the answer."""
    from utils.agent_setup import tool_calls
    from utils.span_tree import roots

    def lacks(trace: "Trace") -> str | None:
        where = f"the trace {trace.info.trace_id}"
        calls = tool_calls(trace)
        own = [call for call in calls if call.name != GIVEN_TOOL]
        if not own:
            called = ", ".join(call.name for call in calls) or "none"
            return f"{where} shows no call of a tool of your own (tools called: {called})"
        if all(call.failed for call in own):
            return f"{own[-1].name} failed in {where}: {own[-1].result or 'look at its span'}"
        answer = str(roots(trace)[0].outputs)
        numbers = {number for call in own if not call.failed for number in re.findall(r"\d+", call.result)}
        if not numbers & set(re.findall(r"\d+", answer)):
            return f"the answer of {where} holds no number that {own[-1].name} returned"
        return None

    return first_lack(exercise_traces(client, experiments, "4.1a"), lacks)


def find_sharper_tool(client: "MlflowClient", experiments: list[str]) -> str | None:
    """4.2a: with other descriptions of the same tools more of the same questions reached the tool that they need."""
    runs = exercise_runs(client, experiments, "4.2a")
    asked = _questions_by_run(exercise_traces(client, experiments, "4.2a"))
    before = [run for run in runs if run.info.run_name == "vague" and run.info.run_id in asked]

    def lacks(run: "Run") -> str | None:
        reached = asked.get(run.info.run_id)
        if not reached:
            return "no question of the run sharper has left a trace"
        same = [first for first in before if _is_comparable(first, run, asked)]
        if not same:
            return "no run vague asked the same questions of the same tools and model as the run sharper"
        if same[0].data.params == run.data.params:
            return "SHARPER says the same as VAGUE: write what each tool does"
        first, now = sum(asked[same[0].info.run_id].values()), sum(reached.values())
        if now <= first:
            return f"{now} of {len(reached)} questions reached their tool, and {first} did with VAGUE"
        return None

    return first_lack([run for run in runs if run.info.run_name == "sharper"], lacks)


def _questions_by_run(traces: list["Trace"]) -> dict[str, dict[str, bool]]:
    """By run: question → whether exactly the tool that it needs was called, read from the traces."""
    from utils.agent_setup import tool_calls
    from utils.span_tree import roots

    found: dict[str, dict[str, bool]] = {}
    for trace in traces:
        inputs = roots(trace)[0].inputs or {}
        run_id = trace.info.trace_metadata.get("mlflow.sourceRun")
        if run_id and {"question", "needs"} <= set(inputs):
            called = [call.name for call in tool_calls(trace)]
            found.setdefault(run_id, {})[str(inputs["question"])] = called == [inputs["needs"]]
    return found


def _is_comparable(first: "Run", second: "Run", asked: dict[str, dict[str, bool]]) -> bool:
    """The same questions, tools by name, and model."""
    models = {run.data.tags.get("llm_model") for run in (first, second)}
    same_questions = asked[first.info.run_id].keys() == asked[second.info.run_id].keys()
    return len(models) == 1 and same_questions and first.data.params.keys() == second.data.params.keys()


def find_session_scorer(client: "MlflowClient", experiments: list[str]) -> str | None:
    """4.3a: at least two sessions, and on the first turn of each a feedback that is true of its answers."""
    traces = exercise_traces(client, experiments, "4.3a")

    def lacks(run: "Run") -> str | None:
        sessions: dict[str, list[Trace]] = defaultdict(list)
        for trace in traces:
            session = trace.info.trace_metadata.get(SESSION)
            if session and trace.info.trace_metadata.get(SOURCE_RUN) == run.info.run_id:
                sessions[session].append(trace)
        if len(sessions) < 2:
            return f"the run {run.info.run_name} holds the traces of {len(sessions)} sessions: two are to be judged"
        return next((found for name, turns in sessions.items() if (found := _lacks_verdict(name, turns))), None)

    return first_lack(exercise_runs(client, experiments, "4.3a"), lacks)


def find_time_limit(client: "MlflowClient", experiments: list[str]) -> str | None:
    """4.4a: a tool that was given up in time, with its exception, in a request that was answered all the same."""
    from utils.span_tree import duration_ms, roots

    def lacks(trace: "Trace") -> str | None:
        where = f"the trace {trace.info.trace_id}"
        tools = [span for span in trace.data.spans if span.span_type == "TOOL"]
        if not tools:
            return f"{where} shows no call of a tool"
        failed = [span for span in tools if span.status.status_code == "ERROR"]
        if not failed:
            return (
                f"no tool failed in {where}: {tools[0].name} was waited for {duration_ms(tools[0]) / 1000:.1f} seconds"
            )
        if slow := [span for span in failed if duration_ms(span) > LONGEST_MS]:
            return f"{slow[0].name} was given up in {where} after {duration_ms(slow[0]) / 1000:.1f} seconds: too late"
        if not any(event.name == "exception" for span in failed for event in span.events):
            return f"the span {failed[0].name} of {where} holds no exception"
        if trace.info.state != "OK" or not roots(trace)[0].outputs:
            return f"the request of {where} was not answered: let the model hear of the failure, and go on"
        return None

    return first_lack(exercise_traces(client, experiments, "4.4a"), lacks)


def _lacks_verdict(session: str, turns: list["Trace"]) -> str | None:
    turns = sorted(turns, key=lambda trace: trace.info.timestamp_ms)
    given = [item for item in turns[0].info.assessments if item.name == REPEATS]
    if not given:
        return f"the session {session} has no feedback {REPEATS} on its first turn"
    says = max(given, key=lambda item: item.create_time_ms).value
    if not isinstance(says, bool):
        return f"the feedback {REPEATS} of the session {session} is {says!r}, neither True nor False"
    answers = [str(next(span.outputs for span in trace.data.spans if span.parent_id is None)) for trace in turns]
    repeated = len(set(answers)) < len(answers)
    if says != repeated:
        truth = "an answer comes twice" if repeated else "no answer comes twice"
        return f"the feedback {REPEATS} of the session {session} is {says}, but in its {len(turns)} turns {truth}"
    return None
