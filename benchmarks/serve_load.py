"""What the guards of lesson 7.3 cost: the served agent beside bare AgentServer and beside the same agent in process.

    uv run python benchmarks/serve_load.py
    uv run python benchmarks/serve_load.py --clients 10 --requests 100 --json figures.json

The agent is 7.1's with the mock inside its process, so that the time is that of serving. Three ways, each without
traces and with all of them, and the last also with those that it takes by default (25 a second): `in process` calls
the agent's method from as many threads as there are clients, `AgentServer` is MLflow's server with the two functions as
its documentation writes them, `served` is mlflow-serve-agent --serve. Callers and service share the machine: compare
the ways, not the milliseconds. `added p50` is what serving adds at 50 requests a second, over one caller in process at
the same pace, who for `default` leaves no traces. The last table is how long the comparison of keys takes for keys that
are wrong in different places.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.types.responses import ResponsesAgentRequest

from genai.deployment.register_agent import FIRST, Settings, log_agent, register
from genai.deployment.serve_agent import ALIAS, NAME, QUESTION
from utils.cli import show_table
from utils.evaluation import latency_percentiles
from utils.llm_backends import open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.sample_documents import CORPUS
from utils.serving.keys import KeyRing
from utils.serving.service import READY, listen_at, serve, service_process
from utils.serving.trial import Load, question_body, send_load

ROOT = Path(__file__).resolve().parent.parent
PACE = 50.0  # requests a second, for the added p50
WAYS = {"in process": ("none", "all"), "AgentServer": ("none", "all"), "served": ("none", "default", "all")}
GENEROUS = ["--requests-per-minute", "1000000", "--burst", "1000000"]


def load_agent() -> Any:
    return mlflow.pyfunc.load_model(f"models:/{NAME}@{ALIAS}").get_raw_model()


def serve_bare() -> None:
    """MLflow's server as its documentation sets it up, without a guard."""
    from mlflow.genai.agent_server import AgentServer, invoke, stream

    agent = load_agent()
    invoke()(agent.predict)
    stream()(agent.predict_stream)
    app = AgentServer("ResponsesAgent").app
    serve(app, listen_at("127.0.0.1", 0), 30, lambda address: click.echo(f"{READY}{address}"))


@contextmanager
def service_of(way: str, store: str, folder: Path, traces: str) -> Iterator[tuple[str, str]]:
    """Address and key of a service in a process of its own."""
    ring = KeyRing(folder / f"keys-{way}-{traces}.json")
    key = ring.add("load")
    environment = {"MLFLOW_TRACKING_URI": store, "MLFLOW_TRACE_SAMPLING_RATIO": "0" if traces == "none" else "1"}
    command = [__file__, "--bare"]
    if way == "served":
        command = [str(ROOT / "genai" / "deployment" / "serve_agent.py"), "--serve", "--port", "0"]
        command += ["--keys", str(ring.path), *GENEROUS]
        command += ["--traces-per-second", "100000"] if traces == "all" else []
    with service_process(command, environment) as service:
        yield service.url, key


