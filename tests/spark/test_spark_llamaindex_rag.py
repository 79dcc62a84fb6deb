"""Lesson 5.2: the real command on the sample documents, on others, and on wrong ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Span, SpanType, Trace

from spark.spark_llamaindex_rag import Chunking, chunk_partition, main
from tests.conftest import SHARED
from tests.spark.every_kind import FAULTS, GOOD_NAMES, write_every_kind
from tests.spark.evidence import (
    RAG,
    answers_of,
    flags,
    llm_spans,
    of_type,
    only_run,
    only_trace,
    root_of,
    runs,
    traces,
)
from tests.spark.fake_ollama import MODEL, fake_ollama
from utils.mock_llm import MockServer
from utils.questions import UNANSWERABLE, load_questions
from utils.sample_documents import CORPUS, write_documents

pytestmark = pytest.mark.usefixtures("store", "spark", "without_queue")
MINILM = SHARED / "models" / "all-MiniLM-L6-v2-onnx"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The sample documents in a folder of their own."""
    write_documents(tmp_path / "documents")
    return tmp_path / "documents"


def retriever_of(trace: Trace) -> Span:
    """The retriever's span; LlamaIndex's inner call hangs below it."""
    found = of_type(trace, SpanType.RETRIEVER)
    (outer,) = [span for span in found if span.parent_id not in {other.span_id for other in found}]
    return outer


def count_tokens(text: str) -> int:
    """As LlamaIndex's SentenceSplitter counts."""
    from llama_index.core.utils import get_tokenizer

    return len(get_tokenizer()(text))


def write_questions(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    columns = ["question", "gold_document", "expected_answer"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_the_sample_documents(run_command: Callable, tmp_path: Path, servers: list[MockServer]) -> None:
    folder = tmp_path / "documents"
    assert run_command(main, *flags(docs_path=folder, create_sample_docs=True, num_questions=9)).exit_code == 0
    run = only_run(RAG)
    measured = run.data.metrics
    assert measured["documents"] == len(list(folder.iterdir())) == len(list(CORPUS.iterdir()))
    assert measured["unreadable"] == 0
    # By words alone: nearly all questions in the words of their document, and few of the others.
    assert measured["hit_at_k_same_words"] >= 0.9
    assert 0.1 < measured["hit_at_k_other_words"] < 0.7
    assert 0.5 < measured["hit_at_k"] < 0.9
    assert 0.4 < measured["mrr"] <= measured["hit_at_k"]
    assert measured["source_retrieval_rate"] == measured["hit_at_k"]
    assert measured["mrr"] <= measured["ndcg_at_k"] <= measured["hit_at_k"]
    assert {"lesson": "5.2", "llm_type": "mock"}.items() <= run.data.tags.items()
    assert json.loads(run.data.tags["mlflow.linkedPrompts"]) == [{"name": "rag-answer", "version": "1"}]
    assert run.data.params["embed_type"] == "lexical"
    check_traces(run, servers[0])


def check_traces(run: mlflow.entities.Run, server: MockServer) -> None:
    answers = answers_of(run).set_index("trace_id")
    found = traces(RAG)
    assert {trace.info.trace_id for trace in found} == set(answers.index)
    assert len(found) == len(answers) == run.data.metrics["questions_asked"] == 9
    assert set(answers["kind"].value_counts()) == {3}
    assert server.counts.chat_calls == 9
    for trace in found:
        row = answers.loc[trace.info.trace_id]
        root, chunks = root_of(trace), retriever_of(trace).outputs
        assert root.name == "rag-question"
        assert root.inputs == {"question": row.question}
        assert root.outputs["answer"] == row.answer
        assert ", ".join(root.outputs["sources"]) == row.sources
        assert len(chunks) == 3
        scores = [chunk["metadata"]["score"] for chunk in chunks]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 1 for score in scores)
        for chunk, source in zip(chunks, root.outputs["sources"], strict=True):
            assert words(chunk["page_content"]) in words((CORPUS / source).read_text(encoding="utf-8"))
        assert len(llm_spans(trace)) == 1
        assert (
            chunks[0]["page_content"]
            in json.loads(json.dumps(llm_spans(trace)[0].inputs))["messages"][0]["blocks"][0]["text"]
        )
        assert trace.info.tags["lesson"] == "5.2"


def words(text: str) -> str:
    return " ".join(text.split())


def test_passages_are_never_larger_than_asked(run_command: Callable, corpus: Path) -> None:
    given = flags(docs_path=corpus, chunk_size=64, chunk_overlap=10, top_k=5, num_questions=2)
    assert run_command(main, *given).exit_code == 0
    passages = [chunk["page_content"] for trace in traces(RAG) for chunk in retriever_of(trace).outputs]
    assert len(passages) == 10
    assert max(map(count_tokens, passages)) <= 64
    run = only_run(RAG)
    assert run.data.params["chunk_tokens"] == "64"
    assert run.data.metrics["chunks"] >= sum(count_tokens(path.read_text()) for path in corpus.iterdir()) / 64


AWKWARD = {
    "one-word": "x" * 5_000,
    "chinese": "追踪记录每一次调用的开始和结束时间。" * 200,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 200,
    "no-sentences": "word " * 3_000,
    "lines": "\n".join(f"key_{n}=value/{n}" for n in range(800)),
    "short": "Yes.",
}


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (64, 10), (128, 20), (128, 127), (512, 50)])
def test_chunks_of_any_text_fit_and_lose_nothing(size: int, overlap: int) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in CORPUS.iterdir()} | AWKWARD
    if overlap == size - 1:  # thousands of nearly equal chunks
        texts = {"short": AWKWARD["short"], "agents.md": texts["agents.md"]}
    loaded = pd.DataFrame({"document": list(texts), "text": list(texts.values())})
    (chunks,) = chunk_partition(Chunking(size, overlap), iter([loaded]))
    assert max(map(count_tokens, chunks["text"])) <= size
    for document, text in texts.items():
        own = chunks[chunks["document"] == document]
        assert own["position"].tolist() == list(range(len(own)))
        if overlap == 0:
            assert "".join("".join(own["text"]).split()) == "".join(text.split())
        else:
            assert set("".join(text.split())) == set("".join("".join(own["text"]).split()))
    (nothing,) = chunk_partition(Chunking(size, overlap), iter([loaded.head(0)]))
    assert nothing.columns.tolist() == ["document", "position", "text"]


