"""5.4 Ask the documentation of the packages that are installed here.

New here: a question made from a document finds it by its own words; only where these are masked does the score mean
something.
Run it:   uv run mlflow-library-documents
          uv run mlflow-library-documents --query "How do I set an alias?" --query "How do I flush traces?"
          uv run mlflow-library-documents --package click --package rich --query "How do I print a table?"
          uv run mlflow-library-documents --all
Look at:  uv run mlflow ui  ->  5-rag  ->  Traces  ->  library-question, and the passages in its retriever span
Change:   --package pandas --num-documents 2000; does the masked score rise or fall with more documents, and why?
Docs:     https://mlflow.org/docs/latest/genai/tracing/
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import pandas as pd
from mlflow.entities import Document, SpanType

from utils.chunking import Chunk, cut
from utils.cli import Steps, lesson, show, show_table, track, waiting
from utils.embeddings import default_embed_type, open_embedding
from utils.errors import InputError
from utils.evaluation import bootstrap_interval, hit_at_k, mrr, ndcg_at_k
from utils.known_items import make_questions, mask
from utils.library_corpus import CORE, PACKAGES, Library, LibraryDocument, choose_documents, read_library, write_parquet
from utils.llm_backends import Backend, open_backend
from utils.llm_calls import complete
from utils.mlflow_setup import STATE_DIR
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions, EmbedOptions
from utils.prompt_utils import use_alias
from utils.questions import OWN, Question
from utils.rag_scores import Answer, require_answers
from utils.search import DEPTH, HybridIndex, reciprocal_rank_fusion

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

PROMPT = "library-answer"
TEMPLATE = """Passages from the documentation of installed packages are below.
---------------------
{{passages}}
---------------------
Answer the question from the passages only, in one or two sentences, and name the function or class to use.
If the passages do not hold the answer, say: I do not know.

