"""`mlflow-learn doctor`: look at everything a lesson needs, and say what to type where something is missing."""

import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from utils.cli import show_table
from utils.errors import InputError, UserError
from utils.learn.status import open_store
from utils.learn.ui import require_free
from utils.mlflow_setup import ROOT, default_tracking_uri, sqlite_path
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions

PACKAGES = ("mlflow", "langchain", "llama-index", "pyspark", "pandas", "openai", "click")
EXTRAS = {
    "huggingface": "llama_index.embeddings.huggingface",
    "optimize": "dspy",
    "frameworks": "pydantic_ai",
    "local": "xllamacpp",
}
LEAST_DISK_GIB = 2
UI_PORT = 5000  # where plain `mlflow ui` listens


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, `no` (lessons fail until it is cured) or `off` (only what needs it fails)."""

    what: str
    state: str
    found: str
    cure: str = ""


def examine(tracking_uri: str | None, ollama_url: str, openai_base_url: str | None) -> list[Check]:
    """Every check, in the order in which a learner needs the things."""
    return [
        *_versions(),
        _bytecode(),
        _java(),
        _store(tracking_uri),
        _folder(tracking_uri),
        _port(UI_PORT),
        _disk(),
        *_extras(),
        _key(),
        _token("mock", "no", BackendOptions("mock")),
        _token("ollama", "off", BackendOptions("ollama", ollama_url=ollama_url)),
        *_own_server(openai_base_url),
    ]


def show_findings(checks: list[Check]) -> int:
    """Print the checks. Returns the exit status: 1 when something that every learner needs is missing."""
    show_table([{"check": c.what, "state": c.state, "found": c.found, "cure": c.cure} for c in checks])
    return int(any(check.state == "no" for check in checks))


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", platform.python_version())
    for package in PACKAGES:
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "no", "not installed", "uv sync")


def _bytecode() -> Check:
    """Without compiled files Python compiles all of MLflow at each start."""
    spec = importlib.util.find_spec("mlflow.tracking.fluent")
    if sys.dont_write_bytecode and not (spec and spec.cached and Path(spec.cached).exists()):
        found = "PYTHONDONTWRITEBYTECODE is set and the packages are not compiled: every start is slow"
        return Check("start", "off", found, "uv sync --compile-bytecode")
    return Check("start", "ok", "packages are compiled, or are at their first import")


def _java() -> Check:
    from utils.spark_utils import find_java, java_version

    try:
        home = find_java()
    except UserError as error:
        return Check("java", "no", error.problem, error.cure)
    return Check("java", "ok", f"Java {java_version(home / 'bin' / 'java')}")


def _store(tracking_uri: str | None) -> Check:
    uri = tracking_uri or default_tracking_uri()
    try:
        store = open_store(uri)  # opened, not only reached: its tables may be another version's
    except UserError as error:
        return Check("store", "no", error.problem, error.cure)
    return Check("store", "ok", uri if store else f"{uri} (made by the first lesson)")


def _folder(tracking_uri: str | None) -> Check:
    """Plain `mlflow ui` takes the store of the folder in which it is typed: elsewhere it shows an empty one."""
    uri, here = tracking_uri or default_tracking_uri(), Path.cwd()
    if os.environ.get("MLFLOW_BACKEND_STORE_URI") == uri or (
        uri.startswith("sqlite:") and sqlite_path(uri).parent == here
    ):
        return Check("folder", "ok", "plain mlflow ui shows this store")
    return Check("folder", "off", f"plain mlflow ui typed in {here} shows another store", "uv run mlflow-learn ui")


def _port(port: int) -> Check:
    try:
        require_free(port)
    except InputError as error:
        return Check(f"port {port}", "off", f"{error.problem}, perhaps by an mlflow ui that still runs", error.cure)
    return Check(f"port {port}", "ok", "free for mlflow ui")


def _disk() -> Check:
    free = shutil.disk_usage(ROOT).free / 2**30
    enough = free >= LEAST_DISK_GIB
    cure = "" if enough else "free some space: uv cache prune, or old runs with mlflow gc"
    return Check("disk", "ok" if enough else "no", f"{free:.1f} GiB free", cure)


def _extras() -> Iterator[Check]:
    for extra, module in EXTRAS.items():
        package = module.split(".")[0]
        installed = importlib.util.find_spec(package) and importlib.util.find_spec(module)
        cure = "" if installed else f"uv sync --extra {extra}"
        yield Check(
            f"extra {extra}",
            "ok" if installed else "off",
            "installed" if installed else "not installed",
            cure,
        )


def _key() -> Check:
    if os.environ.get("OPENAI_API_KEY"):
        return Check("OPENAI_API_KEY", "ok", "set")
    return Check("OPENAI_API_KEY", "off", "not set", "export OPENAI_API_KEY=…   (only for --llm-type openai)")


def _own_server(openai_base_url: str | None) -> Iterator[Check]:
    if openai_base_url:
        yield _token("openai server", "no", BackendOptions("openai", openai_base_url=openai_base_url))


def _token(what: str, state_if_down: str, given: BackendOptions) -> Check:
    """One short answer, timed: the only proof that a model server works."""
    from utils.llm_backends import open_backend

    try:
        with open_backend(given) as llm:
            seconds, problem = _timed(lambda: _first_token(llm))
    except UserError as error:
        return Check(what, state_if_down, error.problem, error.cure)
    if problem:
        return Check(what, state_if_down, problem, "look at the server's own log")
    return Check(what, "ok", f"{llm.model} answered in {seconds:.2f} s")


def _first_token(llm) -> None:  # type: ignore[no-untyped-def]
    message = {"role": "user", "content": "Say hello."}
    with llm.openai_client(max_retries=0, timeout=30) as client:
        client.chat.completions.create(model=llm.model, messages=[message], max_tokens=1)


def _timed(call: Callable[[], None]) -> tuple[float, str]:
    """Seconds, and what went wrong (empty when nothing did)."""
    from openai import OpenAIError

    started = time.perf_counter()
    try:
        call()
    except OpenAIError as error:
        return 0.0, describe_failed_call(error) or type(error).__name__
    return time.perf_counter() - started, ""
