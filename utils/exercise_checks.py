"""What proves an exercise. Each check reads the tracking store only, and names the first thing that is missing.

A check takes the client and the ids of the experiments to search, and returns None or one sentence. It looks at every
try, the newest first: one that has everything is enough, and otherwise the sentence is about the newest.
"""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from utils.evaluation import expected_in_answer, is_declined, normalize_answer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run, Span, Trace

T = TypeVar("T")

NOT_RUN = "no finished run of the exercise is in this store yet"
TRIES = 50  # how far back a check looks
LEAST_CHECKPOINTS, LEAST_SIZES, LEAST_TRACES = 3, 2, 5
BASELINE = "DummyRegressor"
REVIEW_PROMPT, IN_USE = "review-sentiment", "production"
FEEDBACK = "answer_in_passages"
OWN_SPANS = ("PARSER", "TOOL")


def find_own_regressor(client: "MlflowClient", experiments: list[str]) -> str | None:
    """1.1a: a logged model of the learner's own, and its rmse on data that it was not trained on."""

    def lacks(run: "Run") -> str | None:
        name, regressor = run.info.run_name, run.data.params.get("regressor")
        if regressor in (None, BASELINE):
            return f"the run {name} trained no regressor of your own: its parameter regressor is {regressor}"
        models = _models_of(client, run)
        if not models:
            return f"the run {name} has no logged model: call mlflow.sklearn.log_model inside it"
        return first_lack(models, lambda model: _lacks_honest_rmse(model, run))

    return first_lack(exercise_runs(client, experiments, "1.1a"), lacks)


def find_best_checkpoint(client: "MlflowClient", experiments: list[str]) -> str | None:
    """1.1b: checkpoints of one run with their steps and rmse, and the tag best on the one with the lowest."""

    def lacks(run: "Run") -> str | None:
        models, name = _models_of(client, run), run.info.run_name
        if len(models) < LEAST_CHECKPOINTS:
            return f"the run {name} has {len(models)} logged models: log at least {LEAST_CHECKPOINTS} checkpoints in it"
        steps = {output.step for output in run.outputs.model_outputs}
        if len(steps) < len(models):
            return (
                f"{len(models)} checkpoints of the run {name} share {len(steps)} steps: give log_model each its step="
            )
        scores = {model.model_id: rmse.value for model in models if (rmse := _rmse(model))}
        if without := [model.model_id for model in models if model.model_id not in scores]:
            return f"the checkpoint {without[0]} has no rmse: give mlflow.log_metric its model_id="
        tagged = [model.model_id for model in models if model.tags.get("best", "").lower() == "true"]
        return _lacks_best_tag(tagged, scores, str(name))

    return first_lack(exercise_runs(client, experiments, "1.1b"), lacks)


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

    return first_lack(_traces(client, experiments, "2.1a"), lacks)


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


def find_own_chunks(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.2a: nested runs of different chunk sizes, no chunk over the size, no word lost, hit@3 logged."""
    runs = exercise_runs(client, experiments, "5.2a")

    def lacks(run: "Run") -> str | None:
        name = run.info.run_name
        nested = [child for child in runs if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        if len(nested) < LEAST_SIZES:
            return f"the run {name} has {len(nested)} nested runs: start one with nested=True for each chunk size"
        if not all(child.data.params.get("chunk_tokens", "").isdigit() for child in nested):
            return f"a run nested in {name} has no parameter chunk_tokens that is a whole number"
        sizes = {child.data.params["chunk_tokens"] for child in nested}
        if len(sizes) < LEAST_SIZES:
            return f"all runs nested in {name} have the chunk size {sizes.pop()}: compare at least {LEAST_SIZES}"
        return next(filter(None, map(_lacks_sound_chunks, nested)), None)

    return first_lack([run for run in runs if "mlflow.parentRunId" not in run.data.tags], lacks)


def find_answer_in_passages(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.2b: feedback on every trace of a run, and none that contradicts what its trace holds."""

    def lacks(run: "Run") -> str | None:
        traces = client.search_traces(locations=experiments, run_id=run.info.run_id, max_results=TRIES)
        if len(traces) < LEAST_TRACES:
            return (
                f"the run {run.info.run_name} holds {len(traces)} traces: ask at least {LEAST_TRACES} questions in it"
            )
        return next(filter(None, map(_lacks_true_feedback, traces)), None)

    return first_lack(exercise_runs(client, experiments, "5.2b"), lacks)


def first_lack(tries: Iterable[T], lacks: Callable[[T], str | None]) -> str | None:
    """None when one of the tries lacks nothing, else what the first lacks."""
    found = []
    for each in tries:
        problem = lacks(each)
        if problem is None:
            return None
        found.append(problem)
    return found[0] if found else NOT_RUN


def exercise_runs(client: "MlflowClient", experiments: list[str], number: str) -> list["Run"]:
    """Runs of the exercise that ended well, newest first."""
    wanted = f"tags.exercise = '{number}' AND attributes.status = 'FINISHED'"
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, wanted, order_by=order, max_results=TRIES)) if experiments else []