Question: {{question}}
Answer:"""
ASKED = (
    "How do I register a prompt?",
    "How do I set an alias on a registered model?",
    "Which splitter keeps sentences together?",
)
CHUNK_TOKENS, OVERLAP_TOKENS = 512, 0  # most docstrings are one chunk
LEAST_QUESTIONS = 10  # below that an interval is as wide as the scale
ALL = 10**9
Known = Mapping[str, LibraryDocument]  # by id


@dataclass(frozen=True)
class Outcome:
    run_id: str
    documents: list[LibraryDocument]
    left_out: dict[str, str]
    answers: list[Answer]
    metrics: dict[str, float]


class Searchable:
    """Texts by document id, cut into chunks and indexed; what is found are documents."""

    def __init__(self, texts: Mapping[str, str], embedding: "BaseEmbedding") -> None:
        self.chunks: list[Chunk] = cut(texts, CHUNK_TOKENS, OVERLAP_TOKENS)
        self.index = HybridIndex([chunk.text for chunk in self.chunks], embedding)

    def documents(self, rankings: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self.chunks[position].document for position in ranking] for ranking in rankings]


def read_corpus(packages: Sequence[str], number: int) -> tuple[Library, list[LibraryDocument]]:
    library = read_library(packages)
    documents = choose_documents(library.documents, number)
    for package, reason in library.left_out.items():
        click.echo(f"      left out {package}: {reason}")
    for file, reason in list(library.unreadable.items())[:5]:
        click.echo(f"      left out {file}: {reason}")
    return library, documents


def require_questions(questions: list[Question], documents: list[LibraryDocument]) -> None:
    if len(questions) < LEAST_QUESTIONS:
        problem = f"only {len(questions)} of {len(documents)} documents have a summary that asks for them alone"
        raise InputError(problem, "--num-documents with a larger number, or another --package")


def log_corpus(documents: list[LibraryDocument], library: Library, folder: Path) -> dict[str, float]:
    """The corpus as a file, and as a dataset of the run whose digest changes with any document."""
    write_parquet(documents, folder / "documents.parquet")
    columns = ["id", "package", "version", "kind", "content_hash"]
    frame = pd.DataFrame([document.row() for document in documents])[columns]
    mlflow.log_input(mlflow.data.from_pandas(frame, name="library-documents"), context="corpus")
    versions = {document.package: document.version for document in documents}
    mlflow.log_params({f"version_{package}": version for package, version in versions.items()})
    return {
        "documents": len(documents), "packages": len(versions), "packages_left_out": len(library.left_out),
        "files_left_out": len(library.unreadable),
    }  # fmt: skip


def score_index(name: str, searchable: Searchable, questions: list[Question], k: int) -> list[dict[str, Any]]:
    """One nested run for one index: both searches and their fusion, on the same questions."""
    asked, gold = [q.question for q in questions], [str(q.gold_document) for q in questions]
    vectors = searchable.index.vectors.rank(asked, DEPTH)
    words = searchable.index.words.rank(asked, DEPTH)
    both = [reciprocal_rank_fusion(pair) for pair in zip(vectors, words, strict=True)]
    rows = []
    with mlflow.start_run(run_name=f"known-items-{name}", nested=True):
        mlflow.log_params({"index": name, "k": k, "questions": len(questions)})
        for search, rankings in (("vectors", vectors), ("words", words), ("both", both)):
            found = searchable.documents(rankings)
            hits = [hit_at_k(ids, wanted, k) for ids, wanted in zip(found, gold, strict=True)]
            gains = [ndcg_at_k(ids, wanted, k) for ids, wanted in zip(found, gold, strict=True)]
            low, high = bootstrap_interval(hits)
            scores = {
                "hit_at_k": sum(hits) / len(hits), "low": low, "high": high,
                "mrr": mrr(found, gold), "ndcg_at_k": sum(gains) / len(gains),
            }  # fmt: skip
            mlflow.log_metrics({f"{search}_{metric}": value for metric, value in scores.items()})
            rows.append({"index": name, "search": search, **scores})
    return rows


@mlflow.trace(name="search-library", span_type=SpanType.RETRIEVER)
def retrieve(question: str, top_k: int, searchable: Searchable, known: Known) -> list[Document]:
    """The best chunks, each with the package and version it documents."""
    mlflow.get_current_active_span().set_inputs({"question": question, "top_k": top_k})  # not the whole index
    found = []
    for position in searchable.index.rank([question], top_k)[0]:
        chunk = searchable.chunks[position]
        document = known[chunk.document]
        names = {"doc_uri": document.id, "name": document.qualified_name, "kind": document.kind}
        metadata = {**names, "package": document.package, "version": document.version}
        found.append(Document(page_content=chunk.text, metadata=metadata, id=document.id))
    return found


def ask(llm: Backend, prompt_uri: str, query: str, top_k: int, searchable: Searchable, known: Known) -> Answer:
    """One question, one trace: the passages with their versions, and the model's call below the same root."""
    question = Question("query", query, None, None, "", OWN)
    with mlflow.start_span("library-question", span_type=SpanType.CHAIN) as span:
        span.set_inputs({"question": query})
        prompt = mlflow.genai.load_prompt(prompt_uri)  # inside the span: links the trace to the version
        passages = retrieve(query, top_k, searchable, known)
        sources = list(dict.fromkeys(str(p.metadata["name"]) for p in passages))
        texts = "\n\n".join(f"[{p.metadata['package']} {p.metadata['version']}] {p.page_content}" for p in passages)
        try:
            text = complete(llm, str(prompt.format(passages=texts, question=query))).text
        except Exception as error:
            # A question whose call failed is reported with its reason; the others go on.
            if (reason := describe_failed_call(error)) is None:
                raise
            span.record_exception(f"the model gave no answer: {reason}")
            return Answer(question, "", sources, span.trace_id, error=reason)
        span.set_outputs({"answer": text, "sources": sources})
    return Answer(question, text, sources, span.trace_id)


@dataclass(frozen=True)
class Job:
    packages: tuple[str, ...]
    num_documents: int
    num_questions: int
    queries: tuple[str, ...]
    top_k: int
    embed_type: str
    folder: Path


