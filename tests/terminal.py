"""A command in a terminal of its own: what a person types, and what they see."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

SECONDS = 150.0  # for a process that imports everything on a busy machine


class Terminal:
    """Runs a command behind a pseudo-terminal; a context manager that leaves no process behind."""

    def __init__(self, command: Sequence[str | Path], **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "dumb", **environment}, preexec_fn=_take_terminal,  # noqa: PLW1509  it makes two system calls
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""
        self._read = 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait_for(self, text: str) -> str:
        """Read until the text is on the screen after what was waited for before; returns what came up to it."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen[self._read :]:
            assert time.monotonic() < deadline and self._more(), f"no {text!r} in:\n{self.seen}"
        end = self.seen.index(text, self._read) + len(text)
        part, self._read = self.seen[self._read : end], end
        return part

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + SECONDS
        while self._more():
            assert time.monotonic() < deadline, self.seen
        return self._process.wait(SECONDS)

    def _more(self) -> bool:
        if not select.select([self._ours], [], [], 1)[0]:
            return self._process.poll() is None
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


def _take_terminal() -> None:
    """In the child: make the terminal its own, so that Ctrl-C is a signal to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that runs in the background was told to ignore Ctrl-C
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
