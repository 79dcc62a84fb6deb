"""6.2 on a store of its own: every criterion for every chunk size, a control that gets nothing, judges that fail."""

import importlib.util
import re
import tomllib
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from genai.evaluation.evaluate_rag import Job, build_rag, build_scorers, evaluate_index, main
from tests.conftest import ROOT
from utils.chunking import cut
from utils.embeddings import open_embedding
from utils.llm_backends import open_backend
from utils.prompt_utils import get_or_register
from utils.questions import load_questions, read_texts, spread
from utils.rag_judgement import CODE, JUDGES, judge_errors, measure
from utils.sample_documents import CORPUS

SIZES, QUESTIONS = (64, 256), 6
CRITERIA = ("similarity", "correctness", "relevance", "faithfulness", "groundedness", "sufficiency", "hit")


@pytest.fixture(scope="module")
def done(run_lesson):
    sizes = [flag for size in SIZES for flag in ("--chunk-size", size)]
    return run_lesson(main, *sizes, "--num-questions", QUESTIONS)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return MlflowClient()


def evaluated(client, index="documents"):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, f"params.index = '{index}'", order_by=["start_time ASC"])


def test_every_criterion_stands_in_the_run_of_every_chunk_size_with_its_interval(client):
    found = evaluated(client)
    assert [int(run.data.params["chunk_tokens"]) for run in found] == list(SIZES)
    for run in found:
        metrics = run.data.metrics
        for name in CRITERIA:
            assert 0 <= metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"] <= 1, name
            assert metrics[f"{name}_rows"] <= QUESTIONS and metrics[f"{name}_errors"] == 0
        assert metrics["correctness_rows"] == QUESTIONS and metrics["judge_errors"] == metrics["failed_answers"] == 0
        assert metrics["correctness"] == pytest.approx(metrics["correctness/mean"]), "without failures, MLflow's mean"
        assert run.data.params["chunks"] and run.data.tags["judge_model"] == "mock-large"
        assert run.data.tags["llm_model"] == "mock-small"


def test_the_same_questions_for_every_size_and_each_judged_by_every_scorer(client):
    asked = []
    for run in evaluated(client):
        traces = mlflow.search_traces(run_id=run.info.run_id, max_results=100, return_type="list")
        asked.append(sorted(str(trace.search_spans(name="judged-question")[0].inputs) for trace in traces))
        for trace in traces:
            given = {item.name for item in trace.info.assessments}
            assert {*CODE, *JUDGES} <= given
            types = [span.span_type for span in trace.data.spans]
            assert types.count("RETRIEVER") == 1 == types.count("CHAT_MODEL") and trace.info.tags["lesson"] == "6.2"
            assert trace.info.tags["llm_model"] == "mock-small", "the model that answers, not the one that judges"
    assert len(asked) == len(SIZES) and asked[0] == asked[1] and len(asked[0]) == QUESTIONS


def test_documents_about_bananas_score_nearly_nothing(client):
    (control,) = evaluated(client, "control")
    assert control.data.metrics["groundedness"] <= 1 / QUESTIONS and control.data.metrics["hit"] == 0
    assert control.data.metrics["correctness"] <= 1 / QUESTIONS and control.data.metrics["sufficiency"] <= 1 / QUESTIONS
    for run in evaluated(client):
        assert run.data.metrics["hit"] > 0.3 < run.data.metrics["groundedness"], "where it can be right, it often is"


