"""1.2 One agent, seen by its runs and by its models.

New here: a run says what happened, a logged model what came of it; by ids MLflow leads from a model to all behind it.
Run it:   uv run mlflow-logged-model-lineage
          uv run mlflow-logged-model-lineage --model-id m-0123 --num-samples 12
Look at:  uv run mlflow ui  ->  1-fundamentals  ->  Agent versions: open the best one, then its Traces
Change:   leave dataset= out of log_metrics in `score`; which branch of the tree says missing?
Docs:     https://mlflow.org/docs/latest/genai/version-tracking/
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.entities import LoggedModel, LoggedModelOutput, Run, SpanType, Trace
from mlflow.exceptions import MlflowException

from utils.cli import Steps, lesson, show
from utils.errors import InputError
from utils.evaluation import accuracy
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import get_or_register
from utils.reviews import LABELS, load_reviews, sample_reviews
from utils.sentiment_job import parse_label

PROMPT = "lineage-label"
# Each variant of the agent is improved once: its draft and its revision are checkpoints of one model, steps 0 and 1.
VARIANTS = {
    "short": ("Sentiment?\n\n{{text}}", "Sentiment in one word: positive, negative or neutral.\n\n{{text}}"),
    "polite": (
        "Please tell me what you think of this review.\n\n{{text}}",
        "Please label this review as positive, negative or neutral. Answer with one word only.\n\n{{text}}",
    ),
}
MISSING = "missing"


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    model_ids: tuple[str, ...]
    best_model_id: str
    best_accuracy: float
    lineage: list[str]


@mlflow.trace(name="label-review", span_type=SpanType.AGENT)
def label_review(llm: Backend, prompt_uri: str, text: str) -> str | None:
    """The agent: loading the prompt inside the trace links trace and active model to its version."""
    prompt = mlflow.genai.load_prompt(prompt_uri)
    messages: list[Any] = [{"role": "user", "content": str(prompt.format(text=text))}]
    answer = llm.openai_client().chat.completions.create(model=llm.model, messages=messages, temperature=0)
    return parse_label(answer.choices[0].message.content, LABELS)


def make_checkpoint(llm: Backend, variant: str, step: int, prompt_uri: str) -> LoggedModel:
    """A logged model for code that lives elsewhere; log_outputs makes it an output of the run, with its step."""
    params = {"variant": variant, "step": str(step), "prompt": prompt_uri, "llm_model": llm.model, "temperature": "0"}
    tags = current_tags()
    model = mlflow.create_external_model(name=f"labeller-{variant}", params=params, tags=tags, model_type="agent")
    mlflow.log_outputs([LoggedModelOutput(model_id=model.model_id, step=step)])
    return model


def score(llm: Backend, model: LoggedModel, prompt_uri: str, reviews: pd.DataFrame, dataset: PandasDataset) -> float:
    """Traces made while a model is active belong to it; a metric names its model and its dataset."""
    with mlflow.set_active_model(model_id=model.model_id):
        labels = [label_review(llm, prompt_uri, text) for text in reviews["text"]]
    right = accuracy(list(reviews["label"]), labels)
    step = int(model.params["step"])
    mlflow.log_metrics({"accuracy": right}, step=step, model_id=model.model_id, dataset=dataset)
    return right


def run_variant(llm: Backend, variant: str, reviews: pd.DataFrame, dataset: PandasDataset) -> list[LoggedModel]:
    """One run for each variant: what it was given goes in, its checkpoints come out."""
    models = []
    with mlflow.start_run(run_name=f"labeller-{variant}", nested=True):
        mlflow.log_input(dataset, context="evaluation")
        for step, template in enumerate(VARIANTS[variant]):
            prompt = get_or_register(PROMPT, template, commit_message=f"{variant}, step {step}")
            model = make_checkpoint(llm, variant, step, prompt.uri)
            score(llm, model, prompt.uri, reviews, dataset)
            models.append(model)
    return models


def best_checkpoint(parent_run_id: str) -> LoggedModel:
    """The checkpoint with the highest accuracy, as the store ranks them; none is picked by hand."""
    experiment = mlflow.get_run(parent_run_id).info.experiment_id
    nested = MlflowClient().search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_run_id}'")
    runs = ", ".join(f"'{run.info.run_id}'" for run in nested)
    ranked = mlflow.search_logged_models(
        experiment_ids=[experiment],
        filter_string=f"source_run_id IN ({runs})",
        order_by=[{"field_name": "metrics.accuracy", "ascending": False}],
        max_results=1,
        output_format="list",
    )
    return ranked[0]


def lineage(model_id: str) -> list[str]:
    """The tree behind a model, each branch looked up in the store by the ids that the branch before it gave.

    Raises:
        InputError: the store has no such model.
    """
    try:
        model = mlflow.get_logged_model(model_id)
    except MlflowException as error:
        raise InputError(
            f"there is no logged model {model_id} in this store", "--model-id of Agent versions"
        ) from error
    run = find_run(model)
    return [
        f"model    {model.name} {model.model_id}, {describe_params(model)}",
        f"├─ run      {describe_run(run, model)}",
        f"├─ traces   {describe_traces(model)}",
        f"├─ code     {describe_commit(model)}",
        *(f"├─ prompt   {line}" for line in describe_prompts(model)),
        f"├─ dataset  {describe_datasets(run, model)}",
        f"└─ metrics  {describe_metrics(model)}",
    ]


def find_run(model: LoggedModel) -> Run | None:
    if not model.source_run_id:
        return None
    try:
        return mlflow.get_run(model.source_run_id)
    except MlflowException:  # the model outlives its run
        return None


def describe_params(model: LoggedModel) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(model.params.items())) or f"params {MISSING}"


def describe_run(run: Run | None, model: LoggedModel) -> str:
    if run is None:
        return MISSING
    steps = [output.step for output in run.outputs.model_outputs if output.model_id == model.model_id]
    return f"{run.info.run_name} {run.info.run_id}, " + (
        f"checkpoint at step {steps[0]}" if steps else f"step {MISSING}"
    )


def traces_of(model: LoggedModel) -> list[Trace]:
    return mlflow.search_traces(
        locations=[model.experiment_id], model_id=model.model_id, return_type="list", max_results=500
    )


def describe_traces(model: LoggedModel) -> str:
    found = traces_of(model)
    return f"{len(found)}, the newest {found[0].info.trace_id}" if found else MISSING


def describe_commit(model: LoggedModel) -> str:
    """The traces carry the commit of the code that made them; outside a git checkout there is none."""
    commits = {trace.info.trace_metadata.get("mlflow.source.git.commit") for trace in traces_of(model)} - {None}
    return f"commit {', '.join(sorted(f'{str(commit)[:8]}…' for commit in commits))}" if commits else MISSING


def describe_prompts(model: LoggedModel) -> Iterator[str]:
    linked = json.loads(model.tags.get("mlflow.linkedPrompts", "[]"))
    for entry in linked:
        prompt = mlflow.genai.load_prompt(f"prompts:/{entry['name']}/{entry['version']}", link_to_model=False)
        yield f"{prompt.uri}, {prompt.commit_message or 'no commit message'}"
    if not linked:
        yield MISSING


def describe_datasets(run: Run | None, model: LoggedModel) -> str:
    """A dataset counts as linked when the run took it in and a metric of this model names it."""
    taken = {each.dataset.digest: each.dataset.name for each in run.inputs.dataset_inputs} if run else {}
    named = {metric.dataset_digest for metric in model.metrics or [] if metric.dataset_digest}
    linked = sorted(f"{taken[digest]} {digest}" for digest in named & taken.keys())
    return ", ".join(linked) or MISSING


def describe_metrics(model: LoggedModel) -> str:
    return ", ".join(f"{m.key} {m.value:.3f} (step {m.step})" for m in model.metrics or []) or MISSING


def run(llm: Backend, reviews: pd.DataFrame) -> Outcome:
    steps = Steps(3)
    mlflow.openai.autolog()  # the model call is a span below the agent's
    dataset = mlflow.data.from_pandas(reviews, name="sample-reviews", targets="label")
    with mlflow.start_run(run_name="lineage") as active:
        # 1. Two variants, each a run with two checkpoints
        models = [model for variant in VARIANTS for model in run_variant(llm, variant, reviews, dataset)]
        mlflow.flush_trace_async_logging()
        steps(f"{len(VARIANTS)} runs, {len(models)} checkpoints, {len(models) * len(reviews)} calls")

        # 2. The store says which checkpoint is best
        best = best_checkpoint(active.info.run_id)
        (best_accuracy,) = [metric.value for metric in best.metrics or [] if metric.key == "accuracy"]
        mlflow.log_metric("best_accuracy", best_accuracy)
        steps(f"Best of them by accuracy: {best.name}, step {best.params['step']}, {best_accuracy:.3f}")

        # 3. From that model to everything behind it
        tree = lineage(best.model_id)
        steps("Its lineage, read back by ids:\n" + "\n".join(f"      {line}" for line in tree))
    trace_id = traces_of(best)[0].info.trace_id
    ids = tuple(model.model_id for model in models)
    return Outcome(active.info.run_id, trace_id, ids, best.model_id, best_accuracy, tree)


@lesson("1.2", llm="mock")
@click.option("--num-samples", type=click.IntRange(min=1), default=30, show_default=True, help="Reviews to label.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--model-id", help="Only print the lineage of this logged model.")
def main(num_samples: int, seed: int, model_id: str | None, backend: BackendOptions) -> None:
    if model_id:
        click.echo("\n".join(lineage(model_id)))
        return
    reviews, _ = sample_reviews(load_reviews(), num_samples, seed)
    with open_backend(backend) as llm:
        outcome = run(llm, reviews)
    measured = {"checkpoints": len(outcome.model_ids), "best_accuracy": outcome.best_accuracy}
    show("1.2", {**measured, "best_model": outcome.best_model_id}, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
