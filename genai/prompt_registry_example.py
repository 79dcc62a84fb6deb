"""3.1 Register a prompt, improve it, roll it back.

New here: a version never changes and has a number of its own; only the alias moves, so a roll-back is one call.
Run it:   uv run mlflow-prompt-registry
          uv run mlflow-prompt-registry --num-samples 60 --model mock-large
Look at:  uv run mlflow ui  ->  Prompts  ->  review-label: compare its versions, and see where production points
Change:   give TERSE a fourth label; which version number do you get, and does the alias follow?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/
"""

import difflib
import multiprocessing
from dataclasses import dataclass
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType
from mlflow.entities.model_registry import PromptVersion
from pydantic import BaseModel, Field

from utils.cli import Steps, lesson, show, show_table
from utils.evaluation import accuracy
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import PromptError, chat_messages, to_single_braces
from utils.reviews import LABELS, load_reviews, sample_reviews
from utils.sentiment_job import parse_label

NAME, CHAT_NAME, ALIAS = "review-label", "review-label-chat", "production"
VAGUE = "What is the sentiment of this review?\n\n{{text}}"
TERSE = "Answer with one word: positive, negative or neutral.\n\n{{text}}"
CHAT = [
    {"role": "system", "content": 'You label reviews. Answer as JSON, for example {"label": "neutral"}.'},
    {"role": "user", "content": "Label this review as positive, negative or neutral: {{text}}"},
]
JINJA = "{% if formal %}Kindly label{% else %}Label{% endif %} this review: {{ text }}"


class Verdict(BaseModel):
    """What the chat prompt asks for: its JSON schema is stored beside the prompt."""

    label: str = Field(description="positive, negative or neutral")


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    versions: tuple[int, int]
    accuracy_by_version: dict[int, float]
    in_use: dict[str, int]  # where the alias pointed: after the release, after the roll-back, after the second release


def register_versions() -> tuple[PromptVersion, PromptVersion]:
    """The same name twice: the second call makes a version, it does not overwrite the first."""
    first = mlflow.genai.register_prompt(
        name=NAME, template=VAGUE, commit_message="First try: a plain question", tags={"task": "sentiment"}
    )
    second = mlflow.genai.register_prompt(
        name=NAME,
        template=TERSE,
        commit_message="One word, the labels named",
        tags={"task": "sentiment"},
        model_config={"temperature": 0.0, "max_tokens": 5},
    )
    return first, second


def try_to_change(version: PromptVersion) -> str:
    """Assign to a registered template, and give back what MLflow says to that."""
    try:
        version.template = TERSE + "\nThink first."
    except AttributeError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("MLflow let a registered version be changed")


def diff(first: PromptVersion, second: PromptVersion) -> list[str]:
    before, after = (str(version.template).splitlines() for version in (first, second))
    return list(difflib.unified_diff(before, after, f"{NAME}/{first.version}", f"{NAME}/{second.version}", lineterm=""))


def score(llm: Backend, version: int, reviews: pd.DataFrame) -> tuple[float, str]:
    """Accuracy of one version and the id of its trace; load_prompt links both to the run and to the trace."""
    client = llm.openai_client()
    with (
        mlflow.start_run(run_name=f"{NAME}-{version}", nested=True),
        mlflow.start_span(f"score {NAME}/{version}", span_type=SpanType.EVALUATOR) as span,
    ):
        prompt = mlflow.genai.load_prompt(f"prompts:/{NAME}/{version}")
        settings: dict[str, Any] = prompt.model_config or {}
        answers = [
            client.chat.completions.create(
                model=llm.model,
                messages=[{"role": "user", "content": str(prompt.format(text=text))}],
                **{"temperature": 0.0, **settings},
            )
            for text in reviews["text"]
        ]
        labels = [parse_label(answer.choices[0].message.content, LABELS) for answer in answers]
        right = accuracy(list(reviews["label"]), labels)
        span.set_outputs({"accuracy": right})
        mlflow.log_param("prompt_version", version)
        mlflow.log_metrics({"accuracy": right, "unparsed_rows": sum(label is None for label in labels)})
    return right, span.trace_id


def move_alias(version: int) -> int:
    """Point production at a version, and ask the registry, not the cache, where it points now."""
    mlflow.genai.set_prompt_alias(name=NAME, alias=ALIAS, version=version)
    return int(mlflow.genai.load_prompt(f"prompts:/{NAME}@{ALIAS}", cache_ttl_seconds=0).version)


def move_alias_elsewhere(uri: str, version: int) -> None:
    """What a colleague does in a process of their own; started by `read_through_cache`."""
    mlflow.set_tracking_uri(uri)
    mlflow.genai.set_prompt_alias(name=NAME, alias=ALIAS, version=version)


def read_through_cache(version: int) -> tuple[int, int]:
    """Another process moves the alias: the version that a cached read gives, and one that skips the cache."""
    alias = f"prompts:/{NAME}@{ALIAS}"
    mlflow.genai.load_prompt(alias)  # from here on this process remembers the version, for 60 seconds by default
    elsewhere = multiprocessing.get_context("spawn").Process(
        target=move_alias_elsewhere, args=(mlflow.get_tracking_uri(), version)
    )
    elsewhere.start()
    elsewhere.join()
    cached, fresh = mlflow.genai.load_prompt(alias), mlflow.genai.load_prompt(alias, cache_ttl_seconds=0)
    return int(cached.version), int(fresh.version)


