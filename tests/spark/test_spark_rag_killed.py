"""Lesson 5.5 where something is killed: the driver halfway, a worker of a real cluster; and large inputs."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import mlflow
import pytest

from spark.spark_rag_at_scale import PARTITION_DOCUMENTS, main
from tests.conftest import ROOT, SHARED
from tests.spark.evidence import RAG, flags, only_run, runs
from tests.spark.test_spark_rag_at_scale import opened, rows, write_boats
from utils.incremental_index import IndexSettings
from utils.local_services import listen
from utils.mock_llm import MockServer, MockSettings
from utils.mock_llm.tokens import count_tokens
from utils.spark_utils import find_java

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store", "without_queue")]
MINILM = SHARED / "models" / "all-MiniLM-L6-v2-onnx"
ENDPOINT = IndexSettings(512, 50, "openai", "mock-embedding", 256)
AT_ONCE = 2  # partitions in flight on two cores
PARTITION = PARTITION_DOCUMENTS
PROBE_TOKENS = 100  # of the one text by which each command asks how large a vector is


def start(*given: object) -> subprocess.Popen:
    """The lesson as a process of its own, and of its own group."""
    command = [sys.executable, "-m", "spark.spark_rag_at_scale", *map(str, given)]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(true, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_driver_is_killed_halfway_and_resumed(tmp_path: Path) -> None:
    docs = write_boats(tmp_path / "docs", range(5 * PARTITION))
    index = opened(tmp_path / "index", ENDPOINT)
    with MockServer(MockSettings(latency_ms=400)) as server:
        given = flags(llm_type="openai", openai_base_url=server.base_url, model="mock-small", embed_type="openai",
                      embed_model="mock-embedding", spark_master="local[2]", docs_path=docs,
                      index_dir=index.folder)  # fmt: skip
        first = start(*given)
        wait_for(lambda: len(index.hashes()) >= PARTITION)
        first.kill()  # the driver alone: Java and the workers find out by themselves
        first.communicate()
        wait_for(lambda: group_is_gone(first.pid))
        kept, paid = set(index.hashes()), server.counts.embedding_tokens
        assert PARTITION <= len(kept) < 5 * PARTITION and index.is_unfinished

        refused = start(*given, "--chunk-size", 128, "--resume")
        said = refused.communicate(timeout=300)[1].strip().splitlines()
        assert refused.returncode == 2 and "the interrupted job in" in said[0] and "not 128" in said[0]
        assert set(index.hashes()) == kept

        second = start(*given, "--resume")
        output, errors = second.communicate(timeout=600)
        assert second.returncode == 0, errors
        total = server.counts.embedding_tokens

    assert f"left {len(kept):,} documents in the index; they are not embedded again" in output
    measured = only_finished().data.metrics
    assert measured["embedded_documents"] == 5 * PARTITION - len(kept)
    assert measured["documents"] == measured["chunks"] == index.verify([path.name for path in docs.iterdir()])
    assert not index.is_unfinished
    # What was embedded in the first run and is not in the index was in flight; the second embedded only the rest.
    tokens = {path.name: count_tokens(path.read_text().strip()) for path in docs.iterdir()}
    at_most = AT_ONCE * PARTITION * max(tokens.values())
    assert 0 <= paid - sum(tokens[name] for name in kept) <= at_most + PROBE_TOKENS
    assert 0 <= total - paid - sum(count for name, count in tokens.items() if name not in kept) <= PROBE_TOKENS


def only_finished():
    (run,) = runs(RAG, "FINISHED")
    return run


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A master and two workers of one core each, from PySpark's own scripts, on free ports of 127.0.0.1."""
    import pyspark

    home, port = Path(pyspark.__file__).parent, free_port()
    environment = os.environ | {
        "SPARK_HOME": str(home), "JAVA_HOME": str(find_java()), "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1", "SPARK_WORKER_DIR": str(folder / "work"), "SPARK_CONF_DIR": str(folder),
    }  # fmt: skip

    def run(name: str, *given: str) -> subprocess.Popen:
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1", *given]
        log = (folder / f"{name}-{len(started)}.log").open("w")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    started: list[subprocess.Popen] = []
    master, page = f"spark://127.0.0.1:{port}", free_port()
    try:
        started.append(run("master.Master", "--port", str(port), "--webui-port", str(page)))
        wait_for(lambda: status(page) is not None)
        for _ in range(2):
            started.append(run("worker.Worker", "-c", "1", "-m", "2g", "--webui-port", "0", master))
        wait_for(lambda: (status(page) or {}).get("aliveworkers") == 2)
        yield master, started[1:]
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            process.wait(60)


