"""How fast the Spark mapper asks, against a stub whose every answer takes 100 ms.

    uv run python benchmarks/spark_llm.py
    uv run python benchmarks/spark_llm.py --rows 6000 --repeat 3

Every figure is a ratio within one run: rows per second over concurrency ÷ latency, or traced over untraced speed.
The stub is a process of its own, since a driver that computes meanwhile would starve a server thread. Workers are
started before the clock is.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from spark.spark_langchain_multiple_mode import Question, open_caller, write_spans
from utils.cli import show_table
from utils.llm_backends import BackendSettings
from utils.mlflow_setup import use_store
from utils.sentiment_job import TEMPLATE, Classified
from utils.spark_mapper import AHEAD, map_prompts
from utils.spark_utils import spark_session

LABELS = ("positive", "negative", "neutral")
WARM_ROWS = 64


@contextmanager
def stub(latency_ms: float) -> Iterator[str]:
    """The mock server in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "utils.mock_llm", "--port", "0", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(30)


class Bench:
    """One session, one stub; measures the mapper with a client and a share of traced rows."""

    def __init__(
        self, session: Any, base_url: str, rows: int, concurrency: int, ahead: int, ideal: float, folder: Path
    ) -> None:
        self.session, self.rows, self.concurrency, self.ahead = session, rows, concurrency, ahead
        self.folder, self.ideal = folder, ideal  # rows/s
        self.settings = BackendSettings("mock", "mock-small", base_url)
        self.round = 0

    def seconds(self, client: str, share: float, rows: int | None = None) -> tuple[float, int]:
        """Seconds for all rows, spans written by the driver included; and how many spans."""
        self.round += 1
        count = rows or self.rows
        texts = [(f"Parcel {i} of round {self.round} was fine.",) for i in range(count)]
        frame = self.session.createDataFrame(texts, "text string")
        question = Question(self.settings, TEMPLATE, LABELS, client)
        started = time.perf_counter()
        if not share:
            return self._map(frame, question, started), 0
        with mlflow.start_span("job", span_type=SpanType.WORKFLOW) as root:
            answers = self._answers(frame, question)
            spans = write_spans(root, question, Classified(answers, answers, 0), share)
        mlflow.flush_trace_async_logging(terminate=True)  # as the command does at its end
        seconds = time.perf_counter() - started
        stored = len(mlflow.get_trace(root.trace_id).data.spans) - 1
        mlflow.tracing.reset()  # the next round begins as a new command does
        assert stored == spans, f"{spans} spans written, {stored} in the store"
        return seconds, spans

    def _map(self, frame, question: Question, started: float) -> float:  # type: ignore[no-untyped-def]
        self._answers(frame, question)
        return time.perf_counter() - started

    def _answers(self, frame, question: Question):  # type: ignore[no-untyped-def]
        caller = partial(open_caller, question, None, 0.0)
        answers: Any = map_prompts(
            frame, caller, self.folder / str(self.round), concurrency=self.concurrency, ahead=self.ahead
        ).toPandas()
        assert answers["answer"].notna().all()
        return answers


VARIANTS: dict[str, tuple[str, float]] = {
    "OpenAI SDK, untraced": ("openai", 0.0),
    "LangChain, untraced": ("langchain", 0.0),
    "OpenAI SDK, a span for every call": ("openai", 1.0),
    "OpenAI SDK, 5 % of the rows traced": ("openai", 0.05),
}


def measure(bench: Bench, repeat: int) -> list[dict[str, object]]:
    """The variants in turn, so that a slow moment of the machine hits them all; medians."""
    for client in ("openai", "langchain"):
        bench.seconds(client, 0.0, WARM_ROWS)
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    cpu: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(repeat):
        for name, (client, share) in VARIANTS.items():
            before = busy_cores()
            seconds, _spans = bench.seconds(client, share)
            taken[name].append(seconds)
            cpu[name].append((busy_cores() - before) / seconds)
    untraced = statistics.median(taken["OpenAI SDK, untraced"])
    return [row(bench, name, taken[name], cpu[name], untraced) for name in VARIANTS]


def row(bench: Bench, name: str, taken: list[float], cpu: list[float], untraced: float) -> dict[str, object]:
    median = statistics.median(taken)
    speed = bench.rows / median
    return {
        "variant": name,
        "rows/s": speed,
        "of the ideal": speed / bench.ideal,
        "of untraced": untraced / median,
        "busy cores": statistics.median(cpu),
    }


def busy_cores() -> float:
    """CPU seconds that the whole machine has used so far: shows when the cores, not the mapper, are the limit."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields)) - idle) / os.sysconf("SC_CLK_TCK")


@click.command()
@click.option("--rows", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--ahead", type=click.IntRange(min=0), default=AHEAD, show_default=True, help="As in map_prompts.")
@click.option("--latency-ms", type=float, default=100.0, show_default=True)
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here, too.")
def main(rows: int, concurrency: int, ahead: int, latency_ms: float, repeat: int, json_path: Path | None) -> None:
    ideal = concurrency / (latency_ms / 1000)
    with (
        tempfile.TemporaryDirectory() as folder,
        stub(latency_ms) as base_url,
        spark_session("local[2]", "benchmark") as session,
    ):
        use_store(f"sqlite:///{folder}/mlflow.db", "benchmark")
        figures = measure(Bench(session, base_url, rows, concurrency, ahead, ideal, Path(folder)), repeat)
    show_table(figures, title=f"{rows} rows, {concurrency} in flight, {latency_ms:g} ms, {os.cpu_count()} cores")
    if json_path:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "mlflow": mlflow.__version__}
        json_path.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