def test_the_picture_is_an_artifact_and_the_parent_says_which_size_is_best(client):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    (parent,) = client.search_runs(ids, "metrics.sizes > 0")
    assert "criteria_by_chunk_size.png" in {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert parent.data.metrics["best_chunk_tokens"] in SIZES and parent.data.metrics["control_hit"] == 0
    assert parent.data.metrics["control_groundedness"] <= 1 / QUESTIONS


@pytest.fixture
def job():
    texts = read_texts(CORPUS)
    questions = spread([q for q in load_questions() if q.gold_document], 6, seed=7)
    return Job(texts, questions, (128,), open_embedding("lexical"), 3)


@pytest.fixture
def judged(store, job):
    """Evaluate one index with a judge that fails on demand; its scores, and its run."""

    def evaluate(judge_faults="", faults=""):
        mlflow.set_experiment("6-evaluation")
        prompt = get_or_register("judged-answer", "Context:\n{{passages}}\n\nQuestion: {{question}}\nAnswer:")
        with (
            open_backend("mock", mock_faults=faults) as llm,
            open_backend("mock", model="mock-large", mock_faults=judge_faults) as judge,
        ):
            rag = build_rag(llm, cut(job.texts, 128, 16), job, prompt.uri)
            scores = evaluate_index("x", rag, job, build_scorers(judge, job.embedding), {})
        return scores, MlflowClient().get_run(scores.run_id)

    return evaluate


def test_judge_errors_are_counted_and_never_averaged_in(judged, job):
    """The same answers, judged by a judge that often answers garbage."""
    whole, _ = judged()
    broken, run = judged(judge_faults="garbage:0.4")
    assert judge_errors(whole) == 0 < judge_errors(broken) == run.data.metrics["judge_errors"]
    for name in ("correctness", "relevance", "sufficiency"):
        assessment = {"relevance": "relevance_to_query", "sufficiency": "retrieval_sufficiency"}.get(name, name)
        before = {key: values[0] == "yes" for key, values in whole.values[assessment].items()}
        kept = {key: before[key] for key in before if key not in broken.errors[assessment]}
        found = measure(broken)[name]
        assert found.errors == len(before) - len(kept) == run.data.metrics[f"{name}_errors"]
        assert found.rows == len(kept) and (not kept or found.mean == pytest.approx(sum(kept.values()) / len(kept)))
    assert len(whole.traces) == len(broken.traces) == len(job.rows)


def test_an_answer_that_never_came_is_wrong_and_counted_apart(judged, job):
    scores, run = judged(faults="500:0.3")
    assert 0 < len(scores.failed) < len(job.rows)
    figures = measure(scores)
    assert run.data.metrics["failed_answers"] == len(scores.failed)
    for name in ("correctness", "relevance", "groundedness", "similarity"):
        assert figures[name].rows == len(job.rows), "its rows count"
    assert (figures["correctness"].mean or 0) <= 1 - len(scores.failed) / len(job.rows)


def test_a_judge_that_never_answers_leaves_no_figure(judged):
    scores, run = judged(judge_faults="garbage:1")
    assert "correctness" not in run.data.metrics and run.data.metrics["correctness_rows"] == 0
    assert measure(scores)["correctness"].mean is None and measure(scores)["hit"].mean is not None


def test_a_model_that_never_answers_is_a_failed_job(store, run_command):
    result = run_command(main, "--num-questions", 2, "--chunk-size", 128, "--mock-faults", "500:1")
    assert result.exit_code == 2 and "all questions failed" in result.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--chunk-size", 2),
        ("--num-questions", 1),
        ("--judge-model", "gpt-4o"),
        ("--judge-llm-type", "openai"),
        ("--docs-path", "nowhere"),
        ("--llm-type", "openai"),
    ],
)
def test_wrong_use(store, refused, flags):
    refused(main, *flags)


def test_deepeval_and_ragas_stay_out_of_the_install_and_the_plan_says_how_to_add_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    listed += [item for extra in project["project"]["optional-dependencies"].values() for item in extra]
    assert not [item for item in listed if re.match("deepeval|ragas", item)]
    plan = (ROOT / "LEARNING_PLAN.md").read_text(encoding="utf-8")
    page = plan[plan.index("### When DeepEval and RAGAS help") :]
    page = page[: page.index("\n### ", 5)]
    for name in ("deepeval", "ragas"):
        assert re.search(rf'^uv run .*--with "{name}', page, re.M) and f"{name}.get_scorer(" in page
        spec = importlib.util.find_spec("mlflow")
        assert spec and spec.origin
        folder = Path(spec.origin).parent / "genai" / "scorers"
        source = (folder / name / "__init__.py").read_text(encoding="utf-8")
        assert "def get_scorer" in source, "the call that the page shows is there"