def test_documents_under_wrong_names_score_near_zero(run_command: Callable, corpus: Path) -> None:
    names = sorted(path.name for path in corpus.iterdir())
    texts = [(corpus / name).read_bytes() for name in names]
    for name, text in zip(names, texts[7:] + texts[:7], strict=True):
        (corpus / name).write_bytes(text)
    assert run_command(main, *flags(docs_path=corpus, top_k=1, num_questions=1)).exit_code == 0
    measured = only_run(RAG).data.metrics
    assert measured["hit_at_k_same_words"] <= 0.1
    assert measured["hit_at_k"] <= 0.15


def test_bananas_instead_of_the_gold_document_score_zero(run_command: Callable, tmp_path: Path) -> None:
    (tmp_path / "docs" / "boats").mkdir(parents=True)
    for name in ("yellow.md", "peel.txt", "boats/bread.html"):
        (tmp_path / "docs" / name).write_text("Bananas are yellow. A ripe banana makes good bread.")
    (tmp_path / "docs" / "tracing.md").write_bytes("Späne".encode("latin-1"))
    result = run_command(main, *flags(docs_path=tmp_path / "docs", num_questions=2))
    assert result.exit_code == 0
    assert "left out tracing.md: not UTF-8 (byte 2)" in result.output
    measured = only_run(RAG).data.metrics
    assert (measured["documents"], measured["unreadable"]) == (3, 1)
    assert {measured[name] for name in ("hit_at_k", "mrr", "ndcg_at_k", "source_retrieval_rate")} == {0}