def _traces(client: "MlflowClient", experiments: list[str], number: str) -> list["Trace"]:
    """Traces of the exercise with their spans, newest first."""
    if not experiments:
        return []
    found = client.search_traces(
        locations=experiments,
        filter_string=f"tags.exercise = '{number}'",
        order_by=["timestamp_ms DESC"],
        max_results=TRIES,
    )
    return list(found)


def _models_of(client: "MlflowClient", run: "Run") -> list["LoggedModel"]:
    wanted = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models(experiment_ids=[run.info.experiment_id], filter_string=wanted))


def _rmse(model: "LoggedModel") -> "Metric | None":
    return next((metric for metric in model.metrics or [] if metric.key == "rmse"), None)


def _lacks_honest_rmse(model: "LoggedModel", run: "Run") -> str | None:
    rmse = _rmse(model)
    if rmse is None:
        return f"the logged model {model.name} has no rmse: give mlflow.log_metrics its model_id="
    if rmse.dataset_digest is None:
        return f"the rmse of {model.name} names no dataset: give mlflow.log_metrics the held-out one as dataset="
    inputs = [(item.dataset.digest, {tag.value for tag in item.tags}) for item in run.inputs.dataset_inputs]
    trained_on = {digest for digest, contexts in inputs if "training" in contexts}
    if not trained_on:
        return f"the run {run.info.run_name} names no training data: mlflow.log_input(…, context='training')"
    if rmse.dataset_digest in trained_on:
        return f"the rmse of {model.name} was measured on {rmse.dataset_name}, on which it was trained"
    return None


def _lacks_best_tag(tagged: list[str], scores: dict[str, float], run_name: str) -> str | None:
    if len(tagged) != 1:
        return f"{len(tagged)} checkpoints of the run {run_name} carry the tag best = true: tag one"
    best = min(scores, key=scores.__getitem__)
    if scores[tagged[0]] > scores[best]:
        return f"{tagged[0]} is tagged best (rmse {scores[tagged[0]]:.2f}), but {best} has {scores[best]:.2f}"
    return None


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


def _lacks_sound_chunks(run: "Run") -> str | None:
    name, size, metrics = run.info.run_name, int(run.data.params["chunk_tokens"]), run.data.metrics
    for metric in ("longest_chunk_tokens", "words_kept", "hit_at_3"):
        if metric not in metrics:
            return f"the nested run {name} has no metric {metric}"
    if metrics["longest_chunk_tokens"] > size:
        return f"the longest chunk of the run {name} has {metrics['longest_chunk_tokens']:.0f} tokens, over {size}"
    if metrics["words_kept"] < 1:
        return f"the chunks of the run {name} hold only {metrics['words_kept']:.1%} of the documents' words"
    return None


def _lacks_true_feedback(trace: "Trace") -> str | None:
    identifier = trace.info.trace_id
    given = [item for item in trace.info.assessments if item.name == FEEDBACK and item.valid is not False]
    if not given:
        return f"the trace {identifier} has no feedback {FEEDBACK}"
    says = max(given, key=lambda item: item.create_time_ms).value  # a corrected scorer may have spoken again
    if not isinstance(says, bool):
        return f"the feedback {FEEDBACK} of the trace {identifier} is {says!r}, neither True nor False"
    root = next(span for span in trace.data.spans if span.parent_id is None)
    retrieved = [span.outputs or [] for span in trace.data.spans if span.span_type == "RETRIEVER"]
    passages = [passage["page_content"] for found in retrieved for passage in found]
    answer = str((root.outputs or {}).get("answer", ""))
    if not normalize_answer(answer):
        return f"the root span of the trace {identifier} has no answer among its outputs"
    if says and not _may_stand_in(passages, answer):
        return f"the feedback of the trace {identifier} is True, but its answer stands in none of its passages"
    if not says and not is_declined(answer) and any(expected_in_answer(text, answer) for text in passages):
        return f"the feedback of the trace {identifier} is False, but its answer stands in one of its passages"
    return None


def _may_stand_in(passages: list[str], answer: str) -> bool:
    """Generous, since learners may compare in other ways: half of the answer's words are in one passage."""
    words = set(normalize_answer(answer).split())
    shared = [len(words & set(normalize_answer(text).split())) for text in passages]
    return not is_declined(answer) and max(shared, default=0) >= len(words) / 2