def free_port() -> int:
    with closing(listen(0)) as listening:
        return listening.getsockname()[1]


def status(page: int) -> dict | None:
    try:
        return httpx.get(f"http://127.0.0.1:{page}/json/", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return None


def test_a_worker_of_a_cluster_is_killed_in_the_middle(tmp_path: Path) -> None:
    docs = write_boats(tmp_path / "docs", range(5 * PARTITION))
    index = opened(tmp_path / "index", ENDPOINT)
    (tmp_path / "spark").mkdir()
    with MockServer(MockSettings(latency_ms=400)) as server, cluster(tmp_path / "spark") as (master, workers):
        given = flags(llm_type="openai", openai_base_url=server.base_url, model="mock-small", embed_type="openai",
                      embed_model="mock-embedding", docs_path=docs)  # fmt: skip
        job = start(*given, *flags(spark_master=master, index_dir=index.folder))
        wait_for(lambda: len(index.hashes()) >= PARTITION)
        os.killpg(workers[0].pid, signal.SIGKILL)
        kill_executors_of(tmp_path / "spark" / "work", 0)
        output, errors = job.communicate(timeout=600)
        assert job.returncode == 0, errors
        assert "[1/4] 1,280 new" in output
        assert index.verify([path.name for path in docs.iterdir()]) == 5 * PARTITION
        there = rows(index)
        alone = start(*given, *flags(spark_master="local[2]", index_dir=tmp_path / "alone"))
        assert alone.communicate(timeout=600) and alone.returncode == 0
    assert there == rows(opened(tmp_path / "alone", ENDPOINT))


def kill_executors_of(work: Path, number: int) -> None:
    """The executor of one worker: a worker that dies would tell it, this one is killed, too."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    found = [
        int(line.split()[0])
        for line in listed.splitlines()
        if "CoarseGrainedExecutorBackend" in line and f"--executor-id {number} " in line and str(work) in line
    ]
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def test_ten_thousand_small_files_and_one_of_50_megabytes(run_command, spark, tmp_path: Path) -> None:
    docs = write_boats(tmp_path / "docs", range(10_000))
    sentence = "The lighthouse keeper counts the ships of the morning and writes their names down. "
    with (docs / "large.txt").open("w") as file:
        for number in range(50_000_000 // (len(sentence) * 10)):
            file.write(f"{number}. {sentence * 10}\n\n")
    assert (docs / "large.txt").stat().st_size >= 50_000_000
    given = flags(docs_path=docs, index_dir=tmp_path / "index", query="Which boat is number 77?")
    assert run_command(main, *given).exit_code == 0
    measured = only_run(RAG).data.metrics
    assert measured["documents"] == 10_001 and measured["chunks"] > 20_000
    assert measured["worker_peak_mb"] < 1_500
    (docs / "large.txt").unlink()
    assert run_command(main, *given).exit_code == 0
    assert runs(RAG, "FINISHED")[0].data.metrics["removed_documents"] == 1


@pytest.mark.skipif(not MINILM.is_dir(), reason="no embedding model in ../shared/models")
def test_an_embedding_model_runs_in_the_workers(run_command, spark, tmp_path: Path) -> None:
    docs = write_boats(tmp_path / "docs", range(8))
    (docs / "food.md").write_text("Rye bread rests for a day before it is cut.")
    given = flags(docs_path=docs, index_dir=tmp_path / "index", query="How long should a loaf cool?")
    assert run_command(main, *given, *flags(embed_type="fastembed", embed_model=MINILM)).exit_code == 0
    table = mlflow.load_table("answers.json", run_ids=[only_run(RAG).info.run_id])
    assert table["sources"][0].split(", ")[0] == "food.md"
    assert only_run(RAG).data.metrics["embedded_documents"] == 9


def test_it_runs_as_typed_and_prints_no_warning(template_store: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(template_store)) as old, closing(sqlite3.connect(tmp_path / "own.db")) as new:
        old.backup(new)
    docs = write_boats(tmp_path / "docs", range(3))
    given = flags(docs_path=docs, index_dir=tmp_path / "index", query="How many masts does boat 1 have?",
                  tracking_uri=f"sqlite:///{tmp_path / 'own.db'}")  # fmt: skip
    process = start(*given)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and errors == ""
    assert re.search(r"^Index:   .*index$", output, re.M) and "boat 001.md" in output
