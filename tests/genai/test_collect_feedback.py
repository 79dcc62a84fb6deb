"""7.5 on a store of its own: thumbs, an expert's queue, rows, and a prompt that is used only for a gain elsewhere."""

import shutil
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.genai.review_queues import list_review_queue_items, list_review_queues

from genai.deployment import collect_feedback
from genai.deployment.collect_feedback import ENOUGH, learn, main, wording
from utils.evaluation_rows import row_key
from utils.options import InputOptions
from utils.paired_decision import decide
from utils.prompt_release import Release
from utils.review_boxes import box_of, gold_of, load_boxes
from utils.row_scores import read_row_scores
from utils.simulated_thumbs import rate

NUMBER = 48
BOXES = load_boxes(InputOptions(), NUMBER)
GOLD = gold_of(BOXES.served)
RELEASE = Release("review-box", "production", "uv run mlflow-collect-feedback")


@pytest.fixture(scope="module")
def done(run_lesson):
    """At a level that is generous on purpose, so that few rows show a gain."""
    return run_lesson(main, "--num-reviews", NUMBER, "--alpha", 0.5)


@pytest.fixture
def opened(done) -> str:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("7-production")
    return done.output


def the_run():
    (found,) = mlflow.search_runs(filter_string="attributes.run_name = 'collect-feedback'", output_format="list")
    return found


@pytest.fixture
def quick_command_line(monkeypatch):
    """MLflow's command line starts a process of its own; one test looks at what it leaves."""
    stub = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(collect_feedback, "subprocess", stub)


def served():
    wanted = f"tags.served_in = '{the_run().info.run_id}'"
    return mlflow.search_traces(filter_string=wanted, max_results=500, return_type="list")


def valid(trace, name, type=None):
    return [one for one in trace.search_assessments(name, type=type) if one.valid is not False]


def test_every_thumb_is_on_the_trace_of_its_answer_the_last_one_by_the_command_line(opened):
    traces = {trace.data.spans[0].inputs["review"]: trace for trace in served()}
    assert set(traces) == set(GOLD)
    in_order = [traces[row["inputs"]["review"]] for row in BOXES.served]
    right = [box_of(str(t.data.spans[0].outputs)) == GOLD[t.data.spans[0].inputs["review"]] for t in in_order]
    opinions = rate(right)
    for one in opinions:
        first = min(in_order[one.place].search_assessments("thumbs_up", all=True), key=lambda a: a.create_time_ms)
        assert (first.value, first.rationale, first.source.source_id) == (one.thumbs_up, one.comment, one.user)
        assert first.source.source_type == "HUMAN"
    silent = [trace for place, trace in enumerate(in_order) if place not in {one.place for one in opinions}]
    assert silent and not any(trace.info.assessments for trace in silent)
    assert f"uv run mlflow traces log-feedback --trace-id {in_order[opinions[-1].place].info.trace_id}" in opened


def test_the_expert_overrides_a_thumb_that_erred_and_writes_the_box_on_the_others(opened):
    complained, erred = 0, 0
    for trace in served():
        thumbs = trace.search_assessments("thumbs_up", all=True)
        if not any(thumb.value is False for thumb in thumbs):
            continue
        complained += 1
        root, expected = trace.data.spans[0], trace.search_assessments("expected_response", type="expectation")
        if box_of(str(root.outputs)) == GOLD[root.inputs["review"]]:
            erred += 1
            assert [thumb.value for thumb in valid(trace, "thumbs_up")] == [True] and expected == []
        else:
            assert [one.value for one in expected] == [GOLD[root.inputs["review"]]]
            assert expected[0].source.source_id == "expert"
    metrics = the_run().data.metrics
    assert metrics["thumbs_down"] == complained and metrics["users_erred"] == erred
    assert metrics["failures"] == complained - erred > ENOUGH


def test_the_queue_on_the_review_page_is_worked_off(opened):
    (queue,) = [queue for queue in list_review_queues() if queue.name == "review-box-complaints"]
    items = list_review_queue_items(queue.queue_id)
    assert queue.users == ["expert"] and len(items) == the_run().data.metrics["thumbs_down"]
    assert {(item.status, item.completed_by) for item in items} == {("complete", "expert")}


