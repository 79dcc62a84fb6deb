"""Exercise 7.3a solved: requests that wait for the model no longer hold up each other.

Begin with:  genai/exercises/let_others_in.py
Run it:      uv run python tests/solutions/let_others_in.py
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
    """A plain function: FastAPI calls it in a thread of its own, and the event loop goes on with the others."""
    app = FastAPI()

    @app.get("/ask")
    def handle(number: int) -> str:
        return answer(number)

    return app


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
