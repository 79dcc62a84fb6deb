"""7.3a Halve p95 and double the throughput of a service.

The service answers one request after the other, although its model could answer several at once. Measure it as it is,
change handle in a second version so that nobody holds up anybody else, and measure that: p95 at most half of before, at
least twice the requests per second, the same answers, and every request a trace.

Run it:   uv run python genai/exercises/let_others_in.py
Check:    uv run mlflow-learn check 7.3a
Look at:  uv run mlflow ui  ->  7-production  ->  Training runs  ->  before and after: p95_ms and requests_per_second
Docs:     https://mlflow.org/docs/latest/genai/serving/agent-server/
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import httpx
import mlflow
from fastapi import FastAPI
from mlflow.entities import SpanType

from utils.evaluation import latency_percentiles
from utils.exercise_cli import exercise_command
from utils.local_services import in_thread

REQUESTS, CLIENTS = 24, 8
MODEL_SECONDS = 0.1


@mlflow.trace(name="answer-request", span_type=SpanType.AGENT)
def answer(number: int) -> str:
    """A call that waits for a model; many of them may wait at the same time."""
    time.sleep(MODEL_SECONDS)
    return f"answer {number}"


def before() -> FastAPI:
    app = FastAPI()

    @app.get("/ask")
    async def handle(number: int) -> str:
        return answer(number)

    return app


def after() -> FastAPI:
    # Your turn: the same service, in which a request that waits holds up no other.
    return before()


def measure(name: str, build: Callable[[], Any]) -> dict[str, float]:
    """All requests, CLIENTS at once, as a run; its traces name it."""
    with mlflow.start_run(run_name=name) as run, mlflow.tracing.context(tags={"measured_in": run.info.run_id}):
        with in_thread(build()) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(CLIENTS) as pool:

            def ask(number: int) -> float:
                begun = time.perf_counter()
                assert client.get("/ask", params={"number": number}).json() == f"answer {number}"
                return (time.perf_counter() - begun) * 1000

            begun = time.perf_counter()
            times = list(pool.map(ask, range(REQUESTS)))
            per_second = REQUESTS / (time.perf_counter() - begun)
        mlflow.flush_trace_async_logging()
        figures = {"p95_ms": latency_percentiles(times)["p95"], "requests_per_second": per_second}
        mlflow.log_metrics({**figures, "requests": REQUESTS})
    return figures


@exercise_command("7.3a")
def main() -> None:
    for name, build in (("before", before), ("after", after)):
        figures = measure(name, build)
        click.echo(f"{name}: p95 {figures['p95_ms']:.0f} ms, {figures['requests_per_second']:.1f} requests/s")


if __name__ == "__main__":
    main()
