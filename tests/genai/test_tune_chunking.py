"""5.3 on the sample documents: every cell a nested run, a winner with its interval, searches on the same questions."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.rag.tune_chunking import main
from tests.conftest import SHARED
from utils.evaluation import bootstrap_interval
from utils.questions import load_questions

SIZES, OVERLAPS = (64, 512, 1024), (0, 10)
GRID = [flag for size in SIZES for flag in ("--chunk-size", size)] + [
    flag for overlap in OVERLAPS for flag in ("--chunk-overlap", overlap)
]
MODEL = SHARED / "models" / "all-MiniLM-L6-v2-onnx"


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, *GRID, "--num-asked", 2)


@pytest.fixture
def runs(done):
    mlflow.set_tracking_uri(done.uri)
    client = MlflowClient()
    found = client.search_runs([client.get_experiment_by_name("5-rag").experiment_id])
    assert {run.data.tags["lesson"] for run in found} == {"5.3"}
    return {run.info.run_name: run for run in found}


@pytest.fixture
def traces(runs):
    return mlflow.search_traces(locations=["1"], return_type="list", max_results=100)


def test_every_cell_is_a_nested_run_with_its_quality_cost_and_latency(runs):
    job = runs["tune-chunking"]
    for size in SIZES:
        for overlap in OVERLAPS:
            cell = runs[f"lexical {size}/{overlap}"]
            assert cell.data.tags["mlflow.parentRunId"] == job.info.run_id
            measured = cell.data.metrics
            assert measured["low"] <= measured["ndcg_at_k"] <= measured["high"]
            assert 0 < measured["mrr"] <= measured["hit_at_k"] <= 1
            assert measured["retrieval_p50_ms"] > 0
            assert measured["passage_tokens"] <= 3 * size


def test_sizes_that_cut_differently_score_differently_and_those_that_do_not_are_named(done, runs):
    small, large = runs["lexical 64/0"].data, runs["lexical 512/0"].data
    assert int(small.params["chunks"]) > int(large.params["chunks"]) == 14
    assert small.metrics["ndcg_at_k"] != large.metrics["ndcg_at_k"]
    assert small.metrics["passage_tokens"] * 4 < large.metrics["passage_tokens"]
    assert runs["lexical 1024/0"].data.params["same_as"] == "lexical 512/0" and small.params["same_as"] == ""
    assert runs["lexical 1024/0"].data.metrics["ndcg_at_k"] == large.metrics["ndcg_at_k"]
    assert "6 cells, 3 of them with chunks of their own" in done.output


def test_the_winner_is_the_best_of_the_store(runs):
    job = runs["tune-chunking"].data
    cells = [run.data for run in runs.values() if run.data.params.get("search") == "vectors"]
    best = max(cell.metrics["ndcg_at_k"] for cell in cells)
    assert job.metrics["best_ndcg_at_k"] == best
    won = runs[f"lexical {job.tags['best_chunk_tokens']}/{job.tags['best_overlap_tokens']}"].data
    assert (won.metrics["ndcg_at_k"], won.metrics["low"], won.metrics["high"]) == (
        best, job.metrics["low"], job.metrics["high"],
    )  # fmt: skip
    assert 0 <= job.metrics["may_be_as_good"] <= 2


def test_the_interval_is_that_of_the_questions(runs):
    """A hit or none: with top_k 3 the gains of a question take few values, so the interval is wide."""
    asked = sum(question.gold_document is not None for question in load_questions())
    cell = runs["lexical 512/0"].data.metrics
    low, high = bootstrap_interval(
        [1.0] * round(cell["hit_at_k"] * asked) + [0.0] * round((1 - cell["hit_at_k"]) * asked)
    )
    assert cell["high"] - cell["low"] == pytest.approx(high - low, abs=0.06)


def test_searches_are_measured_over_the_winners_chunks(runs):
    searches = {run.data.params["search"]: run.data for run in runs.values() if "search" in run.data.params}
    assert set(searches) == {"vectors", "words", "both", "both, reranked"}
    tags = runs["tune-chunking"].data.tags
    for name in ("words", "both", "both, reranked"):
        assert searches[name].params["chunk_tokens"] == tags["best_chunk_tokens"]
        assert searches[name].metrics["tokens_per_answer"] > 0 and searches[name].metrics["answer_ms"] > 0
    assert searches["words"].metrics["ndcg_at_k"] != searches["both"].metrics["ndcg_at_k"]
    assert searches["both, reranked"].metrics["retrieval_p50_ms"] > searches["both"].metrics["retrieval_p50_ms"]


def test_heat_map_dataset_and_prompts_are_there(done, runs):
    job = runs["tune-chunking"]
    files = [item.path for item in MlflowClient().list_artifacts(job.info.run_id)]
    assert "heat_map_lexical.png" in files
    assert [item.dataset.name for item in job.inputs.dataset_inputs] == ["rag-questions"]
    for name in ("tuned-answer", "rerank-by-quote"):
        assert mlflow.genai.load_prompt(f"prompts:/{name}@production").version == 1


def test_each_question_is_one_trace_and_each_rerank_a_span(traces):
    asked = [trace for trace in traces if trace.data.spans[0].name == "tuned-question"]
    ways = {trace.data.spans[0].attributes["way"] for trace in asked}
    assert len(asked) == 2 * len(ways) >= 8
    for trace in asked:
        kinds = [span.span_type for span in trace.data.spans]
        assert kinds.count("RETRIEVER") == 1 and sum(span.parent_id is None for span in trace.data.spans) == 1
        assert kinds.count("CHAT_MODEL") == 1 + kinds.count("RERANKER")
    (scored,) = [t for t in traces if "RERANKER" in [s.span_type for s in t.data.spans] and t not in asked]
    rerankers = [span for span in scored.data.spans if span.span_type == "RERANKER"]
    assert len(rerankers) == 60 and sum(span.span_type == "CHAT_MODEL" for span in scored.data.spans) == 60
    moved = [span for span in rerankers if (span.outputs or {}).get("moved_up")]
    for span in moved:
        before, after = span.inputs["documents"], span.outputs["documents"]
        assert after[0] == before[span.outputs["moved_up"]] and sorted(before) == sorted(after)
    assert json.loads(scored.info.tags["mlflow.linkedPrompts"])[0]["name"] == "rerank-by-quote"


def test_long_pages_of_a_package_make_every_size_a_cell_of_its_own(run_lesson):
    flags = ("--library", "langgraph", "--chunk-overlap", 0, "--num-questions", 20, "--num-asked", 1)
    left = run_lesson(main, *flags, "--chunk-size", 512, "--chunk-size", 1024)
    found = MlflowClient(left.uri).search_runs(["1"], "params.search = 'vectors'")
    assert {run.data.params["same_as"] for run in found} == {""}
    assert len({run.data.metrics["passage_tokens"] for run in found}) == 2
    assert "answer_right" not in found[0].data.metrics, "nobody wrote down an answer"


def test_a_model_that_always_fails_is_no_success(refused, store):
    flags = ("--chunk-size", 512, "--chunk-overlap", 0, "--num-questions", 5, "--num-asked", 1)
    assert "all 1 questions failed" in refused(main, *flags, "--mock-faults", "garbage:1")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--chunk-size", 64, "--chunk-overlap", 64), "a chunk of 64 tokens cannot overlap the next by 64"),
        (("--library", "no-such-package"), "not installed"),
        (("--library", "langchain-ollama"), "can be asked for"),
        (("--num-questions", 1), "--num-questions"),
        (("--docs-path", "./nowhere"), "no folder"),
        (("--embed-type", "fastembed", "--embed-model", "./nowhere"), "no folder"),
        (("--top-k", 0), "--top-k"),
    ],
)
def test_wrong_use(refused, store, flags, words):
    assert words in refused(main, *flags)


def test_questions_about_other_documents(refused, store, tmp_path):
    (tmp_path / "mine.md").write_text("A document of mine.")
    assert "0 questions have their gold document" in refused(main, "--docs-path", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not MODEL.is_dir(), reason="needs the embedding model in ../shared/models")
def test_both_kinds_of_embeddings_on_the_same_questions(run_lesson):
    kinds = ("--embed-type", "lexical", "--embed-type", "fastembed", "--embed-model", MODEL)
    left = run_lesson(main, *kinds, "--chunk-size", 128, "--chunk-size", 512, "--chunk-overlap", 0, "--num-asked", 2)
    client = MlflowClient(left.uri)
    runs = {run.info.run_name: run.data.metrics for run in client.search_runs(["1"])}
    assert runs["fastembed 128/0"]["ndcg_at_k"] > runs["lexical 128/0"]["ndcg_at_k"], "other words are found, too"
    (job,) = client.search_runs(["1"], "attributes.run_name = 'tune-chunking'")
    assert job.data.tags["best_embed_type"] == "fastembed"
