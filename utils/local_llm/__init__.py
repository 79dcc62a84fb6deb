"""`--llm-type local`: llama.cpp (package xllamacpp) on a free port of 127.0.0.1, in a process of its own.

A process of its own, because llama.cpp ends the one it runs in when it cannot go on, and prints as it likes. It ends
with the command, also when that is killed.

    with serving("my-model.gguf") as (base_url, model): ...

Source: https://github.com/ggml-org/llama.cpp/tree/master/tools/server
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from utils.loader import require
from utils.local_llm.gguf import ModelFile, read_header
from utils.local_llm.weights import check_weights, find_weights
from utils.model_servers import BackendUnavailable

START_SECONDS = 300  # a large file on a slow disk
STOP_SECONDS = 10
SLOT_TOKENS = 8_192  # context of each request that is served at once
LONGEST_REPLY = 1_024  # tokens, where the request names no limit: a small model may never stop by itself
MOST_SLOTS = 4
SPARE_BYTES = 512 * 2**20  # for what llama.cpp needs besides weights and context
TEMPLATES = Path(__file__).parent
# The stock template of this model asks for <tool_call> tags, which it then leaves out: no call is ever recognised.
OWN_TEMPLATES = {"qwen2.5-coder": TEMPLATES / "qwen_tools.jinja"}


@dataclass(frozen=True)
class Plan:
    """How the server uses this machine: threads that compute, requests served at once, tokens of context for each."""

    threads: int
    slots: int
    slot_tokens: int


def plan(file: ModelFile, cpus: int, free_bytes: int | None) -> Plan:
    """Half of the CPUs compute: the other half are their siblings, or have the lesson and Spark to run.

    Args:
        file: the model: how large it is and how much memory a token of context takes.
        cpus: that this process may use.
        free_bytes: memory that is free; None where nobody counts it.

    Raises:
        BackendUnavailable: the memory does not hold even one request.
    """
    tokens = min(SLOT_TOKENS, file.context_tokens or SLOT_TOKENS)
    threads, slots = max(1, cpus // 2), min(MOST_SLOTS, max(2, cpus // 2))
    if free_bytes is None:
        return Plan(threads, slots, tokens)
    room = free_bytes - file.bytes - SPARE_BYTES
    if room < tokens * file.bytes_per_token:
        need = (file.bytes + SPARE_BYTES + tokens * file.bytes_per_token) / 2**30
        problem = f"{file.path.name} needs {need:.1f} GiB of memory, and {free_bytes / 2**30:.1f} GiB are free"
        raise BackendUnavailable(problem, "close other programs, or give a smaller file with --model")
    fit = room // (tokens * file.bytes_per_token) if file.bytes_per_token else slots
    return Plan(threads, int(min(slots, fit)), tokens)


def check_local(model: str | None) -> None:
    """What can be known without loading the model: the extra, the file, or whether the hub has it.

    Raises:
        MissingExtra, BackendUnavailable.
    """
    require("xllamacpp", "local")
    path = check_weights(model)
    if path:
        plan(read_header(path), usable_cpus(), free_memory())


@contextmanager
def serving(model: str | None) -> Iterator[tuple[str, str]]:
    """Load the model and serve it; yields the base URL (ends in /v1) and the model's name there.

    Args:
        model: a GGUF file, or the name of a model of the hub (see find_weights); None takes LOCAL_LLM_PATH, else the
            default model, which is fetched once.

    Raises:
        MissingExtra: xllamacpp is not installed.
        BackendUnavailable: no such file, a wrong one, too little memory, or llama.cpp cannot use it.
    """
    require("xllamacpp", "local")
    file = read_header(find_weights(model))
    chosen = plan(file, usable_cpus(), free_memory())
    name = file.path.stem
    with tempfile.TemporaryFile("w+") as log:
        process = _start(file, name, chosen, log)
        try:
            yield _address(process, file, log), name
        finally:
            _stop(process)


def _start(file: ModelFile, name: str, chosen: Plan, log: IO[str]) -> subprocess.Popen:
    settings = {
        "weights": str(file.path), "alias": name, "slots": chosen.slots, "threads": chosen.threads,
        "context_tokens": chosen.slots * chosen.slot_tokens, "longest_reply": LONGEST_REPLY,
        "template": str(OWN_TEMPLATES.get(file.basename.lower(), "")),
    }  # fmt: skip
    command = [sys.executable, "-m", "utils.local_llm", json.dumps(settings)]
    root = Path(__file__).resolve().parent.parent.parent
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=root)


def _address(process: subprocess.Popen, file: ModelFile, log: IO[str]) -> str:
    """The line that the server prints once it answers."""
    lines: Queue[str] = Queue()
    threading.Thread(target=lambda: lines.put(process.stdout.readline() if process.stdout else ""), daemon=True).start()
    started = time.monotonic()
    try:
        line = lines.get(timeout=START_SECONDS).strip()
    except Empty:
        line = ""
    if line:
        return f"{line}/v1"
    if time.monotonic() - started >= START_SECONDS:
        problem = f"llama.cpp did not load {file.path.name} within {START_SECONDS} seconds"
        raise BackendUnavailable(problem, "give a smaller file with --model")
    process.wait(STOP_SECONDS)
    raise BackendUnavailable(
        f"llama.cpp cannot use {file.path}: {_reason(log)}",
        "fetch the file again, or give another one with --model FILE.gguf",
    )


def _reason(log: IO[str]) -> str:
    """Of what llama.cpp printed, the line that says why."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    said = (telling or lines or ["it ended without a word"])[0]
    return re.sub(r"^[\d.]+ [A-Z] ", "", said)[:300]  # without its clock


def _stop(process: subprocess.Popen) -> None:
    if process.stdin:
        process.stdin.close()  # which is what tells it to stop
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def usable_cpus() -> int:
    """CPUs that this process may use: a container or taskset may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that a new process can have without swapping; None where the system does not say (anything but Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