def call_in_process(agent: Any, clients: int, requests: int, per_second: float | None = None) -> dict[str, float]:
    """The same questions without a server: latencies in milliseconds, and requests per second."""
    request, begun = ResponsesAgentRequest(**question_body(QUESTION)), time.perf_counter()

    def ask(number: int) -> float:
        if per_second and (early := begun + number / per_second - time.perf_counter()) > 0:
            time.sleep(early)
        start = time.perf_counter()
        agent.predict(request)
        return (time.perf_counter() - start) * 1000

    def first(_: int) -> float:
        start, pieces = time.perf_counter(), agent.predict_stream(request)
        next(pieces)
        waited = (time.perf_counter() - start) * 1000
        for _piece in pieces:  # a stream that is left in the middle is another matter
            pass
        return waited

    def in_threads(call: Callable[[int], float], count: int) -> list[float]:
        # Each in a copy of this context: whether traces are on is a variable of it, which threads do not inherit.
        pending = [pool.submit(copy_context().run, call, number) for number in range(count)]
        return [each.result() for each in pending]

    with ThreadPoolExecutor(clients) as pool:
        taken = in_threads(ask, requests)
        seconds = time.perf_counter() - begun
        firsts = [] if per_second else in_threads(first, requests // 4)
    figures = {"requests/s": requests / seconds, **named(latency_percentiles(taken))}
    return figures | ({"first p50 ms": statistics.median(firsts)} if firsts else {}) | {"failed": 0}


def named(percentiles: dict[str, float]) -> dict[str, float]:
    return {f"{name} ms": percentiles[name] for name in ("p50", "p95", "p99")}


def call_service(url: str, key: str, clients: int, requests: int, per_second: float | None = None) -> dict[str, float]:
    """Whole answers, then a quarter as many streams for the time to the first piece."""
    load = send_load(url, [key], requests, clients, lambda _: question_body(QUESTION), per_second)
    figures = {"requests/s": sum(a.ok for a in load.answers) / load.seconds, **named(percentiles_of(load))}
    failed = sum(not answer.ok for answer in load.answers)
    if not per_second:
        streams = send_load(url, [key], requests // 4, clients, lambda _: question_body(QUESTION, stream=True))
        figures["first p50 ms"] = statistics.median(answer.first_ms for answer in streams.answers if answer.ok)
        failed += sum(not answer.ok for answer in streams.answers)
    return {**figures, "failed": failed}


def percentiles_of(load: Load) -> dict[str, float]:
    return latency_percentiles([answer.ms for answer in load.answers if answer.ok])


def measure(way: str, traces: str, clients: tuple[int, ...], requests: int, store: str, folder: Path) -> list[dict]:
    """A row for each number of clients, and one at a steady pace."""
    rows: list[dict] = []

    def add(count: int, figures: dict[str, float], pace: str) -> None:
        row = {"way": way, "traces": traces, "clients": count, "pace": pace, **figures}
        rows.append({"first p50 ms": None, **row})

    if way == "in process":
        agent = load_agent()
        with mlflow.tracing.context(enabled=None if traces == "all" else False):
            call_in_process(agent, 2, 20)
            mlflow.flush_trace_async_logging()
            # One caller: ten threads of this process would stand in the way of the agent that they call.
            add(1, call_in_process(agent, 1, requests, PACE), f"{PACE:g}/s")
            for count in clients:
                add(count, call_in_process(agent, count, requests), "as fast as it goes")
        mlflow.flush_trace_async_logging()
        return rows
    with service_of(way, store, folder, traces) as (url, key):
        call_service(url, key, 2, 20)
        # The steady pace first: after the loads the store still has their traces to take.
        add(10, call_service(url, key, 10, requests, PACE), f"{PACE:g}/s")
        for count in clients:
            add(count, call_service(url, key, count, requests), "as fast as it goes")
    return rows


def time_keys(folder: Path, repeat: int = 4_000) -> list[dict]:
    """Nanoseconds of one look for a key, medians; interleaved, so that a busy moment hits all of them."""
    ring = KeyRing(folder / "timed.json")
    key = [ring.add(f"key-{number}") for number in range(10)][5]
    other = {"a": "b"}.get(key[0], "a")
    tried = {"right": key, "first letter wrong": other + key[1:], "last letter wrong": key[:-1] + other, "short": "x"}
    taken: dict[str, list[int]] = {name: [] for name in tried}
    for _ in range(repeat):
        for name, presented in tried.items():
            begun = time.perf_counter_ns()
            ring.find(presented)
            taken[name].append(time.perf_counter_ns() - begun)
    return [{"key": name, "median ns": statistics.median(each)} for name, each in taken.items()]


def prepare(folder: Path) -> str:
    """A store with one version of the agent in production."""
    store = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(store)
    mlflow.create_experiment("7-production", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("7-production")
    with open_backend("mock") as llm, mlflow.start_run():
        register(log_agent(Settings(FIRST, 1), BackendOptions(), EmbedOptions(), CORPUS), CORPUS, llm)
    MlflowClient().set_registered_model_alias(NAME, ALIAS, "1")
    return store


@click.command()
@click.option("--clients", multiple=True, type=click.IntRange(1), default=(10, 50, 200), show_default=True)
@click.option("--requests", type=click.IntRange(20), default=400, show_default=True, help="For each figure.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here, too.")
@click.option("--bare", is_flag=True, hidden=True)
def main(clients: tuple[int, ...], requests: int, json_path: Path | None, bare: bool) -> None:
    if bare:
        serve_bare()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = prepare(folder)
        rows = [
            row for way, several in WAYS.items() for traces in several
            for row in measure(way, traces, clients, requests, store, folder)
        ]  # fmt: skip
        keys = time_keys(folder)
    columns = ("way", "traces", "clients", "pace", "requests/s", "p50 ms", "p95 ms", "p99 ms", "first p50 ms", "failed")
    shown = [{name: row[name] for name in columns} for row in rows]
    show_table(shown, title=f"{requests} requests each, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    paced = {(row["way"], row["traces"]): row["p50 ms"] for row in rows if row["pace"] != "as fast as it goes"}
    added = [
        {"way": way, "traces": traces, "added p50 ms": p50 - paced["in process", "all" if traces == "all" else "none"]}
        for (way, traces), p50 in paced.items() if way != "in process"
    ]  # fmt: skip
    show_table(added, title=f"Added to a call in process, at {PACE:g} requests/s")
    show_table(keys, title="Comparing a key with the ten that are known")
    if json_path:
        json_path.write_text(json.dumps({"load": shown, "added": added, "keys": keys}, indent=1))


if __name__ == "__main__":
    main()
