"""A tracking server of MLflow's on this machine, for what needs one: its pages, and other programs' spans."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from utils.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 120  # on a busy machine with two cores it took 45
STOP_SECONDS = 60


class ServerUnavailable(UserError):
    """`mlflow server` did not start."""


@contextmanager
def mlflow_server(store_uri: str) -> Iterator[str]:
    """The address of a server on this store; a store that is a server already is used as it is.

    Raises:
        ServerUnavailable: it ended by itself, or gave no answer within START_SECONDS.
    """
    if store_uri.startswith("http"):
        yield store_uri.rstrip("/")
        return
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri, "--workers", "1"]
    # One worker without background jobs is up in a fraction of the time.
    process = subprocess.Popen(
        [*command, "--host", HOST, "--port", str(port)],
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://{HOST}:{port}", process)
        yield f"http://{HOST}:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def wait_for(address: str, process: subprocess.Popen) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise ServerUnavailable(f"mlflow server did not start at {address}", "uv run mlflow server, and read what it says")
