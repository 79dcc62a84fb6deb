"""`--llm-type local`: which file answers, how it is fetched and checked, what is refused; slow: the real model."""

import hashlib
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import mlflow
import pytest

from spark.spark_langchain_multiple_mode import main as multiple_mode
from tests.conftest import ROOT, SHARED
from tests.stub_server import closed_url
from utils import curriculum, local_llm
from utils.llm_backends import DUMMY_KEY, LOCAL_REQUEST_SECONDS, check_backend, open_backend
from utils.local_llm import OWN_TEMPLATES, Plan, plan, weights
from utils.local_llm.gguf import ModelFile, read_header
from utils.local_llm.weights import DEFAULT, HUB_FILES, HubFile, choose, find_weights
from utils.model_servers import BackendUnavailable
from utils.options import BackendOptions

GIB = 2**30
REAL = Path.home() / ".cache" / "real_model" / HUB_FILES[DEFAULT].file
WITH_MODEL = [entry for entry in curriculum.LESSONS if entry.uses_llm and not entry.extra]


def gguf(pairs: dict[str, object], version: int = 3) -> bytes:
    """The beginning of a GGUF file; a list becomes an array of strings."""
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()  # noqa: E731
    body = b""
    for name, value in pairs.items():
        body += text(name)
        if isinstance(value, str):
            body += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            body += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            body += struct.pack("<II", 4, value)
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + body


