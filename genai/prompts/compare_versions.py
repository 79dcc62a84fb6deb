"""3.2 Improve a prompt from what failed, and move the alias only for a real gain.

New here: both versions answer the same rows, and a paired test says whether the difference could be luck.
Run it:   uv run mlflow-prompt-iteration
          uv run mlflow-prompt-iteration --num-rows 20
          uv run mlflow-prompt-iteration --rollback
Look at:  uv run mlflow ui  ->  3-prompts  ->  Evaluation runs: select version-1 and version-2 and press Compare
Change:   take the sentence about not knowing out of SECOND; does the alias still move?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/evaluate-prompts/
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType

from utils.cli import Steps, lesson, show, show_table
from utils.evaluation import expected_in_answer, is_declined
from utils.genai_evaluation import quiet_evaluation, read_scores
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.paired_decision import Decision, decide, power
from utils.prompt_release import Release
from utils.prompt_utils import get_or_register
from utils.questions import load_questions, read_texts, with_passages
from utils.sample_documents import CORPUS

PROMPT, ALIAS = "passage-answer", "production"
RELEASE = Release(PROMPT, ALIAS, "uv run mlflow-prompt-iteration")
FIRST = "Answer the question.\n\nContext:\n{{context}}\n\nQuestion: {{question}}"
SECOND = (
    "Answer the question from the context only. "
    'If the context does not contain the answer, reply "I do not know".\n\n'
    "Context:\n{{context}}\n\nQuestion: {{question}}"
)
# The gain whose power is printed: one row in eight becomes right, one in fifty wrong.
BETTER, WORSE = 1 / 8, 1 / 50
SHOWN_FAILURES = 3


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    decision: Decision
    in_use: int


def build_rows(num_rows: int, questions_file: Path | None, documents: Path) -> list[dict[str, Any]]:
    """Every second question comes with a document that does not answer it: the right answer is to decline.

    Raises:
        InputError: there are no questions whose gold document is among the documents.
    """
    known = with_passages(load_questions(questions_file), documents)
    texts = read_texts(documents)
    names, rows = list(texts), []
    for row in range(min(num_rows, 2 * len(known))):
        question, _ = known[row // 2]
        gold = names.index(str(question.gold_document))
        answered = row % 2 == 0
        source = names[gold if answered else (gold + len(names) // 2) % len(names)]
        inputs = {"row": row, "question": question.question, "context": texts[source]}
        expected = question.expected_answer if answered else "I do not know"
        rows.append({"inputs": inputs, "expectations": {"expected_response": expected, "in_context": answered}})
    return rows


@mlflow.genai.scorer
def right(outputs: str, expectations: dict[str, Any]) -> bool:
    """The expected words are in the answer, or nothing was there to be found and the model says so."""
    if expectations["in_context"]:
        return expected_in_answer(outputs, expectations["expected_response"]) and not is_declined(outputs)
    return is_declined(outputs)


def evaluate_version(llm: Backend, version: int, rows: list[dict[str, Any]]) -> tuple[str, list[bool]]:
    """One evaluation run for one version; returns its id, and the score of each row as the store has it."""
    client = llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="answer-from-passage", span_type=SpanType.CHAIN)
    def answer(row: int, question: str, context: str) -> str:  # noqa: ARG001 `row` finds the score again
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}/{version}")
        messages: list[Any] = [{"role": "user", "content": prompt.format(question=question, context=context)}]
        reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    with mlflow.start_run(run_name=f"version-{version}", nested=True) as active, quiet_evaluation():
        mlflow.log_param("prompt_version", version)
        mlflow.genai.evaluate(data=rows, predict_fn=answer, scorers=[right])
    mlflow.flush_trace_async_logging()
    scores = read_scores(active.info.run_id, "right", len(rows))
    return active.info.run_id, [bool(scores[row]) for row in range(len(rows))]


def show_failures(rows: list[dict[str, Any]], scores: list[bool]) -> None:
    """What a person reads before writing the next version."""
    failed = [row for row, is_right in zip(rows, scores, strict=True) if not is_right]
    kinds = [row["expectations"]["in_context"] for row in failed]
    click.echo(f"      {kinds.count(False)} should have been declined, {kinds.count(True)} had another answer")
    show_table(
        [
            {"question": row["inputs"]["question"], "expected": row["expectations"]["expected_response"]}
            for row in failed[:SHOWN_FAILURES]
        ]
    )


def run(llm: Backend, rows: list[dict[str, Any]], alpha: float, second_wording: str = SECOND) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    with mlflow.start_run(run_name="prompt-iteration") as active:
        data = pd.DataFrame([{**row["inputs"], **row["expectations"]} for row in rows]).drop(columns="row")
        mlflow.log_input(mlflow.data.from_pandas(data, name="passage-questions"), context="evaluation")

        # 1. The first version, and what fails
        first = int(get_or_register(PROMPT, FIRST, commit_message="First try").version)
        if RELEASE.in_use() is None:
            RELEASE.to(first)
        _, scores = evaluate_version(llm, first, rows)
        steps(f"Version {first}: {sum(scores)} of {len(rows)} rows right; some that failed:")
        show_failures(rows, scores)

        # 2. The second version, written from what failed, on the same rows
        second = int(get_or_register(PROMPT, second_wording, commit_message="Decline what the context lacks").version)
        run_id, again = evaluate_version(llm, second, rows)
        steps(f"Version {second}: {sum(again)} of {len(rows)} rows right")

        # 3. Is the difference real?
        decision = decide(scores, again, alpha)
        steps(
            f"{decision.better} rows better, {decision.worse} worse: gain {decision.gain:+.3f} "
            f"({decision.low:+.3f} to {decision.high:+.3f}), McNemar p {decision.p:.4f}"
        )
        found = power(len(rows), BETTER, WORSE, alpha)
        click.echo(f"      With {len(rows)} rows a gain of {BETTER - WORSE:.3f} is found {found:.0%} of the time")

        # 4. The alias moves only for a real gain
        if decision.is_real:
            RELEASE.to(second)
        now = RELEASE.in_use() or first
        steps(f"{ALIAS} points at version {now}: the gain is {'real' if decision.is_real else 'not shown'}")
        mlflow.log_metrics({"gain": decision.gain, "gain_low": decision.low, "gain_high": decision.high})
        mlflow.log_metrics({"p": decision.p, "power": found, "in_use": now})
    trace_id = mlflow.search_traces(run_id=run_id, max_results=1, return_type="list")[0].info.trace_id
    return Outcome(active.info.run_id, trace_id, decision, now)


@lesson("3.2", llm="mock")
@click.option("--num-rows", type=click.IntRange(min=2), default=120, show_default=True, help="At most two a question.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often an equal prompt may be taken for a better one, at most.")  # fmt: skip
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--rollback", is_flag=True, help="Only point the alias back at the version before.")
def main(
    num_rows: int, alpha: float, questions: Path | None, docs_path: Path, rollback: bool, backend: BackendOptions
) -> None:
    if rollback:
        left, now = RELEASE.roll_back()
        click.echo(f"{ALIAS} of {PROMPT}: back from version {left} to version {now}")
        return
    rows = build_rows(num_rows, questions, docs_path)
    with open_backend(backend) as llm:
        outcome = run(llm, rows, alpha)
    measured = {"gain": outcome.decision.gain, "p": outcome.decision.p, "version_in_use": outcome.in_use}
    show("3.2", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
