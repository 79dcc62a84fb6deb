"""Lesson 5.5: an index written by Spark's workers, brought up to date, killed and resumed; read back from MLflow."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run, SpanType

from spark.spark_rag_at_scale import QUESTIONS, embed_and_commit, main
from tests.conftest import SHARED, Left
from tests.spark.every_kind import FAULTS, GOOD_NAMES, write_every_kind
from tests.spark.evidence import RAG, answers_of, flags, llm_spans, of_type, only_run, root_of, runs, traces
from utils import incremental_index, library_files
from utils.errors import JobFailed
from utils.incremental_index import Content, DocumentIndex, IndexSettings
from utils.lexical import LEXICAL_DIMENSIONS
from utils.library_corpus import Library, LibraryDocument
from utils.spark_utils import worker_errors

pytestmark = pytest.mark.usefixtures("spark", "without_queue")
MINILM = SHARED / "models" / "all-MiniLM-L6-v2-onnx"
LEXICAL = IndexSettings(512, 50, "lexical", "lexical", LEXICAL_DIMENSIONS)
QUERY = "How many masts does boat 7 have?"


def write_boats(folder: Path, numbers: Sequence[int], masts: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (folder / f"boat {n:03d}.md").write_text(f"# Boat {n}\n\nBoat {n} has {masts} masts.\n", encoding="utf-8")
    return folder


def opened(folder: Path, settings: IndexSettings = LEXICAL) -> DocumentIndex:
    return DocumentIndex.open(folder, settings)


def rows(index: DocumentIndex) -> dict[str, tuple]:
    """Everything that the table holds, by chunk; vectors rounded to what survives a sum in another order."""
    found = index.table.search().select(["id", "document", "content_hash", "position", "text", "vector"]).to_list()
    return {
        row["id"]: (row["document"], row["content_hash"], row["position"], row["text"],
                    tuple(round(float(value), 5) for value in row["vector"]))
        for row in found
    }  # fmt: skip


def of_lesson() -> Run:
    (run,) = [run for run in runs(RAG) if run.info.status == "FINISHED"]
    return run


@dataclass(frozen=True)
class Twice:
    """A folder indexed, changed by ten, ten and ten, and indexed again."""

    docs: Path
    index: Path
    first: Left
    second: Left


@pytest.fixture(scope="module")
def twice(spark, run_lesson: Callable[..., Left], tmp_path_factory: pytest.TempPathFactory) -> Twice:
    folder = tmp_path_factory.mktemp("scale")
    docs = write_boats(folder / "docs", range(40))
    given = flags(docs_path=docs, index_dir=folder / "index", query=QUERY)
    first = run_lesson(main, *given)
    write_boats(docs, range(100, 110))
    write_boats(docs, range(10), masts=3)
    for n in range(20, 30):
        (docs / f"boat {n:03d}.md").unlink()
    return Twice(docs, folder / "index", first, run_lesson(main, *given))


def test_a_first_run_indexes_all(twice: Twice) -> None:
    mlflow.set_tracking_uri(twice.first.uri)
    run = of_lesson()
    counted = {name: run.data.metrics[name] for name in ("documents", "new", "embedded_documents", "chunks")}
    assert counted == dict.fromkeys(counted, 40)
    assert not any(run.data.metrics[name] for name in ("changed", "removed_documents", "unchanged_documents"))
    assert run.data.params["chunk_tokens"] == "512" and run.data.params["embed_type"] == "lexical"
    assert {"lesson": "5.5", "llm_type": "mock"}.items() <= run.data.tags.items()
    assert json.loads(run.data.tags["mlflow.linkedPrompts"]) == [{"name": "rag-answer", "version": "1"}]
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "indexed-documents"
    assert "[1/4] 40 new, 0 changed, 0 gone, 0 unchanged" in twice.first.output


def test_its_figures_are_measured(twice: Twice) -> None:
    mlflow.set_tracking_uri(twice.first.uri)
    measured = of_lesson().data.metrics
    stages = [measured[f"worker_seconds_{stage}"] for stage in ("load", "chunk", "embed", "write")]
    assert all(seconds > 0 for seconds in stages) and sum(stages) < 2 * measured["seconds_index"] + 1
    assert measured["documents_per_second"] == pytest.approx(40 / measured["seconds_index"])
    assert 50 < measured["worker_peak_mb"] < 2_000 and 50 < measured["driver_peak_mb"] < 5_000
    assert 40 * LEXICAL_DIMENSIONS * 4 / 1e6 < measured["index_mb"] < 5


def test_a_second_run_embeds_only_what_changed(twice: Twice) -> None:
    mlflow.set_tracking_uri(twice.second.uri)
    measured = of_lesson().data.metrics
    assert (measured["new"], measured["changed"], measured["removed_documents"]) == (10, 10, 10)
    assert measured["embedded_documents"] == measured["embedded_chunks"] == 20
    assert measured["unchanged_documents"] == 20 and measured["documents"] == measured["chunks"] == 40
    assert "[1/4] 10 new, 10 changed, 10 gone, 20 unchanged" in twice.second.output


def test_what_was_brought_up_to_date_is_what_a_new_build_gives(twice: Twice, store, run_command, tmp_path) -> None:
    assert run_command(main, *flags(docs_path=twice.docs, index_dir=tmp_path / "new")).exit_code == 0
    built = rows(opened(tmp_path / "new"))
    assert built == rows(opened(twice.index)) and len(built) == 40
    assert {text for _, _, _, text, _ in built.values() if text.endswith("has 3 masts.")} == {
        f"# Boat {n}\n\nBoat {n} has 3 masts." for n in range(10)
    }
    first, second = (mlflow.MlflowClient(left.uri) for left in (twice.first, twice.second))
    digests = [client.search_runs(["1"])[0].inputs.dataset_inputs[0].dataset.digest for client in (first, second)]
    assert digests[1] == only_run(RAG).inputs.dataset_inputs[0].dataset.digest != digests[0]


def test_a_question_is_answered_from_the_document_as_it_is_now(twice: Twice) -> None:
    for left, masts in ((twice.first, 2), (twice.second, 3)):
        mlflow.set_tracking_uri(left.uri)
        (answer,) = answers_of(of_lesson()).to_dict("records")
        (trace,) = traces(RAG)
        assert answer["question"] == QUERY and answer["trace_id"] == trace.info.trace_id
        assert answer["sources"].split(", ")[0] == "boat 007.md" and f"{masts} masts" in answer["answer"]
        root = root_of(trace)
        assert root.name == "scale-question" and root.inputs == {"question": QUERY}
        assert root.outputs["sources"][0] == "boat 007.md"
        passages = next(span.outputs for span in of_type(trace, SpanType.RETRIEVER) if span.outputs)
        assert len(passages) == 3 and f"has {masts} masts" in passages[0]["page_content"]
        assert len(llm_spans(trace)) == 1


def test_nothing_to_do_embeds_nothing_and_still_answers(twice: Twice, store, run_command, tmp_path) -> None:
    shutil.copytree(twice.index, tmp_path / "index")
    before = opened(tmp_path / "index")
    hashes, chunks = before.hashes(), before.table.count_rows()
    given = flags(docs_path=twice.docs, index_dir=tmp_path / "index", query="Which boat is number 3?")
    assert run_command(main, *given, "--query", QUERY, "--resume").exit_code == 0
    measured = only_run(RAG).data.metrics
    assert measured["embedded_documents"] == measured["embedded_chunks"] == 0
    assert measured["documents"] == measured["unchanged_documents"] == 40 and len(traces(RAG)) == 2
    assert "documents_per_second" not in measured, "nothing was measured"
    after = opened(tmp_path / "index")
    assert (after.hashes(), after.table.count_rows()) == (hashes, chunks)


def test_a_file_that_was_only_touched_or_renamed(twice: Twice, store, run_command, tmp_path) -> None:
    shutil.copytree(twice.docs, tmp_path / "docs")
    shutil.copytree(twice.index, tmp_path / "index")
    (tmp_path / "docs" / "boat 000.md").touch()
    (tmp_path / "docs" / "boat 001.md").rename(tmp_path / "docs" / "Schiff Ü.md")
    assert run_command(main, *flags(docs_path=tmp_path / "docs", index_dir=tmp_path / "index")).exit_code == 0
    measured = only_run(RAG).data.metrics
    assert (measured["new"], measured["changed"], measured["removed_documents"]) == (1, 0, 1)


def test_every_kind_of_file_and_every_fault_in_one_folder(store, run_command, tmp_path) -> None:
    docs = write_every_kind(tmp_path / "docs", "Zander swim in the lake of Überlingen.")
    given = flags(docs_path=docs, index_dir=tmp_path / "index", query="Which fish swim in the lake?", top_k=20)
    result = run_command(main, *given)
    assert result.exit_code == 0
    for line in FAULTS:
        assert f"left out {line}\n" in result.output
    run = only_run(RAG)
    assert (run.data.metrics["documents"], run.data.metrics["left_out"]) == (len(GOOD_NAMES), len(FAULTS))
    assert set(answers_of(run)["sources"][0].split(", ")) == GOOD_NAMES
    assert opened(tmp_path / "index").hashes().keys() == GOOD_NAMES


def test_a_document_that_becomes_unreadable_leaves_the_index(store, run_command, tmp_path) -> None:
    docs = write_boats(tmp_path / "docs", range(3))
    given = flags(docs_path=docs, index_dir=tmp_path / "index")
    assert run_command(main, *given).exit_code == 0
    (docs / "boat 001.md").write_bytes("Boot 1 fährt.".encode("latin-1"))
    result = run_command(main, *given)
    assert result.exit_code == 0 and "left out boat 001.md: not UTF-8 (byte 8)" in result.output
    assert sorted(opened(tmp_path / "index").hashes()) == ["boat 000.md", "boat 002.md"]


def test_without_a_readable_document_nothing_is_claimed(store, refused, tmp_path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_bytes(b"\xff\xfe\x00")
    said = refused(main, *flags(docs_path=tmp_path / "docs", index_dir=tmp_path / "index"))
    assert "none of the documents could be read" in said
    assert [run.info.status for run in runs(RAG)] == ["FAILED"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (flags(chunk_size=64, chunk_overlap=64), "a chunk of 64 tokens cannot overlap the next by 64"),
        (flags(chunk_size=128), "has chunk_tokens 512, not 128"),
        (flags(chunk_overlap=0, resume=True), "has overlap_tokens 50, not 0"),
        (flags(embed_type="openai"), "has embed_type lexical, embed_model lexical, dimensions 1024, not openai"),
        (flags(resume=True, rebuild=True), "--resume keeps what is indexed, and --rebuild throws it away"),
        (flags(num_documents=0), "--num-documents"),
        (flags(top_k=0), "--top-k"),
        (flags(docs_path="nowhere"), "there is no folder nowhere"),
        (flags(spark_master="lokal"), "lokal is no Spark master"),
        (flags(spark_master="spark://127.0.0.1:1"), "no Spark master answers at spark://127.0.0.1:1"),
        (flags(embed_type="fastembed", embed_model="./nowhere"), "there is no folder ./nowhere"),
        (flags(llm_type="ollama", ollama_url="http://127.0.0.1:1"), "Ollama does not answer"),
    ],
)
def test_wrong_use_is_refused_and_takes_nothing_away(twice: Twice, store, refused, wrong, said) -> None:
    before = opened(twice.index).table.version
    given = flags(docs_path=twice.docs, index_dir=twice.index)
    assert said in refused(main, *given, *wrong)
    assert runs(RAG, "FINISHED") == [] and opened(twice.index).table.version == before


def test_a_folder_of_ones_own_is_no_place_for_an_index(twice: Twice, store, refused) -> None:
    assert "is not empty and holds no index" in refused(main, *flags(docs_path=twice.docs, index_dir=twice.docs))


def test_documents_whose_embedding_fails_are_not_written(tmp_path) -> None:
    import httpx

    class Broken:
        def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
            raise httpx.ConnectError("refused")

    index = opened(tmp_path / "index")
    index.begin()
    frame = embed_and_commit(index, Broken(), [Content("a", "1", ["text"]), Content("b", "2", ["text"])])  # type: ignore[arg-type]
    assert frame["failed"].tolist() == ["ConnectError"] * 2 and index.hashes() == {}


def test_what_stops_a_job_in_a_worker_is_two_lines_not_a_traceback(spark) -> None:
    def fail(batches):
        raise FileNotFoundError("the table is gone")
        yield from batches

    said = "the Spark job failed: FileNotFoundError: the table is gone"
    with pytest.raises(JobFailed, match=said) as failure, worker_errors("look for it"):
        spark.range(1).mapInPandas(fail, "id long").collect()
    assert failure.value.cure == "look for it"


# --- the documentation of the installed packages


def library(*bodies: str) -> Library:
    made = [
        LibraryDocument("click", "8", f"click.f{n}", "function", "()", body, "x.py") for n, body in enumerate(bodies)
    ]
    return Library(made)


@pytest.fixture
def small_library(tmp_path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Six documents instead of all packages; the list grows with each reading of the sources."""
    readings: list[int] = []

    def read() -> Library:
        readings.append(1)
        return library(*[f"Prints the line number {n} in bold letters." for n in range(6)])

    monkeypatch.setattr(library_files, "read_library", read)
    monkeypatch.setattr(library_files, "LIBRARY", tmp_path / "library-files")
    monkeypatch.setattr(incremental_index, "DEFAULT_FOLDER", tmp_path / "indexes")
    return readings


