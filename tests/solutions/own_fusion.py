"""Exercise 5.3a solved: join two searches by a rule of your own, and say what it gains.

Begin with:  genai/exercises/own_fusion.py
Run it:      uv run python tests/solutions/own_fusion.py
"""

import mlflow

from utils.chunking import cut
from utils.cli import show_table
from utils.embeddings import open_embedding
from utils.evaluation import ndcg_at_k, paired_bootstrap_difference
from utils.exercise_cli import exercise_command
from utils.questions import load_questions, read_texts
from utils.sample_documents import CORPUS
from utils.search import VectorIndex, WordIndex

TOP_K, DEPTH = 3, 20


def fuse(by_vectors: list[int], by_words: list[int]) -> list[int]:
    """Positions of chunks, best first, from both rankings; a ranking by words may be short, or empty."""
    places: dict[int, list[int]] = {}
    for ranking in (by_vectors, by_words):
        for place, position in enumerate(ranking):
            places.setdefault(position, []).append(place)
    # A chunk that one search did not find is as if it stood behind the last one there.
    return sorted(places, key=lambda position: sum(places[position]) + DEPTH * (2 - len(places[position])))


@exercise_command("5.3a")
def main() -> None:
    chunks = cut(read_texts(CORPUS), 128, 0)
    texts = [chunk.text for chunk in chunks]
    known = [question for question in load_questions() if question.gold_document]
    asked = [question.question for question in known]
    vectors = VectorIndex(texts, open_embedding("lexical")).rank(asked, DEPTH)
    words = WordIndex(texts).rank(asked, DEPTH)
    own = [fuse(first, second) for first, second in zip(vectors, words, strict=True)]

    def gains(rankings: list[list[int]]) -> list[float]:
        """nDCG@3 of every question."""
        found = [[chunks[position].document for position in ranking[:TOP_K]] for ranking in rankings]
        return [ndcg_at_k(ids, str(q.gold_document), TOP_K) for ids, q in zip(found, known, strict=True)]

    with mlflow.start_run(run_name="own-fusion"):
        measured = {
            "ndcg_vectors": sum(gains(vectors)) / len(known),
            "ndcg_words": sum(gains(words)) / len(known),
            "ndcg_own": sum(gains(own)) / len(known),
            "differs_from_vectors": sum(a[:TOP_K] != b[:TOP_K] for a, b in zip(own, vectors, strict=True)),
            "differs_from_words": sum(a[:TOP_K] != b[:TOP_K] for a, b in zip(own, words, strict=True)),
        }
        difference = paired_bootstrap_difference(gains(vectors), gains(own))
        measured |= {"gain": difference.mean, "gain_low": difference.low, "gain_high": difference.high}
        mlflow.log_metrics(measured)
    show_table([{"measured": name, "value": value} for name, value in measured.items()])


if __name__ == "__main__":
    main()
