"""A small HTTP server that answers each path as a test tells it to, or never, and remembers what it was sent."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NEVER = None  # as an answer: the request is held until the server closes
NOT_FOUND = (404, {"detail": "Not Found"})
Answer = tuple[int, Any] | None  # status, and a body: text is sent as HTML, everything else as JSON


@dataclass
class Stub:
    """`requests`: path and headers (names in lower case) of everything that arrived."""

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """As a client of OpenAI's API wants it."""
        return f"{self.url}/v1"

    @property
    def seen(self) -> str:
        """All that was sent in paths and headers, to look for what should not be there."""
        return str(self.requests)


@contextmanager
def stub_server(answers: Mapping[str, Answer], default: Answer = NOT_FOUND) -> Iterator[Stub]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path = self.path.split("?")[0]
            stub.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chosen = answers.get(path, default)
            if chosen is None:
                closing.wait(30)
                return
            status, body = chosen
            text = body if isinstance(body, str) else json.dumps(body)
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answer

        def log_message(self, *args: object) -> None:
            """Keep the output of the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_url() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
