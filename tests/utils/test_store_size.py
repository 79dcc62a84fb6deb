"""A store as a file: what it holds as bytes, a copy of it, and the space that only VACUUM gives back."""

import sqlite3
from contextlib import closing

import mlflow
import pytest

from utils.errors import InputError
from utils.mlflow_setup import use_store
from utils.practice_store import NAME, copied_store, write_old_traces
from utils.sampling import RATIO, sampling
from utils.store_size import copy_store, find_in_store, store_bytes, store_file, vacuum


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (text)")
        connection.executemany("INSERT INTO rows VALUES (?)", [("x" * 1000,)] * 500)
        connection.commit()
    return path


def test_space_of_deleted_rows_comes_back_by_vacuum_only(database):
    before = store_bytes(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM rows")
        connection.commit()
    assert store_bytes(database) == before > 400_000
    vacuum(database)
    assert store_bytes(database) < before / 10


def test_a_store_that_is_in_use_is_not_made_smaller(database, monkeypatch):
    monkeypatch.setattr("utils.store_size.LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="locked"):
            vacuum(database)


def test_what_is_only_in_the_write_ahead_log_is_found_and_copied(database, tmp_path):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("INSERT INTO rows VALUES ('ada@example.org')")
        connection.commit()
        assert b"ada@example.org" not in database.read_bytes()
        assert find_in_store(f"sqlite:///{database}", ["ada@example.org", "bob"], []) == ["ada@example.org"]
        copy = copy_store(database, tmp_path / "copy.db")
    assert b"ada@example.org" in copy.read_bytes()


def test_a_disk_without_room_is_an_error_before_anything_is_written(database, tmp_path, monkeypatch):
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(InputError, match="needs"):
        copy_store(database, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_server_is_no_file():
    assert store_file("http://127.0.0.1:5000") is None


def test_the_copy_is_thrown_away_and_the_store_stays_as_it_was(store):
    experiment = use_store(store, "7-production")
    with copied_store(experiment.experiment_id):
        assert mlflow.get_tracking_uri() != store
        written = write_old_traces(4, 8)
        found = mlflow.search_traces(filter_string=f"trace.name = '{NAME}'", return_type="list")
        assert {trace.info.trace_id for trace in found} == {one.trace_id for one in written}
        assert [round(one.age) for one in written] == [1, 3, 5, 7] and [one.rated for one in written] == [
            True,
            *[False] * 3,
        ]
    assert mlflow.get_tracking_uri() == store and mlflow.search_traces(return_type="list") == []


def test_the_ratio_that_was_set_comes_back(store, monkeypatch):
    use_store(store, "7-production")
    monkeypatch.setenv(RATIO, "1.0")
    with pytest.raises(RuntimeError), sampling(0.0):
        with mlflow.start_span("not-traced"):
            pass
        raise RuntimeError
    with mlflow.start_span("traced"):
        pass
    mlflow.flush_trace_async_logging()
    assert [t.info.tags["mlflow.traceName"] for t in mlflow.search_traces(return_type="list")] == ["traced"]
