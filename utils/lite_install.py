"""What a package costs to install and to import: measured in an environment of its own, which is thrown away."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from utils.errors import InputError
from utils.mlflow_setup import ROOT

IMPORTS = 3  # the best of so many counts: the first one also compiles
INSTALL_SECONDS = 900


@dataclass(frozen=True)
class Installed:
    """packages: with all that the requirement brings. megabytes: on disk, before anything is compiled."""

    requirement: str
    packages: int
    megabytes: float
    import_seconds: float


@contextmanager
def environment_of(requirement: str) -> Iterator[Path]:
    """An environment that holds this requirement only; yields its Python.

    Raises:
        InputError: uv is missing, or cannot install it (with uv's words).
    """
    if shutil.which("uv") is None:
        raise InputError(
            "uv is not on the PATH, and installs what is measured", "install uv: https://docs.astral.sh/uv/"
        )
    with TemporaryDirectory(prefix="measured-") as folder:
        python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        # In the checkout's root, so that its [tool.uv] counts: the same date of resolution as everywhere else.
        _run(["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder])
        _run(["uv", "pip", "install", "--quiet", "--python", str(python), requirement])
        yield python


def measure_install(requirement: str, module: str) -> Installed:
    """Install a requirement by itself, and import a module of it in fresh processes.

    Raises:
        InputError: uv is missing, or cannot install it.
    """
    with environment_of(requirement) as python:
        libraries = next(python.parent.parent.rglob("site-packages"))
        megabytes = sum(file.stat().st_size for file in libraries.rglob("*") if file.is_file()) / 1e6
        packages = len(list(libraries.glob("*.dist-info")))
        seconds = min(_seconds([str(python), "-c", f"import {module}"]) for _ in range(IMPORTS))
    return Installed(requirement, packages, megabytes, seconds)


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    _run(command)
    return time.perf_counter() - started


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise InputError(f"{' '.join(command[:3])} failed: {said}", "check the network, then run the command again")
    return done.stdout
