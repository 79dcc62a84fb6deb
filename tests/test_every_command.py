"""Every command that README, LEARNING_PLAN.md and the goals tell a learner to type, typed: in one store, in order.

Names that stand for the learner's own (my.csv, HOST, my-model) are made here; servers are the mock, a stub of Ollama,
and a tracking server of MLflow's on this machine.
"""

import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.spark.fake_ollama import fake_ollama
from tests.test_learning_plan import PASTED, command_of
from utils import curriculum
from utils.learn.tour import EXTRA_MODULES
from utils.mlflow_server import mlflow_server
from utils.mock_llm import MockServer
from utils.sample_documents import write_documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORDS = sorted({tuple(shlex.split(line, comments=True)[2:]) for line in PASTED})
TOUR = [words for words in WORDS if words[:2] == ("mlflow-learn", "tour")]  # tests/utils/test_learn.py runs it
PAGES = [words for words in WORDS if "ui" in words[:2]]
PLAIN_MLFLOW = [words for words in WORDS if words[0] == "mlflow" and words not in PAGES]
PROGRAMS = [entry.command for entry in curriculum.LESSONS]
# Lessons in their order, a plain call before the one with flags; then what looks at what they left.
LESSONS = sorted((w for w in WORDS if w[0] in PROGRAMS), key=lambda words: (PROGRAMS.index(words[0]), words))
LEARN = [words for words in WORDS if words[0] == "mlflow-learn" and words not in [*TOUR, *PAGES]]
# A check that says no, and the lesson's own way to lose traces.
MAY_SAY_NO = (
    "mlflow-learn check", "mlflow-learn doctor", "mlflow-distributed-tracing --export late",
    "mlflow-promote-agent --candidate", "mlflow-monitor --monitor", "mlflow-track-costs --report",
)  # fmt: skip
# There is no model hub here to fetch the default embedding model of a real backend from.
ADDED = {("mlflow-spark-llamaindex-rag", "ollama"): ("--embed-type", "lexical")}
NEEDS = {entry.command: entry.extra for entry in curriculum.LESSONS if entry.extra}


def test_every_command_has_its_place():
    assert sorted([*TOUR, *PAGES, *PLAIN_MLFLOW, *LESSONS, *LEARN]) == WORDS


@dataclass(frozen=True)
class Desk:
    """Where the commands are typed, and the servers that they find."""

    folder: Path
    ollama_url: str
    openai_base_url: str

    @property
    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db", "OLLAMA_URL": self.ollama_url}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, template_store: Path) -> Iterator[Desk]:
    """A folder with a learner's own files, in which the commands are typed."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(template_store, folder / "mlflow.db")
    write_documents(folder / "documents")
    (folder / "my_documents").mkdir()
    (folder / "my_documents" / "contract.txt").write_text("Either side may end the contract. Notice is three months.")
    (folder / "mine.py").write_text("import mlflow\n\nmlflow.autolog()\n")
    (folder / "my.csv").write_text("comment,verdict\nGreat lamp,positive\nIt broke at once,negative\nA lamp.,neutral\n")
    boxes = [f"Note {n},{('late', 'broken', 'lost')[n % 3]}" for n in range(60)]
    (folder / "my_reviews.csv").write_text("\n".join(["comment,verdict", *boxes]) + "\n")
    questions = "question,gold_document,expected_answer\nHow long is notice?,contract.txt,three months\n"
    (folder / "my_questions.csv").write_text(questions)
    with fake_ollama() as ollama, MockServer() as mock, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Desk(folder, ollama.url, mock.base_url)


def filled(words: tuple[str, ...], desk: Desk) -> list[str]:
    """What stands for the learner's own, replaced; the model of the learner's server is one that the mock has."""
    own = {"http://127.0.0.1:8000/v1": desk.openai_base_url, "my-model": "mock-small", "my-large-model": "mock-large"}
    extra = [more for (program, word), more in ADDED.items() if words[0] == program and word in words]
    return [*(own.get(word, word) for word in words[1:]), *(flag for more in extra for flag in more)]


def typed(words: tuple[str, ...], desk: Desk) -> None:
    result = CliRunner(env=desk.environment).invoke(command_of(words[0]), filled(words, desk))
    if "--measure-lite" in words and "check the network" in result.stderr:
        pytest.skip("there is no package index here to install from")
    allowed = (0, 1) if " ".join(words).startswith(MAY_SAY_NO) else (0,)
    assert result.exit_code in allowed, (result.output, result.stderr, result.exception)
    assert result.output.strip()


@pytest.mark.parametrize("words", [words for words in LESSONS if "--spark-master" not in words], ids=" ".join)
def test_a_lessons_command(words, desk, spark):
    extra = NEEDS.get(words[0])
    if extra and not importlib.util.find_spec(EXTRA_MODULES[extra]):
        pytest.skip(f"needs uv sync --extra {extra}")
    typed(words, desk)


@pytest.mark.parametrize("words", [words for words in LESSONS if "--spark-master" in words], ids=" ".join)
def test_a_cluster_and_a_tracking_server(words, desk):
    """In a process of its own: Spark is a cluster of one worker there."""
    with mlflow_server(desk.environment["MLFLOW_TRACKING_URI"]) as address:
        own = {"spark://HOST:7077": "local-cluster[1,1,1024]", "http://HOST:5000": address}
        flags = [own.get(word, word) for word in words[1:]]
        done = subprocess.run(
            [str(Path(sys.executable).with_name(words[0])), *flags, "--num-samples", "6"],
            cwd=desk.folder, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{address}/#/experiments/" in done.stdout


@pytest.mark.parametrize("words", LEARN, ids=" ".join)
def test_a_call_of_mlflow_learn(words, desk, spark):
    typed(words, desk)


@pytest.mark.parametrize("words", PLAIN_MLFLOW, ids=" ".join)
def test_a_call_of_mlflow_itself(words, desk):
    program = str(Path(sys.executable).with_name("mlflow"))
    environment = {**os.environ, **desk.environment}
    if "migrate-filestore" in words:
        (desk.folder / "old").mkdir()
        script = "import mlflow; mlflow.set_tracking_uri('file:./mlruns'); mlflow.start_run(run_name='old')"
        old = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}
        subprocess.run(
            [sys.executable, "-c", script], cwd=desk.folder / "old", env=old, check=True, capture_output=True
        )
    folder = desk.folder / "old" if "migrate-filestore" in words else desk.folder
    done = subprocess.run([program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_a_command_that_serves_pages(words, desk):
    port = int(words[words.index("--port") + 1]) if "--port" in words else 5000
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.skip(f"port {port} is in use on this machine")
    environment = {**os.environ, **desk.environment}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]],
        cwd=desk.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert answers(f"http://127.0.0.1:{port}/health", process)
    finally:
        process.terminate()
        process.wait(60)
    assert is_free(port), "the server ended with the command that started it"


def is_free(port: int, within_seconds: int = 30) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.5)
    return False


def answers(address: str, process: subprocess.Popen, within_seconds: int = 180) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return httpx.get(address, timeout=5).text == "OK"
        except httpx.HTTPError:
            time.sleep(0.5)
    return False


def test_the_checkout_was_left_alone():
    """The commands were typed elsewhere: git sees nothing new."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    asked = ["git", "status", "--porcelain", "--", "documents"]
    assert subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""
