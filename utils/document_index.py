"""Passages of a folder's documents by similarity: what an agent's RAG tool retrieves from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.document_files import UnreadableDocument, list_documents, read_document
from utils.embeddings import default_embed_type, open_embedding
from utils.errors import InputError
from utils.llm_backends import Backend
from utils.options import EmbedOptions

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex

CHUNK_TOKENS, OVERLAP_TOKENS = 160, 20


@dataclass(frozen=True)
class Passage:
    """A piece of a document; score: cosine similarity to the question."""

    document: str
    text: str
    score: float

    def as_page(self) -> dict[str, Any]:
        """The form in which MLflow's UI and its retrieval scorers read what a RETRIEVER span returns."""
        return {"page_content": self.text, "metadata": {"doc_uri": self.document, "score": self.score}}


class DocumentIndex:
    """An index in memory. Build it before requests come: embedding the corpus is not part of a trace."""

    def __init__(self, index: "VectorStoreIndex", names: Iterable[str], passages: int) -> None:
        self._index = index
        self.names, self.passages = frozenset(names), passages

    @property
    def documents(self) -> int:
        return len(self.names)

    def retrieve(self, question: str, top_k: int = 3) -> list[Passage]:
        """The most similar passages, best first."""
        found = self._index.as_retriever(similarity_top_k=top_k).retrieve(question)
        return [Passage(str(n.metadata["document"]), n.get_content(), round(float(n.score or 0), 4)) for n in found]


def open_index(
    folder: Path,
    llm: Backend,
    embedding: EmbedOptions,
    further: Mapping[str, str] | None = None,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    overlap_tokens: int = OVERLAP_TOKENS,
) -> DocumentIndex:
    """Chunk and embed the readable documents of a folder (lexically beside the mock, unless told otherwise).

    Args:
        further: texts by name that are indexed as if they stood in the folder.

    Raises:
        InputError: there is no such folder, or nothing in it can be read.
        EmbeddingUnavailable: the embedding model is missing.
    """
    from llama_index.core import VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.schema import TextNode

    embed_type = embedding.embed_type or default_embed_type(llm.llm_type)
    base_url = llm.settings.base_url if llm.llm_type == "openai" else None
    model = open_embedding(embed_type, embedding.embed_model, base_url=base_url, ollama_url=llm.settings.ollama_url)
    splitter = SentenceSplitter(chunk_size=chunk_tokens, chunk_overlap=overlap_tokens)
    texts: dict[str, str] = {}
    for file in list_documents(folder):
        try:
            texts[file.name] = read_document(file.path)
        except UnreadableDocument:  # DocumentSearch, which every agent has beside it, reports these
            continue
    if not texts:
        raise InputError(f"no document of {folder} can be read", "--docs-path FOLDER of UTF-8 texts")
    texts |= further or {}
    nodes = [
        TextNode(text=part, metadata={"document": name})
        for name, text in texts.items()
        for part in splitter.split_text(text)
    ]
    return DocumentIndex(VectorStoreIndex(nodes, embed_model=model), texts.keys(), len(nodes))
