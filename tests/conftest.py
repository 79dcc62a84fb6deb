"""What the tests share: a fresh store each, one Spark session for all, and commands run as a learner runs them."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner, Result

import utils  # noqa: F401  MLflow reads its environment defaults at import
from utils.trace_queue import LINKS, quick_flushes

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # labelled data and models of the workshop; not part of the project
ENVIRONMENT = (
    "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "OPENAI_API_KEY", "OPENAI_BASE_URL",
    "OPENAI_API_BASE", "OLLAMA_URL", "OLLAMA_MODEL", "LLM_TYPE", "LLM_MODEL", "SPARK_MASTER",
)  # fmt: skip

hypothesis.settings.register_profile("suite", deadline=None)  # a slow machine is no fault of the code
hypothesis.settings.load_profile("suite")

if sys.modules["__main__"].__spec__ is None and not hasattr(sys.modules["__main__"], "__file__"):
    # In the processes of pytest-xdist. PySpark takes such a program for its own doctests, and MLflow's look at a
    # DataFrame then ends it with status 0.
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for all tests, none besides this one for a few."""
    return 0 if any(Path(arg.split("::")[0]).suffix == ".py" for arg in config.args) else 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, since they share what a lesson left; so do all that need Spark: one session. The
    commands to type are a quarter of an hour of their own, and may go to the other process with a second one."""
    for item in items:
        needs_spark = "spark" in getattr(item, "fixturenames", ()) or item.path.parent.name == "spark"
        needs_spark = needs_spark and item.path.name != "test_every_command.py"
        item.add_marker(pytest.mark.xdist_group("spark" if needs_spark else item.path.name))


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """The suite flushes hundreds of times, and would wait a second each time."""
    with quick_flushes():
        yield


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with MLflow's tables and nothing else: copying it costs a twentieth of making one."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, server or store of the developer's machine reaches a test, and no test reaches the developer's store."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(LINKS):  # MLflow's own: it writes to this test's store, not to the next one
            thread.join(timeout=5)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # set_experiment leaves it behind


@pytest.fixture
def store(template_store: Path, tmp_path: Path, clean_environment: None) -> str:
    """The tracking URI of a fresh store, which is also the default of every command in this test."""
    import mlflow

    path = tmp_path / "mlflow.db"
    shutil.copy(template_store, path)
    uri = f"sqlite:///{path}"
    mlflow.set_tracking_uri(uri)
    return uri


@dataclass(frozen=True)
class Left:
    """What a lesson left: the database of its store, and what it printed."""

    path: Path
    output: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"


@pytest.fixture(scope="module")
def run_lesson(template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Left]:
    """Run a lesson into a store of its own, for a fixture that all tests of a file share. `times` is how often."""
    import mlflow

    def run(main, *args: object, times: int = 1) -> Left:
        path = tmp_path_factory.mktemp("lesson") / "mlflow.db"
        shutil.copy(template_store, path)
        output = ""
        for _ in range(times):
            result = CliRunner().invoke(main, ["--tracking-uri", f"sqlite:///{path}", *map(str, args)])
            assert result.exit_code == 0, (result.output, result.exception)
            output += result.output
        mlflow.set_tracking_uri(f"sqlite:///{path}")
        return Left(path, output)

    return run


@pytest.fixture(scope="session")
def spark():
    """One session for all tests; the lessons find it open and leave it open."""
    from utils.spark_utils import spark_session

    with spark_session("local[2]", "tests") as session:
        yield session


Run = Callable[..., Result]

# A call that a test before this one gave up waiting for ends its trace now, in another thread and in no store.
LATE_EXPORT = re.compile(r"[\d/]+ [\d:]+ WARNING mlflow\.tracing\.export\.utils: Failed to link prompts")


@pytest.fixture
def run_command() -> Run:
    """Run a command's real main. A crash is raised here; exit statuses and both outputs are in the result."""

    def run(main, *args: object) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def refused(run_command: Run) -> Callable[..., str]:
    """Run a command that must be refused: exit status 2, exactly two lines, error and try. Returns them."""

    def run(main, *args: object) -> str:
        result = run_command(main, *args)
        lines = [line for line in result.stderr.strip().splitlines() if not LATE_EXPORT.match(line)]
        assert result.exit_code == 2, result.output
        assert len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("try:   "), result.stderr
        return result.stderr

    return run
