"""Module 4: agents and their tools."""

import re
from typing import TYPE_CHECKING

from utils.exercise_checks.common import exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Trace

GIVEN_TOOL = "calculator"


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