def run(llm: Backend, embedding: "BaseEmbedding", job: Job) -> Outcome:
    steps, started = Steps(4), time.perf_counter()
    mlflow.openai.autolog()
    prompt_uri = use_alias(PROMPT, "production", TEMPLATE, needs=("passages", "question"))
    with mlflow.start_run(run_name="library-documents") as active:
        # 1. The corpus, read from the sources
        with waiting("Reading sources"):
            library, documents = read_corpus(job.packages, job.num_documents)
            metrics = log_corpus(documents, library, job.folder)
        mlflow.log_params({"embed_type": job.embed_type, "top_k": job.top_k, "chunk_tokens": CHUNK_TOKENS})
        steps(f"{len(documents):,} of {len(library.documents):,} documents of {int(metrics['packages'])} packages")

        # 2. The learners' index: whole
        with waiting("Indexing"):
            whole = Searchable({document.id: document.text for document in documents}, embedding)
        metrics["ready_after_s"] = time.perf_counter() - started
        steps(f"Indexed {len(whole.chunks):,} chunks by words and by {job.embed_type} vectors")

        # 3. Known items: the same questions on the whole index, and on one that does not hold their wording
        questions = make_questions(documents, job.num_questions)
        require_questions(questions, documents)
        with waiting("Measuring"):
            masked = Searchable(mask(documents, questions), embedding)
            rows = [
                *score_index("whole", whole, questions, job.top_k),
                *score_index("masked", masked, questions, job.top_k),
            ]
        steps(f"{len(questions)} questions made from documents, each with its one right document")
        show_table(rows)

        # 4. Questions of people, answered from the whole index
        known = {document.id: document for document in documents}
        answers = [ask(llm, prompt_uri, query, job.top_k, whole, known) for query in track(job.queries, "Asking")]
        require_answers(answers)
        failed = sum(answer.error is not None for answer in answers)
        steps(f"Answered {len(answers) - failed} of {len(answers)} questions from the whole index")
        metrics |= {"chunks": len(whole.chunks), "questions": len(questions), "failed_questions": failed}
        metrics |= {f"hit_at_k_{row['index']}": row["hit_at_k"] for row in rows if row["search"] == "both"}
        mlflow.log_metrics(metrics)
        mlflow.log_metrics({f"kind_{kind}": count for kind, count in Counter(d.kind for d in documents).items()})
        mlflow.log_table(pd.DataFrame(rows), "known_items.json")
    return Outcome(active.info.run_id, documents, library.left_out, answers, metrics)


def shown(answer: Answer) -> dict[str, object]:
    summary = answer.summary()
    return {"question": summary["question"], "answer": summary["answer"], "sources": "\n".join(answer.sources[:3])}


@lesson("5.4", llm="mock", embed=True)
@click.option("--package", "packages", multiple=True, metavar="NAME",
              help=f"May be repeated; default: {', '.join(CORE)}.")  # fmt: skip
@click.option("--num-documents", type=click.IntRange(min=50), default=1_000, show_default=True)
@click.option("--all", "everything", is_flag=True, help="All documents, also of the further packages of the lessons.")
@click.option(
    "--num-questions",
    type=click.IntRange(min=LEAST_QUESTIONS),
    default=200,
    show_default=True,
    help="Made from documents, at most.",
)
@click.option("--query", "queries", multiple=True, help="A question of your own; may be repeated.")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Passages, and k of hit@k.")
@click.option("--output", type=click.Path(path_type=Path), default=STATE_DIR / "library", metavar="DIR",
              show_default=".mlflow-learn/library", help="Receives documents.parquet.")  # fmt: skip
def main(
    packages: tuple[str, ...], num_documents: int, everything: bool, num_questions: int, queries: tuple[str, ...],
    top_k: int, output: Path, backend: BackendOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    embed_type = embedding.embed_type or default_embed_type(backend.llm_type)
    chosen = packages or (PACKAGES if everything else CORE)
    with open_backend(backend) as llm:
        model = open_embedding(embed_type, embedding.embed_model, base_url=llm.settings.base_url,
                               api_key=llm.settings.api_key, ollama_url=backend.ollama_url)  # fmt: skip
        job = Job(
            chosen, ALL if everything else num_documents, num_questions, queries or ASKED, top_k, embed_type, output
        )
        outcome = run(llm, model, job)
    show_table([shown(answer) for answer in outcome.answers])
    last = outcome.answers[-1].trace_id
    show("5.4", outcome.metrics, run_id=outcome.run_id, trace_id=last, trace_ids=len(outcome.answers))


if __name__ == "__main__":
    main()
