"""3.4 Find prompts by name and tag, and find what used a version.

New here: a version knows nothing of its users; they know it, because load_prompt links whatever is running.
Run it:   uv run mlflow-prompt-search
          uv run mlflow-prompt-search --filter "tags.team = 'support' AND name LIKE 'desk-%'"
          uv run mlflow-prompt-search --usage desk-refund@production
Look at:  uv run mlflow ui  ->  3-prompts  ->  Prompts: desk-refund and its versions, then Traces of a version
Change:   load the prompt before the `with` in `use_prompt`; which run does the table of uses name then?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/manage-prompt-lifecycles/
"""

from collections.abc import Iterator
from dataclasses import dataclass

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, SpanType, Trace
from mlflow.entities.model_registry import Prompt, PromptVersion
from mlflow.exceptions import MlflowException

from utils.cli import Steps, lesson, show, show_table
from utils.errors import InputError
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import get_or_register
from utils.trace_queue import wait_for_prompt_links

# A small help desk: every prompt has a team, and one of them a second version.
PROMPTS = {
    "desk-greeting": ("Greet {{name}} in one sentence.", {"team": "support", "tone": "warm"}),
    "desk-refund": ("Explain in one sentence how {{name}} gets a refund.", {"team": "support", "tone": "plain"}),
    "desk-summary": ("Summarise for {{name}}: refunds take five days.", {"team": "support", "tone": "plain"}),
    "desk-offer": ("Offer {{name}} a yearly plan in one sentence.", {"team": "sales", "tone": "warm"}),
    "desk-reminder": ("Remind {{name}} of an open invoice.", {"team": "finance", "tone": "plain"}),
}
REFUND, SHORTER = "desk-refund", "Refund for {{name}}: say how, in ten words."
FILTERS = (
    "name = 'desk-refund'",
    "name LIKE 'desk-re%'",
    "name ILIKE 'DESK-%' AND tags.team = 'support'",
    "tags.tone = 'plain'",
)


@dataclass(frozen=True)
class Usage:
    """What is linked to one version of a prompt."""

    version: PromptVersion
    runs: list[Run]
    traces: list[Trace]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    found: dict[str, int]
    pages: list[list[str]]
    usage: Usage


def register_family() -> list[PromptVersion]:
    """The prompts of the help desk, once: a second run of the lesson finds them there."""
    for name, (template, tags) in PROMPTS.items():
        get_or_register(name, template, commit_message="First wording", tags=tags)
        for key, value in tags.items():  # tags of the prompt, which are searched; a version has tags of its own
            mlflow.genai.set_prompt_tag(name, key, value)
    first = get_or_register(REFUND, PROMPTS[REFUND][0])
    second = get_or_register(REFUND, SHORTER, commit_message="Ten words")
    mlflow.genai.set_prompt_alias(REFUND, "production", second.version)
    return [first, second]


def search(filter_string: str) -> list[Prompt]:
    """Raises InputError where MLflow does not understand the filter."""
    try:
        return list(mlflow.genai.search_prompts(filter_string=filter_string))
    except MlflowException as error:
        raise InputError(
            f"MLflow cannot search prompts for {filter_string}: {error}", f'--filter "{FILTERS[2]}"'
        ) from error


def pages(filter_string: str, page_size: int) -> Iterator[list[str]]:
    """Page by page: the client gives a token for the next one, mlflow.genai.search_prompts collects them all."""
    client, token = MlflowClient(), None
    while True:
        page = client.search_prompts(filter_string, max_results=page_size, page_token=token)
        yield [prompt.name for prompt in page]
        token = page.token
        if not token:
            return


def use_prompt(llm: Backend, version: PromptVersion, name: str) -> str:
    """A run and a trace that use a version: load_prompt links both. Returns the id of the trace."""
    with (
        mlflow.start_run(run_name=f"use-{version.name}-{version.version}", nested=True),
        mlflow.start_span("desk-answer", span_type=SpanType.CHAIN) as span,
    ):
        prompt = mlflow.genai.load_prompt(version.uri)
        span.set_inputs({"name": name})
        span.set_outputs(llm.chat_model().invoke(str(prompt.format(name=name))).text)
    return span.trace_id


