"""`--embed-type` and `--embed-model` become a LlamaIndex embedding model, checked before it is used.

Importing this module is cheap: LlamaIndex, fastembed and HTTP clients are imported where they are used.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import UserError
from utils.loader import require

if TYPE_CHECKING:
    import httpx
    from llama_index.core.base.embeddings.base import BaseEmbedding

T = TypeVar("T")

EMBED_TYPES = ("lexical", "fastembed", "huggingface", "openai", "ollama")
DEFAULT_MODELS = {
    "fastembed": "BAAI/bge-small-en-v1.5",
    "huggingface": "BAAI/bge-small-en-v1.5",
    "openai": "text-embedding-3-small",
    "ollama": "nomic-embed-text",
}
OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_URL = "http://localhost:11434"
PROBE_SECONDS = 3
HUB_SECONDS = 3
ENDPOINT_RETRIES = 3
FOLDER_CURE = "--embed-model FOLDER of a downloaded model, or --embed-type lexical"


class EmbeddingUnavailable(UserError):
    """The embedding model cannot be used: no such model, server, key or folder."""


def default_embed_type(llm_type: str) -> str:
    """`lexical` beside the mock, which needs no download either; `fastembed` beside a real model."""
    return "lexical" if llm_type == "mock" else "fastembed"


def open_embedding(
    embed_type: str,
    embed_model: str | None = None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    ollama_url: str | None = None,
    request_timeout_s: float = 60,
) -> "BaseEmbedding":
    """The embedding model, ready to use.

    Args:
        embed_type: one of EMBED_TYPES.
        embed_model: its name; with `fastembed` and `huggingface` also the folder of a downloaded model.
        base_url: OpenAI-compatible endpoint (ends in /v1); default OPENAI_BASE_URL, else OpenAI.
        api_key: its key; default OPENAI_API_KEY.
        ollama_url: default http://localhost:11434.
        request_timeout_s: seconds for one request to a server.

    Raises:
        EmbeddingUnavailable: within 5 seconds when a server, key, model or folder is missing.
        MissingExtra: `huggingface` without its extra.
    """
    if embed_type == "lexical":
        from utils.embedding_models import LexicalEmbedding

        return LexicalEmbedding()
    if embed_type == "openai":
        return _open_endpoint(embed_model, base_url, api_key, request_timeout_s)
    if embed_type == "ollama":
        return _open_ollama(embed_model or DEFAULT_MODELS["ollama"], ollama_url or OLLAMA_URL, request_timeout_s)
    openers = {"fastembed": _open_fastembed, "huggingface": _open_huggingface}
    if embed_type not in openers:
        raise EmbeddingUnavailable(f"there is no embedding type {embed_type}", f"--embed-type {EMBED_TYPES[0]}")
    model = embed_model or DEFAULT_MODELS[embed_type]
    return openers[embed_type](model, _model_folder(model))


def _open_fastembed(model: str, folder: Path | None) -> "BaseEmbedding":
    from loguru import logger

    logger.disable("fastembed")  # it prints what the errors below say
    cache = None if folder else _fetch(model)

    from utils.embedding_models import FastEmbedEmbedding  # slow to import: after the checks

    return FastEmbedEmbedding(model_name=model, folder=str(folder) if folder else None, cache_folder=cache)


def _fetch(model: str) -> str:
    """Download the model unless it is there; the cache folder that holds it."""
    from fastembed import TextEmbedding

    known = {entry["model"].lower(): entry["sources"] for entry in TextEmbedding.list_supported_models()}
    if model.lower() not in known:
        raise EmbeddingUnavailable(f"fastembed has no model {model}", f"--embed-model {DEFAULT_MODELS['fastembed']}")
    cache = _model_cache()
    try:
        TextEmbedding(model, cache_dir=cache, local_files_only=True, lazy_load=True)
        return cache
    except ValueError:  # not downloaded yet
        _require_hub(model, known[model.lower()]["hf"] or model)
    try:
        TextEmbedding(model, cache_dir=cache, lazy_load=True)
    except ValueError as error:
        raise _not_to_be_had(model, "the download broke off") from error
    return cache


def _open_huggingface(model: str, folder: Path | None) -> "BaseEmbedding":
    open_model = require("llama_index.embeddings.huggingface", "huggingface").HuggingFaceEmbedding
    name, cache = str(folder or model), _model_cache()
    try:
        return open_model(model_name=name, cache_folder=cache, local_files_only=True)
    except OSError as error:  # not downloaded yet
        if folder:
            raise EmbeddingUnavailable(f"{folder} is no sentence-transformers model", FOLDER_CURE) from error
        _require_hub(model, model)
    return open_model(model_name=name, cache_folder=cache)


def _open_ollama(model: str, ollama_url: str, request_timeout_s: float) -> "BaseEmbedding":
    import httpx

    url = ollama_url.rstrip("/")
    answer = _ask(
        lambda: httpx.get(f"{url}/api/tags", timeout=PROBE_SECONDS),
        f"Ollama does not answer at {url}",
        f"ollama serve, then ollama pull {model}   (or: --embed-type lexical)",
    )
    names = [entry.get("name", "") for entry in _items(answer, "models")]
    if model not in names and f"{model}:latest" not in names:
        raise EmbeddingUnavailable(f"Ollama has no model {model} (it has: {_few(names)})", f"ollama pull {model}")

    from llama_index.embeddings.ollama import OllamaEmbedding  # slow to import: after the checks

    return OllamaEmbedding(model, base_url=url, client_kwargs={"timeout": request_timeout_s})


def _open_endpoint(
    model: str | None, base_url: str | None, api_key: str | None, request_timeout_s: float
) -> "BaseEmbedding":
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
    key = api_key or os.environ.get("OPENAI_API_KEY")
    if not key and url == OPENAI_URL:
        cure = "export OPENAI_API_KEY=…   (or: --openai-base-url of a local server, or --embed-type lexical)"
        raise EmbeddingUnavailable("OPENAI_API_KEY is not set", cure)
    key = key or "not-needed"  # a local server asks for none, but the client insists on one
    model = _check_endpoint(url, key, model, request_timeout_s)

    from utils.embedding_models import EndpointEmbedding  # slow to import: after the checks
    from utils.http_clients import AsyncMaskingClient, MaskingClient

    return EndpointEmbedding(
        model_name=model,
        api_base=url,
        api_key=key,
        timeout=request_timeout_s,
        max_retries=ENDPOINT_RETRIES,
        http_client=MaskingClient(),
        async_http_client=AsyncMaskingClient(),
    )


def _check_endpoint(url: str, key: str, model: str | None, request_timeout_s: float) -> str:
    """The model to use, after the server was reached, accepted the key and embedded one word."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"}
    cure = "check --openai-base-url: it ends in /v1 and the server runs   (or: --embed-type lexical)"
    problem = f"no server answers at {url}"
    listed = _ask(lambda: httpx.get(f"{url}/models", headers=headers, timeout=PROBE_SECONDS), problem, cure)
    names = [entry.get("id", "") for entry in _items(listed, "data")]
    chosen = model or _default_endpoint_model(names)
    body = {"model": chosen, "input": ["probe"]}
    # A server may need longer than a probe to load a model, so this one has the time of a real request.
    status = _ask(
        lambda: httpx.post(f"{url}/embeddings", headers=headers, json=body, timeout=request_timeout_s),
        problem,
        cure,
        deadline_s=request_timeout_s,
    ).status_code
    if status in (401, 403):
        raise EmbeddingUnavailable(f"{url} refuses the key in OPENAI_API_KEY ({status})", "set a valid OPENAI_API_KEY")
    if status != 200 and status != 429 and status < 500:  # 429 and 5xx pass: the client tries those again
        have = f" (it has: {_few(names)})" if names else ""
        raise EmbeddingUnavailable(
            f"{url} has no embedding model {chosen}{have}", "--embed-model NAME   (or: --embed-type lexical)"
        )
    return chosen


