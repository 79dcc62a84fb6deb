"""A server that repeats the key in its error text gets it into no trace, no run and no file of any Spark lesson."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from spark.spark_langchain_multiple_mode import main as multiple_mode
from spark.spark_langchain_ollama import main as sentiment
from spark.spark_llamaindex_rag import main as rag
from tests.conftest import ROOT
from tests.stub_server import Stub, stub_server
from utils.http_clients import MASK

KEY = "gateway-key-0123456789"
SAID = f"the quota of {KEY} is used up"
LESSONS = {
    "2.1": (sentiment, ("--num-samples", 3)),
    "2.2": (multiple_mode, ("--num-samples", 3)),
    "2.2 autolog": (multiple_mode, ("--num-samples", 3, "--span-source", "autolog", "--client", "openai")),
    "5.2": (rag, ("--num-questions", 3, "--embed-type", "lexical", "--docs-path", ROOT / "documents")),
}


@pytest.fixture
def repeating_server():
    models = (200, {"object": "list", "data": [{"id": "m"}]})
    with stub_server({"/v1/models": models}, default=(403, {"error": {"message": SAID}})) as stub:
        yield stub


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "lesson", [name if name == "2.2" else pytest.param(name, marks=pytest.mark.slow) for name in LESSONS]
)
def test_no_key_is_kept(lesson, spark, store, tmp_path, run_command, monkeypatch, repeating_server: Stub):
    command, flags = LESSONS[lesson]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    where = ("--llm-type", "openai", "--openai-base-url", repeating_server.base_url, "--model", "m")
    result = run_command(command, *where, *flags)
    assert KEY in repeating_server.seen and KEY not in result.output
    mlflow.flush_trace_async_logging()
    ids = [experiment.experiment_id for experiment in MlflowClient(store).search_experiments()]
    spans = [span for trace in mlflow.search_traces(locations=ids, return_type="list") for span in trace.data.spans]
    assert any(MASK in str(span.to_dict()) for span in spans), "the server's words are kept, masked"
    assert files_with(KEY, tmp_path) == []
