"""Exercise 5.2a solved: cut the documents by a function of your own, and compare sizes.

Begin with:  spark/exercises/own_chunks.py
Run it:      uv run python tests/solutions/own_chunks.py
"""

from collections import Counter

import mlflow
import numpy as np
from llama_index.core.utils import get_tokenizer

from utils.cli import show_table
from utils.document_files import list_documents, read_document
from utils.exercise_cli import exercise_command
from utils.lexical import embed_lexically
from utils.questions import load_questions
from utils.rag_scores import score_retrieval
from utils.sample_documents import CORPUS

TOP_K = 3
SIZES = (64, 256)  # tokens, at most, in a chunk


def count_tokens(text: str) -> int:
    return len(get_tokenizer()(text))


def cut(text: str, chunk_tokens: int) -> list[str]:
    """Chunks of whole words, each of at most `chunk_tokens`, that hold every word of the text."""
    chunks, current = [], ""
    for word in text.split():
        longer = f"{current} {word}" if current else word
        if current and count_tokens(longer) > chunk_tokens:
            chunks.append(current)
            longer = word
        current = longer
    return [*chunks, current]


def measure(documents: dict[str, str], chunk_tokens: int) -> dict[str, float]:
    """Cut all documents, look up every question with a known document, and score what was found."""
    chunks = [(name, chunk) for name, text in documents.items() for chunk in cut(text, chunk_tokens)]
    vectors = embed_lexically([chunk for _, chunk in chunks])
    questions = [question for question in load_questions() if question.gold_document]
    likeness = embed_lexically([question.question for question in questions]) @ vectors.T
    retrieved = [[chunks[i][0] for i in np.argsort(-row)[:TOP_K]] for row in likeness]
    return {
        "hit_at_3": score_retrieval(questions, retrieved, TOP_K)["hit_at_k"],
        "chunks": len(chunks),
        "longest_chunk_tokens": max(count_tokens(chunk) for _, chunk in chunks),
        "words_kept": words_kept(documents, [chunk for _, chunk in chunks]),
    }


def words_kept(documents: dict[str, str], chunks: list[str]) -> float:
    """Share of the documents' words that stand in a chunk."""
    words = Counter(" ".join(documents.values()).split())
    return (words & Counter(" ".join(chunks).split())).total() / words.total()


@exercise_command("5.2a")
def main() -> None:
    documents = {file.name: read_document(file.path) for file in list_documents(CORPUS)}
    rows = []
    with mlflow.start_run(run_name="own-chunks"):
        for size in SIZES:
            with mlflow.start_run(run_name=f"{size}-tokens", nested=True):
                mlflow.log_param("chunk_tokens", size)
                measured = measure(documents, size)
                mlflow.log_metrics(measured)
            rows.append({"chunk_tokens": size, **measured})
    show_table(rows)


if __name__ == "__main__":
    main()
