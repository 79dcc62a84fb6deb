"""LlamaIndex over a table on disk: the nearest chunks by cosine, read when they are asked for."""

import numpy as np
import pytest

from utils.embedding_models import LexicalEmbedding
from utils.incremental_index import Content, DocumentIndex, IndexSettings
from utils.lance_store import LanceStore
from utils.lexical import LEXICAL_DIMENSIONS, embed_lexically

TEXTS = {"boats": "The boat has two masts.", "fruit": "Limes are green.", "bread": "Rye bread rests for a day."}


@pytest.fixture
def index(tmp_path):
    made = DocumentIndex.open(tmp_path / "index", IndexSettings(64, 0, "lexical", "lexical", LEXICAL_DIMENSIONS))
    made.begin()
    made.replace([Content(name, "1", [text]) for name, text in TEXTS.items()], embed_lexically(list(TEXTS.values())))
    return made


def test_a_retriever_finds_the_nearest_chunk_with_its_cosine_and_its_document(index):
    from llama_index.core import VectorStoreIndex

    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=LexicalEmbedding())
    question = "How many masts has the boat?"
    found = opened.as_retriever(similarity_top_k=2).retrieve(question)
    assert found[0].metadata == {"document": "boats"} and len(found) == 2
    assert found[0].text == TEXTS["boats"] and found[0].node_id == "boats#0"
    asked, known = embed_lexically([question]), embed_lexically([TEXTS["boats"]])
    assert found[0].score == pytest.approx(float(np.dot(asked[0], known[0])), abs=1e-5)
    assert found[0].get_score() > found[1].get_score()


@pytest.mark.parametrize("question", ["Which boats have masts?", "???", 'it\'s "quoted" AND (odd', "Überläufer"])
def test_with_an_index_of_words_both_rankings_are_joined(index, question):
    from llama_index.core import VectorStoreIndex

    index.end()
    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=LexicalEmbedding())
    found = opened.as_retriever(similarity_top_k=2).retrieve(question)
    assert len(found) == 2 and found[0].get_score() >= found[1].get_score() > 0
    assert "masts" not in question or found[0].metadata == {"document": "boats"}


def test_documents_that_came_after_the_index_of_words_are_found(index):
    from llama_index.core import VectorStoreIndex

    index.end()
    index.replace([Content("ships", "1", ["A schooner carries gaff sails."])], embed_lexically(["A schooner."]))
    index.end()
    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=LexicalEmbedding())
    found = opened.as_retriever(similarity_top_k=2).retrieve("gaff")  # the first by words, and the first by vectors
    assert {"document": "ships"} in [node.metadata for node in found]


def test_more_asked_than_there_is(index):
    from llama_index.core import VectorStoreIndex

    opened = VectorStoreIndex.from_vector_store(LanceStore(table=index.table), embed_model=LexicalEmbedding())
    assert len(opened.as_retriever(similarity_top_k=50).retrieve("limes")) == 3


def test_documents_are_written_by_the_index_only(index):
    with pytest.raises(NotImplementedError, match="whole documents"):
        LanceStore(table=index.table).add([])
    with pytest.raises(NotImplementedError, match="whole documents"):
        LanceStore(table=index.table).delete("boats")
