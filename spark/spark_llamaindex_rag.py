"""5.2 RAG with Spark and LlamaIndex: answers with sources, judged against gold documents.

New here: retrieval and answer are scored apart, so that a wrong answer says where it went wrong.
Run it:   uv run mlflow-spark-llamaindex-rag --create-sample-docs
          uv run mlflow-spark-llamaindex-rag --query "How do I undo an alias move?"
          uv run mlflow-spark-llamaindex-rag --chunk-size 128 --chunk-overlap 20
          uv run mlflow-spark-llamaindex-rag --llm-type ollama --ollama-model llama3.2 --docs-path ./documents
          uv run mlflow-spark-llamaindex-rag --docs-path my_documents --questions my_questions.csv
Look at:  uv run mlflow ui  ->  5-rag  ->  Traces  ->  rag-question, and its retriever span
Change:   --top-k 1; which falls further, hit@k or the answers?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/llama_index/
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType

from utils.cli import Steps, lesson, show, show_table, track
from utils.document_files import KINDS_CURE, Listing, cut_sections, left_out_lines, read_partition, scan_folder
from utils.embeddings import default_embed_type, open_embedding
from utils.errors import InputError
from utils.llm_backends import Backend, open_backend
from utils.model_servers import BadReply, describe_failed_call
from utils.options import BackendOptions, EmbedOptions, SparkOptions
from utils.prompt_utils import to_single_braces, use_alias
from utils.questions import Question, choose_questions
from utils.rag_scores import Answer, require_answers, score_answers, score_retrieval
from utils.sample_documents import DEFAULT_FOLDER, write_documents
from utils.spark_utils import spark_session

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.query_engine import BaseQueryEngine
    from pyspark.sql import DataFrame, SparkSession

EMPTY_RESPONSE = "Empty Response"  # what LlamaIndex says for a model that said nothing
PROMPT = "rag-answer"
TEMPLATE = """Context information is below.
---------------------
{{context_str}}
---------------------
Answer the question from the context information only, in one or two sentences.
If the context information does not hold the answer, say: I do not know.

Question: {{query_str}}
Answer:"""


@dataclass(frozen=True)
class Chunking:
    """Sizes in tokens."""

    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True)
class Corpus:
    """chunks: DataFrame[document: str, position: int, text: str]; unreadable: file name → why it is left out."""

    chunks: pd.DataFrame
    documents: int
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    answers: list[Answer]
    metrics: dict[str, float]


def tokens(text: str) -> list[int]:
    """As the splitter counts, and one thing more: it strips a chunk after it has counted, and a word that loses the
    space before it may become two tokens. The larger count keeps such a chunk within its size."""
    from llama_index.core.utils import get_tokenizer

    encode, stripped = get_tokenizer(), text.lstrip()
    return encode(text) if stripped == text else max(encode(text), encode(stripped), key=len)


def chunk_partition(chunking: Chunking, batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Runs in a Spark worker: chunks of at most `chunk_tokens`, cut between sentences where possible."""
    from llama_index.core.node_parser import SentenceSplitter

    splitter = SentenceSplitter(
        chunk_size=chunking.chunk_tokens, chunk_overlap=chunking.overlap_tokens, tokenizer=tokens
    )
    for batch in batches:
        yield pd.DataFrame(
            [
                {"document": document, "position": position, "text": chunk}
                for document, text in zip(batch["document"], batch["text"], strict=True)
                for position, chunk in enumerate(c for part in cut_sections(text) for c in splitter.split_text(part))
            ],
            columns=["document", "position", "text"],
        )


def load_and_chunk(session: "SparkSession", listing: Listing, chunking: Chunking) -> Corpus:
    listed = session.createDataFrame([(file.name, file.path) for file in listing.files], "name string, path string")
    loaded: DataFrame = listed.mapInPandas(read_partition, "document string, text string, error string").cache()
    readable = loaded.where("error is null")
    schema = "document string, position int, text string"
    chunks = readable.mapInPandas(partial(chunk_partition, chunking), schema).orderBy("document", "position").toPandas()
    unreadable = {row["document"]: row["error"] for row in loaded.where("error is not null").collect()}
    return Corpus(chunks, len(listing.files) - len(unreadable), listing.left_out | unreadable)


