"""Services of a lesson's own: reachable on this machine only, gone at the end, refused in two lines."""

import os
import subprocess
import sys
import textwrap
import time

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import ROOT
from utils.lesson_context import current_tags, tagged
from utils.local_services import ServiceUnavailable, in_process, in_thread, listen


def build(name: str) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def hello() -> dict[str, object]:
        return {"name": name, "pid": os.getpid(), "variable": os.environ.get("LOCAL_SERVICE"), "tags": current_tags()}

    return app


def broken() -> FastAPI:
    raise SystemExit(3)


def test_a_thread_is_this_process_and_sees_its_tags(store):
    with tagged(lesson="x"), in_thread(build("here")) as url:
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url).json() == {"name": "here", "pid": os.getpid(), "variable": None, "tags": {"lesson": "x"}}
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_process_is_another_one_with_its_own_environment():
    with in_process(build, "there", environment={"LOCAL_SERVICE": "on"}) as url:
        said = httpx.get(url).json()
        assert said["name"] == "there" and said["variable"] == "on" and said["pid"] != os.getpid()
        assert "LOCAL_SERVICE" not in os.environ
    with pytest.raises(ProcessLookupError):
        os.kill(said["pid"], 0)


def test_a_process_that_cannot_begin_is_said_so():
    with pytest.raises(ServiceUnavailable, match="has ended"), in_process(broken):
        pass


def test_a_taken_port():
    with listen(0) as taken, pytest.raises(ServiceUnavailable, match="is taken"):
        listen(taken.getsockname()[1])


def test_the_process_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent("""
        import os, signal, httpx
        from tests.utils.test_local_services import build
        from utils.local_services import in_process

        if __name__ == "__main__":
            with in_process(build, "orphan") as url:
                print(httpx.get(url).json()["pid"], flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    """))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    child = int(ended.stdout)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    raise AssertionError("the second process is still there")