def test_by_default_the_packages_are_indexed_and_asked(store, run_command, small_library) -> None:
    result = run_command(main, "--num-documents", 4)
    assert result.exit_code == 0 and "4 of 6 documents of the installed packages" in result.output
    assert answers_of(only_run(RAG))["question"].tolist() == list(QUESTIONS)
    assert len(traces(RAG)) == len(QUESTIONS)
    result = run_command(main, "--num-documents", 6, "--query", "How do I print in bold?")
    assert result.exit_code == 0 and "[1/4] 2 new, 0 changed, 0 gone, 4 unchanged" in result.output
    result = run_command(main, "--num-documents", 3, "--query", "How do I print in bold?")
    assert "[1/4] 0 new, 0 changed, 3 gone, 3 unchanged" in result.output
    assert len(small_library) == 2, "what was written is used again"


def test_the_sources_are_read_again_when_a_file_is_gone_or_a_package_upgraded(
    small_library, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(number: int) -> library_files.LibraryFiles:
        return library_files.library_files(tmp_path / "files", number)

    assert [files(4).reused, files(4).reused, files(2).reused, files(5).reused] == [False, True, True, False]
    assert len(files(99).files) == 6 and files(99).reused
    Path(files(99).files[0].path).unlink()
    assert not files(99).reused and Path(files(99).files[0].path).is_file()
    monkeypatch.setattr(library_files, "version", lambda package: "99")
    assert not files(99).reused
    (tmp_path / "files" / "order.json").write_text("[")
    assert not files(99).reused
