"""One seam for every model: a backend is an HTTP endpoint that speaks OpenAI's API (or Ollama's own).

    with open_backend("mock") as llm:
        llm.chat_model()      # LangChain
        llm.llama_index()     # LlamaIndex
        llm.openai_client()   # the OpenAI SDK
        llm.judge()           # keyword arguments for MLflow's judges
        llm.settings          # small and picklable: a Spark worker builds the same clients from it

The endpoint is asked first. One that is missing raises BackendUnavailable; no other backend ever takes its place.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from utils.backend_settings import DUMMY_KEY, BackendSettings
from utils.model_servers import BackendUnavailable, describe_failed_call, get_json, model_names
from utils.options import BackendOptions

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from llama_index.core.llms import LLM
    from openai import OpenAI

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_DEFAULT_MODEL = "gpt-4o-mini"
LOCAL_REQUEST_SECONDS = (
    600.0  # where no --request-timeout is given: this machine computes, and requests wait their turn
)
ENDPOINT_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY")


class Backend:
    """An endpoint that answered. Its methods are those of its settings.

    No dataclass: in the span of a traced function an argument of this kind is one line, not all its fields.
    """

    def __init__(self, settings: BackendSettings, server: Any = None) -> None:
        self.settings = settings
        self.server = server  # the mock's server: its `counts` say what it really served

    def __repr__(self) -> str:
        return f"{self.model} ({self.llm_type})"

    @property
    def model(self) -> str:
        return self.settings.model

    @property
    def llm_type(self) -> str:
        return self.settings.llm_type

    def chat_model(self, **overrides: Any) -> "BaseChatModel":
        return self.settings.chat_model(**overrides)

    def llama_index(self, **overrides: Any) -> "LLM":
        return self.settings.llama_index(**overrides)

    def openai_client(self, **overrides: Any) -> "OpenAI":
        return self.settings.openai_client(**overrides)

    def judge(self) -> dict[str, str]:
        return self.settings.judge()


@contextmanager
def open_backend(llm_type: str | BackendOptions = "mock", **chosen: Any) -> Iterator[Backend]:
    """Open the chosen backend: start the mock, or ask the server whether it is there and has the model.

    llm_type is one of OPENERS, or a command's BackendOptions; `chosen` are fields of these. While it is open,
    OPENAI_BASE_URL, OPENAI_API_BASE and OPENAI_API_KEY point at it (built-in scorers find it that way), and runs and
    traces carry `llm_type` and `llm_model`.

    Raises:
        BackendUnavailable: no server, no such model, or no key; also when a call inside fails for good.
    """
    from utils.lesson_context import tagged

    given = llm_type if isinstance(llm_type, BackendOptions) else BackendOptions(llm_type)
    given = replace(given, **chosen)
    with (
        OPENERS[given.llm_type](given) as backend,
        _endpoint_environment(backend.settings),
        tagged(llm_type=backend.llm_type, llm_model=backend.model),
    ):
        try:
            yield backend
        except Exception as error:
            if not (failure := describe_failed_call(error)):
                raise
            raise BackendUnavailable(
                f"a call to {backend.settings.base_url} failed: {failure}",
                "uv run mlflow-learn doctor, and look at the log of the model server",
            ) from error


def check_backend(given: BackendOptions) -> None:
    """Raises BackendUnavailable where open_backend would: no server, no such model, or no key."""
    if given.llm_type == "local":  # everything but loading it, which open_backend will do
        from utils.local_llm import check_local

        return check_local(given.model)
    with OPENERS[given.llm_type](given):
        return None


@contextmanager
def _open_mock(given: BackendOptions) -> Iterator[Backend]:
    from utils.mock_llm import MODELS, MockServer, MockSettings

    chat_models = [name for name in MODELS if not name.endswith("embedding")]
    model = given.model or chat_models[0]
    if model not in chat_models:
        raise BackendUnavailable(f"the mock has no model {model}", f"--model {' or --model '.join(chat_models)}")
    try:
        settings = MockSettings(latency_ms=given.mock_latency_ms, faults=given.mock_faults)
    except ValueError as error:
        raise BackendUnavailable(str(error), '--mock-faults "429:0.2,timeout:0.05,500:0.05,garbage:0.1"') from error
    with MockServer(settings) as server:
        yield Backend(_settings(given, model, server.base_url), server)


@contextmanager
def _open_local(given: BackendOptions) -> Iterator[Backend]:
    from utils.local_llm import serving

    with serving(given.model) as (base_url, model):
        settings = _settings(given, model, base_url)
        chosen = given.request_timeout != BackendOptions.request_timeout
        yield Backend(settings if chosen else replace(settings, request_timeout=LOCAL_REQUEST_SECONDS))


@contextmanager
def _open_ollama(given: BackendOptions) -> Iterator[Backend]:
    url = given.ollama_url.rstrip("/")
    model = given.model or given.ollama_model
    cure = f"ollama serve, then ollama pull {model}   (or: --llm-type mock)"
    status, body = get_json(f"{url}/api/tags", f"Ollama does not answer at {url}", cure)
    names = model_names(body, "models", "name") if status == 200 else None
    if names is None:
        raise BackendUnavailable(f"{url} is not an Ollama server (/api/tags answers {status})", "check --ollama-url")
    if model not in names and f"{model}:latest" not in names:
        have = ", ".join(names[:5]) or "none"
        raise BackendUnavailable(f"Ollama has no model {model} (it has: {have})", f"ollama pull {model}")
    yield Backend(replace(_settings(given, model, f"{url}/v1"), ollama_url=url))


@contextmanager
def _open_openai(given: BackendOptions) -> Iterator[Backend]:
    url = (given.openai_base_url or OPENAI_URL).rstrip("/")
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BackendUnavailable(
            "OPENAI_API_KEY holds characters that no key has", "copy the key again: export OPENAI_API_KEY=…"
        )
    if not key and url == OPENAI_URL:
        raise BackendUnavailable(
            "OPENAI_API_KEY is not set",
            "export OPENAI_API_KEY=…   (or: --openai-base-url of a local server, or --llm-type mock)",
        )
    model = given.model or OPENAI_DEFAULT_MODEL
    settings = replace(_settings(given, model, url), secret=SecretStr(key or DUMMY_KEY))
    _probe_openai(settings)
    yield Backend(settings)


OPENERS: dict[str, Callable[[BackendOptions], AbstractContextManager[Backend]]] = {
    "mock": _open_mock,
    "local": _open_local,
    "ollama": _open_ollama,
    "openai": _open_openai,
}


def _settings(given: BackendOptions, model: str, base_url: str) -> BackendSettings:
    return BackendSettings(given.llm_type, model, base_url, given.temperature, given.request_timeout)


def _probe_openai(settings: BackendSettings) -> None:
    url = settings.base_url
    cure = "check --openai-base-url: it ends in /v1 and the server runs   (or: --llm-type mock)"
    status, body = get_json(f"{url}/models", f"no server answers at {url}", cure, settings.api_key)
    if status in (401, 403):
        raise BackendUnavailable(f"{url} refuses the key in OPENAI_API_KEY ({status})", "set a valid OPENAI_API_KEY")
    names = model_names(body, "data", "id") if status == 200 else None
    if names is None:
        raise BackendUnavailable(f"{url} does not speak OpenAI's API (/models answers {status})", cure)
    if names and settings.model not in names:
        have = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise BackendUnavailable(f"{url} has no model {settings.model} (it has: {have})", f"--model {names[0]}")


@contextmanager
def _endpoint_environment(settings: BackendSettings) -> Iterator[None]:
    """Point the environment at the endpoint, and put it back. Mock and Ollama never see a real key."""
    before = {name: os.environ.get(name) for name in ENDPOINT_VARIABLES}
    values = (settings.base_url, settings.base_url, settings.api_key)
    os.environ.update(zip(ENDPOINT_VARIABLES, values, strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
