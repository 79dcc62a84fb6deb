"""LlamaIndex embedding models of this project. `utils.embeddings.open_embedding` chooses and checks them.

All are picklable, so that Spark workers can rebuild them; a model is loaded again where it is unpickled.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.embeddings.openai import OpenAIEmbedding

from utils.embeddings import EmbeddingUnavailable
from utils.lexical import embed_lexically

if TYPE_CHECKING:
    from fastembed import TextEmbedding

# Where exports and downloads put the model; the first that exists is taken.
ONNX_FILES = (
    "model.onnx",
    "onnx/model.onnx",
    "model_optimized.onnx",
    "onnx/model_optimized.onnx",
    "model_quantized.onnx",
    "onnx/model_quantized.onnx",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


class _LocalEmbedding(BaseEmbedding):
    """A model that runs in this process: a subclass says only how many texts become one array."""

    def embed_array(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, float32 array (texts, dimensions), without the detour over lists of floats."""
        raise NotImplementedError

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.embed_array(texts).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class LexicalEmbedding(_LocalEmbedding):
    """Hashed words and character n-grams: no model, no download, no state."""

    model_name: str = "lexical"
    embed_batch_size: int = Field(default=2048, gt=0, le=2048)

    @classmethod
    def class_name(cls) -> str:
        return "LexicalEmbedding"

    def embed_array(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, float32 array (texts, dimensions)."""
        return embed_lexically(texts)


class FastEmbedEmbedding(_LocalEmbedding):
    """An ONNX model run by fastembed: no torch. `folder` wins over a download of `model_name`.

    Raises:
        EmbeddingUnavailable: the folder lacks a file or cannot be loaded, or the model is not in the cache.
    """

    # Measured with 64 texts of 512 tokens: 4 at a time need as much CPU as 64, and 0.9 GB of memory instead of 5.3.
    embed_batch_size: int = Field(default=4, gt=0, le=2048)
    folder: str | None = None
    cache_folder: str | None = None

    _model: Any = PrivateAttr()

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        if self.folder:
            self._model = _load_folder(Path(self.folder))
        else:
            self._model = _load_named(self.model_name, self.cache_folder)

    @classmethod
    def class_name(cls) -> str:
        return "FastEmbedEmbedding"

    def __reduce__(self) -> tuple[Callable[..., "FastEmbedEmbedding"], tuple[dict[str, Any]]]:
        # The ONNX session cannot be pickled: the other side loads the model again.
        names = ("model_name", "embed_batch_size", "folder", "cache_folder")
        return _rebuild, ({name: getattr(self, name) for name in names},)

    def embed_array(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, float32 array (texts, dimensions)."""
        vectors = list(self._model.passage_embed(list(texts), batch_size=self.embed_batch_size))
        return np.asarray(vectors, dtype=np.float32)

    def _get_query_embedding(self, query: str) -> list[float]:
        return np.asarray(next(iter(self._model.query_embed(query))), dtype=np.float32).tolist()


class EndpointEmbedding(OpenAIEmbedding):
    """OpenAI's embeddings API at any base URL, with a key that is never printed or exported."""

    api_key: str = Field(description="The key for the endpoint.", repr=False, exclude=True)

    @classmethod
    def class_name(cls) -> str:
        return "EndpointEmbedding"


def _rebuild(fields: dict[str, Any]) -> FastEmbedEmbedding:
    return FastEmbedEmbedding(**fields)


def _load_named(name: str, cache_folder: str | None) -> "TextEmbedding":
    from fastembed import TextEmbedding

    return TextEmbedding(name, cache_dir=cache_folder, local_files_only=True)


def _load_folder(folder: Path) -> "TextEmbedding":
    from fastembed import TextEmbedding

    onnx_file = _find_files(folder)
    name = _register(folder, onnx_file) or _known_model(folder, onnx_file)
    try:
        return TextEmbedding(name, specific_model_path=str(folder))
    except Exception as error:
        # ONNX Runtime and tokenizers raise types of their own, which no public base class joins.
        problem = f"the model in {folder} cannot be loaded: {str(error).splitlines()[0]}"
        raise EmbeddingUnavailable(problem, "download the folder again, or --embed-type lexical") from error


def _find_files(folder: Path) -> str:
    onnx_file = next((name for name in ONNX_FILES if (folder / name).is_file()), None)
    missing = [name for name in TOKENIZER_FILES if not (folder / name).is_file()]
    if onnx_file is None:
        missing.insert(0, "model.onnx")
    if onnx_file is None or missing:
        raise EmbeddingUnavailable(
            f"{folder} is no ONNX model: it has no {' and no '.join(missing)}",
            "--embed-model FOLDER of a downloaded ONNX model, or --embed-type lexical",
        )
    return onnx_file


def _register(folder: Path, onnx_file: str) -> str | None:
    """Register the folder, if its files say how token vectors are pooled; the name fastembed then knows."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource

    declared = {**_read_json(folder / "config.json"), **_read_json(folder / "1_Pooling" / "config.json")}
    pooling = _pooling(declared)
    dimensions = declared.get("word_embedding_dimension") or declared.get("hidden_size")
    if pooling is None or dimensions is None:
        return None
    name = f"folder:{folder.resolve()}"
    if name.lower() not in {model["model"].lower() for model in TextEmbedding.list_supported_models()}:
        source = ModelSource(url=folder.resolve().as_uri())
        TextEmbedding.add_custom_model(name, pooling, True, source, int(dimensions), model_file=onnx_file)
    return name


def _pooling(declared: dict[str, Any]) -> Any:
    from fastembed.common.model_description import PoolingType

    modes = {
        "pooling_mode_mean_tokens": PoolingType.MEAN,
        "pooling_mode_cls_token": PoolingType.CLS,
        "pooling_mode_lasttoken": PoolingType.LAST_TOKEN,
    }
    chosen = [kind for name, kind in modes.items() if declared.get(name)]
    return chosen[0] if len(chosen) == 1 else None


def _known_model(folder: Path, onnx_file: str) -> str:
    """The model that fastembed knows under this folder's name, or under the name that config.json gives."""
    from fastembed import TextEmbedding

    origin = str(_read_json(folder / "config.json").get("_name_or_path", ""))
    names = f"{folder.resolve()} {origin}".lower()
    known = [model for model in TextEmbedding.list_supported_models() if model["model_file"] == onnx_file]
    fitting = [model["model"] for model in known if model["model"].split("/")[-1].lower() in names]
    if not fitting:
        raise EmbeddingUnavailable(
            f"{folder} does not say how its token vectors are pooled (no 1_Pooling/config.json)",
            "add 1_Pooling/config.json from the model's page, or --embed-type lexical",
        )
    return max(fitting, key=len)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbeddingUnavailable(f"{path} is not JSON", "download the folder again") from error
    return content if isinstance(content, dict) else {}
