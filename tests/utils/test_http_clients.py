"""A key that a server repeats in its error text does not come back in, whichever client asked."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.stub_server import stub_server
from utils.http_clients import MASK, MaskingClient, without_key
from utils.llm_backends import BackendSettings
from utils.wire import at_most_on_the_wire, forget_sent, sent_ns

KEY = "gateway-key-0123456789"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]

CALLS: dict[str, Callable[[BackendSettings], object]] = {
    "openai": lambda s: s.openai_client(max_retries=0).chat.completions.create(model="m", messages=HELLO),
    "langchain": lambda s: s.chat_model(max_retries=0).invoke("hello"),
    "langchain stream": lambda s: list(s.chat_model(max_retries=0).stream("hello")),
    "langchain async": lambda s: asyncio.run(s.chat_model(max_retries=0).ainvoke("hello")),
    "llama_index": lambda s: s.llama_index(max_retries=0).complete("hello"),
    "llama_index async": lambda s: asyncio.run(s.llama_index(max_retries=0).acomplete("hello")),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("body", [{"error": {"message": f"wrong key {KEY}"}}, f"<p>wrong key {KEY}</p>"])
def test_the_error_that_a_client_raises_does_not_hold_the_key(call, body):
    with stub_server({}, default=(401, body)) as stub:
        with pytest.raises(Exception) as caught:
            call(BackendSettings("openai", "m", stub.base_url, secret=SecretStr(KEY)))
        assert KEY in stub.seen, "the key was sent, so that the server could repeat it"
    error = caught.value
    said = f"{error!r} {error} {error.response.text} {getattr(error, 'body', '')}"  # type: ignore[attr-defined]
    assert KEY not in said and f"wrong key {MASK}" in said


def test_a_good_reply_stays_as_it_is():
    with stub_server({"/v1/x": (200, {"text": KEY})}) as stub, MaskingClient() as client:
        answer = client.get(f"{stub.base_url}/x", headers={"authorization": f"Bearer {KEY}"})
    assert answer.json() == {"text": KEY}


def test_status_headers_and_request_stay():
    request = httpx.Request("GET", "http://127.0.0.1/", headers={"authorization": f"Bearer {KEY}"})
    headers = {"retry-after": "3", "x-key": KEY, "content-type": "text/plain; charset=latin-1"}
    reply = without_key(httpx.Response(429, headers=headers, content=f"é {KEY}".encode("latin-1"), request=request))
    assert (reply.status_code, reply.headers["retry-after"], reply.headers["x-key"]) == (429, "3", MASK)
    assert reply.text.startswith("é ") and KEY not in reply.text
    assert reply.request is request


def test_a_placeholder_is_no_key():
    request = httpx.Request("GET", "http://127.0.0.1/", headers={"authorization": "Bearer x"})
    reply = httpx.Response(400, content=b"context exceeded", request=request)
    assert without_key(reply) is reply


def test_requests_leave_evenly_and_no_more_than_may_in_a_minute():
    with stub_server({"/v1/x": (200, {})}) as stub, at_most_on_the_wire(4, per_minute=1_200), MaskingClient() as client:

        def sent(_: int) -> int:
            forget_sent()
            client.get(f"{stub.base_url}/x")
            return sent_ns() or 0

        with ThreadPoolExecutor(8) as pool:
            moments = sorted(pool.map(sent, range(9)))
    gaps = [(after - before) / 1e6 for before, after in pairwise(moments)]
    assert sum(gaps) >= 8 * 50 * 0.95, "1,200 a minute are 50 ms apart"
    assert max(gaps) < 8 * 50, "and not all of them wait for the last"
