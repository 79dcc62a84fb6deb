"""Scores of a RAG, on questions and answers made for the purpose."""

import pytest

from utils.questions import NO_ANSWER, OWN, UNANSWERABLE, Question, spread
from utils.rag_scores import Answer, score_answers, score_retrieval

SAME = Question("a", "Where does it write?", "store.md", "It writes to mlflow.db.", "mlflow.db", "same-words")
OTHER = Question("b", "Who judges?", "judges.md", "A model rates.", "a model", "other-words")
NOBODY = Question("c", "Who won?", None, None, NO_ANSWER, UNANSWERABLE)
QUERY = Question("query", "What now?", None, None, "", OWN)


def answer(question: Question, text: str, *sources: str) -> Answer:
    return Answer(question, text, list(sources), "tr-1")


def test_retrieval_is_scored_against_the_gold_documents() -> None:
    retrieved = [["x.md", "x.md", "store.md"], ["x.md", "y.md", "z.md"], ["store.md"]]
    assert score_retrieval([SAME, OTHER, NOBODY], retrieved, k=3) == pytest.approx({
        "hit_at_k": 0.5, "mrr": 0.25, "ndcg_at_k": 0.6309297535714575 / 2, "source_retrieval_rate": 0.5,
        "hit_at_k_same_words": 1, "mrr_same_words": 0.5, "hit_at_k_other_words": 0, "mrr_other_words": 0,
    })  # fmt: skip


def test_a_smaller_k_forgives_less() -> None:
    retrieved = [["x.md", "store.md"]]
    assert score_retrieval([SAME], retrieved, k=1)["hit_at_k"] == 0
    assert score_retrieval([SAME], retrieved, k=2)["hit_at_k"] == 1


def test_nothing_found_is_a_zero_and_no_gold_document_is_no_number() -> None:
    assert set(score_retrieval([SAME, OTHER], [[], []], k=3).values()) == {0}
    assert score_retrieval([NOBODY, QUERY], [["x.md"], ["x.md"]], k=3) == {}
    assert score_retrieval([], [], k=3) == {}


def test_a_missing_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_retrieval([SAME, OTHER], [["store.md"]], k=3)


def test_answers_are_scored_by_whether_they_can_be_answered() -> None:
    answers = [
        answer(SAME, "It writes to mlflow.db, in the folder."),
        answer(OTHER, "I do not know."),
        answer(NOBODY, "I do not know."),
        answer(NOBODY, "Brazil won."),
    ]
    scores = score_answers(answers)
    assert scores["questions_asked"] == 4
    assert scores["answer_right"] == 0.5
    assert scores["answer_declined"] == 0.5
    assert scores["unanswerable_declined"] == 0.5
    assert 0 < scores["answer_f1"] < 0.5


def test_a_question_nobody_knows_the_answer_to_is_neither_right_nor_wrong() -> None:
    for text in ("I do not know.", "Now is now."):
        asked = answer(QUERY, text, "store.md")
        assert asked.right is None
        assert asked.row()["right"] is None
        assert asked.summary()["right"] is None
        assert score_answers([asked]) == {"questions_asked": 1, "failed_questions": 0}


def test_a_row_holds_the_whole_answer_and_a_summary_is_short() -> None:
    long = answer(SAME, "mlflow.db\n" * 50, "store.md", "x.md")
    row = long.row()
    assert row["answer"] == "mlflow.db\n" * 50
    assert (row["id"], row["kind"], row["expected"], row["right"]) == ("a", "same-words", "mlflow.db", True)
    assert (row["sources"], row["gold_document"], row["trace_id"]) == ("store.md, x.md", "store.md", "tr-1")
    summary = long.summary()
    assert len(str(summary["answer"])) <= 110
    assert summary["first source"] == "store.md"
    assert answer(SAME, "no").summary()["first source"] is None


def many(kind: str, number: int) -> list[Question]:
    return [Question(f"{kind}{n}", f"{kind} {n}?", "x.md", None, "x", kind) for n in range(number)]


def test_every_kind_takes_its_turn() -> None:
    questions = [*many("a", 10), *many("b", 2), *many("c", 5)]
    chosen = spread(questions, 6, seed=7)
    assert [question.kind for question in chosen] == ["a", "b", "c"] * 2
    assert chosen == spread(questions, 6, seed=7)
    assert chosen != spread(questions, 6, seed=8)
    assert spread(questions, 3, seed=7) == chosen[:3]
    everything = spread(questions, 100, seed=7)
    assert sorted(q.id for q in everything) == sorted(q.id for q in questions)
    assert spread(questions, 1, seed=7) == chosen[:1]
