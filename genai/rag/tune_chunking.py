"""5.3 Choose chunk size, overlap and search by measurement, and see which differences are real.

New here: every cell of the grid is a nested run with an interval, and a paired test says which cells may be as good as
the winner.
Run it:   uv run mlflow-tune-chunking
          uv run mlflow-tune-chunking --chunk-size 64 --chunk-size 128 --chunk-overlap 0 --top-k 1
          uv run mlflow-tune-chunking --embed-type lexical --embed-type fastembed --embed-model FOLDER
          uv run mlflow-tune-chunking --library langgraph
          uv run mlflow-tune-chunking --docs-path my_documents --questions my_questions.csv
Look at:  uv run mlflow ui  ->  5-rag  ->  Training runs: open tune-chunking, its heat map is under Artifacts
Change:   --top-k 1; does a small chunk still win, and what does an answer cost then?
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import pandas as pd
from mlflow.entities import Document, SpanStatusCode, SpanType

from utils.chunk_grid import Cell, Result, Retrieve, cell_row, heat_map_of, make_grid, search_row
from utils.chunking import Chunk, cut
from utils.cli import Steps, lesson, show, show_table, track
from utils.embeddings import EMBED_TYPES, default_embed_type, open_embedding
from utils.errors import JobFailed
from utils.evaluation import expected_in_answer, is_declined
from utils.known_items import make_pages
from utils.llm_backends import open_backend
from utils.llm_calls import Chat
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.questions import Question, read_known, spread
from utils.retrieval_scores import Scores, compare, mean, quote_share, score_passages
from utils.sample_documents import CORPUS
from utils.search import VectorIndex, WordIndex, reciprocal_rank_fusion

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

SIZES, OVERLAPS = (128, 256, 512, 1024), (0, 50, 100)  # tokens
LEAST_QUESTIONS = 5  # below that no interval says anything
LEAST_QUOTED = 0.5  # of a quote's words must stand in the passage that moves up
CANDIDATES = 10  # passages that are joined, or given to the reranker
ANSWER = """Context information is below.
---------------------
{{passages}}
---------------------
Answer the question from the context information only, in one or two sentences.
If the context information does not hold the answer, say: I do not know.

Question: {{question}}
Answer:"""
RERANK = """Passages:
---------------------
{{passages}}
---------------------
Quote word for word the one sentence of the passages that answers the question best.

Question: {{question}}
Answer:"""


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    metrics: dict[str, float]


def measure(
    name: str, retrieve: Retrieve, questions: list[Question], top_k: int, params: dict[str, Any]
) -> tuple[Scores, str]:
    """One nested run: retrieve for every question, one at a time, since its latency is a result as well."""
    with mlflow.start_run(run_name=name, nested=True) as active:
        mlflow.log_params(params)
        passages, latency_ms = [], []
        for question in questions:
            started = time.perf_counter()
            passages.append(retrieve(question.question)[:top_k])
            latency_ms.append(1_000 * (time.perf_counter() - started))
        scores = score_passages(questions, passages, latency_ms, top_k)
        mlflow.log_metrics(scores.metrics())
    return scores, active.info.run_id


def measure_grid(job: "Job") -> dict[Cell, Result]:
    """Every cell on the same questions. Where a size cuts nothing further, the chunks and the scores are the same."""
    results: dict[Cell, Result] = {}
    for cell in track(job.grid, "cells"):
        chunks = cut(job.texts, cell.chunk_tokens, cell.overlap_tokens)
        index = VectorIndex([chunk.text for chunk in chunks], job.models[cell.embed_type])

        def retrieve(question: str, chunks: list[Chunk] = chunks, index: VectorIndex = index) -> list[Chunk]:
            return [chunks[position] for position in index.rank([question], CANDIDATES + job.top_k)[0]]

        before = (r.name for c, r in results.items() if c.embed_type == cell.embed_type and r.chunks == chunks)
        same_as = next(before, None)
        params = cell.params("vectors", job.top_k, len(chunks), same_as or "")
        scores, run_id = measure(cell.name, retrieve, job.questions, job.top_k, params)
        results[cell] = Result(cell.name, scores, run_id, retrieve, chunks, same_as)
    return results


def best_cell(parent_run_id: str, results: dict[Cell, Result]) -> Cell:
    """As the store ranks them: the highest nDCG@k first, of equals the one whose passages cost fewer tokens."""
    best = mlflow.search_runs(
        filter_string=f"tags.`mlflow.parentRunId` = '{parent_run_id}' AND params.same_as = ''",
        order_by=["metrics.ndcg_at_k DESC", "metrics.passage_tokens ASC"],
        max_results=1,
        output_format="list",
    )[0]
    return next(cell for cell, result in results.items() if result.run_id == best.info.run_id)


def rerank(chat: Chat, prompt_uri: str, question: str, candidates: list[Chunk], failed: list[str]) -> list[Chunk]:
    """The candidate that the model quotes from goes first; where it quotes from none, all stay where they are."""
    with mlflow.start_span("rerank", span_type=SpanType.RERANKER) as span:
        span.set_inputs({"question": question, "documents": [chunk.document for chunk in candidates]})
        prompt = mlflow.genai.load_prompt(prompt_uri)
        quoted = chat.try_complete(str(prompt.format(passages=join(candidates), question=question)), failed)
        if quoted is None or is_declined(quoted.text) or not candidates:
            return candidates
        shares = [quote_share(quoted.text, chunk.text) for chunk in candidates]
        best = shares.index(max(shares)) if max(shares) > LEAST_QUOTED else 0
        order = [candidates[best], *candidates[:best], *candidates[best + 1 :]]
        span.set_outputs({"quoted": quoted.text, "moved_up": best, "documents": [chunk.document for chunk in order]})
    return order


def join(chunks: Sequence[Chunk]) -> str:
    return "\n\n".join(chunk.text for chunk in chunks)


def measure_searches(
    chat: Chat, winner: Result, cell: Cell, job: "Job", rerank_uri: str, failed: list[str]
) -> list[Result]:
    """On the winner's chunks: by vectors (its own result), by words, both joined, and both with the reranker."""
    chunks, words = winner.chunks, WordIndex([chunk.text for chunk in winner.chunks])

    def by_words(question: str) -> list[Chunk]:
        return [chunks[position] for position in words.rank([question], CANDIDATES)[0]]

    def joined(question: str) -> list[Chunk]:
        return reciprocal_rank_fusion([winner.retrieve(question), by_words(question)])[:CANDIDATES]

    def reranked(question: str) -> list[Chunk]:
        return rerank(chat, rerank_uri, question, joined(question), failed)

    results = [Result("vectors", winner.scores, winner.run_id, winner.retrieve, chunks)]
    for name, retrieve in (("words", by_words), ("both", joined), ("both, reranked", reranked)):
        with mlflow.start_span("score-search", span_type=SpanType.EVALUATOR) as span:
            span.set_inputs({"search": name, "questions": len(job.questions)})
            params = cell.params(name, job.top_k, len(chunks))
            scores, run_id = measure(f"{cell.name} {name}", retrieve, job.questions, job.top_k, params)
            span.set_outputs(scores.metrics())
        results.append(Result(name, scores, run_id, retrieve, chunks))
    return results


