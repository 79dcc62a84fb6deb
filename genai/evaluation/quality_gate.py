"""6.7 A gate for CI: a change that lowers quality exits 1, and noise does not.

New here: a baseline is a run; its rows are answered again, and what fell has to be more than chance explains.
Run it:   uv run mlflow-quality-gate
          uv run mlflow-quality-gate --record
          uv run mlflow-quality-gate --baseline latest
          uv run mlflow-quality-gate --baseline latest --prompt-version 2 --at-least right=0.5 --at-least found=0.7
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Evaluation runs: select baseline and shorter and press Compare
Change:   let `retrieve` return its passages without the first one, and type --baseline latest; what says the gate?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow.entities import Run, SpanType
from mlflow.exceptions import MlflowException

from utils.cli import Steps, lesson, show, show_table
from utils.document_index import DocumentIndex, Passage, open_index
from utils.errors import CheckFailed, InputError
from utils.evaluation import expected_in_answer, is_declined
from utils.gate_decision import Verdict, check_scores, describe, find_missing, parse_floors
from utils.gate_rows import build_rows, read_scores
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.paired_decision import power
from utils.prompt_utils import PromptError, get_or_register
from utils.questions import load_questions
from utils.sample_documents import CORPUS

if TYPE_CHECKING:
    from openai import OpenAI

PROMPT = "gate-answer"
TEMPLATE = """Answer the question in one sentence, from the passages only, and name the source in square brackets.
If the passages do not hold the answer, say: I do not know.

{{passages}}

