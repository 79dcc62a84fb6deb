"""Chunks: the splitter's own, none over its size, the short way for short texts the same as the long way."""

import pytest

from utils.chunking import Chunk, cut, open_splitter, tokens
from utils.questions import read_texts
from utils.sample_documents import CORPUS


@pytest.mark.parametrize(("size", "overlap"), [(32, 0), (64, 10), (512, 50)])
def test_no_chunk_is_over_its_size_and_no_word_is_lost(size, overlap):
    texts = read_texts(CORPUS)
    chunks = cut(texts, size, overlap)
    assert max(len(tokens(chunk.text)) for chunk in chunks) <= size
    assert list(dict.fromkeys(chunk.document for chunk in chunks)) == list(texts)
    for name, text in texts.items():
        words = set(" ".join(chunk.text for chunk in chunks if chunk.document == name).split())
        assert set(text.split()) <= words


@pytest.mark.parametrize(
    "text", ["Short.", "  Two sentences. And one more.\n", "A" * 512, "naïve – 日本語 " * 30, "a\n\n\nb"]
)
def test_a_short_text_is_what_the_splitter_makes_of_it(text):
    assert cut({"d": text}, 512, 50) == [Chunk("d", part) for part in open_splitter(512, 50).split_text(text)]


def test_an_empty_text_has_no_chunk():
    assert cut({"a": "", "b": " \n", "c": "word"}, 64, 0) == [Chunk("c", "word")]