def _default_endpoint_model(names: list[str]) -> str:
    """OpenAI's default, or the one embedding model that a local server lists instead."""
    embedding_models = [name for name in names if "embed" in name.lower()]
    only_one = DEFAULT_MODELS["openai"] not in names and len(embedding_models) == 1
    return embedding_models[0] if only_one else DEFAULT_MODELS["openai"]


def _model_folder(model: str) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith("."):
        raise EmbeddingUnavailable(f"there is no folder {model}", FOLDER_CURE)
    return None


def _model_cache() -> str:
    from utils.mlflow_setup import STATE_DIR

    return os.environ.get("FASTEMBED_CACHE_PATH") or str(STATE_DIR / "models")


def _require_hub(model: str, repository: str) -> None:
    """Raise at once where the hub cannot be reached: the download itself would try again for a minute."""
    from huggingface_hub import model_info
    from huggingface_hub.utils import httpx

    try:
        _within(HUB_SECONDS, lambda: model_info(repository, timeout=PROBE_SECONDS))
    except (OSError, httpx.HTTPError) as error:
        raise _not_to_be_had(model, type(error).__name__) from error


def _not_to_be_had(model: str, reason: str) -> EmbeddingUnavailable:
    problem = f"the embedding model {model} is neither on this disk nor can it be downloaded ({reason})"
    return EmbeddingUnavailable(problem, FOLDER_CURE)


def _ask(
    request: Callable[[], "httpx.Response"], problem: str, cure: str, deadline_s: float = HUB_SECONDS
) -> "httpx.Response":
    import httpx

    try:
        return _within(deadline_s, request)
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise EmbeddingUnavailable(problem, cure) from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns, or TimeoutError. No HTTP timeout covers a name server that does not answer."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again by outcome.result()
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(timeout=seconds)


def _items(answer: "httpx.Response", field: str) -> list[dict[str, Any]]:
    try:
        body = answer.json()
    except ValueError:
        return []
    found = body.get(field) if isinstance(body, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "none"
