"""The Spark lessons on a real small language model, where the workshop's rig for it is: no stub imitates one.

It is often wrong, as small models are, so nothing here judges its answers; that they are answers, and counted, is.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from spark import spark_langchain_multiple_mode, spark_langchain_ollama, spark_llamaindex_rag
from tests.conftest import SHARED
from tests.spark.evidence import (
    RAG,
    SENTIMENT,
    answers_of,
    flags,
    llm_spans,
    only_run,
    only_trace,
    root_of,
    spent_tokens,
    traces,
)
from utils.sample_documents import write_documents

SERVE = SHARED / "real_model" / "serve.py"
CACHE = Path.home() / ".cache" / "real_model"
MISSING = [str(path) for path in (SERVE, CACHE / "venv.ready") if not path.exists()]
MISSING += [] if list(CACHE.glob("*.gguf")) else [f"weights in {CACHE}"]
START_SECONDS = 180

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no real model here: {', '.join(MISSING)}"),
    pytest.mark.usefixtures("store", "spark"),
]


@dataclass(frozen=True)
class RealModel:
    openai_base_url: str
    ollama_url: str


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the rig ended with {server.returncode}"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url} did not answer within {START_SECONDS} seconds")


@pytest.fixture(scope="module")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealModel]:
    """The rig as a process of its own for all tests of this file."""
    port, ollama_port = free_port(), free_port()
    command = [sys.executable, str(SERVE), "--port", str(port), "--ollama-port", str(ollama_port)]
    with (tmp_path_factory.mktemp("real_model") / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            model = RealModel(f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{ollama_port}")
            wait_for(f"{model.openai_base_url}/models", server)
            wait_for(f"{model.ollama_url}/api/tags", server)
            yield model
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def check_job(rows: int) -> None:
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    measured, calls, answers = run.data.metrics, llm_spans(trace), answers_of(run)
    assert len(calls) == measured["llm_calls"] >= rows
    root_of(trace)
    assert spent_tokens(trace) == (measured["prompt_tokens"], measured["completion_tokens"])
    assert measured["prompt_tokens"] > rows * 20
    assert measured["completion_tokens"] >= len(answers) - measured["failed_rows"]
    assert len(answers) == measured["rows"] == rows
    assert answers["predicted"].notna().sum() > 0


def test_ollamas_api(run_command: Callable, real_model: RealModel) -> None:
    given = flags(llm_type="ollama", ollama_model="local/qwen", ollama_url=real_model.ollama_url)
    result = run_command(spark_langchain_ollama.main, *given, *flags(num_samples=9, concurrency=4))
    assert result.exit_code == 0
    check_job(9)
    assert {"llm_type": "ollama", "llm_model": "local/qwen"}.items() <= only_run(SENTIMENT).data.tags.items()


@pytest.mark.parametrize("client", ["langchain", "openai"])
def test_openais_api(run_command: Callable, real_model: RealModel, client: str) -> None:
    given = flags(llm_type="openai", openai_base_url=real_model.openai_base_url, model="qwen", client=client)
    result = run_command(spark_langchain_multiple_mode.main, *given, *flags(num_samples=20, concurrency=4))
    assert result.exit_code == 0
    check_job(20)


def test_answers_with_sources(run_command: Callable, real_model: RealModel, tmp_path: Path) -> None:
    write_documents(tmp_path / "documents")
    given = flags(llm_type="openai", openai_base_url=real_model.openai_base_url, model="qwen", embed_type="lexical")
    asked = flags(docs_path=tmp_path / "documents", num_questions=4, chunk_size=128, chunk_overlap=20, concurrency=4)
    assert run_command(spark_llamaindex_rag.main, *given, *asked, "--request-timeout", 240).exit_code == 0
    run, found = only_run(RAG), traces(RAG)
    assert len(found) == run.data.metrics["questions_asked"] == 4
    assert run.data.metrics["hit_at_k"] > 0.5
    for trace in found:
        root_of(trace)
        (call,) = llm_spans(trace)
        prompt_tokens, completion_tokens = spent_tokens(trace)
        assert prompt_tokens > 100
        assert completion_tokens > 0
        assert "Context information is below." in json.dumps(call.inputs)
    assert answers_of(run)["answer"].str.strip().str.len().min() > 0
