"""3.2 on a store of its own: two evaluations, an alias that moves only for a real gain, and the way back."""

import mlflow
import pytest
from mlflow import MlflowClient

from genai.prompts.compare_versions import ALIAS, FIRST, PROMPT, RELEASE, build_rows, main, run
from utils.errors import CheckFailed
from utils.genai_evaluation import read_scores
from utils.llm_backends import open_backend
from utils.sample_documents import CORPUS

ROWS = 24


def all_runs():
    client = MlflowClient()
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


@pytest.fixture(scope="module")
def done(run_lesson):
    """The lesson run once with few rows, too few to show the gain."""
    return run_lesson(main, "--num-rows", ROWS)


@pytest.fixture
def opened(done) -> str:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("3-prompts")
    return done.output


def evaluated():
    return {run.data.params["prompt_version"]: run for run in all_runs() if "prompt_version" in run.data.params}


def test_both_versions_answered_the_same_rows(opened):
    runs = evaluated()
    assert set(runs) == {"1", "2"}
    asked = []
    for version, run_ in runs.items():
        traces = mlflow.search_traces(run_id=run_.info.run_id, max_results=100, return_type="list")
        roots = [span for trace in traces for span in trace.data.spans if span.parent_id is None]
        asked.append(sorted(str(root.inputs) for root in roots))
        assert len(traces) == ROWS
        for trace in traces:
            assert f'"version": "{version}"' in trace.info.tags["mlflow.linkedPrompts"]
            assert trace.info.tags["lesson"] == "3.2", "an evaluation's threads tag their traces, too"
            assert sum(span.span_type == "CHAT_MODEL" for span in trace.data.spans) == 1
    assert asked[0] == asked[1]


def test_the_scores_in_the_store_are_those_of_the_metric(opened):
    for run_ in evaluated().values():
        scores = read_scores(run_.info.run_id, "right", ROWS)
        assert run_.data.metrics["right/mean"] == pytest.approx(sum(scores.values()) / ROWS)


def test_a_gain_that_could_be_luck_moves_nothing(opened):
    (job,) = [run_ for run_ in all_runs() if "gain" in run_.data.metrics]
    assert job.data.metrics["gain"] > 0 and job.data.metrics["p"] >= 0.05
    assert RELEASE.in_use() == job.data.metrics["in_use"] == 1
    assert "the gain is not shown" in opened and "is found" in opened


def test_scores_that_are_missing_are_a_failure(opened):
    run_id = evaluated()["1"].info.run_id
    for scorer, rows in (("right", ROWS + 1), ("right", ROWS - 1), ("other", ROWS)):
        with pytest.raises(CheckFailed):
            read_scores(run_id, scorer, rows)


def test_a_row_whose_call_failed_is_named_with_the_reason(store, run_command):
    result = run_command(main, "--num-rows", 2, "--mock-faults", "500:1")
    assert result.exit_code == 1 and "has no answer" in result.stderr and "500" in result.stderr
    assert RELEASE.in_use() == 1, "the first version is in use, and nothing was released after it"
    assert {run_.info.status for run_ in all_runs() if "prompt_version" not in run_.data.params} == {"FAILED"}


def test_a_real_gain_moves_the_alias_and_rollback_takes_it_back_at_once(store, run_command, refused):
    """Among few rows the gain counts as real at a level that is generous on purpose."""
    assert run_command(main, "--num-rows", ROWS, "--alpha", 0.6).exit_code == 0
    assert RELEASE.in_use() == 2 and MlflowClient().get_prompt(PROMPT).tags[RELEASE.tag] == "1"
    alias = f"prompts:/{PROMPT}@{ALIAS}"
    assert mlflow.genai.load_prompt(alias).version == 2, "and now this process remembers it"
    assert "back from version 2 to version 1" in run_command(main, "--rollback").output
    assert mlflow.genai.load_prompt(alias).version == 1, "the very next call uses it"
    assert "no release" in refused(main, "--rollback")


def test_an_equal_prompt_is_not_released(store):
    mlflow.set_experiment("3-prompts")
    with open_backend("mock") as llm:
        outcome = run(llm, build_rows(6, None, CORPUS), 0.9, second_wording=f"{FIRST}\n")
    assert (outcome.decision.better, outcome.decision.worse, outcome.decision.p) == (0, 0, 1.0)
    assert not outcome.decision.is_real and RELEASE.in_use() == outcome.in_use == 1


def test_every_second_question_comes_with_a_document_that_lacks_the_answer():
    rows = build_rows(120, None, CORPUS)
    assert len(rows) == 120 and [row["inputs"]["row"] for row in rows] == list(range(120))
    for row in rows:
        expected = row["expectations"]
        assert expected["in_context"] == (row["inputs"]["row"] % 2 == 0)
        assert (expected["expected_response"] == "I do not know") != expected["in_context"]


@pytest.mark.parametrize(
    "flags",
    [("--alpha", 0), ("--alpha", 1), ("--num-rows", 1), ("--rollback",), ("--llm-type", "openai")],
)
def test_wrong_use(refused, store, flags):
    refused(main, *flags)


def test_questions_or_documents_that_do_not_fit(refused, store, tmp_path):
    (tmp_path / "empty.csv").write_text("question,gold_document,expected_answer\n")
    assert "empty.csv" in refused(main, "--questions", tmp_path / "empty.csv")
    assert "--docs-path" in refused(main, "--docs-path", tmp_path)
    assert all_runs() == []
