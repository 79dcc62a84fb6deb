"""HTTP clients that forget the API key, and whose requests are counted where they leave (utils/wire.py).

A server's error text may repeat the key, and spans keep error texts. Masking where the reply comes in reaches every
place that an error can go afterwards: spans that autolog writes, in Spark workers too, logs and messages.
"""

import ssl
from functools import cache
from typing import Any

import httpx
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from utils.wire import on_the_wire

MASK = "…"
SHORTEST_KEY = 6  # characters; a shorter one is a placeholder, and replacing it would garble every text
# They describe the bytes that were sent, not the text that is left of them.
BODY_HEADERS = {"content-encoding", "content-length", "transfer-encoding"}


@cache
def ssl_context() -> ssl.SSLContext:
    """Shared by all clients: reading the certificates takes longer than a call to a server on this machine."""
    return httpx.create_ssl_context()


class MaskingClient(DefaultHttpxClient):
    """The OpenAI SDK's own client, whose error replies no longer hold the key that was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"verify": ssl_context(), **options})

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        with on_the_wire():
            response = super().send(request, **options)
        if not response.is_error:
            return response
        response.read()
        response.close()
        return without_key(response)


class CountedTransport(httpx.HTTPTransport):
    """For clients of others, which take a transport (Ollama's): counted like MaskingClient."""

    def __init__(self) -> None:
        super().__init__(verify=ssl_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with on_the_wire():
            return super().handle_request(request)


class AsyncMaskingClient(DefaultAsyncHttpxClient):
    """The same for asynchronous calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"verify": ssl_context(), **options})

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        if not response.is_error:
            return response
        await response.aread()
        await response.aclose()
        return without_key(response)


def without_key(response: httpx.Response) -> httpx.Response:
    """The same reply, already read, without the key of its request in the body or a header."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    if len(key) < SHORTEST_KEY:
        return response
    headers = [(k, v.replace(key, MASK)) for k, v in response.headers.multi_items() if k.lower() not in BODY_HEADERS]
    encoding = response.encoding or "utf-8"
    masked = httpx.Response(
        response.status_code,
        headers=[(name.encode(), value.encode()) for name, value in headers],
        content=response.text.replace(key, MASK).encode(encoding, errors="replace"),
        request=response.request,
    )
    masked.extensions = response.extensions
    return masked
