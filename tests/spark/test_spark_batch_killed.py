"""Lesson 8.2 at scale and where something is killed: every row once, and nothing asked twice but what was in flight."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from spark.spark_batch_inference import main
from tests.conftest import ROOT
from tests.spark.evidence import flags, runs
from tests.spark.test_spark_rag_killed import cluster, kill_executors_of, wait_for
from utils.batch_journal import ANSWERS
from utils.batch_rows import made_up
from utils.mock_llm import MockServer, MockSettings
from utils.reviews import load_reviews
from utils.spark_mapper import AHEAD

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store", "without_queue")]
EXPERIMENT, ONE = "8-advanced", "1-rows-per-call"
IN_FLIGHT = 16
KILLS = 10


def start(server: MockServer, output: Path, rows: int, *given: object, concurrency: int = IN_FLIGHT) -> Any:
    """The lesson as a process of its own, against a server that outlives it."""
    asked = flags(llm_type="openai", openai_base_url=server.base_url, model="mock-small", num_rows=rows, output=output,
                  compare_rows=0, trace="off", concurrency=concurrency)  # fmt: skip
    command = [sys.executable, "-m", "spark.spark_batch_inference", *map(str, [*asked, *given])]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: Any) -> str:
    output, errors = process.communicate(timeout=1_200)
    assert process.returncode == 0, errors
    return output


def calls(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in (folder / ONE / ANSWERS).glob("*.jsonl") for line in path.read_text().splitlines(True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def check_every_row_once(folder: Path, rows: int, duplicates: float = 0.3) -> None:
    found = pd.read_parquet(folder / ONE / "result")
    expected = made_up(list(range(rows)), rows, duplicates, load_reviews())
    assert found["id"].is_unique and set(found["id"]) == set(expected["id"])
    assert found.set_index("id")["text"].to_dict() == expected.set_index("id")["text"].to_dict()
    assert found["answer"].notna().all()


def check_nothing_paid_twice(folder: Path, server: MockServer, distinct: int, lost: int) -> None:
    """Each text has one answer in the journals; the server saw at most `lost` calls on the wire that nobody could write
    down, and the replies that the further threads of each writer held at that moment."""
    unwritten = AHEAD * len(list((folder / ONE / ANSWERS).glob("*.lock")))
    texts = [text for line in calls(folder) for text in line["texts"]]
    assert len(texts) == len(set(texts)) == distinct
    assert distinct <= server.counts.chat_calls <= distinct + lost + unwritten


@pytest.mark.timeout(2_400)
def test_the_driver_is_killed_ten_times_at_random_moments(tmp_path: Path) -> None:
    draw, rows, distinct = random.Random(8), 3_000, 2_100
    with MockServer(MockSettings(latency_ms=100)) as server:
        for number in range(KILLS):
            before, wanted = server.counts.chat_calls, draw.randint(1, 150)
            job = start(server, tmp_path / "job", rows, "--rows-per-call", 1, *(["--resume"] if number else []))
            wait_for(lambda b=before + wanted, j=job: server.counts.chat_calls >= b or j.poll() is not None)
            assert job.poll() is None, job.communicate()[1]
            time.sleep(draw.random() * 0.2)
            job.send_signal(signal.SIGKILL)
            job.communicate()
        assert server.counts.chat_calls < distinct, "it was killed before it was done, every time"
        output = finish(start(server, tmp_path / "job", rows, "--rows-per-call", 1, "--resume"))
        check_nothing_paid_twice(tmp_path / "job", server, distinct, KILLS * IN_FLIGHT)
    check_every_row_once(tmp_path / "job", rows)
    assert f"calls for {rows:,} rows" in output
    (done,) = [run for run in runs(EXPERIMENT, "FINISHED") if run.info.run_name == ONE]
    assert done.data.metrics["texts_kept"] + done.data.metrics["llm_calls"] == distinct


@pytest.mark.timeout(1_200)
def test_a_worker_of_a_cluster_is_killed(tmp_path: Path) -> None:
    rows, distinct = 1_500, 1_050
    (tmp_path / "spark").mkdir()
    with MockServer(MockSettings(latency_ms=150)) as server, cluster(tmp_path / "spark") as (master, workers):
        job = start(server, tmp_path / "job", rows, "--rows-per-call", 1, "--spark-master", master)
        wait_for(lambda: server.counts.chat_calls >= 200 or job.poll() is not None)
        os.killpg(workers[0].pid, signal.SIGKILL)
        kill_executors_of(tmp_path / "spark" / "work", 0)
        finish(job)
        check_nothing_paid_twice(tmp_path / "job", server, distinct, 2 * IN_FLIGHT)
    check_every_row_once(tmp_path / "job", rows)


@pytest.mark.timeout(1_200)
def test_ten_thousand_rows_side_by_side(tmp_path: Path) -> None:
    with MockServer() as server:
        sizes = [flag for size in (1, 5, 20) for flag in ("--rows-per-call", size)]
        output = finish(start(server, tmp_path / "job", 10_000, *sizes, concurrency=32))
    found = {run.info.run_name: run.data.metrics for run in runs(EXPERIMENT, "FINISHED")}
    one, five, twenty = (found[f"{size}-rows-per-call"] for size in (1, 5, 20))
    assert one["llm_calls"] == one["distinct_texts"] == 7_000
    assert 1_400 <= five["llm_calls"] <= 1_402 and 350 <= twenty["llm_calls"] <= 352
    assert twenty["prompt_tokens"] < five["prompt_tokens"] < one["prompt_tokens"]
    assert twenty["accuracy"] < five["accuracy"] < one["accuracy"], "the small mock loses its place in long batches"
    assert "95 % interval" in output
    check_every_row_once(tmp_path / "job", 10_000)


@pytest.mark.timeout(1_800)
def test_the_memory_of_the_driver_stays_flat(tmp_path: Path) -> None:
    peaks = {}
    with MockServer() as server:
        for rows in (10_000, 100_000):
            finish(start(server, tmp_path / str(rows), rows, "--rows-per-call", 100, concurrency=32))
            newest, *_ = [run for run in runs(EXPERIMENT, "FINISHED") if run.info.run_name == "100-rows-per-call"]
            assert newest.data.metrics["rows"] == rows
            peaks[rows] = newest.data.metrics["driver_peak_mb"]
    assert peaks[100_000] <= 1.1 * peaks[10_000], peaks


def test_the_limit_per_minute_holds_over_all_workers(run_command, spark, tmp_path: Path) -> None:
    """600 a minute: 10 a second, by two tasks that know nothing of each other; retries count."""
    given = flags(num_rows=430, output=tmp_path / "job", rows_per_call=1, compare_rows=0, trace="off")
    assert run_command(main, *given, *flags(max_requests_per_minute=600, mock_faults="429:0.1")).exit_code == 0
    sent = sorted(call["started_ns"] / 1e9 for line in calls(tmp_path / "job") for call in line["calls"])
    # Both tasks send between these two moments: on a busy machine one begins seconds after the other.
    ours = [moment for moment in sent if sent[0] + 5 <= moment <= sent[-1] - 5]
    per_minute = (len(ours) - 1) / (ours[-1] - ours[0]) * 60
    print(f"{len(sent)} requests, {per_minute:.1f} a minute while both tasks were sending")
    assert 300 < per_minute <= 600 * 1.05, "slower is the machine's, faster is ours"
    for begin in sent:  # no burst either: any twelve seconds
        assert sum(begin <= moment < begin + 12 for moment in sent) <= 120 * 1.05
    assert mlflow.get_experiment_by_name(EXPERIMENT)