Question: {{question}}"""
# What the run without arguments sends through the gate: a change of words, and one that looks like an improvement.
REWORDED = TEMPLATE.replace("Answer the question in one sentence", "In a single sentence, answer the question")
SHORTER = TEMPLATE.replace("in one sentence", "in at most 6 words")
TOP_K = 3
FALL, NOISE = 0.10, 0.02  # the fall whose chance of being seen is printed, and rows that become right meanwhile
SHOWN = 5
SOURCE = re.compile(r"\s*\[([^\[\]]+)\]")


@dataclass(frozen=True)
class Rag:
    """What the gate guards: the prompt, the retriever and the parser together."""

    llm: Backend
    client: "OpenAI"
    index: DocumentIndex

    def answer(self, question: str, version: int) -> dict[str, Any]:
        passages = retrieve(self.index, question)
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}/{version}")  # inside a trace: linked to the version
        material = "\n".join(f'<passage source="{each.document}">{each.text}</passage>' for each in passages)
        messages: list[Any] = [{"role": "user", "content": prompt.format(passages=material, question=question)}]
        settings = self.llm.settings
        reply = self.client.chat.completions.create(
            model=settings.model, messages=messages, temperature=settings.temperature
        )
        parsed = parse(reply.choices[0].message.content or "")
        return {**parsed, "documents": [each.document for each in passages]}


@mlflow.trace(name="retrieve", span_type=SpanType.RETRIEVER)
def retrieve(index: DocumentIndex, question: str) -> list[Passage]:
    return index.retrieve(question, TOP_K)


@mlflow.trace(name="parse", span_type=SpanType.PARSER)
def parse(reply: str) -> dict[str, str | None]:
    """The answer, and the source that stands in the last brackets."""
    named = list(SOURCE.finditer(reply))
    if not named:
        return {"answer": reply.strip(), "source": None}
    last = named[-1]
    return {"answer": (reply[: last.start()] + reply[last.end() :]).strip(), "source": last[1].strip()}


@mlflow.genai.scorer
def right(outputs: dict[str, Any], expectations: dict[str, Any]) -> bool:
    """The expected words are in the answer; or nothing was there to be found, and it says so."""
    if expectations["gold_document"]:
        return expected_in_answer(outputs["answer"], expectations["expected_response"])
    return is_declined(outputs["answer"])


@mlflow.genai.scorer
def found(outputs: dict[str, Any], expectations: dict[str, Any]) -> bool:
    """The gold document is among the passages; or there is none."""
    return not expectations["gold_document"] or expectations["gold_document"] in outputs["documents"]


@mlflow.genai.scorer
def cited(outputs: dict[str, Any], expectations: dict[str, Any]) -> bool:
    """The source that the parser gives is the gold document; or there is none, and none is named."""
    return outputs["source"] == (expectations["gold_document"] or None)


SCORERS = [right, found, cited]


def evaluate(rag: Rag, version: int, rows: list[dict[str, Any]], name: str) -> str:
    """One evaluation run, whose params say what has to be found in it. Returns its id."""

    @tagged_in_threads
    @mlflow.trace(name="answer", span_type=SpanType.CHAIN)
    def answer(row: int, question: str) -> dict[str, Any]:  # noqa: ARG001 `row` finds the scores again
        return rag.answer(question, version)

    with mlflow.start_run(run_name=name, nested=True) as active, quiet_evaluation():
        scorers = ", ".join(scorer.name for scorer in SCORERS)
        mlflow.log_params({"prompt_version": version, "rows": len(rows), "scorers": scorers})
        mlflow.genai.evaluate(data=rows, predict_fn=answer, scorers=SCORERS)
    mlflow.flush_trace_async_logging()
    return active.info.run_id


def record(rag: Rag, rows: list[dict[str, Any]], version: int) -> str:
    """Make a baseline. It becomes one only when each row has all its scores."""
    run_id = evaluate(rag, version, rows, "baseline")
    read_scores(run_id)
    mlflow.MlflowClient().set_tag(run_id, "gate", "baseline")
    return run_id


def find_baseline(name: str) -> Run:
    """The recorded baseline with this run id; `latest` is the newest one.

    Raises:
        CheckFailed: there is none. Without a baseline nothing passes.
    """
    cure = "uv run mlflow-quality-gate --record"
    if name == "latest":
        newest = mlflow.search_runs(
            filter_string="tags.gate = 'baseline'", order_by=["start_time DESC"], max_results=1, output_format="list"
        )
        if not newest:
            raise CheckFailed("there is no baseline in this experiment", cure)
        return newest[0]
    try:
        run = mlflow.get_run(name)
    except MlflowException as error:
        raise CheckFailed(f"there is no baseline {name}", cure) from error
    if run.data.tags.get("gate") != "baseline" or run.info.lifecycle_stage != "active":
        raise CheckFailed(f"the run {name} is no recorded baseline", cure)
    return run


def judge(baseline: str, candidate: str, floors: Mapping[str, float], alpha: float) -> Verdict:
    """Compare both runs, and leave the verdict on the candidate's.

    Raises:
        CheckFailed: a row or a scorer of the baseline is missing. What was not measured does not pass.
    """
    (before, questions), (now, _) = read_scores(baseline), read_scores(candidate)
    if missing := find_missing(before, now):
        raise CheckFailed(missing, "give it the baseline's rows, or: uv run mlflow-quality-gate --record")
    verdict = Verdict(candidate, check_scores(before, now, floors, alpha), questions)
    with mlflow.start_run(run_id=candidate, nested=True):
        mlflow.set_tags({"gate.baseline": baseline, "gate.verdict": "refused" if verdict.refusals else "passed"})
        for check in verdict.checks:
            figures = {"low": check.low, "high": check.high, "p": check.p, "worse": len(check.worse)}
            mlflow.log_metrics({f"gate.{check.scorer}.{name}": value for name, value in figures.items()})
        if rows := verdict.worse_rows():
            mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, "worse_rows.json")
    return verdict


def show_verdict(verdict: Verdict) -> None:
    show_table([describe(check) for check in verdict.checks])
    show_table(verdict.worse_rows(refused_only=True)[:SHOWN])


def show_both_verdicts(rag: Rag, rows: list[dict[str, Any]], floors: Mapping[str, float], alpha: float) -> str:
    """The lesson's own example: a baseline, a change of words, and a change that costs something."""
    steps = Steps(3)
    with mlflow.start_run(run_name="quality-gate") as active:
        baseline = record(rag, rows, register(TEMPLATE))
        seen = power(len(rows), NOISE + FALL, NOISE, alpha)  # the test is the same in both directions
        steps(f"Baseline of {len(rows)} rows recorded; a fall of {FALL:.2f} would be seen {seen:.0%} of the time")
        for name, template in {"reworded": REWORDED, "shorter": SHORTER}.items():
            verdict = judge(baseline, evaluate(rag, register(template), rows, name), floors, alpha)
            steps(f"Candidate {name}: {'; '.join(verdict.refusals) or 'passes'}")
            show_verdict(verdict)
            mlflow.log_metric(f"refusals_{name}", len(verdict.refusals))
        mlflow.log_metrics({"rows": len(rows), "seen": seen})
    return active.info.run_id


