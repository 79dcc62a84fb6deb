"""Where MLflow's data is, and whether it can be used: tracking URI, store checks, experiments, autolog switches."""

import hashlib
import logging
import os
import re
import socket
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from utils.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Experiment

ROOT = Path(__file__).resolve().parent.parent  # the checkout: plain `mlflow ui` there shows the default store
STATE_DIR = ROOT / ".mlflow-learn"  # answers, indexes, caches, checkpoints
PROBE_SECONDS = 3
LOCK_FILES = 64
TURN_SECONDS = 120  # another process may be creating the tables, on a busy machine
SQL_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# MLflow's name → the library, which autolog has imported once it was on; some are only there with an extra.
AUTOLOG_FLAVORS = {
    "sklearn": "sklearn",
    "langchain": "langchain_core",
    "llama_index": "llama_index.core",
    "openai": "openai",
    "dspy": "dspy",
    "pydantic_ai": "pydantic_ai",
    "smolagents": "smolagents",
}


class StoreError(UserError):
    """The tracking store cannot be used as it is."""


def default_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite file in the checkout's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def use_store(tracking_uri: str | None, experiment_name: str) -> "Experiment":
    """Point MLflow at the store and the experiment, creating both when they do not exist yet.

    The store is created here, in one process, and one command after the other: of several that open a SQLite store
    for the first time at once, all but one fail.

    Raises:
        StoreError: the store is a folder of the old kind, read-only, out of date, no database, or does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = tracking_uri or default_tracking_uri()
    check_store(uri)
    quiet_housekeeping()
    if mlflow.get_tracking_uri() != uri:  # setting the same URI again would close the queue of traces
        mlflow.set_tracking_uri(uri)
    try:
        with in_turn(sqlite_path(uri)) if uri.startswith("sqlite:") else nullcontext():
            return _open_experiment(experiment_name, uri)
    except (MlflowException, ModuleNotFoundError) as error:
        raise explain(error, uri, experiment_name) from error


def quiet_housekeeping() -> None:
    """Drop messages about MLflow's own tables and queues, about pip, which uv's environments do not have, and about
    LlamaIndex's retries, which repeat the server's words (and with some servers the key)."""
    for name in (
        "mlflow.store.db.utils",
        "alembic.runtime.migration",
        "mlflow.tracing.export.async_export_queue",
        "mlflow.tracking.fluent",
        "mlflow.models.evaluation.utils.trace",
        "mlflow.pyfunc",  # "Predicting on input example", at each log_model
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Reading a pandas DataFrame as a dataset asks PySpark, where that is installed, whether it is one of its own.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support")
    logging.getLogger("llama_index.llms.openai.utils").setLevel(logging.ERROR)
    logging.getLogger("mlflow.utils.environment").addFilter(_no_pip_message)


def _no_pip_message(record: logging.LogRecord) -> bool:
    return "pip version" not in record.getMessage()


def check_store(uri: str) -> None:
    """Find out quickly whether a store can be read and written, without importing MLflow.

    Raises:
        StoreError: with the cure.
    """
    try:
        parts = urlsplit(uri)
        scheme, _ = parts.scheme, parts.port
    except ValueError as error:
        raise StoreError(f"{uri} is no address ({error})", "check --tracking-uri") from error
    if scheme in ("", "file") or (os.name == "nt" and len(scheme) == 1):
        folder = uri.removeprefix("file://").removeprefix("file:")
        raise StoreError(
            f"{uri} is a file store, which MLflow no longer writes to since 3.13",
            f"uv run mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db",
        )
    if scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in ("http", "https"):
        _check_server(uri)
    elif scheme.split("+")[0] in SQL_PORTS:
        _check_reachable(uri)


def sqlite_path(uri: str) -> Path:
    """`sqlite:///relative.db` and `sqlite:////absolute.db` to a path."""
    return Path(uri.removeprefix("sqlite:///").split("?")[0]).absolute()


def _check_sqlite(uri: str) -> None:
    if uri.removeprefix("sqlite://").strip("/") in ("", ":memory:"):
        raise StoreError(f"{uri} is gone when the command ends", "--tracking-uri sqlite:///FILE.db")
    path = sqlite_path(uri)
    if not path.exists() and (path.parent / "mlruns" / "0" / "meta.yaml").exists():
        raise StoreError(
            f"{path.parent / 'mlruns'} holds runs of an old file store, and {path.name} does not exist yet",
            f"uv run mlflow migrate-filestore --source {path.parent / 'mlruns'} --target {uri}   (or move it away)",
        )
    try:
        with in_turn(path):
            _probe_sqlite(path)
    except sqlite3.Error as error:
        cure = "--tracking-uri sqlite:////a/folder/you/can/write/mlflow.db"
        if "locked" in str(error):
            cure = "stop the other program that writes to it, then run the command again"
        raise StoreError(f"the store {path} cannot be written ({error})", cure) from error


def _probe_sqlite(path: Path) -> None:
    existed = path.exists()
    try:
        with closing(sqlite3.connect(path, timeout=PROBE_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            # A lock alone succeeds on some read-only media.
            connection.execute("CREATE TABLE _write_probe (x)")
            connection.rollback()
    finally:
        if not existed and path.exists() and path.stat().st_size == 0:
            path.unlink()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """One process after the other: of two that open a store which has no tables yet, one would fail.

    Raises:
        StoreError: another one took longer than TURN_SECONDS, or there is no folder for the lock.
    """
    from filelock import FileLock, Timeout

    # A few files for all stores: two that share one wait a moment for each other, and nothing piles up.
    user, store = (hashlib.sha256(str(each).encode()).hexdigest()[:8] for each in (Path.home(), path))
    name = f"mlflow-learn-{user}-{int(store, 16) % LOCK_FILES}.lock"
    try:
        lock = FileLock(Path(tempfile.gettempdir()) / name)
        lock.acquire(timeout=TURN_SECONDS)
    except Timeout as error:
        problem = f"another command has been opening {path} for {TURN_SECONDS} s"
        raise StoreError(problem, "stop it, then run the command again") from error
    except OSError as error:
        problem = f"the folder for temporary files cannot be used ({error})"
        raise StoreError(problem, "export TMPDIR=/a/folder/you/can/write") from error
    try:
        yield
    finally:
        lock.release()


def _check_server(uri: str) -> None:
    import httpx

    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreError(
            f"no MLflow server answers at {uri}",
            "start one: uv run mlflow server   (or leave --tracking-uri out to use the local store)",
        ) from error
    if answer.status_code in (401, 403):
        raise _account_refused(uri, answer.status_code)
    if answer.status_code != 200 or answer.text.strip() != "OK":  # a web page answers 200 on every path
        raise StoreError(
            f"{uri} is not an MLflow server (/health answers {answer.status_code})", "check --tracking-uri"
        )


def _account_refused(uri: str, status: int) -> StoreError:
    return StoreError(
        f"the MLflow server at {uri} refuses this account ({status})",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    )


def _check_reachable(uri: str) -> None:
    parts = urlsplit(uri)
    host, port = parts.hostname or "localhost", parts.port or SQL_PORTS[parts.scheme.split("+")[0]]
    try:
        socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise StoreError(
            f"no database answers at {host}:{port}", "start the database, or check --tracking-uri"
        ) from error


def _open_experiment(name: str, uri: str) -> "Experiment":
    import mlflow

    if uri.startswith("sqlite:") and mlflow.get_experiment_by_name(name) is None:
        # Artifacts go beside the database, wherever the command is typed and whatever the name holds ("/Shared/x").
        folder = sqlite_path(uri).parent / "mlruns" / re.sub(r"[^\w-]+", "_", name)
        mlflow.create_experiment(name, artifact_location=folder.as_uri())
    return mlflow.set_experiment(name)


def explain(error: Exception, uri: str, experiment_name: str = "") -> StoreError:
    """What MLflow's error about a store means to a learner, with the cure."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError):
        return StoreError(
            f"the package {error.name}, which reaches {urlsplit(uri).scheme}, is not installed",
            f"uv pip install {error.name}",
        )
    if refused := re.search(r"failed with error code (401|403)", text):
        return _account_refused(uri, int(refused[1]))
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return StoreError(
            f"the store {uri} was written by another version of MLflow", f"uv run mlflow db upgrade {uri}"
        )
    if "deleted experiment" in text:
        return StoreError(
            f"the experiment {experiment_name} is in the trash of {uri}",
            f"--experiment-name {experiment_name}-2   (or bring it back: uv run mlflow experiments restore --help)",
        )
    return StoreError(
        f"MLflow cannot use {uri}: {text.strip().splitlines()[0]}",
        "check --tracking-uri, or uv run mlflow-learn doctor",
    )


def switch_autolog_off() -> None:
    """Undo what lessons switched on, so that one lesson's autolog never traces the next one in the same process."""
    import mlflow

    for flavor, library in AUTOLOG_FLAVORS.items():
        if library in sys.modules and (f"mlflow.{flavor}.autolog" in sys.modules or f"mlflow.{flavor}" in sys.modules):
            getattr(mlflow, flavor).autolog(disable=True, silent=True)
