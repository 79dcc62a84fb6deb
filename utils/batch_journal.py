"""What a long job has paid for: a folder of journals, one line for each call, written the moment its reply is there.

Workers append, each attempt of a task to a file of its own, so that nothing is shared and nothing is overwritten. A
line is one write: a process that is killed loses the calls in flight, with the few replies that a thread is just about
to write, and no others. Who starts the job again reads which texts have an answer and asks the rest. Where workers run
on other machines the folder must be on a disk that all of them see.

Importing it is cheap.
"""

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from utils.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ANSWERS, ROWS, RESULT, SETTINGS, FINISHED = "answers", "rows", "result", "job.json", "finished.json"
LINE = (
    "texts array<string>, answers array<string>, error string, "
    "calls array<struct<started_ns: long, ended_ns: long, error: string>>, prompt_tokens long, completion_tokens long, "
    "asked array<string>, reply string"
)
PATIENCE_S = 120  # with workers of a killed driver that still wait for replies: what they write is paid for


class JournalWriter:
    """The journal of one attempt of one task, in a worker. Locked while it is open, so that others know of it."""

    def __init__(self, folder: str, job: str, partition: int) -> None:
        from filelock import FileLock

        path = Path(folder) / ANSWERS / f"{job}-{partition}-{uuid.uuid4().hex}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._held = FileLock(path.with_suffix(".lock"))
        self._held.acquire()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **line: Any) -> None:
        """One call: `texts` that it answers (none, if it answers none), `answers`, `error`, `calls`, tokens; `asked`
        and `reply` where the reply could not be read."""
        with self._lock:
            os.write(self._file, f"{json.dumps(line)}\n".encode())

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._held.release()


def answered_before(folder: str, job: str, partition: int) -> set[str]:
    """Texts that earlier attempts of this task, on a worker that died, have answers for."""
    found: set[str] = set()
    for path in (Path(folder) / ANSWERS).glob(f"{job}-{partition}-*.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # the last one may be half a line
                record = json.loads(line)
                found |= set(record["texts"]) if record["error"] is None else set()
    return found


@dataclass(frozen=True)
class JobFolder:
    """Rows, answers and result of one job: `DIR/rows`, `DIR/answers`, `DIR/result`."""

    path: Path

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any], *, resume: bool, replace: bool) -> "JobFolder":
        """The folder for a job with these settings, empty or with what an interrupted one has paid for.

        Args:
            settings: everything that decides the answers and the rows; JSON.
            resume: the caller means to go on.
            replace: what a job has left there may go.

        Raises:
            InputError: the folder holds something else, or an unfinished job that is not to be resumed, or one with
                other settings; or there is nothing to resume.
        """
        folder = cls(path.absolute())
        before = folder._read(SETTINGS)
        if resume:
            if before is None:
                raise InputError(f"{path} holds no job to resume", "the same command without --resume")
            _check_same(path, before, settings)
            wait_for_writers(folder.path)
            (folder.path / FINISHED).unlink(missing_ok=True)
            return folder
        if before is None and folder.path.exists() and any(folder.path.iterdir()):
            raise InputError(f"{path} holds files that are no job's", "--output DIR, a folder of its own")
        if before is not None and not replace and folder._read(FINISHED) is None:
            raise InputError(f"{path} holds an interrupted job", "the same command with --resume, or another --output")
        if folder.path.exists():
            shutil.rmtree(folder.path)
        (folder.path / ANSWERS).mkdir(parents=True)
        (folder.path / SETTINGS).write_text(json.dumps(settings, indent=1))
        return folder

    @property
    def rows(self) -> str:
        return str(self.path / ROWS)

    @property
    def result(self) -> str:
        return str(self.path / RESULT)

    @property
    def has_rows(self) -> bool:
        return (self.path / ROWS / "_SUCCESS").exists()

    def lines(self, session: "SparkSession", job: str = "") -> "DataFrame":
        """DataFrame[LINE]: every call, those of one job's id or of all; the half line of a killed writer is no call."""
        reader = session.read.schema(LINE).option("pathGlobFilter", f"{job}*.jsonl")
        return reader.json(str(self.path / ANSWERS)).where("texts is not null")

    def answered(self, session: "SparkSession") -> "DataFrame":
        """DataFrame[text]: distinct texts that have an answer."""
        return self.lines(session).where("error is null").selectExpr("explode(texts) as text").distinct()

    def answers(self, session: "SparkSession") -> "DataFrame":
        """One row for each text that was asked about.

        DataFrame[text, answer, error (null where there is an answer), attempts, latency_ms (of the last call), rows in
        the call, and its tokens divided by these].
        """
        last = "element_at(calls, -1)"
        each = self.lines(session).selectExpr(
            "explode(arrays_zip(texts, answers)) as pair", "error", "size(calls) as attempts",
            f"({last}.ended_ns - {last}.started_ns) / 1e6 as latency_ms", "size(texts) as rows_in_call",
            "prompt_tokens / size(texts) as prompt_tokens", "completion_tokens / size(texts) as completion_tokens",
        )  # fmt: skip
        fields = "pair.answers as answer, error, attempts, latency_ms, rows_in_call, prompt_tokens, completion_tokens"
        # A text that failed before a resumed job asked again has two lines: the answer wins.
        return (
            each.selectExpr("pair.texts as text", f"struct(error is null as ok, {fields}) as found")
            .groupBy("text").agg({"found": "max"}).selectExpr("text", "`max(found)`.*").drop("ok")
        )  # fmt: skip

    def finish(self) -> None:
        (self.path / FINISHED).write_text(json.dumps({"finished": time.time()}))

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None


def wait_for_writers(path: Path, patience_s: float = PATIENCE_S) -> None:
    """Until no worker of an earlier job writes any more: it would be asked twice what it is about to write.

    Raises:
        InputError: one still does.
    """
    from filelock import FileLock, Timeout

    deadline = time.monotonic() + patience_s
    for held in (path / ANSWERS).glob("*.lock"):
        try:
            with FileLock(held, timeout=max(0.0, deadline - time.monotonic())):
                pass
        except Timeout as error:
            problem = f"workers of an earlier job still write to {path}"
            raise InputError(problem, "wait until it has ended, then the same command again") from error


def _check_same(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            problem = f"the job in {path} was begun with {name} {before.get(name)}, not {now.get(name)}"
            raise InputError(problem, "the flags it was begun with, or another --output")
