"""Two ways to search texts, by vectors and by words, and one to join their rankings. Positions count from 0.

Rankings are lists of positions in the texts, best first. LlamaIndex, bm25s and NumPy are imported where they are used.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.lexical import STOP_WORDS

if TYPE_CHECKING:
    import numpy as np
    from llama_index.core.base.embeddings.base import BaseEmbedding

RRF_CONSTANT = 60  # of the paper; the larger, the less the first places count
DEPTH = 50  # of the rankings that are joined
QUESTIONS_PER_SLICE = 256
_WORD = re.compile(r"[A-Za-z]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class VectorIndex:
    """Texts by the direction of their vectors (cosine)."""

    def __init__(self, texts: Sequence[str], embedding: "BaseEmbedding") -> None:
        self.embedding = embedding
        self.vectors = embed_texts(texts, embedding)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        """For each question the k nearest texts; of equally near ones the earlier first."""
        import numpy as np

        ranked: list[list[int]] = []
        for start in range(0, len(questions), QUESTIONS_PER_SLICE):
            asked = embed_questions(questions[start : start + QUESTIONS_PER_SLICE], self.embedding)
            order = np.argsort(-(asked @ self.vectors.T), axis=1, kind="stable")[:, :k]
            ranked += order.tolist()
        return ranked


class WordIndex:
    """Texts by the words they share with a question, rare words weighing more (BM25, Robertson and Zaragoza, 2009)."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self.texts = len(texts)
        self.index = bm25s.BM25()
        words = [split_words(text) for text in texts]
        self.empty = not any(words)
        if not self.empty:
            self.index.index(words, show_progress=False)

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        """For each question at most k texts; one that shares no word with it is not in its ranking."""
        if self.empty:
            return [[] for _ in questions]
        ranked = []
        for question in questions:
            words = [word for word in split_words(question) if word in self.index.vocab_dict]
            scores = self.index.get_scores(words) if words else []
            ranked.append(_positions_above_zero(scores, k))
        return ranked


class HybridIndex:
    """Both searches over the same texts, each asked for `depth` of them, and their rankings joined."""

    def __init__(self, texts: Sequence[str], embedding: "BaseEmbedding", depth: int = DEPTH) -> None:
        self.vectors = VectorIndex(texts, embedding)
        self.words = WordIndex(texts)
        self.depth = depth

    def rank(self, questions: Sequence[str], k: int) -> list[list[int]]:
        both = zip(self.vectors.rank(questions, self.depth), self.words.rank(questions, self.depth), strict=True)
        return [reciprocal_rank_fusion(rankings)[:k] for rankings in both]


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]], constant: int = RRF_CONSTANT) -> list[int]:
    """Join rankings of the same texts: each adds 1 / (constant + rank) to a text's score, ranks from 1.

    Only ranks are used, since scores of different searches cannot be compared. Of equals the one that an earlier
    ranking has first comes first. Source: Cormack, Clarke and Büttcher, 2009, doi 10.1145/1571941.1572114.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, position in enumerate(ranking, start=1):
            scores[position] = scores.get(position, 0) + 1 / (constant + rank)
    return sorted(scores, key=lambda position: -scores[position])


def embed_texts(texts: Sequence[str], embedding: "BaseEmbedding") -> "np.ndarray":
    """Vectors of length 1, float32 array (texts, dimensions)."""
    embed_array = getattr(embedding, "embed_array", None)  # ours: without the detour over lists of floats
    return _unit(embed_array(texts) if embed_array else embedding.get_text_embedding_batch(list(texts)))


def embed_questions(questions: Sequence[str], embedding: "BaseEmbedding") -> "np.ndarray":
    """As `embed_texts`; many models embed what is asked in another way than what is searched."""
    if embedding.model_name == "lexical":
        return embed_texts(questions, embedding)
    return _unit([embedding.get_query_embedding(question) for question in questions])


def split_words(text: str) -> list[str]:
    """Lower case, without function words; names of programs are taken apart: log_model and LogModel are log, model."""
    words = (word.lower() for part in _WORD.findall(text) for word in _HUMP.split(part))
    return [_stem(word) for word in words if word not in STOP_WORDS]


def _stem(word: str) -> str:
    """Only the plural's and the third person's s, so that logs finds log: enough for what lessons measure."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _positions_above_zero(scores: Sequence[float], k: int) -> list[int]:
    import numpy as np

    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:k]
    return [int(position) for position in order if scores[position] > 0]


def _unit(vectors: "np.ndarray | Sequence[Sequence[float]]") -> "np.ndarray":
    import numpy as np

    array = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(lengths > 0, lengths, 1)
