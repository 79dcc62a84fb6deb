"""6.2 Similarity, correctness, relevance and faithfulness of a RAG, by chunk size.

New here: MLflow's judges read what was retrieved from the trace, and an index of wrong documents beside the others
shows whether the figures mean anything.
Run it:   uv run mlflow-evaluate-rag
          uv run mlflow-evaluate-rag --chunk-size 64 --chunk-size 1024 --num-questions 20
          uv run mlflow-evaluate-rag --docs-path my_documents --questions my_questions.csv
          uv run mlflow-evaluate-rag --judge-model mock-small
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Evaluation runs: select two sizes and press Compare
Change:   --top-k 1; which figures fall, and which one rises?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/scorers/llm-judge/predefined/
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import pandas as pd
from mlflow.entities import Document, SpanType, Trace
from mlflow.genai import scorers as built_in
from mlflow.genai.scorers import Scorer

from utils.chunking import Chunk, cut
from utils.cli import Steps, lesson, show, show_table, track
from utils.control_documents import BANANAS
from utils.embeddings import default_embed_type, open_embedding
from utils.errors import JobFailed
from utils.evaluation import is_declined
from utils.evaluation_rows import row_key
from utils.genai_evaluation import quiet_evaluation
from utils.judge_backend import judge_options, open_judge
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.pairwise import best_and_equals, compare_pairs
from utils.prompt_utils import use_alias
from utils.questions import Question, read_known, spread
from utils.rag_judgement import (
    CODE,
    JUDGES,
    Measured,
    correct_rows,
    draw_by_size,
    judge_errors,
    judged_in_all,
    measure,
    shown,
)
from utils.row_scores import RowScores, read_row_scores
from utils.sample_documents import CORPUS
from utils.search import VectorIndex, embed_texts

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

SIZES = (64, 128, 256)  # tokens
CONTROL = "bananas"
LEAST_QUESTIONS = 2  # below that there is no interval at all
SHOWN = ("similarity", "correctness", "relevance", "faithfulness", "groundedness", "sufficiency", "hit")
DRAWN = ("similarity", "correctness", "relevance", "faithfulness")
ANSWER = """Context information is below.
---------------------
{{passages}}
---------------------
Answer the question from the context information only, in one or two sentences.
If the context information does not hold the answer, say: I do not know.

Question: {{question}}
Answer:"""


@dataclass(frozen=True)
class Job:
    texts: dict[str, str]
    questions: list[Question]
    sizes: tuple[int, ...]
    embedding: "BaseEmbedding"
    top_k: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The reference is a whole sentence where the question has one: an answer of one number is unlike any."""
        return [
            {
                "inputs": {"question": q.question},
                "expectations": {
                    "expected_response": q.expected_answer,
                    "gold_document": q.gold_document,
                    "reference": q.gold_sentence or q.expected_answer,
                },
            }
            for q in self.questions
        ]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    figures: dict[str, dict[str, Measured]]


def passages_of(trace: Trace) -> list[dict[str, Any]]:
    return [page for span in trace.search_spans(span_type=SpanType.RETRIEVER) for page in span.outputs]


@mlflow.genai.scorer
def hit(trace: Trace, expectations: dict[str, Any]) -> bool:
    """The gold document is among those that were retrieved."""
    return expectations["gold_document"] in [page["metadata"]["doc_uri"] for page in passages_of(trace)]


@mlflow.genai.scorer
def declined(outputs: str) -> bool:
    return is_declined(outputs)


def build_scorers(judge: Backend, embedding: "BaseEmbedding") -> list[Scorer]:
    """Code where code can say it, judges for the rest. They find the judge's address in the environment."""

    @mlflow.genai.scorer
    def similarity(outputs: str, expectations: dict[str, Any]) -> float:
        """Cosine of the two texts' vectors."""
        answer, reference = embed_texts([outputs, expectations["reference"]], embedding)
        return max(0.0, float(answer @ reference))

    model = f"openai:/{judge.model}"
    return [
        similarity,
        hit,
        declined,
        built_in.Correctness(model=model),
        built_in.RelevanceToQuery(model=model),
        built_in.RetrievalGroundedness(model=model),
        built_in.RetrievalRelevance(model=model),
        built_in.RetrievalSufficiency(model=model),
    ]


def build_rag(llm: Backend, chunks: list[Chunk], job: Job, prompt_uri: str) -> Callable[[str], str]:
    index, client = VectorIndex([chunk.text for chunk in chunks], job.embedding), llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="judged-question", span_type=SpanType.CHAIN)
    def answer(question: str) -> str:
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"question": question})
            found = [chunks[position] for position in index.rank([question], job.top_k)[0]]
            span.set_outputs([Document(chunk.text, metadata={"doc_uri": chunk.document}) for chunk in found])
        prompt = mlflow.genai.load_prompt(prompt_uri)
        text = str(prompt.format(passages="\n\n".join(chunk.text for chunk in found), question=question))
        messages: list[Any] = [{"role": "user", "content": text}]
        reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    return answer


def evaluate_index(name: str, rag: Callable[[str], str], job: Job, scorers: list[Scorer], params: dict) -> RowScores:
    """One evaluation run for one index, all criteria at once; the figures are logged beside MLflow's own means."""
    with mlflow.start_run(run_name=name, nested=True) as active, quiet_evaluation():
        mlflow.log_params({**params, "top_k": job.top_k})
        mlflow.genai.evaluate(data=job.rows, predict_fn=rag, scorers=scorers)
    run_id = active.info.run_id
    scores = read_row_scores(run_id, (*CODE, *JUDGES), [row_key(row["inputs"]) for row in job.rows])
    if len(scores.failed) == len(job.rows):
        raise JobFailed(f"all questions failed, the first with: {next(iter(scores.failed.values()))}", JobFailed.CURE)
    metrics = {k: v for criterion, each in measure(scores).items() for k, v in each.metrics(criterion).items()}
    mlflow.log_metrics({**metrics, "failed_answers": len(scores.failed)}, run_id=run_id)
    mlflow.log_metric("judge_errors", judge_errors(scores), run_id=run_id)
    return scores