def ask(
    chat: Chat, prompt_uri: str, way: Result, question: Question, top_k: int, failed: list[str]
) -> dict[str, float] | None:
    """One question, one trace: what its answer costs in tokens and milliseconds, and whether it is right."""
    started = time.perf_counter()
    with mlflow.start_span("tuned-question", span_type=SpanType.CHAIN, attributes={"way": way.name}) as span:
        span.set_inputs({"question": question.question})
        prompt = mlflow.genai.load_prompt(prompt_uri)
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as retriever:
            retriever.set_inputs({"question": question.question})
            passages = way.retrieve(question.question)[:top_k]
            retriever.set_outputs([Document(chunk.text, metadata={"doc_uri": chunk.document}) for chunk in passages])
        reply = chat.try_complete(str(prompt.format(passages=join(passages), question=question.question)), failed)
        if reply is None:
            span.set_status(SpanStatusCode.ERROR)
            return None
        span.set_outputs({"answer": reply.text, "sources": [chunk.document for chunk in passages]})
    tokens = (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
    cost = {"tokens_per_answer": tokens, "answer_ms": 1_000 * (time.perf_counter() - started)}
    if not question.expected_answer:
        return cost
    right = expected_in_answer(reply.text, question.expected_answer) and not is_declined(reply.text)
    return {**cost, "answer_right": float(right)}


def ask_each_way(
    chat: Chat, prompt_uri: str, ways: list[Result], job: "Job", failed: list[str]
) -> list[dict[str, Any]]:
    """The same questions each way; tokens and latency go to the run in which the way was scored."""
    rows = []
    for way in track(ways, "asking"):
        answers = [ask(chat, prompt_uri, way, question, job.top_k, failed) for question in job.asked]
        known = [answer for answer in answers if answer]
        if not known:
            raise JobFailed(f"all {len(answers)} questions failed, the first with: {failed[0]}", JobFailed.CURE)
        means = {name: mean([answer[name] for answer in known]) for name in known[0]}
        mlflow.log_metrics(means, run_id=way.run_id)
        rows.append({"way": way.name, "asked": len(answers), "answered": len(known), **means})
    return rows


@dataclass(frozen=True)
class Job:
    texts: dict[str, str]
    questions: list[Question]  # whose gold document is known: retrieval is scored on them
    asked: list[Question]  # those that the model answers, each way
    grid: list[Cell]
    models: dict[str, "BaseEmbedding"]
    top_k: int


def run(chat: Chat, job: Job) -> Outcome:
    steps, failed = Steps(5), list[str]()
    mlflow.openai.autolog()
    answer_uri = use_alias("tuned-answer", "production", ANSWER, needs=("passages", "question"))
    rerank_uri = use_alias("rerank-by-quote", "production", RERANK, needs=("passages", "question"))
    with mlflow.start_run(run_name="tune-chunking") as active:
        # 1. The same questions for every cell
        frame = pd.DataFrame([asdict(question) for question in job.questions])
        mlflow.log_input(mlflow.data.from_pandas(frame, name="rag-questions"), context="evaluation")
        mlflow.log_params({"questions": len(job.questions), "documents": len(job.texts), "top_k": job.top_k})
        steps(f"{len(job.texts)} documents, {len(job.questions)} questions whose document is known")

        # 2. Every cell in a run of its own
        cells = measure_grid(job)
        winner = best_cell(active.info.run_id, cells)
        rivals = {cell: result for cell, result in cells.items() if cell != winner and not result.same_as}
        verdicts = dict(zip(rivals, compare(cells[winner].scores, [r.scores for r in rivals.values()]), strict=True))
        steps(f"{len(job.grid)} cells, {len(rivals) + 1} of them with chunks of their own")
        show_table([cell_row(cell, result, verdicts.get(cell)) for cell, result in cells.items()])

        # 3. The winner, and which cells may be as good
        low, high = cells[winner].scores.interval
        equals = sum(not verdict.is_worse for verdict in verdicts.values())
        best = mean(cells[winner].scores.gains)
        steps(f"Best: {winner.name}, nDCG@{job.top_k} {best:.3f} ({low:.3f} to {high:.3f}); "
              f"{equals} of the {len(rivals)} others may be as good")  # fmt: skip
        for embed_type in job.models:
            mlflow.log_figure(heat_map_of(cells, embed_type), f"heat_map_{embed_type}.png")

        # 4. Other searches over the winner's chunks, the same questions
        searches = measure_searches(chat, cells[winner], winner, job, rerank_uri, failed)
        against = compare(searches[0].scores, [search.scores for search in searches[1:]])
        steps(f"Searches over the chunks of {winner.name}; nDCG@{job.top_k} against vectors alone")
        show_table([search_row(s, c) for s, c in zip(searches, [None, *against], strict=True)])

        # 5. What an answer costs
        ends = sorted((r for r in cells.values() if not r.same_as), key=lambda r: r.scores.metrics()["passage_tokens"])
        ways = list({way.run_id: way for way in (ends[0], cells[winner], ends[-1], *searches[1:])}.values())
        costs = ask_each_way(chat, answer_uri, ways, job, failed)
        steps(f"Asked {len(job.asked)} of the questions in {len(ways)} ways; {len(failed)} calls failed")
        show_table(costs)
        metrics = {"best_ndcg_at_k": best, "low": low, "high": high, "may_be_as_good": equals, "cells": len(job.grid)}
        metrics |= {"cells_with_own_chunks": len(rivals) + 1, "failed_calls": len(failed)}
        mlflow.log_metrics(metrics)
        mlflow.set_tags({f"best_{name}": value for name, value in asdict(winner).items()})
    mlflow.flush_trace_async_logging()
    trace = mlflow.search_traces(filter_string="trace.name = 'tuned-question'", max_results=1, return_type="list")[0]
    return Outcome(active.info.run_id, trace.info.trace_id, metrics)


@lesson("5.3", llm="mock")
@click.option("--chunk-size", "sizes", multiple=True, type=click.IntRange(min=16), default=SIZES, show_default=True,
              help="Tokens, at most; may be repeated.")  # fmt: skip
@click.option("--chunk-overlap", "overlaps", multiple=True, type=click.IntRange(min=0), default=OVERLAPS,
              show_default=True, help="Tokens; may be repeated.")  # fmt: skip
@click.option("--embed-type", "embed_types", multiple=True, type=click.Choice(EMBED_TYPES),
              help="May be repeated; default: lexical with mock, fastembed with a real backend.")  # fmt: skip
@click.option("--embed-model", help="Model name, or the folder of a downloaded model (fastembed).")
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Chunks in the prompt.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--library", metavar="PACKAGE", help="Long pages instead: those of an installed package, as in 5.4.")
@click.option("--num-questions", type=click.IntRange(min=LEAST_QUESTIONS), help="Score fewer of them; default: all.")
@click.option("--num-asked", type=click.IntRange(min=1), default=10, show_default=True, help="Answered each way.")
def main(
    sizes: tuple[int, ...], overlaps: tuple[int, ...], embed_types: tuple[str, ...], embed_model: str | None,
    top_k: int, docs_path: Path, questions: Path | None, library: str | None, num_questions: int | None, num_asked: int,
    backend: BackendOptions,
) -> None:  # fmt: skip
    kinds = tuple(dict.fromkeys(embed_types)) or (default_embed_type(backend.llm_type),)
    grid = make_grid(kinds, sizes, overlaps)
    texts, known = make_pages(library) if library else read_known(docs_path, questions, LEAST_QUESTIONS, click.echo)
    scored = spread(known, num_questions or len(known), seed=7)
    with open_backend(backend) as llm, Chat(llm) as chat:
        models = {
            kind: open_embedding(kind, None if kind == "lexical" else embed_model, base_url=llm.settings.base_url,
                                 api_key=llm.settings.api_key, ollama_url=backend.ollama_url)
            for kind in kinds
        }  # fmt: skip
        outcome = run(chat, Job(texts, scored, scored[:num_asked], grid, models, top_k))
    show("5.3", outcome.metrics, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
