"""Embeddings by feature hashing: words and character n-grams, 256 dimensions, unit length, no model."""

import base64
import struct
from collections.abc import Sequence
from zlib import crc32

from .text import STOP_WORDS, stem, words

DIMENSIONS = 256
_WORD, _STOP_WORD, _PIECE = 1.0, 0.15, 0.25  # what a word, a stop word and a character n-gram add
_PIECE_LENGTH = 4  # characters


def embed(texts: Sequence[str | Sequence[int]]) -> list[list[float]]:
    """One vector of 256 floats (Euclidean length 1) per text; a text may also be a list of token ids.

    Texts that share words, or parts of words, lie close together. An empty text gives the zero vector.
    """
    return [_embed_one(text) for text in texts]


def _embed_one(text: str | Sequence[int]) -> list[float]:
    vector = [0.0] * DIMENSIONS
    if isinstance(text, str):
        for word in words(text):
            _add_word(vector, word)
    else:
        for token in text:
            _add(vector, f"t{token}", _WORD)
    length = sum(value * value for value in vector) ** 0.5
    return [value / length for value in vector] if length else vector


def _add_word(vector: list[float], word: str) -> None:
    if word in STOP_WORDS:
        _add(vector, word, _STOP_WORD)
        return
    _add(vector, stem(word), _WORD)
    padded = f"<{word}>"
    for start in range(len(padded) - _PIECE_LENGTH + 1):
        _add(vector, padded[start : start + _PIECE_LENGTH], _PIECE)


def _add(vector: list[float], feature: str, weight: float) -> None:
    digest = crc32(feature.encode())
    vector[digest % DIMENSIONS] += weight if digest & 0x80000000 else -weight


def to_base64(vector: Sequence[float]) -> str:
    """Little-endian 32-bit floats in base64: the form that the OpenAI SDK asks for."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
