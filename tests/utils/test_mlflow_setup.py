"""The store: opened where it was asked for, or refused with the cure and without a trace of the attempt."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.stub_server import NEVER, closed_url, stub_server
from utils import mlflow_setup
from utils.mlflow_setup import StoreError, check_store, default_tracking_uri, in_turn, use_store
from utils.short_lives import run_processes

LESSONS = ("tracking", "spark", "genai")
CHECKS_A_STORE = "import sys; from utils.mlflow_setup import check_store; check_store(sys.argv[1])"


def refuse(uri: object, experiment_name: str = "1-fundamentals") -> StoreError:
    with pytest.raises(StoreError) as caught:
        use_store(str(uri), experiment_name)
    return caught.value


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder that is also the working folder."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


# --- stores that can be used


def test_the_store_and_the_experiment_are_made_where_they_do_not_exist(folder):
    use_store(f"sqlite:///{folder / 'new.db'}", "1-fundamentals")
    assert MlflowClient(f"sqlite:///{folder / 'new.db'}").get_experiment_by_name("1-fundamentals")
    assert files_in(folder) == {"new.db"}


def test_commands_that_open_a_new_store_at_the_same_moment_all_get_it(folder):
    uri = f"sqlite:///{folder / 'new.db'}"
    assert run_processes(use_store, [(uri, f"{number}-at-once") for number in range(4)]) == [0] * 4
    names = {found.name for found in MlflowClient(uri).search_experiments()}
    assert names == {"Default", *(f"{number}-at-once" for number in range(4))}


def test_a_command_that_never_gets_its_turn_says_so(folder, monkeypatch):
    monkeypatch.setattr(mlflow_setup, "TURN_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as other, in_turn(folder / "new.db"):
        failure = other.submit(refuse, f"sqlite:///{folder / 'new.db'}").result()
    assert failure.problem.startswith(f"another command has been opening {folder / 'new.db'}")
    assert files_in(folder) == set()


def test_opening_it_again_keeps_the_experiment(store):
    first = use_store(store, "1-fundamentals")
    assert use_store(store, "1-fundamentals").experiment_id == first.experiment_id


def test_the_default_is_the_variable_then_the_file_in_the_checkout(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///from_env.db")
    assert default_tracking_uri() == "sqlite:///from_env.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert default_tracking_uri() == f"sqlite:///{ROOT / 'mlflow.db'}"


@pytest.mark.parametrize("name", ["1-fundamentals", "my runs", "/Shared/team/x", "../up", "50%"])
def test_artifacts_lie_beside_the_database_not_in_the_working_folder(store, folder, tmp_path, name):
    use_store(store, name)
    with mlflow.start_run() as run:
        mlflow.log_text("kept", "note.txt")
    beside = tmp_path / "mlruns"
    assert [path.read_text() for path in beside.rglob("note.txt")] == ["kept"]
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "kept"
    assert files_in(folder) == set()


def test_a_relative_path_is_meant_from_the_working_folder(folder):
    use_store("sqlite:///mine.db", "1-fundamentals")
    with mlflow.start_run():
        mlflow.log_text("kept", "note.txt")
    assert {"mine.db", "mlruns/1-fundamentals"} <= files_in(folder)


def test_a_store_that_can_be_used_is_left_as_it_was(store, tmp_path):
    before = (tmp_path / "mlflow.db").read_bytes()
    check_store(store)
    assert (tmp_path / "mlflow.db").read_bytes() == before and files_in(tmp_path) == {"mlflow.db"}


# --- file stores


@pytest.mark.parametrize("uri", ["file:./mlruns", "./mlruns", "mlruns", "file:///tmp/x/mlruns", "/tmp/x/mlruns"])
def test_a_file_store_is_refused_with_the_command_that_moves_it(folder, uri):
    error = refuse(uri)
    source = uri.removeprefix("file://").removeprefix("file:")
    assert "file store" in error.problem and f"mlflow migrate-filestore --source {source} " in error.cure
    assert files_in(folder) == set()


def test_an_old_folder_of_runs_is_not_passed_over_in_silence(folder):
    old = folder / "mlruns" / "0"
    old.mkdir(parents=True)
    (old / "meta.yaml").write_text("name: Default\n")
    error = refuse(f"sqlite:///{folder / 'mlflow.db'}")
    assert str(folder / "mlruns") in error.problem and "migrate-filestore" in error.cure
    assert files_in(folder) == {"mlruns", "mlruns/0", "mlruns/0/meta.yaml"}


def test_the_command_that_the_cure_names_exists_and_takes_its_flags():
    command = Path(sys.executable).with_name("mlflow")
    answer = subprocess.run([command, "migrate-filestore", "--help"], capture_output=True, text=True, check=True)
    assert "--source" in answer.stdout and "--target" in answer.stdout


# --- SQLite files that cannot be used


def test_a_file_that_is_no_database_stays_as_it_is(folder):
    (folder / "notes.db").write_text("these are my notes, " * 100)
    error = refuse(f"sqlite:///{folder / 'notes.db'}")
    assert "notes.db" in error.problem and "not a database" in error.problem
    assert (folder / "notes.db").read_text() == "these are my notes, " * 100 and files_in(folder) == {"notes.db"}


def test_a_folder_that_does_not_exist_is_not_made(folder):
    error = refuse(f"sqlite:///{folder / 'nowhere' / 'mlflow.db'}")
    assert "nowhere" in error.problem and files_in(folder) == set()


def test_a_folder_in_the_place_of_the_database(folder):
    (folder / "mlflow.db").mkdir()
    assert "mlflow.db" in refuse(f"sqlite:///{folder / 'mlflow.db'}").problem
    assert files_in(folder) == {"mlflow.db"}


def test_a_place_that_nobody_can_write_to(folder):
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here, where even root cannot make files")
    assert "/proc/mlflow.db" in refuse("sqlite:////proc/mlflow.db").problem


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_would_prove_nothing_later(folder, uri):
    assert uri in refuse(uri).problem and files_in(folder) == set()


def test_a_store_in_which_another_program_writes(store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = refuse(store)
    assert "locked" in error.problem and "stop the other program" in error.cure
    assert use_store(store, "1-fundamentals"), "and usable again once that program has ended"


def without_the_rights_of_root(*command: str) -> subprocess.CompletedProcess[str]:
    """Root may write to read-only files; without these capabilities it may not."""
    dropped = ",".join(f"-{name}" for name in ("dac_override", "dac_read_search", "fowner"))
    drop = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", "--"] if os.geteuid() == 0 else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("run as root, and without setpriv root's rights cannot be dropped")
    return subprocess.run([*drop, *command], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("read_only", ["file", "folder", "folder without the file"])
def test_a_store_that_is_read_only(store, tmp_path, read_only):
    database = tmp_path / "sub" / "mlflow.db"
    database.parent.mkdir()
    if read_only != "folder without the file":
        shutil.copy(tmp_path / "mlflow.db", database)
    (database if read_only == "file" else database.parent).chmod(0o444 if read_only == "file" else 0o555)
    try:
        ended = without_the_rights_of_root(sys.executable, "-c", CHECKS_A_STORE, f"sqlite:///{database}")
    finally:
        database.parent.chmod(0o755)
    assert ended.returncode == 1 and "StoreError" in ended.stderr.splitlines()[-1], ended.stderr
    assert "cannot be written" in ended.stderr and "--tracking-uri" in ended.stderr
    assert len(files_in(database.parent)) == (read_only != "folder without the file")


def test_a_store_of_another_version_names_the_upgrade(store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
        database.commit()
    assert refuse(store).cure == f"uv run mlflow db upgrade {store}"


def test_an_experiment_in_the_trash_stays_there(store):
    use_store(store, "1-fundamentals")
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("1-fundamentals")
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    error = refuse(store)
    assert "trash" in error.problem and "--experiment-name" in error.cure and "restore" in error.cure
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "deleted"


# --- servers


def test_no_server_answers(folder):
    url = closed_url()
    error = refuse(url)
    assert url in error.problem and "mlflow server" in error.cure and files_in(folder) == set()


def test_a_server_that_never_answers():
    with stub_server({}, default=NEVER) as stub:
        started = time.monotonic()
        assert stub.url in refuse(stub.url).problem
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("answer", [(404, {"detail": "no"}), (200, "<html>A page</html>"), (500, "broken"), (302, "")])
def test_a_server_that_is_no_mlflow(answer):
    with stub_server({}, default=answer) as stub:
        error = refuse(stub.url)
    assert "is not an MLflow server" in error.problem and error.cure == "check --tracking-uri"


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_an_account(status, healthy):
    with stub_server({"/health": (200, "OK")} if healthy else {}, default=(status, "no")) as stub:
        error = refuse(stub.url)
    assert "refuses this account" in error.problem and "MLFLOW_TRACKING_PASSWORD" in error.cure


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[::1", "http://", "postgresql://db:99999/x"])
def test_an_address_that_is_none(url):
    assert url in refuse(url).problem


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "mssql+pyodbc"])
def test_a_database_server_that_does_not_answer(scheme):
    host = closed_url().removeprefix("http://")
    error = refuse(f"{scheme}://me:secret@{host}/mlflow")
    assert host in error.problem and "secret" not in error.problem + error.cure


def test_a_database_server_whose_driver_is_missing():
    with stub_server({}, default=NEVER) as stub:
        try:
            import pymysql  # noqa: F401
        except ModuleNotFoundError:
            error = refuse(f"mysql+pymysql://me:secret@{stub.url.removeprefix('http://')}/mlflow")
            assert "pymysql" in error.problem and "pymysql" in error.cure
        else:
            pytest.skip("the driver is installed here")


def test_a_kind_of_store_that_there_is_not():
    assert "teapot://x" in refuse("teapot://x").problem


# --- autolog


def test_autolog_is_off_for_what_was_imported_and_imports_nothing():
    asked = "import utils, mlflow, sys; from utils.mlflow_setup import switch_autolog_off; switch_autolog_off(); "
    asked += "print([n for n in ('langchain_core', 'llama_index.core', 'openai', 'sklearn') if n in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_each_autolog_that_lessons_use_is_switched_off_again():
    sources = [path.read_text(encoding="utf-8") for package in LESSONS for path in (ROOT / package).rglob("*.py")]
    used = {flavor for text in sources for flavor in re.findall(r"mlflow\.(\w+)\.autolog\b", text)}
    assert used and used <= set(mlflow_setup.AUTOLOG_FLAVORS)


def test_without_a_folder_for_temporary_files(tmp_path, monkeypatch):
    """Root can write everywhere: a file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(StoreError) as caught, in_turn(tmp_path / "mlflow.db"):
        pass
    assert "TMPDIR" in caught.value.cure


def test_what_fails_while_a_store_is_opened_is_no_fault_of_the_folder(tmp_path):
    with pytest.raises(PermissionError, match="elsewhere"), in_turn(tmp_path / "mlflow.db"):
        raise PermissionError("elsewhere")
    with in_turn(tmp_path / "mlflow.db"):
        pass  # the next one gets its turn
