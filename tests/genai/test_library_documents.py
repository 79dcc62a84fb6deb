"""5.4 on two small packages: the corpus, the masked index that gives nothing away, and answers with versions."""

import json
from importlib.metadata import version

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from genai.rag.library_documents import main
from utils.known_items import KNOWN_ITEM, RUN, leaks, make_questions, mask, split_summary
from utils.library_corpus import LibraryDocument, read_library

PACKAGES = ("--package", "click", "--package", "langgraph", "--package", "no-such-package")
QUERY = "How do I compile a state graph?"


@pytest.fixture(scope="module")
def done(run_lesson, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    return run_lesson(main, *PACKAGES, "--query", QUERY, "--num-questions", 60, "--output", folder), folder


@pytest.fixture
def opened(done):
    mlflow.set_tracking_uri(done[0].uri)
    return MlflowClient()


@pytest.fixture
def runs(opened):
    found = opened.search_runs([opened.get_experiment_by_name("5-rag").experiment_id])
    return {run.info.run_name: run for run in found}


def test_the_corpus_is_a_file_and_a_dataset_with_its_versions(done, runs):
    job = runs["library-documents"]
    rows = pq.read_table(done[1] / "documents.parquet").to_pylist()
    assert job.data.metrics["documents"] == len(rows) > 300
    assert {row["version"] for row in rows if row["package"] == "click"} == {version("click")}
    assert job.data.params["version_langgraph"] == version("langgraph")
    (dataset,) = [item.dataset for item in job.inputs.dataset_inputs]
    assert dataset.name == "library-documents" and json.loads(dataset.profile)["num_rows"] == len(rows)


def test_a_package_that_cannot_be_read_is_named(done, runs):
    assert "left out no-such-package: not installed" in done[0].output
    assert runs["library-documents"].data.metrics["packages_left_out"] == 1


def test_the_whole_index_finds_a_question_by_its_own_words_and_the_masked_one_does_not(runs):
    whole, masked = runs["known-items-whole"].data, runs["known-items-masked"].data
    assert whole.params["questions"] == masked.params["questions"] == "60"
    for search in ("vectors", "words", "both"):
        assert whole.metrics[f"{search}_low"] > masked.metrics[f"{search}_high"], "no overlap of the intervals"
        for found in (whole, masked):
            low, mean, high = (found.metrics[f"{search}_{name}"] for name in ("low", "hit_at_k", "high"))
            assert low <= mean <= high and found.metrics[f"{search}_mrr"] <= mean + 0.05
    assert runs["library-documents"].data.metrics["hit_at_k_masked"] == masked.metrics["both_hit_at_k"]
    assert {run.data.tags["lesson"] for run in runs.values()} == {"5.4"}


def test_a_question_is_one_trace_whose_passages_name_their_version(done, opened):
    (trace,) = mlflow.search_traces(locations=["1"], return_type="list")
    (root,) = [span for span in trace.data.spans if span.parent_id is None]
    kinds = {span.span_type: span for span in trace.data.spans}
    assert {"RETRIEVER", "CHAT_MODEL"} <= set(kinds) and root.name == "library-question"
    passages = kinds["RETRIEVER"].outputs
    assert len(passages) == 5 and kinds["RETRIEVER"].inputs == {"question": QUERY, "top_k": 5}
    assert "langgraph.graph.StateGraph.compile" in [passage["metadata"]["name"] for passage in passages]
    assert {passage["metadata"]["version"] for passage in passages} <= {version("langgraph"), version("click")}
    asked = kinds["CHAT_MODEL"].inputs["messages"][0]["content"]
    assert all(passage["page_content"] in asked for passage in passages)
    assert f"[langgraph {version('langgraph')}]" in asked
    assert root.outputs["sources"][0] == passages[0]["metadata"]["name"]
    assert '"name": "library-answer"' in trace.info.tags["mlflow.linkedPrompts"]


# --- known items


def document(name: str, body: str, kind: str = "function") -> LibraryDocument:
    return LibraryDocument("p", "1", name, kind, "()", body, "p.py")


REST = "It goes on for long enough that a search has something to find besides the summary of this one function."


@pytest.mark.parametrize(
    ("body", "summary", "rest"),
    [
        ("Log a metric. And more.", "Log a metric.", "And more."),
        ("Log a metric\nover two lines.\n\nMore.", "Log a metric over two lines.", "More."),
        ("Log a metric\n\nArgs:\n    x: y", "Log a metric", "Args:\n    x: y"),
        ("Log a metric\n------\nMore", "Log a metric", "------\nMore"),
        ("Only this", "Only this", ""),
    ],
)
def test_the_summary_is_the_first_sentence(body, summary, rest):
    assert split_summary(body) == (summary, rest)


def test_questions_are_made_only_where_one_document_is_right():
    same = "Return a copy of the given object"
    documents = [
        document("p.a", f"Write all the rows to a file. {REST}"),
        document("p.twin", f"{same}. {REST}"),
        document("p.other", f"{same.upper()}! {REST}"),
        document("p.short", f"Too short. {REST}"),
        document("p.bare", "Read all the rows of a file. Nothing else."),
        document("p", f"This module is about all sorts of things. {REST}", "module"),
    ]
    (question,) = make_questions(documents, 10)
    assert (question.gold_document, question.kind) == ("p/p.a", KNOWN_ITEM)
    assert question.question == "Write all the rows to a file."


def test_no_run_of_a_questions_words_is_left_anywhere_not_even_one_that_masking_made():
    asked = "alpha beta gamma delta epsilon zeta."
    documents = [
        document("p.a", f"{asked.capitalize()} {REST} See Alpha, beta: gamma (delta)."),
        document("p.b", f"Something else entirely stands here. {REST} alpha beta alpha beta gamma delta gamma delta"),
    ]
    questions = [question for question in make_questions(documents, 9) if question.id == "p/p.a"]
    texts = mask(documents, questions)
    assert leaks([d.text for d in documents], questions) > 0 and leaks(texts.values(), questions) == 0
    assert "alpha" not in texts["p/p.b"].lower() and "besides the summary" in texts["p/p.a"]
    assert "p.a" not in texts["p/p.a"]


def test_of_a_real_package_nothing_leaks_either():
    documents = read_library(["langgraph"]).documents
    questions = make_questions(documents, 50)
    texts = mask(documents, questions)
    assert len(questions) == 50 and set(texts) == {d.id for d in documents}
    assert leaks(texts.values(), questions) == 0 < leaks([d.text for d in documents], questions)
    for question in questions:
        assert " ".join(question.question.split()[:RUN]) not in texts[str(question.gold_document)]
    assert make_questions(documents, 50) == questions and make_questions(documents, 50, seed=1) != questions


# --- wrong use, and a model that fails


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--package", "no-such-package"), "no-such-package: not installed"),
        (("--package", "langchain-ollama"), "have a summary that asks for them alone"),
        (("--num-documents", 5), "--num-documents"),
        (("--package", "click", "--embed-type", "fastembed", "--embed-model", "./nowhere"), "no folder"),
    ],
)
def test_wrong_use(refused, store, tmp_path, flags, words):
    assert words in refused(main, *flags, "--output", tmp_path)


def test_a_model_that_always_fails_is_no_success(refused, store, tmp_path):
    flags = ("--package", "click", "--query", "How?", "--output", tmp_path, "--mock-faults", "garbage:1")
    assert "all 1 questions failed" in refused(main, *flags)


@pytest.mark.slow
def test_all_of_it_is_at_least_ten_thousand_documents(run_lesson, tmp_path):
    left = run_lesson(main, "--all", "--output", tmp_path, "--query", "How do I register a prompt?")
    client = MlflowClient(left.uri)
    (run,) = client.search_runs(["1"], "attributes.run_name = 'library-documents'")
    assert run.data.metrics["documents"] >= 10_000 and run.data.metrics["packages_left_out"] == 0
    (trace,) = mlflow.search_traces(locations=["1"], return_type="list")
    (root,) = [span for span in trace.data.spans if span.parent_id is None]
    assert any(name.endswith("register_prompt") for name in root.outputs["sources"])
