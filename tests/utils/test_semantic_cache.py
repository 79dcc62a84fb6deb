"""The cache on disk: what is found again, what is not, and that several processes at once leave it whole."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from utils.errors import InputError
from utils.semantic_cache import Entry, SemanticCache

WRITER = """
import sys, numpy as np
from pathlib import Path
from utils.semantic_cache import Entry, SemanticCache
name, path, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with SemanticCache(path, "shared", max_entries=10_000, max_age_s=3600) as cache:
    for n in range(number):
        vector = np.random.default_rng([ord(name), n]).normal(size=64)
        cache.put(Entry(f"{name} {n}", f"answer {name} {n}", 5, 2, 1.0), vector)
        match = cache.nearest(vector)
        assert match is not None and match.entry.answer == f"answer {name} {n}" and match.similarity == 1, match
        cache.used(match.entry)
    print("done", flush=True)
"""


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    made = []

    def open_one(scope="s", max_entries=100, max_age_s=60.0, path=None):
        made.append(SemanticCache(path or tmp_path / "c.sqlite", scope, max_entries=max_entries, max_age_s=max_age_s,
                                  clock=clock))  # fmt: skip
        return made[-1]

    yield open_one
    for cache in made:
        cache.close()


def entry(name):
    return Entry(name, f"answer to {name}", 10, 3, 20.0)


def axis(place):
    return np.eye(8, dtype=np.float32)[place] * 7  # of any length


def test_the_nearest_entry_is_found_with_the_cosine_of_the_angle(make):
    cache = make()
    assert cache.nearest(axis(0)) is None
    cache.put(entry("a"), axis(0))
    cache.put(entry("b"), axis(1))
    match = cache.nearest(axis(0) + axis(1) / 2)
    assert match.entry.question == "a" and match.entry.prompt_tokens == 10 and match.entry.latency_ms == 20
    assert match.similarity == pytest.approx(1 / np.sqrt(1.25), abs=1e-6)
    assert cache.nearest(axis(1)).similarity == 1.0


def test_it_is_all_there_when_the_file_is_opened_again(make):
    first = make()
    first.put(entry("Größe – “x”"), axis(3))
    first.close()
    second = make()
    assert len(second) == 1 and second.nearest(axis(3)).entry.answer == "answer to Größe – “x”"
    assert second.identical("Größe – “x”").prompt_tokens == 10 and second.identical("another") is None


def test_another_scope_sees_nothing_and_throws_nothing_out(make):
    first, second = make("prompt 1"), make("prompt 2", max_entries=1)
    first.put(entry("a"), axis(0))
    assert second.nearest(axis(0)) is None and second.identical("a") is None and len(second) == 0
    second.put(entry("b"), axis(1))
    second.put(entry("c"), axis(2))
    assert len(first) == 1 and len(second) == 1


def test_the_same_text_keeps_one_entry_the_newest(make):
    cache = make()
    cache.put(entry("a"), axis(0))
    cache.put(Entry("a", "newer", None, None, 1.0), axis(0))
    assert len(cache) == 1 and cache.nearest(axis(0)).entry.answer == "newer"
    assert cache.identical("a").prompt_tokens is None


def test_an_entry_too_old_is_not_given_out_and_goes_with_the_next_write(make, clock, tmp_path):
    cache = make(max_age_s=60)
    cache.put(entry("old"), axis(0))
    clock.now += 59
    assert cache.nearest(axis(0)) and cache.identical("old")
    clock.now += 1
    assert cache.nearest(axis(0)) is None and cache.identical("old") is None and len(cache) == 0
    cache.used(entry("old"))  # giving it out does not make it younger
    cache.put(entry("new"), axis(1))
    with sqlite3.connect(tmp_path / "c.sqlite") as raw:
        assert raw.execute("SELECT question FROM entries").fetchall() == [("new",)]


def test_what_was_used_longest_ago_goes_first(make, clock):
    cache = make(max_entries=2)
    for place, name in enumerate("ab"):
        cache.put(entry(name), axis(place))
        clock.now += 1
    cache.used(cache.identical("a"))
    clock.now += 1
    cache.put(entry("c"), axis(2))
    assert cache.identical("a") and cache.identical("c") and cache.identical("b") is None
    assert len(cache) == 2 and cache.nearest(axis(1)).similarity == 0


def test_what_another_connection_wrote_or_threw_out_is_seen(make):
    first, second = make(), make(max_entries=1)
    first.put(entry("a"), axis(0))
    assert second.nearest(axis(0)).entry.question == "a"
    second.put(entry("b"), axis(1))  # throws a out
    match = first.nearest(axis(0))
    assert match.entry.question == "b" and match.similarity == 0


@pytest.mark.parametrize("vector", [np.zeros(8), np.full(8, np.nan), np.array([np.inf] + [0] * 7)])
def test_a_vector_that_resembles_nothing_is_refused(make, vector):
    cache = make()
    with pytest.raises(ValueError, match="resembles nothing"):
        cache.put(entry("a"), vector)
    assert len(cache) == 0
    cache.put(entry("b"), axis(0))  # the file is not left locked


def test_a_file_that_is_something_else_is_refused_and_left_as_it_is(make, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("these are my notes, and they are longer than the header of a database of SQLite " * 3)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE entries (mine TEXT)")
    newer = tmp_path / "c.sqlite"
    make().close()
    with sqlite3.connect(newer) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = {path: path.read_bytes() for path in (text, other)}
    for path in (text, other, newer):
        with pytest.raises(InputError):
            make(path=path)
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(InputError, match=r"cannot be used|cannot open"):
        make(path=tmp_path)


def start(name, path, number):
    command = [sys.executable, "-c", WRITER, name, str(path), str(number)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def is_whole(path):
    with sqlite3.connect(path) as raw:
        return raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_two_processes_at_once_on_a_file_that_does_not_exist_yet_lose_nothing(tmp_path):
    path, number = tmp_path / "new" / "shared.sqlite", 60
    writers = [start(name, path, number) for name in "ab"]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["done\n", "done\n"]
    assert [writer.returncode for writer in writers] == [0, 0] and is_whole(path)
    with SemanticCache(path, "shared", max_entries=10_000, max_age_s=3600) as cache:
        assert len(cache) == 2 * number
        for name in "ab":
            for n in range(number):
                match = cache.nearest(np.random.default_rng([ord(name), n]).normal(size=64))
                assert match and match.entry.answer == f"answer {name} {n}" and match.similarity == 1


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_leaves_the_cache_whole(tmp_path):
    path = tmp_path / "shared.sqlite"
    for attempt in range(3):
        writer = start("a", path, 1_000_000)
        writer.stdin.write("go\n")
        writer.stdin.flush()
        time.sleep(0.5 + attempt / 7)
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=10)
        assert is_whole(path)
        with SemanticCache(path, "shared", max_entries=1_000_000, max_age_s=3600) as cache:
            assert len(cache) > 0
            cache.put(entry("after the kill"), axis(0)[:8].repeat(8))
            assert cache.identical("after the kill")