def build_index(chunks: pd.DataFrame, embedding: "BaseEmbedding") -> "VectorStoreIndex":
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    nodes = [
        TextNode(id_=f"{row.document}#{row.position}", text=row.text, metadata={"document": row.document})
        for row in chunks.itertuples()
    ]
    return VectorStoreIndex(nodes, embed_model=embedding)


def build_engine(index: "VectorStoreIndex", llm: Backend, template: str, top_k: int) -> "BaseQueryEngine":
    from llama_index.core import PromptTemplate
    from llama_index.core.response_synthesizers import ResponseMode

    return index.as_query_engine(
        llm=llm.llama_index(),
        similarity_top_k=top_k,
        response_mode=ResponseMode.COMPACT,  # passages that fit go into one call: one question, one LLM call
        text_qa_template=PromptTemplate(to_single_braces(template, escape=False)),
    )


def ask(engine: "BaseQueryEngine", prompt_uri: str, question: Question) -> Answer:
    """One question, one trace: autolog hangs the retriever, its passages with scores, and the LLM below the root."""
    with mlflow.start_span("rag-question", span_type=SpanType.CHAIN) as span:
        span.set_inputs({"question": question.question})
        span.set_attributes({"question.id": question.id, "question.gold_document": question.gold_document or ""})
        mlflow.genai.load_prompt(prompt_uri)  # inside a span: the trace is linked to the version in use
        try:
            response = engine.query(question.question)
            text = answer_text(response)
        except Exception as error:
            # A question whose call failed is reported with its reason; the others go on.
            if (reason := describe_failed_call(error)) is None:
                raise
            span.record_exception(f"the model gave no answer: {reason}")
            return Answer(question, "", [], span.trace_id, error=reason)
        sources = [node.metadata["document"] for node in response.source_nodes]
        span.set_outputs({"answer": text, "sources": sources})
    return Answer(question, text, sources, span.trace_id)


def answer_text(response: "RESPONSE_TYPE") -> str:
    """LlamaIndex puts words of its own where the model said nothing: those are no answer.

    Raises:
        BadReply: the model said nothing.
    """
    text = str(response).strip()
    if not text or text == EMPTY_RESPONSE:
        raise BadReply("the reply holds no text")
    return text


def ask_all(engine: "BaseQueryEngine", prompt_uri: str, questions: list[Question], concurrency: int) -> list[Answer]:
    with ThreadPoolExecutor(concurrency) as executor:
        # A copy of the context each: the lesson's tags reach the threads' traces.
        futures = [executor.submit(copy_context().run, ask, engine, prompt_uri, question) for question in questions]
        return [future.result() for future in track(futures, "Asking")]


def retrieve_all(index: "VectorStoreIndex", questions: list[Question], top_k: int) -> list[list[str]]:
    """Documents of the top_k chunks for each question; without a trace, since nothing is answered."""
    retriever = index.as_retriever(similarity_top_k=top_k)
    with mlflow.tracing.context(enabled=False):
        return [[node.metadata["document"] for node in retriever.retrieve(q.question)] for q in questions]


@dataclass(frozen=True)
class Job:
    """What is asked of which documents, and how they are cut and found."""

    listing: Listing
    questions: list[Question]  # all that can be scored
    asked: list[Question]  # those that the model answers
    chunking: Chunking
    embed_type: str
    embed_model: str | None
    top_k: int


