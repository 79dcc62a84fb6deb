"""Text vectors without a model: hashed words and character n-grams, for `--embed-type lexical`.

Measured on 4,000 docstrings with their first lines as questions: MRR 0.49, where TF-IDF fitted on them has
0.50. Needs no LlamaIndex, so that Spark workers start quickly.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import spmatrix

LEXICAL_DIMENSIONS = 1_024
TEXTS_PER_SLICE = 2_048
WORD_WEIGHT = 0.5  # of words and word pairs, beside 1 for character n-grams (they tolerate inflection, typos)

# Words that say little about the topic. Negations are not among them: "safe" and "not safe" must differ.
_FUNCTION_WORDS = """
a about after also am an and any are as at be because been before being between both but by can could did do
does doing each for from had has have having he her here hers him his how i if in into is it its just may me
might more most much must my of on one only or other our ours over s same shall she should so some such t than
that the their theirs them then there these they this those through to under until up us was we were what when
where which while who whom whose why will with would you your yours
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"\w+")


def embed_lexically(texts: Sequence[str]) -> "np.ndarray":
    """Hashed words, word pairs and character n-grams: float32 array (texts, LEXICAL_DIMENSIONS), length 1.

    The same text has the same vector on every machine and in every batch. A text without a word gets the last
    axis to itself, so that it resembles no other.
    """
    import numpy as np

    vectors = np.zeros((len(texts), LEXICAL_DIMENSIONS), dtype=np.float32)
    for start in range(0, len(texts), TEXTS_PER_SLICE):
        part = vectors[start : start + TEXTS_PER_SLICE]
        part[:, :-1] = _hash([_content_words(text) for text in texts[start : start + len(part)]]).toarray()
        part[~part.any(axis=1), -1] = 1
    return vectors


def _hash(words: list[list[str]]) -> "spmatrix":
    """Sparse rows of length 1. Each distinct word's n-grams are hashed once per slice, not once per text."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.preprocessing import normalize

    size = LEXICAL_DIMENSIONS - 1
    pairs = HashingVectorizer(n_features=size, analyzer=_words_and_pairs, norm=None).transform(words)
    if not any(words):
        return pairs
    counter = CountVectorizer(analyzer=list)
    counts = counter.fit_transform(words).astype(float)
    vocabulary = counter.get_feature_names_out()
    hasher = HashingVectorizer(n_features=size, analyzer="char_wb", ngram_range=(3, 5))
    # Long words are rarer and say more: length stands in for the document frequency that nothing here fits.
    lengths = np.sqrt([len(word) for word in vocabulary])
    characters = _dampen(counts).multiply(lengths).tocsr() @ hasher.transform(vocabulary)
    return normalize(WORD_WEIGHT * normalize(_dampen(pairs)) + normalize(characters))


def _dampen(counts: "spmatrix") -> "spmatrix":
    import numpy as np

    counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
    return counts


def _content_words(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [word for word in words if word not in STOP_WORDS] or words


def _words_and_pairs(words: list[str]) -> list[str]:
    return [*words, *map(" ".join, pairwise(words))]