def look_at(reference: str) -> PromptVersion:
    """By the client, which links nothing: load_prompt would make this very run one of the version's users.

    Raises:
        InputError: there is no such prompt, version or alias.
    """
    client = MlflowClient()
    name, _, alias = reference.partition("@")
    try:
        if alias:
            return client.get_prompt_version_by_alias(name, alias)
        name, _, number = reference.partition("/")
        if version := client.get_prompt_version(name, number):
            return version
    except (MlflowException, ValueError):
        pass  # said below, the same for a name, a number and an alias that is not there
    cure = "--usage NAME/VERSION or NAME@ALIAS; uv run mlflow-prompt-search lists the names"
    raise InputError(f"there is no prompt {reference} in this store", cure)


def find_usage(reference: str) -> Usage:
    """Runs and traces of the lesson's experiment that used NAME/VERSION or NAME@ALIAS.

    Raises:
        InputError: there is no such prompt, version or alias.
    """
    version = look_at(reference)
    linked = f'%"name": "{version.name}", "version": "{version.version}"%'
    runs = mlflow.search_runs(filter_string=f"tags.`mlflow.linkedPrompts` LIKE '{linked}'", output_format="list")
    traces = mlflow.search_traces(filter_string=f"prompt = '{version.name}/{version.version}'", return_type="list")
    return Usage(version, runs, traces)


def show_usage(usage: Usage) -> None:
    uses = [{"kind": "run", "id": run.info.run_id, "name": run.info.run_name} for run in usage.runs]
    uses += [{"kind": "trace", "id": trace.info.trace_id, "name": trace.data.spans[0].name} for trace in usage.traces]
    show_table(uses, title=f"{usage.version.uri}: {len(usage.runs)} runs, {len(usage.traces)} traces")
    if not uses:
        click.echo(f"Nothing in this experiment used {usage.version.uri}")


def show_prompts(prompts: list[Prompt]) -> None:
    """Names and tags, without the tags that MLflow keeps for itself."""
    own = [
        {key: value for key, value in prompt.tags.items() if not key.startswith(("_", "mlflow."))} for prompt in prompts
    ]
    tags = [", ".join(f"{key}={value}" for key, value in sorted(each.items())) for each in own]
    show_table([{"prompt": prompt.name, "tags": each} for prompt, each in zip(prompts, tags, strict=True)])
    click.echo(f"{len(prompts)} prompts")


def run(llm: Backend, page_size: int) -> Outcome:
    steps = Steps(4)
    mlflow.langchain.autolog(silent=True)
    with mlflow.start_run(run_name="prompt-search") as active:
        # 1. Prompts with tags
        first, second = register_family()
        steps(f"{len(PROMPTS)} prompts; {REFUND} has the versions {first.version} and {second.version}")

        # 2. By name and by tag
        found = {text: len(search(text)) for text in FILTERS}
        steps("Prompts by filter")
        show_table([{"filter": text, "prompts": number} for text, number in found.items()])

        # 3. Page by page
        listed = list(pages("name LIKE 'desk-%'", page_size))
        steps(f"Pages of {page_size}: " + " | ".join(", ".join(page) for page in listed))

        # 4. Who used a version
        trace_ids = [use_prompt(llm, first, "Ada"), use_prompt(llm, second, "Grace"), use_prompt(llm, second, "Alan")]
        mlflow.flush_trace_async_logging()
        wait_for_prompt_links()
        usage = find_usage(f"{REFUND}@production")
        steps(f"The alias production stands for version {usage.version.version}; what used it")
        show_usage(usage)
        mlflow.log_metrics({"prompts": len(PROMPTS), "runs_found": len(usage.runs), "traces_found": len(usage.traces)})
    return Outcome(active.info.run_id, trace_ids[-1], found, listed, usage)


@lesson("3.4", llm="mock")
@click.option("--filter", "own_filter", metavar="FILTER", help="Only list the prompts that this filter finds.")
@click.option("--usage", metavar="NAME@ALIAS", help="Only list what used this version: NAME/VERSION or NAME@ALIAS.")
@click.option("--page-size", type=click.IntRange(min=1), default=2, show_default=True, help="Prompts on a page.")
def main(own_filter: str | None, usage: str | None, page_size: int, backend: BackendOptions) -> None:
    if own_filter:
        show_prompts(search(own_filter))
    if usage:
        show_usage(find_usage(usage))
    if own_filter or usage:
        return
    with open_backend(backend) as llm:
        outcome = run(llm, page_size)
    used = {"runs_of_version": len(outcome.usage.runs), "traces_of_version": len(outcome.usage.traces)}
    show("3.4", {"prompts": len(PROMPTS), **used}, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