def test_every_kind_of_file_and_every_fault_in_one_folder(run_command: Callable, tmp_path: Path) -> None:
    docs = write_every_kind(tmp_path / "docs", "Zander swim in the lake of Überlingen.")
    given = flags(docs_path=docs, query="Which fish swim in the lake?", top_k=20)
    result = run_command(main, *given)
    assert result.exit_code == 0
    for line in FAULTS:
        assert f"left out {line}\n" in result.output
    measured = only_run(RAG).data.metrics
    assert (measured["documents"], measured["unreadable"]) == (len(GOOD_NAMES), len(FAULTS))
    (answer,) = answers_of(only_run(RAG)).to_dict("records")
    assert set(answer["sources"].split(", ")) == GOOD_NAMES


def test_documents_that_no_question_is_about_are_refused(refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "bananas.md").write_text("Bananas are yellow.")
    said = refused(main, *flags(docs_path=tmp_path))
    assert "none of the questions has its gold document in this folder" in said
    assert "--query" in said
    assert runs(RAG) == []


def test_a_query_of_ones_own_on_documents_of_ones_own(run_command: Callable, tmp_path: Path) -> None:
    (tmp_path / "fruit of mine.md").write_text("Bananas are yellow. Limes are green.")
    (tmp_path / "Boote.txt").write_text("The boat Überläufer has two masts.", encoding="utf-8")
    given = flags(docs_path=tmp_path, query="How many masts does the boat have?", top_k=1)
    assert run_command(main, *given).exit_code == 0
    run, trace = only_run(RAG), only_trace(RAG)
    counted = {"questions_asked": 1, "failed_questions": 0, "documents": 2, "chunks": 2, "unreadable": 0}
    assert run.data.metrics == counted
    (answer,) = answers_of(run).to_dict("records")
    assert answer["sources"] == "Boote.txt"
    assert "two masts" in answer["answer"]
    assert answer["right"] is None
    assert retriever_of(trace).outputs[0]["page_content"] == "The boat Überläufer has two masts."


def test_questions_of_ones_own_are_scored(run_command: Callable, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "fruit.md").write_text("Bananas are yellow. Limes are green.")
    (docs / "boats.txt").write_text("The boat has two masts. It was built in 1931.")
    (docs / "empty.txt").write_text("")
    asked = write_questions(
        tmp_path / "questions.csv",
        [
            ("When was the boat built?", "boats.txt", "1931"),
            ("Which colour are limes?", "fruit.md", "green"),
            ("Who won the race?", "", ""),
            ("What stands in a file that is not here?", "elsewhere.md", "nothing"),
        ],
    )
    result = run_command(main, *flags(docs_path=docs, questions=asked, top_k=1))
    assert result.exit_code == 0
    assert "left out empty.txt: no text in it" in result.output
    run = only_run(RAG)
    measured, answers = run.data.metrics, answers_of(run).set_index("question")
    assert measured["hit_at_k"] == measured["mrr"] == measured["hit_at_k_own"] == 1
    assert measured["questions_asked"] == len(answers) == 3
    assert answers.loc["When was the boat built?", "right"]
    assert measured["answer_right"] == answers.loc[answers["kind"] == "own", "right"].mean()
    assert measured["unanswerable_declined"] == float(answers.loc["Who won the race?", "right"])


def test_the_large_mock_declines_what_no_passage_answers(run_command: Callable, corpus: Path, tmp_path: Path) -> None:
    chosen = [q for q in load_questions() if q.kind == UNANSWERABLE]
    chosen += [q for q in load_questions() if q.kind == "same-words"][:4]
    rows = [(q.question, q.gold_document or "", q.expected_answer if q.gold_document else "") for q in chosen]
    asked = write_questions(tmp_path / "asked.csv", rows)
    given = flags(docs_path=corpus, questions=asked, model="mock-large", chunk_size=128, chunk_overlap=20)
    assert run_command(main, *given).exit_code == 0
    measured = only_run(RAG).data.metrics
    assert measured["questions_asked"] == 14
    assert measured["unanswerable_declined"] >= 0.8
    assert measured["answer_declined"] <= 0.5
    assert measured["answer_right"] >= 0.5


