"""Texts cut into chunks whose size is counted in tokens."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llama_index.core.node_parser import SentenceSplitter


class Chunk(NamedTuple):
    """document: the id of the text it was cut from."""

    document: str
    text: str


def tokens(text: str) -> list[int]:
    """As the splitter counts, and one thing more: it strips a chunk after it has counted, and a word that loses the
    space before it may become two tokens. The larger count keeps such a chunk within its size."""
    from llama_index.core.utils import get_tokenizer

    encode, stripped = get_tokenizer(), text.lstrip()
    return encode(text) if stripped == text else max(encode(text), encode(stripped), key=len)


def open_splitter(chunk_tokens: int, overlap_tokens: int) -> "SentenceSplitter":
    """Chunks of at most `chunk_tokens`, cut between sentences where possible, each repeating at most `overlap_tokens`
    of the one before it."""
    from llama_index.core.node_parser import SentenceSplitter

    return SentenceSplitter(chunk_size=chunk_tokens, chunk_overlap=overlap_tokens, tokenizer=tokens)


def cut(texts: Mapping[str, str], chunk_tokens: int, overlap_tokens: int) -> list[Chunk]:
    """The chunks of all texts (document id → text) in their order; an empty text has none."""
    splitter = open_splitter(chunk_tokens, overlap_tokens)
    chunks = []
    for name, text in texts.items():
        whole = text.strip()
        # No token is shorter than a byte: so short a text is a chunk, and need not be counted.
        parts = [whole] if len(whole.encode("utf-8")) <= chunk_tokens else splitter.split_text(text)
        chunks += [Chunk(name, part) for part in parts if part]
    return chunks
