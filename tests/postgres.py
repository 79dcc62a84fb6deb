"""A PostgreSQL of the test's own, where its programs are installed: on this machine only, gone at the end."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"  # the programs refuse to run as root
START_SECONDS = 60


def programs() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it out of PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def postgres() -> Iterator[str]:
    """The URI of an empty database, with a password made for it; skips where there is no PostgreSQL."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = USER if os.getuid() == 0 else None
    home, password = Path(tempfile.mkdtemp(prefix="pg-")), secrets.token_urlsafe(16)
    try:
        (home / "password").write_text(password)
        if user:
            for path in (home, home / "password"):
                shutil.chown(path, user, user)
        made = [f"{folder}/initdb", "-D", f"{home}/data", "-U", "mlflow", "--auth=scram-sha-256"]
        subprocess.run([*made, f"--pwfile={home}/password"], user=user, check=True, capture_output=True, cwd=home)
        with _running(folder, home, user) as port:
            yield f"postgresql://mlflow:{password}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home)


@contextmanager
def _running(folder: Path, home: Path, user: str | None) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "fsync=off")
    command = [f"{folder}/postgres", "-D", f"{home}/data", "-p", str(port), *(f"-c{each}" for each in settings)]
    process = subprocess.Popen(command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home)
    try:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
            assert time.monotonic() < deadline and process.poll() is None, "PostgreSQL does not start"
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGINT)  # ends its connections, too
        process.wait(30)
