"""7.1 to 7.3 as one story, every step a process of its own: registered, promoted, served, taken back while requests
keep coming, stopped. On SQLite, and on a tracking server with PostgreSQL, as in genai/deployment/compose.yaml."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest

from genai.deployment.serve_agent import QUESTION
from tests.conftest import ROOT
from tests.postgres import postgres
from utils.mlflow_server import mlflow_server
from utils.serving.keys import KeyRing
from utils.serving.service import Service, service_process
from utils.serving.trial import Load, ask, question_body, send_load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PACE = 15.0  # requests a second, each with a trace


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path, monkeypatch) -> Iterator[tuple[str, str | None]]:
    """Where commands find the store, and the database behind the server if there is one."""
    monkeypatch.chdir(tmp_path)  # a server keeps its artifacts below
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/mlflow.db", None
        return
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with postgres() as database, mlflow_server(database) as address:
        yield address, database


def typed(store: str, command: str, *flags: str) -> str:
    program = Path(sys.executable).with_name(command)
    done = subprocess.run([program, "--tracking-uri", store, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def serve(store: str, ring: KeyRing):
    lesson = str(ROOT / "genai" / "deployment" / "serve_agent.py")
    flags = ["--serve", "--port", "0", "--keys", str(ring.path), "--burst", "10000", "--follow-seconds", "0.5"]
    flags += ["--traces-per-second", "1000"]  # all of them, also where a busy machine makes requests come in heaps
    return service_process([lesson, *flags, "--tracking-uri", store])


def rolled_back_under_load(store: str, service: Service, key: str) -> tuple[Load, float]:
    """The load, and the moment at which the command had ended."""
    stop, loads = threading.Event(), []

    def send() -> None:
        loads.append(send_load(service.url, [key], 10_000, 4, lambda _: question_body(QUESTION), PACE, stop))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        time.sleep(2)
        assert "back from version 2 to version 1" in typed(store, "mlflow-promote-agent", "--rollback")
        moved = time.time()
        time.sleep(6)
    finally:
        stop.set()
        sender.join(120)
    return loads[0], moved


def test_registered_promoted_served_taken_back_and_stopped(place, tmp_path):
    store, database = place
    assert "docs-agent" in typed(store, "mlflow-register-agent")
    assert "goes into production" in typed(store, "mlflow-promote-agent")
    ring, begun = KeyRing(tmp_path / "keys.json"), int(time.time() * 1000)
    key = ring.add("story")
    with serve(store, ring) as service:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            assert ask(client, key, question_body(QUESTION)).version == "2"
            load, moved = rolled_back_under_load(store, service, key)
            after = ask(client, key, question_body(QUESTION))
        assert service.stop() == 0
    assert set(load.counts) == {"200"} and len(load.answers) > 50, "a request was lost"
    assert after.version == "1" and {answer.version for answer in load.answers} == {"1", "2"}
    assert min(answer.begun for answer in load.answers if answer.version == "1") - moved < 5
    assert all(answer.version == "1" for answer in load.answers if answer.begun > moved + 5)
    assert "rolled back" in typed(store, "mlflow-promote-agent", "--history")
    check_traces(store, database, begun, len(load.answers) + 2)


def check_traces(store: str, database: str | None, begun: int, asked: int) -> None:
    mlflow.set_tracking_uri(store)
    where = mlflow.get_experiment_by_name("7-production").experiment_id
    wanted = f"tags.lesson = '7.3' AND trace.timestamp_ms >= {begun}"
    found = mlflow.search_traces(
        locations=[where], filter_string=wanted, include_spans=False, return_type="list", max_results=5000
    )
    assert len(found) == asked and {trace.info.tags["agent_version"] for trace in found} == {"1", "2"}
    if database:
        import psycopg

        with psycopg.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM trace_tags WHERE key = 'agent_version'")
            assert cursor.fetchone() == (asked,)
