"""The OpenAI-compatible server around the model: aiohttp in a thread of this process, on 127.0.0.1."""

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .counts import Counts, Tally
from .faults import parse_faults

if TYPE_CHECKING:
    from aiohttp import web

_START_TIMEOUT = 10  # seconds


@dataclass(frozen=True)
class MockSettings:
    """How the server behaves. `faults` as in `429:0.2,timeout:0.05,500:0.05,garbage:0.1` (shares of
    requests).

    Raises:
        ValueError: faults that `parse_faults` refuses, or a negative latency.
    """

    latency_ms: float = 0
    faults: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.latency_ms < 0:
            raise ValueError(f"latency_ms is {self.latency_ms:g}; a server cannot answer before it is asked.")
        parse_faults(self.faults)


class MockServer:
    """The mock behind `http://127.0.0.1:PORT/v1`: a context manager, or `start()` and `stop()`.

    Port 0 takes a free one.
    """

    def __init__(self, settings: MockSettings | None = None, port: int = 0) -> None:
        self.settings = settings or MockSettings()
        self._wanted_port = port
        self._port = 0
        self._tally = Tally()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def counts(self) -> Counts:
        """What the server did so far."""
        return self._tally.snapshot()

    def start(self) -> "MockServer":
        """Serve in a thread; returns when requests are answered.

        Raises:
            OSError: the port is taken.
        """
        ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="mock-llm", daemon=True)
        self._thread.start()
        if not ready.wait(_START_TIMEOUT):
            raise TimeoutError(f"The mock server was not ready after {_START_TIMEOUT} seconds.")
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; stopping twice does nothing."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        self._loop = self._thread = None

    def __enter__(self) -> "MockServer":
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _serve(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        try:
            runner = loop.run_until_complete(self._listen())
        except OSError as failure:
            self._failure = failure
            loop.close()
            ready.set()
            return
        self._loop = loop
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    async def _listen(self) -> "web.ServerRunner":
        from aiohttp import web

        from .endpoints import Endpoints

        endpoints = Endpoints(self.settings, self._tally)
        # handler_cancellation: a client that leaves ends the work for it, held connections included.
        server = web.Server(endpoints.handle, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._wanted_port, backlog=1024)
        await site.start()
        address: Any = runner.addresses[0]
        self._port = address[1]
        return runner
