"""Module 7: versions that were tested before they went into production, a service that got faster, masked numbers."""

import re
from typing import TYPE_CHECKING

from utils.exercise_checks.common import NOT_RUN, exercise_runs, exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Trace

TEMPERATURE, ALIAS = "temperature", "production"


def find_gated_alias(client: "MlflowClient", experiments: list[str]) -> str | None:
    """7.2a: every version has a run of its tests and a tag that is true of it; the newest that passed is in use."""
    runs = exercise_runs(client, experiments, "7.2a")
    models = client.search_registered_models(filter_string=f"name = '{TEMPERATURE}'")
    if not runs or not models:
        return NOT_RUN
    found = client.search_model_versions(f"name = '{TEMPERATURE}'")
    versions = sorted(found, key=lambda version: int(version.version))
    passed = []
    for version in versions:
        number = str(version.version)
        own = [run for run in runs if run.data.params.get("version") == number and "right" in run.data.metrics]
        says = version.tags.get("tests")
        if says not in ("passed", "failed"):
            return f"version {number} of {TEMPERATURE} carries no tag tests: passed or failed"
        if not own:
            return f"no run has the param version = {number} and the metric right"
        right = own[0].data.metrics["right"]
        if (says == "passed") != (right == 1):
            return f"version {number} is tagged {says}, but its run says that {right:.2f} of the cases are right"
        passed += [number] if says == "passed" else []
    if len(passed) == len(versions):
        return "every version passed: one of them gives wrong answers, so look at what the runs measured"
    in_use = str(models[0].aliases.get(ALIAS, "none"))
    if not passed or in_use != passed[-1]:
        return f"{ALIAS} points at version {in_use}, and the newest that passed is {passed[-1] if passed else 'none'}"
    return None


def find_faster_service(client: "MlflowClient", experiments: list[str]) -> str | None:
    """7.3a: half the p95 and twice the requests per second of the run before it, and a trace for every request."""
    runs = exercise_runs(client, experiments, "7.3a")

    def lacks(after: "Run") -> str | None:
        earlier = [
            run for run in runs if run.info.run_name == "before" and run.info.start_time <= after.info.start_time
        ]
        if not earlier:
            return "there is no run before that was measured earlier than the run after"
        then, now = earlier[0].data.metrics, after.data.metrics
        wanted = {"p95_ms", "requests_per_second", "requests"}
        if not wanted <= set(then) or not wanted <= set(now) or then["requests"] != now["requests"]:
            return f"before and after do not both hold {', '.join(sorted(wanted))}, of as many requests"
        if now["p95_ms"] > then["p95_ms"] / 2:
            return f"p95 is {now['p95_ms']:.0f} ms, and before it was {then['p95_ms']:.0f} ms: halve it"
        if now["requests_per_second"] < 2 * then["requests_per_second"]:
            was = then["requests_per_second"]
            return f"{now['requests_per_second']:.1f} requests/s, and before there were {was:.1f}: double them"
        if (count := _count_traces(client, after)) < now["requests"]:
            return f"the run after has {count} traces of {now['requests']:.0f} requests"
        return None

    return first_lack([run for run in runs if run.info.run_name == "after"], lacks)


def _count_traces(client: "MlflowClient", run: "Run") -> int:
    wanted = f"tags.exercise = '7.3a' AND tags.measured_in = '{run.info.run_id}'"
    found = client.search_traces(
        locations=[run.info.experiment_id], filter_string=wanted, max_results=100, include_spans=False
    )
    return len(found)


MEMBER, MASKED, QUESTIONS = re.compile(r"M-\d{4}-\d{2}"), "[member]", 3


def find_masked_members(client: "MlflowClient", experiments: list[str]) -> str | None:
    """7.4a: no member's number anywhere in the traces of a run, the questions readable, and the failed look-up red."""
    traces = exercise_traces(client, experiments, "7.4a")

    def lacks(run: "Run") -> str | None:
        own = [one for one in traces if one.info.trace_metadata.get("mlflow.sourceRun") == run.info.run_id]
        if len(own) < QUESTIONS:
            return f"the run has {len(own)} traces of {QUESTIONS} questions"
        for trace in own:
            if lack := _lack_of_masking(trace):
                return lack
        failed = [span for one in own for span in one.data.spans if span.status.status_code == "ERROR"]
        if not any(span.name == "find_member" for span in failed):
            return "no span find_member has failed: the look-up of somebody unknown must raise"
        return None

    return first_lack(exercise_runs(client, experiments, "7.4a"), lacks)


def _lack_of_masking(trace: "Trace") -> str | None:
    for span in trace.data.spans:
        parts = {"inputs": span.inputs, "outputs": span.outputs, "status": span.status.description}
        parts |= {"events": [event.attributes for event in span.events]}
        for name, part in parts.items():
            if MEMBER.search(str(part)):
                return f"a member's number stands in the {name} of a span {span.name}"
    if MEMBER.search(trace.to_json()):
        return "a member's number stands in the attributes or previews of a trace"
    question = str(trace.data.spans[0].inputs)
    if MASKED not in question or not re.search("borrowed|brought", question):
        return f"a question is stored as {question}: mask the number only, by {MASKED}"
    return None
