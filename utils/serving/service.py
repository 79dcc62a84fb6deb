"""A web service from its first request to its last: where it listens, how it stops, and as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import InputError
from utils.serving.record import App

if TYPE_CHECKING:
    import uvicorn

LOCAL = ("127.0.0.1", "localhost", "::1")
READY = "Listening at "  # the line that says where
START_SECONDS = 120
TURNS = 3  # of the event loop, until a connection that was just accepted is known


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named, uvicorn switches off Nagle's algorithm: a reply is 40 ms faster.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise InputError(f"nobody can listen at {host}:{port} ({error.strerror or error})", "--port 0") from error
    listening.listen(1024)
    return listening


def graceful_server(config: "uvicorn.Config") -> "uvicorn.Server":
    """A server whose stop leaves no connection behind.

    uvicorn (0.54) tells each connection that it knows to end, once. One that was accepted in the same turn of the event
    loop is not known yet: it would go on, be waited for, and be cut off with a 500 at the end of the grace.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for each in self.servers:
                each.close()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            await super().shutdown(sockets)

    return Server(config)


def serve(app: App, listening: socket.socket, grace_seconds: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then take no more, finish what is running, and come back.

    Args:
        grace_seconds: for what is running when the signal comes; what is not done by then is cut off.
        ready: is told the address, once a request would be answered.
    """
    import uvicorn

    # ws: the guards know HTTP only, so that nothing else comes in.
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=grace_seconds
    )
    server = graceful_server(config)
    # uvicorn sends itself the signal again when it is done, which would end the process before its traces are stored.
    before = {number: signal.signal(number, _nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    waiting = threading.Thread(target=_tell_when_started, args=(server, ready, address), daemon=True)
    waiting.start()
    try:
        server.run([listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(*_: Any) -> None:
    """A signal that uvicorn has already obeyed."""


def _tell_when_started(server: Any, ready: Callable[[str], None], address: str) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.01)
    ready(address)


@dataclass(frozen=True)
class Service:
    """A service that runs in a process of its own."""

    url: str
    process: subprocess.Popen

    def stop(self, seconds: float = 90) -> int:
        """Ask it to end (SIGTERM), and wait; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def service_process(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[Service]:
    """Run a command that prints the line READY and its address; it is stopped at the end.

    Raises:
        InputError: it ended, or was not ready within START_SECONDS; with what it said.
    """
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    said: list[str] = []
    address: list[str] = []
    known = threading.Event()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if line.startswith(READY):
                address.append(line.split()[2])
                known.set()
        known.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        known.wait(START_SECONDS)
        if not address:
            problem = " ".join("".join(said[-5:]).split()) or "it said nothing"
            raise InputError(f"the service does not start: {problem}", "start it by itself, and read what it says")
        yield Service(address[0], process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def with_request_schema(app: Any, schema: dict[str, Any], paths: Sequence[str], refusals: dict[int, str]) -> None:
    """Write into a FastAPI app's OpenAPI description what its guards ask for and how they refuse."""
    described = app.openapi()
    described.setdefault("components", {}).setdefault("schemas", {}).update(schema["parts"])
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"key": []}]
    told = {str(status): {"description": said} for status, said in refusals.items()}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            operation["responses"] = {**operation["responses"], **told}
            if path in paths:
                operation["requestBody"] = json.loads(json.dumps(schema["body"]))