def run(llm: Backend, embedding: "BaseEmbedding", job: Job, spark: SparkOptions) -> Outcome:
    steps = Steps(4)
    prompt_uri = use_alias(PROMPT, "production", TEMPLATE, needs=("context_str", "query_str"))
    with mlflow.start_run(run_name="rag") as active:
        prompt = mlflow.genai.load_prompt(prompt_uri)

        # 1. Load and chunk in Spark
        with spark_session(spark.spark_master, "rag") as session:
            corpus = load_and_chunk(session, job.listing, job.chunking)
        size = f"at most {job.chunking.chunk_tokens} tokens"
        steps(f"Chunked {corpus.documents} documents into {len(corpus.chunks)} chunks ({size})")
        report_unreadable(corpus)

        # 2. Index
        index = build_index(corpus.chunks, embedding)
        steps(f"Indexed with {job.embed_type} embeddings")

        # 3. Retrieval alone, on every question whose gold document is known
        retrieved = retrieve_all(index, job.questions, job.top_k)
        metrics = score_retrieval(job.questions, retrieved, job.top_k)
        steps(f"Retrieved for {len(job.questions)} questions")

        # 4. Answers, each one traced
        mlflow.llama_index.autolog(silent=True)
        engine = build_engine(index, llm, prompt.template, job.top_k)
        answers = ask_all(engine, prompt_uri, job.asked, spark.concurrency)
        require_answers(answers)
        metrics |= score_answers(answers)
        steps(f"Answered {len(answers) - int(metrics['failed_questions'])} of {len(answers)} questions")
        log_results(job, corpus, answers, metrics)
    return Outcome(active.info.run_id, answers, metrics)


def report_unreadable(corpus: Corpus) -> None:
    for line in left_out_lines(corpus.unreadable):
        click.echo(f"      {line}")
    if corpus.chunks.empty:
        raise InputError("none of the documents could be read", KINDS_CURE)


def log_results(job: Job, corpus: Corpus, answers: list[Answer], metrics: dict[str, float]) -> None:
    mlflow.log_params({
        "chunk_tokens": job.chunking.chunk_tokens, "overlap_tokens": job.chunking.overlap_tokens, "top_k": job.top_k,
        "embed_type": job.embed_type, "embed_model": job.embed_model,
    })  # fmt: skip
    mlflow.log_metrics(
        metrics | {"documents": corpus.documents, "chunks": len(corpus.chunks), "unreadable": len(corpus.unreadable)}
    )
    mlflow.log_table(pd.DataFrame([answer.row() for answer in answers]), "answers.json")


@lesson("5.2", llm="mock", spark=True, embed=True)
@click.option("--docs-path", type=click.Path(path_type=Path), default=DEFAULT_FOLDER,
              show_default="documents in the checkout", help="Folder of txt, md, rst, html and pdf files.")  # fmt: skip
@click.option("--create-sample-docs", is_flag=True, help="Write the sample documents there first; yours are kept.")
@click.option("--chunk-size", type=click.IntRange(min=16), default=512, show_default=True, help="Tokens, at most.")
@click.option("--chunk-overlap", type=click.IntRange(min=0), default=50, show_default=True, help="Tokens.")
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Chunks in the prompt.")
@click.option("--query", help="One question of your own.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV or JSONL: question, gold_document, expected_answer; default: the sample ones.")  # fmt: skip
@click.option("--num-questions", type=click.IntRange(min=1), default=20, show_default=True,
              help="How many of the questions the model answers; retrieval is scored on all of them.")  # fmt: skip
def main(
    docs_path: Path, create_sample_docs: bool, chunk_size: int, chunk_overlap: int, top_k: int, query: str | None,
    questions: Path | None, num_questions: int, backend: BackendOptions, spark: SparkOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if chunk_overlap >= chunk_size:
        raise InputError(
            f"a chunk of {chunk_size} tokens cannot overlap the next by {chunk_overlap}",
            f"--chunk-overlap {chunk_size // 10}",
        )
    if create_sample_docs:
        write_documents(docs_path)
    listing = scan_folder(docs_path)
    scored, asked = choose_questions({file.name for file in listing.files}, questions, query, num_questions)
    embed_type = embedding.embed_type or default_embed_type(backend.llm_type)
    with open_backend(backend) as llm:
        model = open_embedding(embed_type, embedding.embed_model, base_url=llm.settings.base_url,
                               api_key=llm.settings.api_key, ollama_url=backend.ollama_url)  # fmt: skip
        job = Job(
            listing,
            scored,
            asked,
            Chunking(chunk_size, chunk_overlap),
            embed_type,
            embedding.embed_model,
            top_k,
        )
        outcome = run(llm, model, job, spark)
    show_table([answer.summary() for answer in outcome.answers])
    last = outcome.answers[-1].trace_id
    show("5.2", outcome.metrics, run_id=outcome.run_id, trace_id=last, trace_ids=len(outcome.answers))


if __name__ == "__main__":
    main()