def guard(
    rag: Rag, rows: list[dict[str, Any]], version: int, baseline: str, floors: dict[str, float], alpha: float
) -> str:
    """What CI calls.

    Raises:
        CheckFailed: the candidate is refused, or something is missing.
    """
    known = find_baseline(baseline)
    verdict = judge(known.info.run_id, evaluate(rag, version, rows, "candidate"), floors, alpha)
    model = known.data.tags.get("llm_model")
    click.echo(f"Version {version} by {rag.llm.model} against baseline {known.info.run_id} by {model}")
    show_verdict(verdict)
    if verdict.refusals:
        raise CheckFailed("; ".join(verdict.refusals), f"the rows that fell: worse_rows.json of run {verdict.run_id}")
    return verdict.run_id


def register(template: str) -> int:
    return int(get_or_register(PROMPT, template, commit_message="Sent through the gate").version)


def choose_version(version: int | None) -> int:
    """The version that is meant; without one, the template of this checkout.

    Raises:
        PromptError: there is no such version.
    """
    if version is None:
        return register(TEMPLATE)
    if mlflow.genai.load_prompt(f"prompts:/{PROMPT}/{version}", allow_missing=True) is None:
        raise PromptError(f"there is no version {version} of {PROMPT}", "uv run mlflow-prompt-search")
    return version


@lesson("6.7", llm="mock", embed=True)
@click.option("--baseline", metavar="RUN", help="Guard: run id of a recorded baseline, or latest. Exit 1 is a no.")
@click.option("--record", "recorded", is_flag=True, help="Only record a baseline.")
@click.option("--at-least", "floors", multiple=True, metavar="SCORER=SHARE", help="A floor; may be repeated.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often a change that changes nothing may be refused, at most.")  # fmt: skip
@click.option("--prompt-version", type=click.IntRange(min=1), help="Default: the template in this file.")
@click.option("--num-rows", type=click.IntRange(min=2), help="Default: all questions.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
def main(
    baseline: str | None, recorded: bool, floors: tuple[str, ...], alpha: float, prompt_version: int | None,
    num_rows: int | None, questions: Path | None, docs_path: Path, backend: BackendOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if baseline and recorded:
        raise InputError("--baseline and --record do not go together", "record first, then guard")
    least = parse_floors(floors, [scorer.name for scorer in SCORERS])
    rows = build_rows(load_questions(questions), num_rows)
    mlflow.openai.autolog()
    mlflow.llama_index.autolog(disable=True)  # evaluate would switch it on, and the index is searched by it
    with open_backend(backend) as llm:
        rag = Rag(llm, llm.openai_client(), open_index(docs_path, llm, embedding))
        if baseline:
            run_id = guard(rag, rows, choose_version(prompt_version), baseline, least, alpha)
        elif recorded:
            run_id = record(rag, rows, choose_version(prompt_version))
            click.echo(f"Guard:   uv run mlflow-quality-gate --baseline {run_id}")
        else:
            run_id = show_both_verdicts(rag, rows, least, alpha)
    show("6.7", {"rows": len(rows), "scorers": len(SCORERS)}, run_id=run_id)


if __name__ == "__main__":
    main()