def ask_in_frameworks(llm: Backend, text: str) -> list[dict[str, str]]:
    """The chat prompt and its schema from the registry, through LangChain and through LlamaIndex."""
    from langchain_core.prompts import ChatPromptTemplate as LangChainPrompt
    from llama_index.core.llms import ChatMessage
    from llama_index.core.prompts import ChatPromptTemplate as LlamaIndexPrompt

    mlflow.genai.register_prompt(
        name=CHAT_NAME, template=CHAT, response_format=Verdict, commit_message="Chat, with a schema"
    )
    prompt = mlflow.genai.load_prompt(f"prompts:/{CHAT_NAME}@latest", cache_ttl_seconds=0)
    # LangChain fills {text} with str.format, so other braces are doubled; LlamaIndex leaves them alone.
    chain = LangChainPrompt.from_messages(chat_messages(prompt)) | llm.chat_model().with_structured_output(
        prompt.response_format, method="json_schema"
    )
    pairs = chat_messages(prompt, escape=False)
    template = LlamaIndexPrompt([ChatMessage(role=role, content=content) for role, content in pairs])
    typed = llm.llama_index().as_structured_llm(Verdict)
    # The frameworks trace themselves; OpenAI's autolog beside theirs would give each call a second span.
    mlflow.openai.autolog(disable=True)
    mlflow.langchain.autolog()
    mlflow.llama_index.autolog()
    with mlflow.start_span("ask-in-frameworks", span_type=SpanType.CHAIN):
        return [
            {"framework": "LangChain", "answer": str(chain.invoke({"text": text}))},
            {"framework": "LlamaIndex", "answer": str(typed.chat(template.format_messages(text=text)).message.content)},
        ]


def refused_conversion() -> str:
    """A Jinja2 template has no single-brace form: the conversion says so instead of spoiling it."""
    try:
        return to_single_braces(JINJA)
    except PromptError as error:
        return error.problem


def run(llm: Backend, reviews: pd.DataFrame) -> Outcome:
    steps = Steps(7)
    mlflow.openai.autolog()
    with mlflow.start_run(run_name="prompt-registry") as active:
        # 1. Two wordings, two versions; the difference is what a reviewer reads
        first, second = register_versions()
        steps(f"Registered {first.uri} and {second.uri}\n" + "\n".join(f"      {line}" for line in diff(first, second)))

        # 2. A version never changes
        steps(f"Assigning to {first.uri}: {try_to_change(first)}")

        # 3. Both on the same reviews
        numbers = (int(first.version), int(second.version))
        scores = {number: score(llm, number, reviews) for number in numbers}
        accuracies = {number: right for number, (right, _) in scores.items()}
        steps(f"Accuracy on the same {len(reviews)} reviews: {show_scores(accuracies)}")

        # 4. The alias moves to the better one (the earlier one where they are equal), and back
        better = max(accuracies, key=lambda number: accuracies[number])
        other = next(number for number in numbers if number != better)
        in_use = {
            "released": move_alias(better),
            "rolled back": move_alias(other),
            "released again": move_alias(better),
        }
        steps(f"{ALIAS}: released {better}, rolled back to {other}, released {better} again")

        # 5. Moved by another process, an alias is remembered for a while
        cached, fresh = read_through_cache(other)
        steps(f"Moved to {other} elsewhere: cached read gives {cached}, cache_ttl_seconds=0 gives {fresh}")
        move_alias(better)

        # 6. Chat prompts carry roles and a schema
        steps("The chat prompt and its schema in two frameworks")
        show_table(ask_in_frameworks(llm, str(reviews["text"].iloc[0])))

        # 7. Not every template can be converted
        steps(f"The Jinja2 template: {refused_conversion()}")
        mlflow.log_metrics({"accuracy_gain": accuracies[numbers[1]] - accuracies[numbers[0]], "cached_version": cached})
        mlflow.set_tags({"released_version": str(better), "registered_versions": str(list(numbers))})
    return Outcome(active.info.run_id, scores[better][1], numbers, accuracies, in_use)


def show_scores(accuracies: dict[int, float]) -> str:
    return ", ".join(f"version {number} {right:.3f}" for number, right in accuracies.items())


@lesson("3.1", llm="mock")
@click.option("--num-samples", type=click.IntRange(min=1), default=30, show_default=True, help="Reviews to label.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(num_samples: int, seed: int, backend: BackendOptions) -> None:
    reviews, _ = sample_reviews(load_reviews(), num_samples, seed)
    with open_backend(backend) as llm:
        outcome = run(llm, reviews)
    accuracies = {f"accuracy_version_{number}": right for number, right in outcome.accuracy_by_version.items()}
    measured = {**accuracies, "production_points_at": outcome.in_use["released again"]}
    show("3.1", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
