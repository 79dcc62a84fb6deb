"""The flags that lessons share, and the small frozen records they become."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import click

from utils.embeddings import EMBED_TYPES

LLM_TYPES = ("mock", "local", "ollama", "openai")

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


@dataclass(frozen=True)
class BackendOptions:
    """Which model answers, and how it is reached."""

    llm_type: str = "mock"
    model: str | None = None
    ollama_model: str = "llama3.2"
    ollama_url: str = "http://localhost:11434"
    openai_base_url: str | None = None
    temperature: float = 0.0
    request_timeout: float = 60.0  # seconds
    mock_latency_ms: float = 0.0
    mock_faults: str = ""


@dataclass(frozen=True)
class SparkOptions:
    """Which cluster computes, and how many requests are in flight over all its tasks."""

    spark_master: str = "local[*]"
    concurrency: int = 16


@dataclass(frozen=True)
class InputOptions:
    """The learner's own rows instead of the sample reviews."""

    input: Path | None = None
    text_column: str = "text"
    label_column: str | None = None


@dataclass(frozen=True)
class EmbedOptions:
    """Which model turns text into vectors."""

    embed_type: str | None = None
    embed_model: str | None = None


def store_options(command: F) -> F:
    """--tracking-uri and --experiment-name."""
    return _add(
        command,
        click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True,
                     help="MLflow store; default: mlflow.db in the checkout's root."),
        click.option("--experiment-name", envvar="MLFLOW_EXPERIMENT_NAME", show_envvar=True,
                     help="Default: the module's experiment."),
    )  # fmt: skip


def backend_options(default_llm_type: str) -> Callable[[F], F]:
    """--llm-type and everything that says how a backend is reached."""
    default = BackendOptions()
    return lambda command: _add(
        command,
        click.option("--llm-type", type=click.Choice(LLM_TYPES), default=default_llm_type, envvar="LLM_TYPE",
                     show_default=True, show_envvar=True, help="Which kind of server answers."),
        click.option("--model", envvar="LLM_MODEL", show_envvar=True,
                     help="Model name; wins over --ollama-model. Mock: mock-small (default) or mock-large. Local: "
                     "a GGUF file; default: LOCAL_LLM_PATH, else a small model that is fetched once."),
        click.option("--ollama-model", default=default.ollama_model, envvar="OLLAMA_MODEL", show_default=True,
                     show_envvar=True, help="Model that Ollama has pulled."),
        click.option("--ollama-url", default=default.ollama_url, envvar="OLLAMA_URL", show_default=True,
                     show_envvar=True, help="Where Ollama listens."),
        click.option("--openai-base-url", envvar="OPENAI_BASE_URL", show_envvar=True,
                     help="Any server that speaks OpenAI's API, up to and with /v1."),
        click.option("--temperature", type=click.FloatRange(0, 2), default=default.temperature, show_default=True,
                     help="0: the most likely answer."),
        click.option("--request-timeout", type=click.FloatRange(min=0, min_open=True),
                     default=default.request_timeout, show_default=True,
                     help="Seconds before a request is given up; local: 600 where none are given."),
        click.option("--mock-latency-ms", type=click.FloatRange(min=0), default=default.mock_latency_ms,
                     help="Mock: how long each answer takes."),
        click.option("--mock-faults", default="", metavar="KIND:SHARE,…",
                     help='Mock: failures on demand, e.g. "429:0.2,timeout:0.05,500:0.05,garbage:0.1".'),
    )  # fmt: skip


def spark_options(command: F) -> F:
    """--spark-master and --concurrency."""
    default = SparkOptions()
    return _add(
        command,
        click.option("--spark-master", default=default.spark_master, envvar="SPARK_MASTER", show_default=True,
                     show_envvar=True, help="local[*], local-cluster[2,1,1024], spark://HOST:7077."),
        click.option("--concurrency", type=click.IntRange(min=1), default=default.concurrency, show_default=True,
                     help="LLM requests in flight, over all partitions."),
    )  # fmt: skip


def input_options(command: F) -> F:
    """--input, --text-column and --label-column."""
    return _add(
        command,
        click.option("--input", type=click.Path(path_type=Path), metavar="FILE",
                     help="Your own rows: CSV, JSONL or Parquet; default: the sample reviews."),
        click.option("--text-column", default="text", show_default=True, help="Column of --input that holds the text."),
        click.option("--label-column", help="Column of --input that holds the right label, if there is one."),
    )  # fmt: skip


def embed_options(command: F) -> F:
    """--embed-type and --embed-model."""
    return _add(
        command,
        click.option("--embed-type", type=click.Choice(EMBED_TYPES),
                     help="Default: lexical with mock, fastembed with a real backend."),
        click.option("--embed-model", help="Model name, or the folder of a downloaded model (fastembed)."),
    )  # fmt: skip


def take(record: type[R], params: dict[str, Any]) -> R:
    """Move the flags that belong to a record out of click's parameters."""
    return record(**{field.name: params.pop(field.name) for field in fields(record)})  # type: ignore[arg-type]


def _add(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):  # click lists options in the order in which they were applied, last first
        command = option(command)
    return command
