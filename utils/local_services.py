"""Small web services on 127.0.0.1 for lessons that need a second end: in a thread of this process, or in another one.

with in_thread(app) as url: ...                 # the app sees this process, its tags included
with in_process(build_app, settings) as url: ...  # `build_app(settings)` makes the app over there
"""

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from utils.errors import UserError

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
START_SECONDS = 60  # a process imports MLflow first, on a busy machine for half a minute
STOP_SECONDS = 10


class ServiceUnavailable(UserError):
    """A service of the lesson's own could not be started."""


@contextmanager
def in_thread(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an ASGI app in a thread; yields its URL. Port 0 takes a free one.

    The thread works in a copy of the caller's context: traces of its handlers carry the lesson's tags.

    Raises:
        ServiceUnavailable: the port is taken, or the app does not start.
    """
    listening = listen(port)
    server = _server(app)
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(server.run, [listening]), name="local-service", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServiceUnavailable("the lesson's own web service does not start", "run the command again")
        time.sleep(0.01)
    try:
        yield f"http://{HOST}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)


@contextmanager
def in_process(
    build: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None, port: int = 0
) -> Iterator[str]:
    """Serve the app that `build(*arguments)` returns in a process of its own; yields its URL.

    Args:
        build: a function of a module, called over there; picklable, as are its arguments.
        environment: variables that are set over there before anything is imported.

    Raises:
        ServiceUnavailable: the port is taken, or the process ends or takes longer than START_SECONDS to answer.
    """
    listening = listen(port)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(build, arguments, listening, theirs, os.getpid()))
    with _environment(environment or {}):
        process.start()
    theirs.close()
    try:
        if not ours.poll(START_SECONDS):
            raise ServiceUnavailable("the lesson's second process does not answer", "run the command again")
        try:
            ours.recv()
        except EOFError:
            raise ServiceUnavailable("the lesson's second process has ended", "see its message above") from None
        yield f"http://{HOST}:{listening.getsockname()[1]}"
    finally:
        listening.close()
        ours.close()  # which is what tells the process to stop
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1.

    Raises:
        ServiceUnavailable: the port is taken.
    """
    # With the protocol named, uvicorn switches off Nagle's algorithm: a reply is 40 ms faster.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise ServiceUnavailable(f"port {port} of {HOST} is taken", "--port 0   (a free one)") from error
    listening.listen(128)
    return listening


def _serve(
    build: Callable[..., Any], arguments: tuple, listening: socket.socket, ready: Connection, parent: int
) -> None:
    """In the process: serve until the other end of `ready` is closed, which also happens when the parent is killed."""
    from utils.mlflow_setup import quiet_housekeeping

    quiet_housekeeping()
    server = _server(build(*arguments))

    def stop_with_parent() -> None:
        while not ready.poll(1):
            if os.getppid() != parent:
                break
        server.should_exit = True

    ready.send("ready")
    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run([listening])


def _server(app: Any) -> "uvicorn.Server":
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
