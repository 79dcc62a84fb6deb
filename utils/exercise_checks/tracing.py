"""Module 2: spans of one's own, and a prompt that was measured."""

import json
from typing import TYPE_CHECKING, Any

from utils.exercise_checks.common import NOT_RUN, exercise_runs, exercise_traces, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Span, Trace

OWN_SPANS = ("PARSER", "TOOL")
REVIEW_PROMPT, IN_USE = "review-sentiment", "production"


def find_failing_row(client: "MlflowClient", experiments: list[str]) -> str | None:
    """2.1a: in one trace spans of the learner's own, each with an attribute, one of them failed with its exception."""

    def lacks(trace: "Trace") -> str | None:
        where = f"the trace {trace.info.trace_id}"
        own = [span for span in trace.data.spans if span.parent_id and span.span_type in OWN_SPANS]
        failed = [span for span in own if span.status.status_code == "ERROR"]
        if not own:
            return f"{where} has no span of type {' or '.join(OWN_SPANS)} below its root"
        if bare := [span for span in own if not _own_attributes(span)]:
            return f"the span {bare[0].name} of {where} has no attribute that says which review it reads"
        if not failed:
            return f"no {own[0].span_type} span of {where} has failed: let the exception leave the span"
        if not any(event.name == "exception" for span in failed for event in span.events):
            return f"the failed span {failed[0].name} of {where} holds no event named exception"
        if len(failed) == len(own):
            return f"every {own[0].span_type} span of {where} has failed: the job must go on after the failing row"
        return None

    return first_lack(exercise_traces(client, experiments, "2.1a"), lacks)


def find_better_prompt(client: "MlflowClient", experiments: list[str]) -> str | None:
    """2.2a: a second version with a commit message, both measured on the same reviews, the alias on the better one."""
    runs = exercise_runs(client, experiments, "2.2a")
    if not runs:
        return NOT_RUN
    if client.get_prompt(REVIEW_PROMPT) is None:
        return f"there is no prompt {REVIEW_PROMPT} in this store"
    versions = {int(v.version): v for v in client.search_prompt_versions(REVIEW_PROMPT)}
    first, newest = min(versions), max(versions)
    if newest == first:
        return f"the prompt {REVIEW_PROMPT} has only version {first}: register your wording as the second"
    if versions[newest].template == versions[first].template:
        return f"version {newest} of {REVIEW_PROMPT} has the same wording as version {first}"
    if not versions[newest].commit_message:
        return f"version {newest} of {REVIEW_PROMPT} has no commit_message that says what it improves"
    accuracies = _accuracy_by_version(runs)
    for version in (newest, first):
        if version not in accuracies:
            return f"no run measured the accuracy of version {version} on the same reviews and model as the newest run"
    return _lacks_alias_on_best(client, accuracies, first)


def _own_attributes(span: "Span") -> list[str]:
    return [name for name in span.attributes if not name.startswith("mlflow.")]


def _accuracy_by_version(runs: list["Run"]) -> dict[int, float]:
    """Newest accuracy of each version, from runs on the same reviews and model as the newest run."""

    def setting(run: "Run") -> tuple[Any, ...]:
        digests = sorted(item.dataset.digest for item in run.inputs.dataset_inputs)
        return run.data.tags.get("llm_type"), run.data.tags.get("llm_model"), *digests

    accuracies: dict[int, float] = {}
    for run in runs:
        linked = json.loads(run.data.tags.get("mlflow.linkedPrompts", "[]"))
        versions = {int(prompt["version"]) for prompt in linked if prompt["name"] == REVIEW_PROMPT}
        if len(versions) == 1 and "accuracy" in run.data.metrics and setting(run) == setting(runs[0]):
            accuracies.setdefault(versions.pop(), run.data.metrics["accuracy"])
    return accuracies


def _lacks_alias_on_best(client: "MlflowClient", accuracies: dict[int, float], first: int) -> str | None:
    from mlflow.exceptions import MlflowException

    best = max(sorted(accuracies), key=accuracies.__getitem__)
    try:
        in_use = int(client.get_prompt_version_by_alias(REVIEW_PROMPT, IN_USE).version)
    except MlflowException:
        return f"the alias {IN_USE} of {REVIEW_PROMPT} points at no version"
    if accuracies.get(in_use, -1) < accuracies[best]:
        return f"{IN_USE} points at version {in_use}, but version {best} scored highest ({accuracies[best]:.3f})"
    if accuracies[best] == accuracies[first]:
        return f"no version beats version {first} (accuracy {accuracies[first]:.3f}): try another wording"
    return None