def test_ollama_is_asked_through_its_own_client(run_command: Callable, corpus: Path) -> None:
    with fake_ollama() as ollama:
        given = flags(llm_type="ollama", ollama_url=ollama.url, docs_path=corpus, num_questions=3, embed_type="lexical")
        assert run_command(main, *given).exit_code == 0
    run = only_run(RAG)
    assert len(ollama.chats) == len(traces(RAG)) == 3
    assert {body["model"] for body in ollama.chats} == {MODEL}
    assert all("Context information is below." in body["messages"][-1]["content"] for body in ollama.chats)
    assert {"llm_type": "ollama", "llm_model": MODEL}.items() <= run.data.tags.items()
    for trace in traces(RAG):
        root_of(trace)
        assert len(llm_spans(trace)) == 1


def test_without_a_readable_document_nothing_is_claimed(refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "tracing.md").write_bytes(b"\xff\xfe\x00")
    said = refused(main, *flags(docs_path=tmp_path))
    assert "none of the documents could be read" in said
    assert [run.info.status for run in runs(RAG)] == ["FAILED"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (flags(chunk_size=64, chunk_overlap=64), "a chunk of 64 tokens cannot overlap the next by 64"),
        (flags(chunk_size=64, chunk_overlap=65), "--chunk-overlap 6"),
        (flags(chunk_size=15), "--chunk-size"),
        (flags(top_k=0), "--top-k"),
        (flags(num_questions=0), "--num-questions"),
        (flags(num_questions=-1), "--num-questions"),
        (flags(questions="nowhere.csv"), "nowhere.csv"),
        (flags(embed_type="fastembed", embed_model="./nowhere"), "there is no folder ./nowhere"),
        (flags(llm_type="ollama", ollama_url="http://127.0.0.1:1"), "Ollama does not answer"),
        (flags(spark_master="lokal"), "lokal is no Spark master"),
    ],
)
def test_wrong_use_is_refused_and_no_run_claims_success(
    refused: Callable, corpus: Path, wrong: Sequence[object], said: str
) -> None:
    assert said in refused(main, *flags(docs_path=corpus), *wrong)
    assert runs(RAG, "FINISHED") == []


def test_a_folder_that_is_none_is_refused(refused: Callable, tmp_path: Path) -> None:
    assert "there is no folder" in refused(main, *flags(docs_path=tmp_path / "nowhere"))
    (tmp_path / "file.md").write_text("text")
    assert "is a file" in refused(main, *flags(docs_path=tmp_path / "file.md"))
    (tmp_path / "empty").mkdir()
    assert "--create-sample-docs" in refused(main, *flags(docs_path=tmp_path / "empty"))
    assert runs(RAG) == []


@pytest.mark.slow
@pytest.mark.skipif(not MINILM.is_dir(), reason="no embedding model in ../shared/models")
def test_an_embedding_model_finds_what_other_words_ask_for(run_command: Callable, corpus: Path) -> None:
    for chosen in (flags(embed_type="lexical"), flags(embed_type="fastembed", embed_model=MINILM)):
        assert run_command(main, *flags(docs_path=corpus, num_questions=1), *chosen).exit_code == 0
    by_model, by_words = (run.data.metrics for run in runs(RAG, "FINISHED"))
    assert by_model["hit_at_k_other_words"] >= by_words["hit_at_k_other_words"] + 0.2
    assert by_model["hit_at_k_same_words"] >= 0.7


def test_questions_without_an_answer_are_counted_apart_and_never_as_answers(store, spark, run_command):
    result = run_command(main, "--num-questions", 9, "--mock-faults", "garbage:0.6")
    assert result.exit_code == 0, result.output
    client = mlflow.MlflowClient(store)
    run = client.search_runs([client.get_experiment_by_name("5-rag").experiment_id])[0]
    table = mlflow.load_table("answers.json", run_ids=[run.info.run_id])
    failed = table["error"].notna()
    assert 0 < failed.sum() == run.data.metrics["failed_questions"] < 9
    assert set(table.loc[failed, "answer"]) == {""} and not table.loc[failed, "right"].any()
    assert "Empty Response" not in set(table["answer"])


def test_when_no_question_gets_an_answer_nothing_claims_success(store, spark, refused):
    said = refused(main, "--num-questions", 2, "--mock-faults", "garbage:1")
    assert "all 2 questions failed" in said
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("5-rag").experiment_id])
    assert [run.info.status for run in runs] == ["FAILED"]