def test_each_failing_trace_is_a_row_with_the_experts_answer(opened):
    (dataset,) = mlflow.genai.search_datasets(filter_string="name = 'review-box-complaints'")
    rows = dataset.to_df().to_dict("records")
    failing = mlflow.search_traces(
        filter_string="feedback.thumbs_up = 'false' AND trace.name = 'sort-review'", return_type="list"
    )
    assert {row["inputs"]["review"] for row in rows} == {t.data.spans[0].inputs["review"] for t in failing}
    assert len(rows) == len(failing) == the_run().data.metrics["rows"]
    for row in rows:
        assert set(row["inputs"]) == {"review"}
        assert row["expectations"]["expected_response"] == GOLD[row["inputs"]["review"]]


def test_the_prompt_names_the_label_that_complaints_asked_for(opened):
    first, second = (mlflow.genai.load_prompt(f"prompts:/review-box/{number}").template for number in (1, 2))
    assert first == wording(("positive", "negative")) and second == wording(("negative", "positive", "neutral"))


def test_the_gain_is_that_of_the_held_out_rows_which_both_versions_answered(opened):
    keys = [row_key(row["inputs"]) for row in BOXES.held_out]
    scores = []
    for number in (1, 2):
        (run,) = mlflow.search_runs(
            filter_string=f"attributes.run_name = 'held-out-version-{number}'", output_format="list"
        )
        right = read_row_scores(run.info.run_id, ["right"], keys).of("right")
        scores.append([bool(right[key]) for key in keys])
    decision, metrics = decide(scores[0], scores[1], 0.5), the_run().data.metrics
    assert metrics["gain"] == pytest.approx(decision.gain) and metrics["p"] == pytest.approx(decision.p)
    assert (metrics["gain_low"], metrics["gain_high"]) == pytest.approx((decision.low, decision.high))
    assert decision.is_real and metrics["in_use"] == RELEASE.in_use() == 2 and "a real gain" in opened
    assert not {row["inputs"]["review"] for row in BOXES.held_out} & set(GOLD)


def test_complaints_are_mended_without_a_gain_then_nothing_moves_and_rollback_has_nothing(
    store, run_command, refused, quick_command_line
):
    """A wording that answers other reviews worse."""
    text = "Which box does this review belong in? Answer with one word: negative, positive or neutral.\n\n{{review}}"
    result = run_command(main, "--num-reviews", 16, "--wording", text)
    assert result.exit_code == 0 and "no gain that could not be luck" in result.output
    mlflow.set_experiment("7-production")
    assert the_run().data.metrics["complaints_mended"] > 0 and RELEASE.in_use() == 1
    assert "no release" in refused(main, "--rollback")


def test_afterwards_nothing_more_is_asked_for_and_rollback_takes_it_back(
    done, tmp_path, store, run_command, quick_command_line
):
    """On a copy of the store: the users still complain, and of no label that the prompt lacks."""
    shutil.copy(done.path, tmp_path / "mlflow.db")
    again = run_command(main, "--num-reviews", 24)
    assert again.exit_code == 0 and "They ask for no other prompt" in again.output
    assert "Nothing to compare: no gain" in again.output and RELEASE.in_use() == 2
    assert "back from version 2 to version 1" in run_command(main, "--rollback").output
    assert RELEASE.in_use() == 1


def test_one_complaint_alone_asks_for_no_label(opened):
    failing = mlflow.search_traces(filter_string="feedback.thumbs_up = 'false'", return_type="list")
    neutral = [t for t in failing if GOLD.get(t.data.spans[0].inputs["review"]) == "neutral"]
    labels = BOXES.labels
    assert learn(wording(("positive", "negative")), labels, neutral[:1]) is None
    assert learn(wording(("positive", "negative")), labels, neutral[:ENOUGH]) == wording(
        ("negative", "positive", "neutral")
    )
    assert learn(wording(labels), labels, neutral) is None
    assert learn("Sort this: {{review}}", labels, neutral) is None


def test_a_command_line_that_fails_is_no_success(store, run_command, monkeypatch):
    monkeypatch.setattr(collect_feedback.sys, "executable", "/bin/false")
    result = run_command(main, "--num-reviews", 8)
    assert result.exit_code == 1 and "log-feedback failed" in result.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--num-reviews", 7),
        ("--alpha", 1),
        ("--wording", "No place for it."),
        ("--rollback",),
        ("--llm-type", "openai"),
        ("--input", "nowhere.csv", "--label-column", "label"),
    ],
)
def test_wrong_use(store, refused, flags):
    refused(main, *flags)
    assert MlflowClient().search_experiments(filter_string="name = '7-production'") == [] or not served_anywhere()


def served_anywhere() -> bool:
    mlflow.set_experiment("7-production")
    return bool(mlflow.search_traces(return_type="list"))
