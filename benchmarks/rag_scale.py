"""How an index on disk grows: load, chunk, embed, write and query times, and memory, with more and more documents.

    uv run python benchmarks/rag_scale.py
    uv run python benchmarks/rag_scale.py --documents 1000 --documents 10000 --json figures.json

Each row is a process of its own, so that its peak of memory is its own. Spark: the functions of lesson 5.5 on
local[2] with lexical embeddings; its workers have started before the clock is; the seconds of its stages are summed
over the workers, the total is what a person waits for, and CPU is that of all its processes together. LlamaIndex: the
same files, splitter and embeddings in one process, in memory, then persisted. The documents are those of the installed
packages.
"""

import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from spark.spark_rag_at_scale import QUESTIONS, bring_up_to_date
from utils.cli import Steps, show_table
from utils.incremental_index import DocumentIndex, IndexSettings
from utils.index_figures import STAGES, figures
from utils.lexical import LEXICAL_DIMENSIONS
from utils.library_files import Sources, list_sources
from utils.memory import own_peak_mb, tree_cpu_s
from utils.spark_utils import spark_session

SETTINGS = IndexSettings(512, 50, "lexical", "lexical", LEXICAL_DIMENSIONS)
CORES = 2
WARM_DOCUMENTS = 64
ASKED_TWICE = (*QUESTIONS, *QUESTIONS)


class Silent(Steps):
    def __call__(self, text: str) -> None:
        """The table says it."""


def measure_spark(sources: Sources, folder: str) -> dict[str, Any]:
    """Build the index as lesson 5.5 does, open it, and ask."""
    from llama_index.core import VectorStoreIndex

    from utils.embedding_models import LexicalEmbedding
    from utils.lance_store import LanceStore

    embedding, index = LexicalEmbedding(), DocumentIndex.open(Path(folder) / "index", SETTINGS)
    with spark_session(f"local[{CORES}]", "benchmark") as session:
        warm = DocumentIndex.open(Path(folder) / "warm", SETTINGS)
        bring_up_to_date(session, replace(sources, files=sources.files[:WARM_DOCUMENTS]), warm, embedding, Silent(0))
        started, cpu = time.perf_counter(), tree_cpu_s() or 0
        indexed = bring_up_to_date(session, sources, index, embedding, Silent(0))
        seconds, cpu = time.perf_counter() - started, (tree_cpu_s() or 0) - cpu
    measured = figures(indexed, index)
    before = own_peak_mb() or 0
    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=embedding)
    query_ms = milliseconds_per_question(opened)
    return {
        "way": "Spark and LanceDB", "documents": measured["documents"], "chunks": measured["chunks"],
        **{f"{stage} s": measured[f"worker_seconds_{stage}"] for stage in STAGES},
        "total s": seconds, "ms/document": seconds * 1000 / len(sources.files),
        "CPU ms/document": cpu * 1000 / len(sources.files), "query ms": query_ms,
        "index MB": measured["index_mb"], "driver MB": measured["driver_peak_mb"], "Java MB": measured["jvm_peak_mb"],
        "worker MB": measured["worker_peak_mb"], "opened MB": (own_peak_mb() or 0) - before,
    }  # fmt: skip


def measure_llama_index(sources: Sources, folder: str) -> dict[str, Any]:
    """LlamaIndex alone: the whole index in memory, then persisted and, for the questions, still there."""
    from llama_index.core import SimpleDirectoryReader, VectorStoreIndex

    from utils.chunking import open_splitter
    from utils.embedding_models import LexicalEmbedding

    splitter, embedding = open_splitter(SETTINGS.chunk_tokens, SETTINGS.overlap_tokens), LexicalEmbedding()
    splitter.split_text("A first sentence. A second one.")
    clock, cpu = [time.perf_counter()], time.process_time()
    # Without this its reader puts path, size and dates into every chunk, and fewer words fit.
    reader = SimpleDirectoryReader(input_files=[file.path for file in sources.files], file_metadata=lambda _path: {})
    documents = reader.load_data()
    clock.append(time.perf_counter())
    nodes = splitter.get_nodes_from_documents(documents)
    clock.append(time.perf_counter())
    index = VectorStoreIndex(nodes, embed_model=embedding)
    clock.append(time.perf_counter())
    index.storage_context.persist(folder)
    clock.append(time.perf_counter())
    cpu = time.process_time() - cpu
    spent = [after - before for before, after in pairwise(clock)]
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    return {
        "way": "LlamaIndex alone", "documents": len(documents), "chunks": len(nodes),
        **{f"{stage} s": seconds for stage, seconds in zip(STAGES, spent, strict=True)},
        "total s": sum(spent), "ms/document": sum(spent) * 1000 / len(documents),
        "CPU ms/document": cpu * 1000 / len(documents), "query ms": milliseconds_per_question(index),
        "index MB": size, "driver MB": own_peak_mb(), "Java MB": None, "worker MB": None, "opened MB": None,
    }  # fmt: skip


def milliseconds_per_question(index: Any) -> float:
    """Median over the lesson's questions, each asked twice; the first one, which loads libraries, is not counted."""
    retriever, taken = index.as_retriever(similarity_top_k=3), []
    for question in ASKED_TWICE:
        started = time.perf_counter()
        assert len(retriever.retrieve(question)) == 3
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken[1:])


WAYS = (measure_spark, measure_llama_index)


def measure(sources: Sources, repeat: int) -> Iterator[dict[str, Any]]:
    """One row for each way: of its repetitions the one with the median total."""
    for way in WAYS:
        tries = []
        for _ in range(repeat):
            folder = tempfile.mkdtemp(prefix="rag-scale-")
            try:
                # Spawned, not forked: nothing of this process counts as the other's memory.
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    tries.append(pool.apply(way, (sources, folder)))
            finally:
                shutil.rmtree(folder)
        yield sorted(tries, key=lambda row: float(row["total s"]))[len(tries) // 2]


@click.command()
@click.option("--documents", type=click.IntRange(min=100), multiple=True, default=(1_000, 3_000, 10_000),
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here, too.")
def main(documents: tuple[int, ...], repeat: int, json_path: Path | None) -> None:
    list_sources(None, max(documents))  # written once, so that no row pays for it
    rows = []
    for number in sorted(documents):
        for row in measure(list_sources(None, number), repeat):
            click.echo(f"{row['way']}: {row['documents']:,} documents in {row['total s']:.1f} s")
            rows.append(row)
    columns = {"time": ["total s", *[f"{stage} s" for stage in STAGES], "ms/document", "CPU ms/document", "query ms"],
               "memory": ["index MB", "driver MB", "Java MB", "worker MB", "opened MB"]}  # fmt: skip
    for title, names in columns.items():
        kept = ["documents", "way", *(["chunks"] if title == "time" else []), *names]
        show_table([{name: row[name] for name in kept} for row in rows], title=f"{title}, {os.cpu_count()} cores")
    spark = [row for row in rows if row["way"] == "Spark and LanceDB"]
    growth = {name: spark[-1][name] / spark[0][name] for name in ("ms/document", "CPU ms/document")}
    for name, ratio in growth.items():
        click.echo(f"{name} at {spark[-1]['documents']:,} over that at {spark[0]['documents']:,}: {ratio:.2f}")
    driver = spark[-1]["driver MB"] + spark[-1]["Java MB"]
    click.echo(f"Driver with its Java at {spark[-1]['documents']:,} documents: {driver / 1024:.2f} GiB at most")
    if json_path:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "lancedb": version("lancedb")}
        json_path.write_text(json.dumps({"machine": machine, "growth": growth, "figures": rows}, indent=1))


if __name__ == "__main__":
    main()
