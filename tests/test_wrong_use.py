"""Wrong use, each kind through the real commands: two lines, status 2, nothing started, nothing claimed."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from spark.spark_langchain_multiple_mode import main as multiple_mode
from spark.spark_langchain_ollama import main as sentiment
from spark.spark_llamaindex_rag import main as rag
from tests.stub_server import NEVER, closed_url, stub_server
from tracking.simple_tracking_basic import main as tracking_example
from utils import spark_utils
from utils.sample_documents import main as sample_documents

SLOW_S = 30  # seconds; each refusal takes less than 5, and a probe that hangs would take minutes
ON_MOCK = ("--llm-type", "mock")
ALL = [tracking_example, sample_documents, sentiment, multiple_mode, rag]
WITH_MODEL = [sentiment, multiple_mode, rag]
WITH_ROWS = [sentiment, multiple_mode]


def commands(choice):
    return pytest.mark.parametrize("command", choice, ids=lambda command: command.name)


@pytest.fixture(autouse=True)
def no_spark(monkeypatch) -> None:
    """A session that another test opened is not seen, and starting one fails the test."""
    from pyspark.sql import SparkSession

    def start(*args: object) -> None:
        pytest.fail("Spark was started before the problem was found")

    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda cls: None))
    monkeypatch.setattr(spark_utils, "_start", start)


@pytest.fixture
def wrong(refused, store) -> Iterator[Callable[..., str]]:
    """Run a command that must be refused; afterwards the store holds no run that claims success."""

    def run(command, *flags: object) -> str:
        started = time.monotonic()
        said = refused(command, *flags)
        assert time.monotonic() - started < SLOW_S
        assert mlflow.active_run() is None
        return said

    yield run
    client = MlflowClient(store)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    assert [run.info.status for run in client.search_runs(ids) if run.info.status != "FAILED"] == []


@pytest.fixture
def reviews(tmp_path) -> Callable[[bytes, str], Path]:
    def write(content: bytes, name: str = "mine.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# --- model servers


@commands(WITH_MODEL)
def test_ollama_is_not_running(wrong, command):
    url = closed_url()
    said = wrong(command, "--llm-type", "ollama", "--ollama-url", url)
    assert url in said and "ollama serve" in said


def test_the_command_named_after_ollama_asks_ollama_by_itself(wrong):
    assert "ollama serve" in wrong(sentiment, "--ollama-url", closed_url())


@commands(WITH_MODEL)
def test_ollama_has_not_pulled_the_model(wrong, command):
    with stub_server({"/api/tags": (200, {"models": [{"name": "mistral:latest"}]})}) as stub:
        assert "ollama pull llama3.2" in wrong(command, "--llm-type", "ollama", "--ollama-url", stub.url)


@commands(WITH_MODEL)
def test_openai_without_a_key(wrong, command):
    assert "OPENAI_API_KEY" in wrong(command, "--llm-type", "openai")


def test_use_openai_is_the_same_as_llm_type_openai(wrong):
    assert "OPENAI_API_KEY" in wrong(multiple_mode, "--use-openai")


@commands(WITH_MODEL)
@pytest.mark.parametrize("answer", ["nothing listens", (404, {}), (200, "<html>hello</html>"), NEVER])
def test_a_wrong_base_url(wrong, command, answer, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-secret")
    with stub_server({}, default=NEVER if answer == "nothing listens" else answer) as stub:
        url = closed_url() if answer == "nothing listens" else stub.url
        said = wrong(command, "--llm-type", "openai", "--openai-base-url", url)
    assert url in said and "--openai-base-url" in said and "sk-test-secret" not in said


@commands(WITH_MODEL)
def test_a_model_that_the_mock_has_not(wrong, command):
    assert "mock-large" in wrong(command, *ON_MOCK, "--model", "gpt-4o")


# --- extras


def test_a_missing_extra(wrong, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.huggingface", None)
    assert "uv sync --extra huggingface" in wrong(rag, "--embed-type", "huggingface")


@pytest.mark.skipif(
    importlib.util.find_spec("llama_index.embeddings.huggingface") is not None, reason="the extra is installed here"
)
def test_an_extra_that_really_is_missing(wrong):
    assert "uv sync --extra huggingface" in wrong(rag, "--embed-type", "huggingface")


# --- rows


@commands(WITH_ROWS)
def test_an_input_file_that_is_not_there(wrong, command, tmp_path):
    assert "nowhere.csv" in wrong(command, *ON_MOCK, "--input", tmp_path / "nowhere.csv")


@commands(WITH_ROWS)
@pytest.mark.parametrize("flag", ["--text-column", "--label-column"])
def test_a_column_that_is_not_there(wrong, command, reviews, flag):
    said = wrong(command, *ON_MOCK, "--input", reviews(b"text,stars\nGood soup,5\n"), flag, "comment")
    assert "comment" in said and "text, stars" in said


@commands(WITH_ROWS)
@pytest.mark.parametrize("content", [b"", b"text\n", b"text\n\n  \n", b"text,label\n,\n"])
def test_a_file_without_rows(wrong, command, reviews, content):
    assert "mine.csv" in wrong(command, *ON_MOCK, "--input", reviews(content))


@commands(WITH_ROWS)
def test_a_file_that_is_not_utf8(wrong, command, reviews):
    said = wrong(command, *ON_MOCK, "--input", reviews("text\nScheußlich\n".encode("cp1252")))
    assert "UTF-8" in said and "iconv" in said


@commands(WITH_ROWS)
@pytest.mark.parametrize("name", ["mine.xlsx", "mine"])
def test_a_file_of_a_kind_that_nobody_reads(wrong, command, reviews, name):
    assert ".parquet" in wrong(command, *ON_MOCK, "--input", reviews(b"text\nGood soup\n", name))


@commands(WITH_ROWS)
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many"])
def test_a_number_of_rows_that_is_none(wrong, command, number):
    said = wrong(command, *ON_MOCK, "--num-samples", number)
    assert "--num-samples" in said and f"uv run {command.name} --help" in said


@commands(WITH_ROWS)
def test_no_requests_in_flight(wrong, command):
    assert "--concurrency" in wrong(command, *ON_MOCK, "--concurrency", "0")


# --- documents


@pytest.mark.parametrize(("size", "overlap"), [(128, 128), (128, 200), (50, 50)])
def test_chunks_that_overlap_by_all_they_hold(wrong, size, overlap):
    said = wrong(rag, "--chunk-size", size, "--chunk-overlap", overlap)
    assert str(overlap) in said and "--chunk-overlap" in said


def test_the_default_overlap_and_a_small_chunk(wrong):
    assert "--chunk-overlap 3" in wrong(rag, "--chunk-size", 32)


@pytest.mark.parametrize("content", [{}, {"picture.png": "x"}, {".hidden.md": "x"}])
def test_a_folder_without_documents(wrong, tmp_path, content):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    assert str(folder) in wrong(rag, "--docs-path", folder)


def test_a_folder_that_is_not_there(wrong, tmp_path):
    assert "nowhere" in wrong(rag, "--docs-path", tmp_path / "nowhere")


def test_a_file_in_the_place_of_the_folder(wrong, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    assert "notes.txt" in wrong(rag, "--docs-path", tmp_path / "notes.txt")
    assert "notes.txt" in wrong(rag, "--docs-path", tmp_path / "notes.txt", "--create-sample-docs")
    assert "notes.txt" in wrong(sample_documents, "--output-dir", tmp_path / "notes.txt")


def test_documents_that_no_question_is_about(wrong, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mine.md").write_text("# Mine\n\nNothing about MLflow.")
    assert "--query" in wrong(rag, "--docs-path", tmp_path / "docs")


@pytest.mark.parametrize("content", [b"", b"question\n", b"a,b\n1,2\n", "question\nWas heißt das?\n".encode("cp1252")])
def test_a_file_of_questions_that_cannot_be_used(wrong, reviews, content):
    assert "mine.csv" in wrong(rag, "--questions", reviews(content))


def test_a_file_of_questions_that_is_not_there(wrong, tmp_path):
    assert "nowhere.csv" in wrong(rag, "--questions", tmp_path / "nowhere.csv")


# --- Spark and Java


@commands(WITH_MODEL)
@pytest.mark.parametrize("master", ["nonsense", "local[x]", "local[", "", "mesos://host:5050", "http://host:7077"])
def test_a_master_that_spark_does_not_know(wrong, command, master):
    assert "--spark-master" in wrong(command, *ON_MOCK, "--spark-master", master)


@pytest.mark.parametrize("command", [multiple_mode, rag], ids=lambda command: command.name)
def test_a_master_that_is_not_running(wrong, command):
    master = closed_url().replace("http://", "spark://")
    assert master in wrong(command, *ON_MOCK, "--spark-master", master)


def test_a_cluster_whose_workers_cannot_write_to_this_machines_store(wrong):
    said = wrong(sentiment, *ON_MOCK, "--spark-master", closed_url().replace("http://", "spark://"))
    assert "mlflow server" in said and "mlflow-spark-langchain-multiple" in said


@commands(WITH_MODEL)
def test_no_java(wrong, command, monkeypatch):
    monkeypatch.setattr(spark_utils, "java_version", lambda java: None)
    said = wrong(command, *ON_MOCK)
    assert "Java" in said and "JAVA_HOME" in said


@commands(WITH_MODEL)
def test_a_java_that_is_too_old(wrong, command, monkeypatch):
    monkeypatch.setattr(spark_utils, "java_version", lambda java: 8)
    assert "Java 8" in wrong(command, *ON_MOCK)


# --- stores


@commands(ALL)
def test_a_store_that_nobody_can_write_to(wrong, command):
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here, where even root cannot make files")
    assert "/proc/mlflow.db" in wrong(command, "--tracking-uri", "sqlite:////proc/mlflow.db")


@commands(ALL)
def test_an_old_folder_of_runs(wrong, command, tmp_path):
    old = tmp_path / "project" / "mlruns" / "0"
    old.mkdir(parents=True)
    (old / "meta.yaml").write_text("name: Default\n")
    for uri in (f"sqlite:///{tmp_path / 'project' / 'mlflow.db'}", str(old.parent), f"file://{old.parent}"):
        assert "migrate-filestore" in wrong(command, "--tracking-uri", uri)
    assert not (tmp_path / "project" / "mlflow.db").exists()


@commands(ALL)
def test_a_tracking_server_that_is_not_running(wrong, command):
    url = closed_url()
    said = wrong(command, "--tracking-uri", url)
    assert url in said and "mlflow server" in said


def test_the_backends_of_the_first_lesson(wrong, tmp_path):
    assert "migrate-filestore" in wrong(tracking_example, "--backend", "file")
    assert "mlflow server" in wrong(tracking_example, "--backend", "server", "--tracking-uri", closed_url())
    assert "nowhere" in wrong(tracking_example, "--db-path", tmp_path / "nowhere" / "my.db")
