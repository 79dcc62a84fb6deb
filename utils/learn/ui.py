"""`mlflow-learn ui`: MLflow's pages on the store that the lessons use, wherever the command is typed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from utils import curriculum
from utils.cli import show_table
from utils.errors import InputError
from utils.learn.status import open_store
from utils.mlflow_setup import default_tracking_uri


def run_ui(tracking_uri: str | None, port: int) -> int:
    """Print the pages worth opening, then serve them until interrupted. Returns the server's exit status.

    Raises:
        InputError: the port is taken.
    """
    uri = tracking_uri or default_tracking_uri()
    address = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    if uri.startswith("http"):
        show_table(pages(uri, address))
        click.echo(f"The store is a server already: open {address}")
        return 0
    require_free(port)
    show_table(pages(uri, address))
    click.echo(f"Starting mlflow ui on {uri}; it takes up to a minute. Ctrl-C ends it.")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    # One worker without background jobs is up in a fraction of the time, and one reader needs no more.
    server = subprocess.Popen(command, env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ})
    with ending_with_us(server):
        try:
            return server.wait()
        except KeyboardInterrupt:
            # Ctrl-C reaches the server, too; give it the time to stop its workers.
            with suppress(KeyboardInterrupt):
                server.wait()
            return 0


@contextmanager
def ending_with_us(server: "subprocess.Popen[bytes]") -> Iterator[None]:
    """When this process is terminated, or its terminal closed, the server is too; else it would go on, alone."""
    endings = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    before = {ending: signal.signal(ending, lambda *_: server.terminate()) for ending in endings}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def pages(uri: str, address: str) -> list[dict[str, str]]:
    """One row for each lesson whose experiment exists: its number, its page, and what to look for there."""
    import mlflow

    if open_store(uri) is None:
        return []
    rows = []
    for entry in curriculum.LESSONS:
        experiment = mlflow.get_experiment_by_name(entry.experiment)
        if experiment and experiment.lifecycle_stage == "active":
            page = f"{address}/#/experiments/{experiment.experiment_id}/{entry.page}"
            rows.append({"lesson": entry.number, "page": page, "look for": entry.look})
    return [*rows, {"lesson": "prompts", "page": f"{address}/#/prompts", "look for": "every prompt and its versions"}]


def require_free(port: int) -> None:
    """Find out before MLflow starts, which takes half a minute to say so.

    Raises:
        InputError: something listens there.
    """
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"port {port} is taken", f"uv run mlflow-learn ui --port {port + 1}")
