"""A LanceDB table as the vector store of a LlamaIndex index: rows are read from disk for each question.

Only what a query engine needs. The table is written elsewhere (`utils.incremental_index`); LlamaIndex's own store for
LanceDB would bring Lance's Python package and a second full-text engine for the same thing.
"""

from typing import Any

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult


class LanceStore(BasePydanticVectorStore):
    """Searches DataFrame[id, document, text, vector] by cosine and, where the table has an index of its words, by these
    too: both rankings are joined by reciprocal rank fusion. Every chunk's metadata says its document.

    Below some hundred thousand chunks an exact scan is quick enough; a larger table wants `table.create_index`.
    """

    stores_text: bool = True
    table: Any

    @property
    def client(self) -> Any:
        return self.table

    def query(self, query: VectorStoreQuery, **_kwargs: Any) -> VectorStoreQueryResult:
        """The best chunks for the question, best first; similarities are cosines, or scores of the fusion."""
        by_words = bool(query.query_str) and any(index.columns == ["text"] for index in self.table.list_indices())
        if by_words:
            from lancedb.rerankers import RRFReranker

            search = self.table.search(query_type="hybrid").vector(query.query_embedding).text(query.query_str)
            search = search.rerank(RRFReranker())
        else:
            search = self.table.search(query.query_embedding)
        rows = search.distance_type("cosine").limit(query.similarity_top_k).to_list()
        nodes = [TextNode(id_=r["id"], text=r["text"], metadata={"document": r["document"]}) for r in rows]
        similarities = [row["_relevance_score"] if by_words else 1 - row["_distance"] for row in rows]
        return VectorStoreQueryResult(nodes=nodes, similarities=similarities, ids=[row["id"] for row in rows])

    def add(self, nodes: Any, **_kwargs: Any) -> list[str]:
        raise NotImplementedError("DocumentIndex.replace writes whole documents")

    def delete(self, ref_doc_id: str, **_kwargs: Any) -> None:
        raise NotImplementedError("DocumentIndex.remove takes whole documents out")
