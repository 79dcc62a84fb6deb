"""A small Ollama: its own API in front of the mock's rules, so that ChatOllama's real path runs without a model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from utils.mock_llm import complete, usage_of

MODEL = "llama3.2"


@dataclass
class Ollama:
    """`chats`: the bodies of all that was asked. Tokens are what was counted for them."""

    url: str
    chats: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The messages of a stream: one per word, and a last one with the counts."""
        asked = {"model": "mock-small", "messages": body["messages"]}
        reply = complete(asked)
        usage = usage_of(asked, reply)
        with self.lock:
            self.chats.append(body)
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
        head = {"model": body["model"], "created_at": "2026-11-15T00:00:00Z"}
        words = [word + " " for word in reply.text.split(" ")]
        words[-1] = words[-1].rstrip(" ")
        parts = [head | {"message": {"role": "assistant", "content": word}, "done": False} for word in words]
        counts = {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
        end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        return [*parts, head | end | counts | {"total_duration": 1, "load_duration": 1, "eval_duration": 1}]


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as one message, for a client that does not stream."""
    text = "".join(part["message"]["content"] for part in parts)
    return parts[-1] | {"message": {"role": "assistant", "content": text}}


@contextmanager
def fake_ollama() -> Iterator[Ollama]:
    """Serve `GET /api/tags` and `POST /api/chat` on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            known = {"models": [{"name": f"{MODEL}:latest", "model": f"{MODEL}:latest"}]}
            self.send(*((200, [known]) if self.path == "/api/tags" else (404, [{"error": "not found"}])))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/api/chat":
                self.send(404, [{"error": "not found"}])
                return
            parts = ollama.answer(body)
            self.send(200, parts if body.get("stream", True) else [joined(parts)])

        def send(self, status: int, lines: list[dict[str, Any]]) -> None:
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-ndjson" if len(lines) > 1 else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            """Keep the output of the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ollama = Ollama(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield ollama
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
