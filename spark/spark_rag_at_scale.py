"""5.5 RAG at scale: Spark workers write an index on disk, and only what changed is indexed again.

New here: the index says which content it was made from. A second run, or one after a crash, compares and does the rest.
Run it:   uv run mlflow-spark-rag-at-scale
          uv run mlflow-spark-rag-at-scale --num-documents 10000
          uv run mlflow-spark-rag-at-scale --query "How do I flush traces before a process ends?"
          uv run mlflow-spark-rag-at-scale --docs-path my_documents --query "What does the contract say about notice?"
          uv run mlflow-spark-rag-at-scale --resume
Look at:  uv run mlflow ui  ->  5-rag  ->  Traces  ->  scale-question, and its retriever span
Change:   run it again with --num-documents 1200; how many documents are embedded?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/llama_index/
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType

from utils.chunking import open_splitter
from utils.cli import Steps, lesson, show, show_table, track, waiting
from utils.document_files import UnreadableDocument, cut_sections, hash_partition, left_out_lines, read_with_hash
from utils.embeddings import default_embed_type, open_embedding
from utils.errors import InputError, JobFailed
from utils.incremental_index import Content, DocumentIndex, IndexSettings, compare, default_folder
from utils.index_figures import INDEXED, Indexed, figures, indexed_rows, memory, no_rows, reasons
from utils.library_files import Sources, list_sources
from utils.llm_backends import Backend, open_backend
from utils.model_servers import BadReply, describe_failed_call
from utils.options import BackendOptions, EmbedOptions, SparkOptions
from utils.prompt_utils import to_single_braces, use_alias
from utils.questions import OWN, Question
from utils.rag_scores import Answer, require_answers
from utils.search import embed_texts
from utils.spark_utils import check_master, spark_session, worker_errors

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.query_engine import BaseQueryEngine
    from pyspark.sql import SparkSession

PROMPT = "rag-answer"  # that of lesson 5.2
TEMPLATE = """Context information is below.
---------------------
{{context_str}}
---------------------
Answer the question from the context information only, in one or two sentences.
If the context information does not hold the answer, say: I do not know.