HEADER = gguf(
    {
        "general.architecture": "qwen2", "general.basename": "Qwen2.5-Coder", "qwen2.block_count": 24,
        "qwen2.context_length": 32768, "qwen2.embedding_length": 896, "qwen2.attention.head_count": 14,
        "qwen2.attention.head_count_kv": 2, "tokenizer.ggml.tokens": ["a", "b"],
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Neither the developer's models nor the developer's settings are seen."""
    for name in ("LOCAL_LLM_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", closed_url())
    return tmp_path / "cache"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is there: what is refused is refused before it is used."""
    monkeypatch.setitem(sys.modules, "xllamacpp", ModuleType("xllamacpp"))


def refused_by(call, *given: object) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        call(*given)
    assert caught.value.problem and caught.value.cure
    return caught.value


# --- which file


def test_a_path_the_variable_and_the_default(monkeypatch, tmp_path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(HEADER)
    assert choose(None) == HUB_FILES[DEFAULT] == choose(DEFAULT)
    assert choose(str(file)) == file
    monkeypatch.setenv("LOCAL_LLM_PATH", str(file))
    assert choose(None) == file
    assert choose(DEFAULT) == HUB_FILES[DEFAULT], "--model wins"


def test_any_file_of_the_hub_with_the_hash_that_is_expected() -> None:
    assert choose(f"Owner/Some-GGUF/q4/a.gguf@{'AB' * 32}") == HubFile("Owner/Some-GGUF", "q4/a.gguf", "ab" * 32)
    refused_by(choose, "Owner/Some-GGUF/q4/a.gguf@abcd")


def test_the_default_is_pinned() -> None:
    default = HUB_FILES[DEFAULT]
    assert (default.repository, default.size) == ("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", 491_400_064)
    assert default.sha256 == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"


def test_files_and_names_that_are_not_there(monkeypatch, tmp_path) -> None:
    assert "there is no file /no/such.gguf" in refused_by(choose, "/no/such.gguf").problem
    assert "there is no local model gpt-4o" in refused_by(choose, "gpt-4o").problem
    assert "is a folder" in refused_by(choose, str(tmp_path)).problem
    monkeypatch.setenv("LOCAL_LLM_PATH", "/no/such.gguf")
    assert "LOCAL_LLM_PATH" in refused_by(choose, None).problem


# --- the file's first bytes


def test_what_the_header_says(tmp_path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(HEADER)
    read = read_header(file)
    assert (read.architecture, read.basename, read.context_tokens) == ("qwen2", "Qwen2.5-Coder", 32768)
    assert read.bytes_per_token == 2 * 24 * 2 * 64 * 2 and read.bytes == len(HEADER)
    assert OWN_TEMPLATES[read.basename.lower()].exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no GGUF file"),
        (b"hello, world, this is a text", "is no GGUF file (it begins with b'hell')"),
        (b"PK\x03\x04" + bytes(100), "is no GGUF file"),
        (gguf({}, version=1), "is GGUF of version 1"),
        (HEADER[:14], "ends too early"),
        (HEADER[:60], "ends too early"),
        (gguf({"a": "b"})[:-9] + struct.pack("<Q", 2**60) + b"b", "ends too early"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, said) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    assert said in refused_by(read_header, tmp_path / "a.gguf").problem


# --- threads and slots


def model_of(gib: float, context: int = 32768) -> ModelFile:
    return ModelFile(Path("a.gguf"), int(gib * GIB), "qwen2", "", context, 12_288)


@pytest.mark.parametrize(
    ("cpus", "threads", "slots"), [(1, 1, 2), (2, 1, 2), (4, 2, 2), (6, 3, 3), (8, 4, 4), (64, 32, 4)]
)
def test_threads_and_slots_follow_the_machine(cpus, threads, slots) -> None:
    assert plan(model_of(0.5), cpus, 16 * GIB) == Plan(threads, slots, 8_192)
    assert plan(model_of(0.5), cpus, None) == Plan(threads, slots, 8_192)


def test_slots_and_context_are_no_more_than_fits() -> None:
    assert plan(model_of(0.5, context=2_048), 8, 16 * GIB).slot_tokens == 2_048
    assert plan(model_of(1.0), 8, int(1.75 * GIB)).slots == 2
    error = refused_by(plan, model_of(4.0), 8, 3 * GIB)
    assert "needs 4.6 GiB of memory, and 3.0 GiB are free" in error.problem


# --- the hub


class Hub:
    """A file server that speaks as the model hub does: HEAD with size and hash, GET with the content."""

    def __init__(self, content: bytes, sha256: str | None, status: int, cut: bool) -> None:
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                if "/resolve/" not in self.path:  # the library's own question
                    self.send_error(404)
                    return
                hub.requests.append((self.command, self.path))
                self.send_response(status)
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", f'"{sha256 or hashlib.md5(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content[: len(content) // 2] if cut else content)

            do_GET = do_HEAD = answer

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    started: list[Hub] = []

    def start(content: bytes = HEADER, sha256: str | None = None, status: int = 200, cut: bool = False) -> Hub:
        started.append(Hub(content, sha256, status, cut))
        monkeypatch.setenv("HF_ENDPOINT", started[-1].url)
        return started[-1]

    yield start
    for one in started:
        one.server.shutdown()
        one.server.server_close()


def wanted(content: bytes = HEADER) -> str:
    return f"Owner/Some-GGUF/small.gguf@{hashlib.sha256(content).hexdigest()}"


def kept_files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*.gguf") if path.is_file()]


def test_it_is_fetched_once_and_kept_in_the_users_cache(hub, own_cache) -> None:
    server = hub()
    path = find_weights(wanted())
    assert path.read_bytes() == HEADER and path.is_relative_to(own_cache)
    assert [kind for kind, _ in server.requests].count("GET") == 1
    assert {asked for _, asked in server.requests} == {"/Owner/Some-GGUF/resolve/main/small.gguf"}
    before = len(server.requests)
    assert find_weights(wanted()) == path and len(server.requests) == before, "no network once it is there"
    assert kept_files(own_cache) == [path] and not (path.parent / "arriving").exists()


def test_a_kept_file_that_was_changed_is_found(hub, own_cache) -> None:
    hub()
    path = find_weights(wanted())
    path.write_bytes(HEADER + b"x")
    error = refused_by(find_weights, wanted())
    assert "it was changed or is broken" in error.problem and f"rm {path}" in error.cure
    path.unlink()
    assert find_weights(wanted()).read_bytes() == HEADER


@pytest.mark.parametrize("says_so", [True, False])
def test_another_content_than_expected_is_not_kept(hub, own_cache, says_so) -> None:
    other = HEADER + b"and more"
    server = hub(other, hashlib.sha256(other).hexdigest() if says_so else None)
    error = refused_by(find_weights, wanted())
    assert f"has SHA-256 {hashlib.sha256(other).hexdigest()}" in error.problem
    assert "GET" not in [kind for kind, _ in server.requests] or not says_so, "known before a byte is fetched"
    assert kept_files(own_cache) == []


def test_the_hub_has_no_such_file(hub) -> None:
    hub(status=404)
    assert "the model hub answers 404 for small.gguf" in refused_by(find_weights, wanted()).problem


def test_a_download_that_breaks_off_leaves_nothing(hub, own_cache, monkeypatch) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)  # it tries five times by itself
    hub(HEADER * 2_000, cut=True)
    assert "broke off" in refused_by(find_weights, wanted(HEADER * 2_000)).problem
    assert kept_files(own_cache) == []


def test_no_network_and_offline_on_purpose(monkeypatch) -> None:
    started = time.monotonic()
    error = refused_by(find_weights, None)
    assert "is not on this disk, and the model hub cannot be reached" in error.problem and "--model FILE" in error.cure
    assert time.monotonic() - started < 15


def test_a_disk_that_is_too_small(hub, monkeypatch, own_cache) -> None:
    hub()
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert "more than is free on the disk" in refused_by(find_weights, wanted()).problem
    assert kept_files(own_cache) == []


# --- as a command meets it


def load(entry: curriculum.Lesson):
    (script,) = entry_points(group="console_scripts", name=entry.command)
    return script.load()


@pytest.mark.parametrize("entry", WITH_MODEL, ids=lambda entry: entry.number)
def test_every_lesson_goes_through_the_seam(entry, refused, installed, tmp_path) -> None:
    file = tmp_path / "text.gguf"
    file.write_text("no model")
    command = load(entry)
    two = ["--large-model", "other.gguf"] if any("--large-model" in each.opts for each in command.params) else []
    assert "is no GGUF file" in refused(command, "--llm-type", "local", "--model", file, *two)
    assert not (tmp_path / "mlflow.db").exists(), "refused before a store is made"


def test_without_the_extra_it_says_which(refused, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    said = refused(multiple_mode, "--llm-type", "local")
    assert "the package xllamacpp is not installed" in said and "uv sync --extra local" in said


def test_looking_whether_it_is_there_fetches_and_loads_nothing(hub, own_cache, installed, monkeypatch) -> None:
    server = hub()
    monkeypatch.setattr(local_llm, "_start", lambda *_: pytest.fail("the model was loaded"))
    check_backend(BackendOptions("local", model=wanted()))
    assert [kind for kind, _ in server.requests] == ["HEAD"] and kept_files(own_cache) == []
    find_weights(wanted())
    check_backend(BackendOptions("local", model=wanted()))


# --- the real model


real = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SHARED.exists() and REAL.exists()) or importlib.util.find_spec("xllamacpp") is None,
        reason="no weights of ../shared/real_model here, or no extra local",
    ),
]
QUESTION = [{"role": "user", "content": "Answer with one word: positive, negative or neutral.\nReview: I love it."}]


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    with open_backend("local", model=str(REAL)) as llm:
        yield llm


class TestRealModel:
    pytestmark = real

    def test_chat_and_streaming(self, local) -> None:
        assert local.model == REAL.stem and local.settings.request_timeout == LOCAL_REQUEST_SECONDS
        with local.openai_client() as client:
            answer = client.chat.completions.create(model=local.model, messages=QUESTION, temperature=0)
            assert answer.choices[0].message.content and answer.usage.prompt_tokens > 20
            stream = client.chat.completions.create(
                model=local.model, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
            )
            parts = list(stream)
        text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        assert text == answer.choices[0].message.content and parts[-1].usage.completion_tokens > 0

    def test_tool_calls(self, local) -> None:
        from langchain_core.tools import tool

        @tool
        def weather(city: str) -> str:
            """The weather of a city."""
            return city

        (call,) = local.chat_model().bind_tools([weather]).invoke("What is the weather in Paris?").tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})

    def test_a_json_schema_is_kept(self, local) -> None:
        schema = {
            "type": "object", "required": ["label", "stars"], "additionalProperties": False,
            "properties": {"label": {"enum": ["good", "bad"]}, "stars": {"type": "integer"}},
        }  # fmt: skip
        form: Any = {"type": "json_schema", "json_schema": {"name": "rating", "schema": schema, "strict": True}}
        with local.openai_client() as client:
            answer = client.chat.completions.create(
                model=local.model, messages=QUESTION, response_format=form, max_tokens=60
            )
        rating = json.loads(answer.choices[0].message.content)
        assert set(rating) == {"label", "stars"} and rating["label"] in ("good", "bad")

    def test_a_reply_without_a_limit_ends(self, local) -> None:
        with local.openai_client() as client:
            answer = client.chat.completions.create(
                model=local.model, messages=[{"role": "user", "content": "Hello"}], max_tokens=3
            )
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3

    def test_a_lesson_costs_nothing_and_says_which_model(self, run_command, store, spark) -> None:
        given = ("--llm-type", "local", "--model", REAL, "--num-samples", 6, "--concurrency", 2)
        assert run_command(multiple_mode, *given).exit_code == 0
        (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
        assert run.data.metrics["llm_spans"] == run.data.metrics["llm_calls"] >= 6
        assert {"llm_type": "local", "llm_model": REAL.stem}.items() <= run.data.tags.items()

    def test_half_a_file(self, tmp_path) -> None:
        half = tmp_path / "half.gguf"
        with REAL.open("rb") as whole:
            half.write_bytes(whole.read(60_000_000))
        error = refused_by(lambda: open_backend("local", model=str(half)).__enter__())
        assert "llama.cpp cannot use" in error.problem and "incomplete" in error.problem

    def test_it_ends_with_a_command_that_is_killed(self) -> None:
        code = (
            "import sys, time\nfrom utils.llm_backends import open_backend\n"
            "with open_backend('local', model=sys.argv[1]) as llm:\n"
            "    print(llm.settings.base_url, flush=True)\n    time.sleep(600)"
        )
        command = subprocess.Popen([sys.executable, "-c", code, str(REAL)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert command.stdout
        url = command.stdout.readline().strip()
        assert httpx.get(f"{url}/models", timeout=30).status_code == 200
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        deadline = time.monotonic() + 30
        with pytest.raises(httpx.TransportError):
            while time.monotonic() < deadline:
                httpx.get(f"{url}/models", timeout=30)
                time.sleep(0.1)

    def test_the_learners_key_is_not_sent(self, monkeypatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-learner")
        with open_backend("local", model=str(REAL)) as llm:
            assert llm.settings.api_key == DUMMY_KEY == os.environ["OPENAI_API_KEY"]
        assert os.environ["OPENAI_API_KEY"] == "sk-secret-of-the-learner"
