"""The end of a service: no connection is left behind that nobody has told to end."""

import asyncio
import socket
import time

import pytest
import uvicorn

from utils.serving.service import graceful_server

GRACE_S = 5


async def app(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def seconds_to_stop(server: uvicorn.Server, turns: int) -> float:
    """How long the stop takes, when a client connects `turns` turns of the event loop before it."""
    listening = socket.create_server(("127.0.0.1", 0))
    clients = []

    async def connect_and_stop() -> None:
        clients.append(socket.create_connection(listening.getsockname()))
        for _ in range(turns):
            await asyncio.sleep(0)

    server.main_loop = connect_and_stop  # type: ignore[method-assign]
    begun = time.monotonic()
    asyncio.run(server.serve([listening]))
    clients[0].close()
    return time.monotonic() - begun


def config() -> uvicorn.Config:
    return uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=GRACE_S)


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_comes_with_the_stop_is_told_to_end(turns):
    assert seconds_to_stop(graceful_server(config()), turns) < GRACE_S / 2


def test_uvicorn_by_itself_forgets_one():
    """When this fails, uvicorn has mended it and `graceful_server` can go."""
    assert max(seconds_to_stop(uvicorn.Server(config()), turns) for turns in range(5)) >= GRACE_S
