"""A tool in another process: asked over MCP, down from the start or going down later, and stopped at the end."""

import os
import time

import pytest

from tests.stub_server import NEVER, stub_server
from utils import mcp_tools
from utils.local_services import ServiceUnavailable
from utils.mcp_tools import load_mcp_tools
from utils.price_server import closed_address, price_server, price_text


def gone(address: str) -> bool:
    try:
        load_mcp_tools(address)
    except ServiceUnavailable as error:
        return address in error.problem
    return False


def test_the_server_serves_its_tool_refuses_what_it_does_not_know_and_is_stopped():
    with price_server() as url:
        assert url.startswith("http://127.0.0.1:")
        (tool,) = load_mcp_tools(url)
        assert tool.name == "model_price" and "million" in tool.description and set(tool.args) == {"model"}
        assert tool.invoke({"model": "gpt-4o"}) == price_text("gpt-4o")
        assert tool.invoke({"model": "gpt-99"}).startswith("error: there is no model 'gpt-99'")
        assert tool.invoke({}).startswith("error: ")
    assert gone(url)
    assert tool.invoke({"model": "gpt-4o"}) == f"error: the server of model_price does not answer at {url}"


def test_nobody_listens():
    began = time.monotonic()
    assert gone(closed_address()) and time.monotonic() - began < 10


@pytest.mark.parametrize("answer", [(404, {}), (200, "<html>hello</html>"), (500, {})])
def test_another_server_listens(answer):
    with stub_server({}, default=answer) as stub:
        assert gone(f"{stub.url}/mcp")


def test_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(mcp_tools, "CALL_SECONDS", 1)
    with stub_server({}, default=NEVER) as stub:
        began = time.monotonic()
        assert gone(f"{stub.url}/mcp") and time.monotonic() - began < 10


def test_the_process_is_stopped_when_the_lesson_fails(monkeypatch):
    import subprocess

    started: list[subprocess.Popen] = []
    start = subprocess.Popen

    def remember(*args, **kwargs):
        started.append(start(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    with pytest.raises(ZeroDivisionError), price_server():
        raise ZeroDivisionError
    assert started[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