def run(llm: Backend, judge: Backend, job: Job, control: dict[str, str]) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    prompt_uri = use_alias("judged-answer", "production", ANSWER, needs=("passages", "question"))
    scorers = build_scorers(judge, job.embedding)
    with mlflow.start_run(run_name="evaluate-rag") as active:
        # 1. The same questions for every size
        frame = pd.DataFrame([{**row["inputs"], **row["expectations"]} for row in job.rows])
        mlflow.log_input(mlflow.data.from_pandas(frame, name="rag-questions"), context="evaluation")
        mlflow.log_params({"questions": len(job.questions), "judge": judge.model})
        steps(f"{len(job.texts)} documents, {len(job.questions)} questions; {llm.model} answers, {judge.model} judges")

        # 2. One evaluation run for each size, and one for documents that answer nothing
        indexes = [(str(size), job.texts, size) for size in job.sizes]
        indexes.append((CONTROL, control, job.sizes[len(job.sizes) // 2]))
        found: dict[str, RowScores] = {}
        for name, texts, size in track(indexes, "indexes"):
            chunks = cut(texts, size, size // 8)
            params = {"index": "control" if name == CONTROL else "documents", "chunk_tokens": size}
            params |= {"chunks": len(chunks)}
            found[name] = evaluate_index(
                f"chunks-{name}", build_rag(llm, chunks, job, prompt_uri), job, scorers, params
            )
        figures = {name: measure(scores) for name, scores in found.items()}
        errors = sum(map(judge_errors, found.values()))
        failed = sum(len(scores.failed) for scores in found.values())
        steps(f"Judged {len(found) * len(job.rows)} answers; {errors} judgements and {failed} answers failed")
        show_table([{"chunks": name, **{c: shown(each[c]) for c in SHOWN}} for name, each in figures.items()])

        # 3. Which size is best, and which may be as good
        best = compare_sizes(found, job)
        steps(best)
        by_size = {size: figures[str(size)] for size in job.sizes}
        mlflow.log_figure(draw_by_size(by_size, DRAWN), "criteria_by_chunk_size.png")

        # 4. Do the figures fall where nothing can be right?
        grounded, hits = figures[CONTROL]["groundedness"], figures[CONTROL]["hit"]
        steps(f"Documents about bananas: groundedness {shown(grounded)}, hit@{job.top_k} {shown(hits)}, "
              f"relevance of the passages {shown(figures[CONTROL]['passage_relevance'])}")  # fmt: skip
        mlflow.log_metrics({"judge_errors": errors, "failed_answers": failed, "sizes": len(job.sizes)})
        mlflow.log_metrics({f"control_{k}": v for k, v in grounded.metrics("groundedness").items()})
        mlflow.log_metrics({f"control_{k}": v for k, v in hits.metrics("hit").items()})
    first = next(iter(found[str(job.sizes[0])].traces.values()))
    return Outcome(active.info.run_id, first.info.trace_id, figures)


def compare_sizes(found: dict[str, RowScores], job: Job) -> str:
    """All pairs of sizes on the rows that were judged in each, corrected for having looked at all of them."""
    keys = [row_key(row["inputs"]) for row in job.rows]
    rows = judged_in_all({str(size): correct_rows(found[str(size)], keys) for size in job.sizes})
    judged = len(next(iter(rows.values())))
    if len(rows) < 2 or judged < LEAST_QUESTIONS:
        return f"Nothing to compare: {len(rows)} sizes, {judged} rows judged in all of them"
    best, equals = best_and_equals(rows, compare_pairs(rows))
    mlflow.log_metrics({"best_chunk_tokens": int(best), "may_be_as_good": len(equals)})
    as_good = f"{', '.join(equals)} may be as good" if equals else "all others are worse"
    return f"Most correct: {best} tokens, {sum(rows[best])} of {judged} rows; {as_good}"


@lesson("6.2", llm="mock", embed=True)
@click.option("--chunk-size", "sizes", multiple=True, type=click.IntRange(min=16), default=SIZES, show_default=True,
              help="Tokens, at most; may be repeated.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Chunks in the prompt.")
@click.option("--num-questions", type=click.IntRange(min=LEAST_QUESTIONS), default=12, show_default=True,
              help="Whose document is known.")  # fmt: skip
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@judge_options
def main(
    sizes: tuple[int, ...],
    top_k: int,
    num_questions: int,
    docs_path: Path,
    questions: Path | None,
    judge_llm_type: str | None,
    judge_model: str | None,
    backend: BackendOptions,
    embedding: EmbedOptions,
) -> None:
    texts, known = read_known(docs_path, questions, LEAST_QUESTIONS, click.echo)
    with open_backend(backend) as llm, open_judge(backend, llm, judge_llm_type, judge_model) as judge:
        kind = embedding.embed_type or default_embed_type(llm.llm_type)
        model = open_embedding(kind, embedding.embed_model, base_url=llm.settings.base_url,
                               api_key=llm.settings.api_key, ollama_url=backend.ollama_url)  # fmt: skip
        job = Job(texts, spread(known, num_questions, seed=7), tuple(sorted(set(sizes))), model, top_k)
        outcome = run(llm, judge, job, BANANAS)
    best = max(outcome.figures, key=lambda name: outcome.figures[name]["correctness"].mean or 0)
    measured = {f"{name}_{best}": outcome.figures[best][name].mean for name in SHOWN}
    show("6.2", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
