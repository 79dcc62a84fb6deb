"""Which GGUF file answers: one of the learner's, or one of the model hub, fetched once and checked against its hash.

--model /models/mine.gguf                        a file
--model qwen2.5-coder-0.5b-instruct              a model named here
--model OWNER/REPOSITORY/FILE.gguf@SHA256        any file of the hub, with the hash that you expect
LOCAL_LLM_PATH=/models/mine.gguf                 the file where no --model is given
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from utils.model_servers import BackendUnavailable
from utils.time_limits import OutOfTime, within

DEFAULT = "qwen2.5-coder-0.5b-instruct"
HUB_SECONDS = 4.0  # to find out whether the hub is there and has the file
HUB_FILE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.gguf)@(?P<sha256>[0-9a-fA-F]{64})")
OWN_FILE_CURE = "--model FILE.gguf, a file on this disk   (or: --llm-type mock)"
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class HubFile:
    """A file of the model hub, and the only content that is taken for it. size: bytes; None where it is not known."""

    repository: str
    file: str
    sha256: str
    size: int | None = None

    @property
    def path(self) -> Path:
        """Where it is kept. The hash is part of the place: two contents never share one."""
        return cache_folder() / self.sha256[:16] / Path(self.file).name


HUB_FILES = {
    DEFAULT: HubFile(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        491_400_064,
    )
}


def cache_folder() -> Path:
    """The user's cache: models are shared by all checkouts and survive them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlflow-learn" / "models"


def find_weights(model: str | None) -> Path:
    """The file to load, fetched if it is one of the hub's that is not on this disk yet.

    Raises:
        BackendUnavailable: no such file or name, no network, or another content than expected.
    """
    chosen = choose(model)
    if isinstance(chosen, Path):
        return chosen
    return verified(chosen) if chosen.path.exists() else fetch(chosen)


def check_weights(model: str | None) -> Path | None:
    """The file, if it is on this disk; None where the hub has it. Nothing is fetched.

    Raises:
        BackendUnavailable: as find_weights, within HUB_SECONDS.
    """
    chosen = choose(model)
    if isinstance(chosen, Path):
        return chosen
    if chosen.path.exists():
        return chosen.path
    ask_hub(chosen)
    return None


def choose(model: str | None) -> Path | HubFile:
    """What `--model`, LOCAL_LLM_PATH and the default mean.

    Raises:
        BackendUnavailable: there is no such file, and no such name.
    """
    given = model or os.environ.get("LOCAL_LLM_PATH") or DEFAULT
    if given in HUB_FILES:
        return HUB_FILES[given]
    if found := HUB_FILE.fullmatch(given):
        return HubFile(found["repository"], found["file"], found["sha256"].lower())
    path = Path(given).expanduser()
    if path.is_file():
        return path.absolute()
    if path.is_dir():
        raise BackendUnavailable(f"{given} is a folder", "name the GGUF file in it: --model FOLDER/FILE.gguf")
    if not model:
        raise BackendUnavailable(f"there is no file {given}, which LOCAL_LLM_PATH names", "correct it, or unset it")
    if path.suffix.lower() == ".gguf" or os.sep in given:
        raise BackendUnavailable(f"there is no file {given}", f"correct --model, or --model {DEFAULT}")
    raise BackendUnavailable(f"there is no local model {given}", f"--model FILE.gguf, or --model {DEFAULT}")


def fetch(wanted: HubFile) -> Path:
    """Download the file, and keep it only if its content is the expected one.

    Raises:
        BackendUnavailable: no network, no such file, too little room, or another content; nothing is kept then.
    """
    from filelock import FileLock

    size = ask_hub(wanted)
    folder = wanted.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if size and size > shutil.disk_usage(folder).free:
        problem = f"{wanted.file} has {size / 1e6:,.0f} MB, more than is free on the disk of {folder}"
        raise BackendUnavailable(problem, "free some space, or set XDG_CACHE_HOME to a larger disk")
    with FileLock(folder / "fetch.lock"):
        if wanted.path.exists():  # another process was faster
            return verified(wanted)
        arriving = _download(wanted, folder / "arriving")
        found = sha256_of(arriving)
        if found != wanted.sha256:
            shutil.rmtree(folder / "arriving")
            problem = f"{wanted.file} of {wanted.repository} has SHA-256 {found}, not {wanted.sha256}; nothing was kept"
            raise BackendUnavailable(problem, OWN_FILE_CURE)
        arriving.replace(wanted.path)
        shutil.rmtree(folder / "arriving")
        _remember(wanted)
    return wanted.path


def verified(kept: HubFile) -> Path:
    """The kept file, which must still be what was fetched. It is read again only when its size or time changed.

    Raises:
        BackendUnavailable: it has another content.
    """
    if _note(kept).exists() and json.loads(_note(kept).read_text()) == _state(kept.path):
        return kept.path
    found = sha256_of(kept.path)
    if found != kept.sha256:
        problem = f"{kept.path} has SHA-256 {found}, not {kept.sha256}: it was changed or is broken"
        raise BackendUnavailable(problem, f"rm {kept.path}, then the same command (it is fetched again)")
    _remember(kept)
    return kept.path


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ask_hub(wanted: HubFile) -> int | None:
    """How many bytes the hub says the file has; before anything is fetched.

    Raises:
        BackendUnavailable: the hub does not answer within HUB_SECONDS, or has no such file, or another one.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    url = hf_hub_url(wanted.repository, wanted.file, endpoint=_endpoint())
    try:
        known = within(HUB_SECONDS, lambda: get_hf_file_metadata(url, timeout=HUB_SECONDS))  # also a slow name server
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        problem = f"the model hub answers {status} for {wanted.file} of {wanted.repository}"
        raise BackendUnavailable(problem, OWN_FILE_CURE) from error
    except (OSError, httpx.HTTPError, OutOfTime) as error:  # offline mode is a kind of OSError
        problem = f"{wanted.file} is not on this disk, and the model hub cannot be reached ({type(error).__name__})"
        raise BackendUnavailable(problem, OWN_FILE_CURE) from error
    etag = known.etag or ""  # of a large file it is the SHA-256
    if re.fullmatch(r"[0-9a-f]{64}", etag) and etag != wanted.sha256:
        problem = f"{wanted.file} of {wanted.repository} has SHA-256 {etag} on the hub, not {wanted.sha256}"
        raise BackendUnavailable(problem, OWN_FILE_CURE)
    return known.size or wanted.size


def _download(wanted: HubFile, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import httpx

    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted download left
    try:
        return Path(hf_hub_download(wanted.repository, wanted.file, local_dir=folder, endpoint=_endpoint()))
    except (OSError, httpx.HTTPError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        problem = f"the download of {wanted.file} broke off ({type(error).__name__}); nothing was kept"
        raise BackendUnavailable(problem, f"the same command again, or {OWN_FILE_CURE}") from error


def _endpoint() -> str | None:
    """The hub's address; a company may have a mirror."""
    return os.environ.get("HF_ENDPOINT") or None


def _note(kept: HubFile) -> Path:
    return kept.path.with_suffix(".verified.json")


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _remember(kept: HubFile) -> None:
    _note(kept).write_text(json.dumps(_state(kept.path)))
