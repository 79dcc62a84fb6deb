"""A tracking server of MLflow's with accounts switched on, on this machine and in a folder of its own.

Its store is empty and ends with it: whoever starts it learns what accounts, gateway and scorers do, and the learner's
own store gets no accounts. Passwords come from the environment (MLFLOW_AUTH_ADMIN_PASSWORD) or are made at random; they
are handed to the server in its environment, and stand in no file and in no line that is printed.
"""

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from utils.mlflow_server import HOST, STOP_SECONDS, wait_for

ADMIN = "admin"
AUTH_CONFIG = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/accounts.db
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
"""


def new_password() -> SecretStr:
    """192 random bits; it prints as stars."""
    return SecretStr(secrets.token_urlsafe(24))


@dataclass(frozen=True)
class AccountServer:
    """Where the server answers, and its first account. log: what it says, for whoever looks for a fault."""

    url: str
    log: Path
    password: SecretStr = field(repr=False)
    user: str = ADMIN


@contextmanager
def account_server(folder: Path, **settings: str) -> Iterator[AccountServer]:
    """Start the server with job execution (online scoring needs it); stop it and its children at the end.

    Args:
        folder: for its store, its accounts and its log.
        settings: further environment variables of the server.

    Raises:
        ServerUnavailable: it ended by itself, or gave no answer in time.
    """
    given = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD")
    password = SecretStr(given) if given else new_password()
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    url, log, config = f"http://{HOST}:{port}", folder / "server.log", folder / "auth.ini"
    config.write_text(AUTH_CONFIG.format(folder=folder, admin=ADMIN))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACKING", "OPENAI"))},
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password.get_secret_value(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        "MLFLOW_CRYPTO_KEK_PASSPHRASE": secrets.token_urlsafe(32),  # keys of the gateway are encrypted with it
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
        "MLFLOW_GATEWAY_URI": url,  # a guardrail's judge runs in the server, which knows its store and not its address
        **settings,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(port)],
            env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(url, process)
            yield AccountServer(url, log, password)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen) -> None:
    """The server and the processes that run its jobs: all of its own group."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def signed_in(server: AccountServer, user: str, password: SecretStr, experiment: str | None = None) -> Iterator[None]:
    """MLflow's calls go to this server with this account, traces at once; afterwards everything is as before.

    Args:
        experiment: created where it is missing, and the one that traces of the block belong to.
    """
    import mlflow

    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING")
    before = {name: os.environ.get(name) for name in (*names, "MLFLOW_EXPERIMENT_ID")}
    uri = mlflow.get_tracking_uri()
    os.environ.update(zip(names, (user, password.get_secret_value(), "false"), strict=True))
    try:
        mlflow.set_tracking_uri(server.url)
        if experiment:
            mlflow.set_experiment(experiment)
        yield
    finally:
        for name in names:
            if before[name] is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(before[name])
        mlflow.set_tracking_uri(uri)
        if before["MLFLOW_EXPERIMENT_ID"]:  # set_experiment leaves it behind, and only in the environment
            mlflow.set_experiment(experiment_id=before["MLFLOW_EXPERIMENT_ID"])


def write_prices(folder: Path, model: str, usd_per_million: float) -> str:
    """MLflow's catalog of prices with this one model in it, as the address that its server reads it from."""
    price = {"input_per_million_tokens": usd_per_million, "output_per_million_tokens": usd_per_million}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openai.json").write_text(json.dumps({"models": {model: {"mode": "chat", "pricing": price}}}))
    return folder.as_uri()


def is_scored(trace_id: str, scorer: str, rate: float) -> bool:
    """Whether MLflow's online scoring takes this trace for a scorer that is started alone: by a hash, so that looking
    again takes the same ones.

    Source: mlflow/genai/scorers/online/sampler.py::OnlineScorerSampler.sample (MLflow 3.17).
    """
    drawn = int(hashlib.sha256(f"{trace_id}:{scorer}".encode()).hexdigest(), 16) / 2**256
    return drawn <= rate
