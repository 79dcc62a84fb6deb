"""Lesson 7.8 at scale: 5,000 rows, killed in the middle, resumed; every row once, and nothing asked twice but what
was in flight."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from genai.deployment.batch_inference import NAME
from genai.deployment.register_agent import SECOND
from tests.conftest import ROOT
from tests.spark.evidence import flags, runs
from tests.spark.test_batch_inference import register_versions
from tests.spark.test_spark_rag_killed import wait_for
from utils.batch_journal import ANSWERS
from utils.mock_llm import MockServer
from utils.options import BackendOptions
from utils.spark_mapper import AHEAD
from utils.tickets import made_tickets

ROWS, DISTINCT, IN_FLIGHT = 5_000, 3_500, 16


def start(output: Path, store: str, *given: object) -> subprocess.Popen:
    asked = flags(num_rows=ROWS, output=output, tracking_uri=store, traced_rows=20, concurrency=IN_FLIGHT)
    command = [sys.executable, "-m", "genai.deployment.batch_inference", *map(str, [*asked, *given])]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_killed_halfway_and_resumed(store, tmp_path):
    with MockServer() as server:
        register_versions(store, BackendOptions("openai", "mock-small", openai_base_url=server.base_url), SECOND)
        before = server.counts.chat_calls  # log_model tries the version out
        job = start(tmp_path / "job", store)
        wait_for(lambda: server.counts.chat_calls - before >= DISTINCT // 2 or job.poll() is not None, 600)
        assert job.poll() is None, job.communicate()
        job.send_signal(signal.SIGKILL)
        job.communicate()
        # Each writer has threads beyond its calls on the wire: a reply may be with one of them, on its way to the file.
        unwritten = AHEAD * len(list((tmp_path / "job" / ANSWERS).glob("*.lock")))
        at_kill = server.counts.chat_calls - before
        assert DISTINCT // 2 <= at_kill < DISTINCT

        second = start(tmp_path / "job", store, "--resume")
        output, errors = second.communicate(timeout=900)
        assert second.returncode == 0, errors
        calls = server.counts.chat_calls - before
    found, given = pd.read_parquet(tmp_path / "job" / "result"), made_tickets(ROWS)
    assert found["id"].is_unique and set(found["id"]) == set(given["id"])
    assert found.set_index("id")["text"].to_dict() == given.set_index("id")["text"].to_dict()
    assert found["answer"].notna().all()
    lines = [
        line for path in (tmp_path / "job" / ANSWERS).glob("*.jsonl") for line in path.read_text().splitlines(True)
    ]
    texts = [text for line in lines if line.endswith("\n") for text in json.loads(line)["texts"]]
    assert len(texts) == len(set(texts)) == DISTINCT
    assert DISTINCT <= calls <= DISTINCT + IN_FLIGHT + unwritten, "only what was in flight is asked twice"
    (done,) = runs("7-production", "FINISHED")
    measured = done.data.metrics
    print(f"{at_kill} calls at the kill, {measured['kept_texts']:.0f} kept, {calls} in all, {output.splitlines()[1]}")
    assert measured["kept_texts"] + measured["calls"] == DISTINCT and measured["lost_rows"] == 0
    assert done.data.params["version"] == str(MlflowClient().get_model_version(NAME, "1").version)