Question: {{query_str}}
Answer:"""
QUESTIONS = (
    "How do I register a prompt?",
    "How do I log a metric to a run?",
    "Which class splits text into sentences?",
    "How do I flush traces before a process ends?",
    "How do I read a Parquet file into a DataFrame?",
)
PARTITION_DOCUMENTS = 256  # one commit each, and what is lost at most when its worker is killed
COMMIT_CHUNKS = 10_000  # with large files a partition is committed in several parts: vectors are held in memory
RESUME = "the same command with --resume   (what is indexed stays)"


@dataclass(frozen=True)
class Outcome:
    run_id: str
    answers: list[Answer]
    metrics: dict[str, float]


def index_partition(
    index: DocumentIndex, embedding: "BaseEmbedding", batches: Iterator[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    """Runs in a Spark worker: read, cut, embed, and commit to the table. Neither text nor vector passes the driver."""
    splitter = open_splitter(index.settings.chunk_tokens, index.settings.overlap_tokens)
    pending: list[Content] = []
    for batch in batches:
        for name, path in zip(batch["name"], batch["path"], strict=True):
            pending.append(read_and_cut(splitter, name, path))
            if sum(len(content.texts) for content in pending) >= COMMIT_CHUNKS:
                yield embed_and_commit(index, embedding, pending)
                pending = []
    if pending:
        yield embed_and_commit(index, embedding, pending)


def read_and_cut(splitter: "SentenceSplitter", name: str, path: str) -> Content:
    started = time.perf_counter()
    try:
        content_hash, text = read_with_hash(path)
    except UnreadableDocument as reason:
        return Content(name, "", [], error=str(reason), load_s=time.perf_counter() - started)
    loaded = time.perf_counter()
    texts = [chunk for section in cut_sections(text) for chunk in splitter.split_text(section)]
    return Content(name, content_hash, texts, load_s=loaded - started, chunk_s=time.perf_counter() - loaded)


def embed_and_commit(index: DocumentIndex, embedding: "BaseEmbedding", contents: list[Content]) -> pd.DataFrame:
    """One transaction: these documents with the chunks they have now. What cannot be read any more leaves the index."""
    started = time.perf_counter()
    texts = [text for content in contents for text in content.texts]
    try:
        vectors = embed_texts(texts, embedding) if texts else None
    except Exception as error:
        if (reason := describe_failed_call(error)) is None:
            raise
        return indexed_rows(contents, reason, time.perf_counter() - started, 0)
    embedded = time.perf_counter()
    index.replace(contents, vectors)
    return indexed_rows(contents, None, embedded - started, time.perf_counter() - embedded)


def bring_up_to_date(
    session: "SparkSession", sources: Sources, index: DocumentIndex, embedding: "BaseEmbedding", steps: Steps
) -> Indexed:
    """Compare what there is with what the index was made from, and do the difference."""
    started = time.perf_counter()
    paths = {file.name: file.path for file in sources.files}
    frame = session.createDataFrame(list(paths.items()), "name string, path string")
    hashed: pd.DataFrame = frame.mapInPandas(
        hash_partition, "name string, content_hash string, error string"
    ).toPandas()
    found = dict(hashed.loc[hashed["error"].isna(), ["name", "content_hash"]].itertuples(index=False))
    changes = compare(found, index.hashes())
    steps(
        f"{len(changes.new):,} new, {len(changes.changed):,} changed, {len(changes.removed):,} gone, "
        f"{len(changes.unchanged):,} unchanged"
    )

    scanned = time.perf_counter()
    index.begin()
    index.remove(changes.removed)
    rows = index_documents(session, [(name, paths[name]) for name in changes.to_embed], index, embedding)
    if not (lost := rows[rows["failed"].notna()]).empty:
        raise JobFailed(f"{len(lost):,} documents could not be embedded: {lost['failed'].iloc[0]}", RESUME)
    index.end()
    seconds = {"seconds_scan": scanned - started, "seconds_index": time.perf_counter() - scanned}
    left_out = sources.left_out | reasons(rows, "document") | reasons(hashed, "name")
    return Indexed(found, changes, rows, left_out, seconds | memory(session, rows))


def index_documents(
    session: "SparkSession", todo: list[tuple[str, str]], index: DocumentIndex, embedding: "BaseEmbedding"
) -> pd.DataFrame:
    """One row for each document (name, path): what it took, never its text or vectors."""
    if not todo:
        return no_rows()
    at_once = min(session.sparkContext.defaultParallelism, len(todo))
    partitions = max(at_once, math.ceil(len(todo) / PARTITION_DOCUMENTS))
    spread = session.createDataFrame(todo, "name string, path string").repartition(partitions)
    with waiting(f"Indexing {len(todo):,} documents"):
        return spread.mapInPandas(partial(index_partition, index, embedding), INDEXED).toPandas()


def build_engine(
    index: DocumentIndex, embedding: "BaseEmbedding", llm: Backend, template: str, top_k: int
) -> "BaseQueryEngine":
    """The same engine as in 5.2; only its vectors stay on disk."""
    from llama_index.core import PromptTemplate, VectorStoreIndex
    from llama_index.core.response_synthesizers import ResponseMode

    from utils.lance_store import LanceStore

    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=embedding)
    return opened.as_query_engine(
        llm=llm.llama_index(),
        similarity_top_k=top_k,
        response_mode=ResponseMode.COMPACT,
        text_qa_template=PromptTemplate(to_single_braces(template, escape=False)),
    )


def ask(engine: "BaseQueryEngine", prompt_uri: str, question: str) -> Answer:
    """One question, one trace: autolog hangs the retriever, its passages with scores, and the LLM below the root."""
    asked = Question("query", question, None, None, "", OWN)
    with mlflow.start_span("scale-question", span_type=SpanType.CHAIN) as span:
        span.set_inputs({"question": question})
        mlflow.genai.load_prompt(prompt_uri)  # inside a span: the trace is linked to the version in use
        try:
            response = engine.query(question)
            if not response.source_nodes or not str(response).strip():
                raise BadReply("the reply holds no text")
        except Exception as error:
            if (reason := describe_failed_call(error)) is None:
                raise
            span.record_exception(f"the model gave no answer: {reason}")
            return Answer(asked, "", [], span.trace_id, error=reason)
        sources = list(dict.fromkeys(node.metadata["document"] for node in response.source_nodes))
        span.set_outputs({"answer": str(response), "sources": sources})
    return Answer(asked, str(response), sources, span.trace_id)


@dataclass(frozen=True)
class Job:
    """sources: the documents. index: where it is and how it is made. queries: what is asked of it."""

    sources: Sources
    index: DocumentIndex
    embedding: "BaseEmbedding"
    queries: tuple[str, ...]
    top_k: int


def ask_all(llm: Backend, job: Job, prompt_uri: str) -> list[Answer]:
    mlflow.llama_index.autolog(silent=True)
    engine = build_engine(job.index, job.embedding, llm, mlflow.genai.load_prompt(prompt_uri).template, job.top_k)
    answers = [ask(engine, prompt_uri, query) for query in track(job.queries, "Asking")]
    require_answers(answers)
    return answers


def run(llm: Backend, job: Job, spark: SparkOptions) -> Outcome:
    steps = Steps(4)
    index, before = job.index, job.index.hashes()
    if index.is_unfinished:
        click.echo(f"      An interrupted job left {len(before):,} documents in the index; they are not embedded again")
    prompt_uri = use_alias(PROMPT, "production", TEMPLATE, needs=("context_str", "query_str"))
    with mlflow.start_run(run_name="rag-at-scale") as active:
        mlflow.log_params({**asdict(index.settings), "top_k": job.top_k, "spark_master": spark.spark_master})

        # 1. and 2. What changed, and only that: read, cut, embedded and written by the workers
        with spark_session(spark.spark_master, "rag-at-scale") as session, worker_errors(RESUME):
            indexed = bring_up_to_date(session, job.sources, index, job.embedding, steps)
        for line in left_out_lines(indexed.left_out):
            click.echo(f"      {line}")

        # 3. Read back: each document once, none lost
        metrics = figures(indexed, index)
        steps(f"Embedded {metrics['embedded_documents']:,} documents in {metrics['seconds_index']:.1f} s")
        steps(f"The index holds {metrics['documents']:,} documents as {metrics['chunks']:,} chunks, read back")
        corpus = pd.DataFrame(sorted(indexed.found.items()), columns=["document", "content_hash"])
        mlflow.log_input(mlflow.data.from_pandas(corpus, name="indexed-documents"), context="index")
        mlflow.log_metrics(metrics)

        # 4. Questions, each one traced; the rows that answer them are read from disk
        answers = ask_all(llm, job, prompt_uri)
        steps(f"Answered {len(answers)} questions from the table on disk")
        if answers:
            mlflow.log_table(pd.DataFrame([answer.row() for answer in answers]), "answers.json")
    return Outcome(active.info.run_id, answers, metrics | {"questions_asked": len(answers)})


@lesson("5.5", llm="mock", spark=True, embed=True)
@click.option("--num-documents", type=click.IntRange(min=1), default=1_000, show_default=True,
              help="How many documents of the installed packages; 10000 and more at scale.")  # fmt: skip
@click.option("--docs-path", type=click.Path(path_type=Path), show_default="documentation of the installed packages",
              help="Your own folder of txt, md, rst, html and pdf files instead.")  # fmt: skip
@click.option("--query", "queries", multiple=True, help="A question of your own; may be repeated.")
@click.option("--chunk-size", type=click.IntRange(min=16), default=512, show_default=True, help="Tokens, at most.")
@click.option("--chunk-overlap", type=click.IntRange(min=0), default=50, show_default=True, help="Tokens.")
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Chunks in the prompt.")
@click.option("--index-dir", type=click.Path(path_type=Path), metavar="DIR",
              show_default="below .mlflow-learn/indexes", help="Folder of the index.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted job; refused when its settings differ.")
@click.option("--rebuild", is_flag=True, help="Throw the index away and build it again.")
def main(
    num_documents: int, docs_path: Path | None, queries: tuple[str, ...], chunk_size: int, chunk_overlap: int,
    top_k: int, index_dir: Path | None, resume: bool, rebuild: bool,
    backend: BackendOptions, spark: SparkOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if resume and rebuild:
        raise InputError("--resume keeps what is indexed, and --rebuild throws it away", "one of the two")
    check_master(spark.spark_master)
    embed_type = embedding.embed_type or default_embed_type(backend.llm_type)
    with open_backend(backend) as llm:
        model = open_embedding(embed_type, embedding.embed_model, base_url=llm.settings.base_url,
                               api_key=llm.settings.api_key, ollama_url=backend.ollama_url)  # fmt: skip
        dimensions = len(model.get_text_embedding("How many numbers are a vector?"))
        settings = IndexSettings(chunk_size, chunk_overlap, embed_type, model.model_name, dimensions)
        with waiting("Reading the documentation of the installed packages"):
            sources = list_sources(docs_path, num_documents)
        click.echo(f"      {sources.described}")
        folder = index_dir or default_folder(sources.folder, settings, resume=resume)
        index = DocumentIndex.open(folder, settings, resume=resume, rebuild=rebuild)
        asked = queries or (QUESTIONS if docs_path is None else ())
        outcome = run(llm, Job(sources, index, model, asked, top_k), spark)
    report(outcome, folder)


def report(outcome: Outcome, folder: Path) -> None:
    shown = [answer.summary() | {"sources": "\n".join(answer.sources)} for answer in outcome.answers]
    show_table([{name: row[name] for name in ("question", "answer", "sources")} for row in shown])
    click.echo(f"Index:   {folder}")
    last = outcome.answers[-1].trace_id if outcome.answers else None
    show("5.5", outcome.metrics, run_id=outcome.run_id, trace_id=last, trace_ids=len(outcome.answers))


if __name__ == "__main__":
    main()
