"""Children of the fork server live where their caller does, not where the server was started."""

import os
from pathlib import Path

import pytest

from utils.short_lives import prepared_process, run_processes


def say_where(path: str) -> None:
    Path(path).write_text(f"{os.environ.get('WHERE')} {Path.cwd()}")


@pytest.mark.parametrize("where", ["first", "second"])
def test_environment_and_folder_are_those_of_the_caller(where, tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", where)
    monkeypatch.chdir(tmp_path)
    assert run_processes(say_where, [(str(tmp_path / "said"),)]) == [0]
    assert (tmp_path / "said").read_text() == f"{where} {tmp_path}"


def test_what_was_taken_out_of_the_environment_is_gone(tmp_path, monkeypatch):
    monkeypatch.delenv("WHERE", raising=False)
    process = prepared_process(say_where, (str(tmp_path / "said"),))
    process.start()
    process.join(60)
    assert (tmp_path / "said").read_text().startswith("None ")
