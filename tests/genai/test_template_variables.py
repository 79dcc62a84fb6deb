"""3.3 on a store of its own: every combination is a nested run with its trace, and the store names the best."""

import mlflow
import pytest
from mlflow import MlflowClient

from genai.prompts.template_variables import PROMPT, TEMPLATE, Values, is_useful, main, not_told_apart, values_of

QUESTIONS = 5
GRID = ("--tone", "neutral", "--tone", "friendly", "--length", "one sentence", "--length", "at most 6 words")


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-questions", QUESTIONS, *GRID, "--audience", "newcomers")


@pytest.fixture
def job(done):
    """The run that holds the grid, and the nested ones."""
    mlflow.set_tracking_uri(done.uri)
    runs = mlflow.search_runs(experiment_names=["3-prompts"], output_format="list")
    (parent,) = [run for run in runs if "combinations" in run.data.params]
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, nested


def test_every_combination_is_a_nested_run_with_one_trace(job):
    parent, nested = job
    assert len(nested) == int(parent.data.params["combinations"]) == 4
    assert {(values_of(run).tone, values_of(run).length) for run in nested} == {
        (tone, length) for tone in ("neutral", "friendly") for length in ("one sentence", "at most 6 words")
    }
    for run in nested:
        trace = mlflow.get_trace(run.data.tags["trace_id"])
        calls = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
        assert len(calls) == QUESTIONS and trace.info.request_metadata["mlflow.sourceRun"] == run.info.run_id
        assert all(values_of(run).tone in str(call.inputs) for call in calls), "the values reach the model"
        assert PROMPT in trace.info.tags["mlflow.linkedPrompts"] and PROMPT in run.data.tags["mlflow.linkedPrompts"]


def test_the_best_is_the_one_with_the_most_useful_answers_then_the_fewest_words(job):
    parent, nested = job
    best = max(nested, key=lambda run: (run.data.metrics["useful"], -run.data.metrics["words_per_answer"]))
    assert parent.data.metrics["best_useful"] == best.data.metrics["useful"]
    assert {name: parent.data.tags[f"best_{name}"] for name in ("tone", "length")} == {
        "tone": values_of(best).tone,
        "length": values_of(best).length,
    }
    assert parent.data.metrics["low"] <= parent.data.metrics["best_useful"] <= parent.data.metrics["high"]


def test_the_heat_map_is_an_artifact(job):
    parent, _ = job
    assert "heat_map.png" in [item.path for item in MlflowClient().list_artifacts(parent.info.run_id)]


def test_an_answer_is_useful_when_it_is_right_short_and_no_refusal():
    assert is_useful("It is mlflow gc.", "mlflow gc", 4)
    assert not is_useful("Run it: it is mlflow gc.", "mlflow gc", 4)
    assert not is_useful("I do not know whether it is mlflow gc.", "mlflow gc", 40)
    assert not is_useful("It is mlflow ui.", "mlflow gc", 40)


def test_only_a_difference_on_enough_rows_tells_two_apart():
    best, near, far = (Values(tone, "short", "all", "English") for tone in "abc")
    outcomes = {best: [True] * 20, near: [True] * 17 + [False] * 3, far: [False] * 20}
    assert not_told_apart(best, outcomes) == [near]
    assert not_told_apart(best, {best: [True]}) == []


def test_the_learners_own_template_is_used_and_must_have_the_variables(store, run_command, refused):
    mlflow.genai.register_prompt(PROMPT, TEMPLATE.replace("Use only", "Please use only"))
    mlflow.genai.set_prompt_alias(PROMPT, "production", 1)
    few = ("--num-questions", 2, "--tone", "neutral", "--length", "one sentence", "--audience", "newcomers")
    assert run_command(main, *few).exit_code == 0
    assert len(MlflowClient().search_prompt_versions(PROMPT)) == 1, "nothing was registered beside it"
    mlflow.genai.register_prompt(PROMPT, "{{question}} {{passage}}")
    mlflow.genai.set_prompt_alias(PROMPT, "production", 2)
    assert "{{audience}}" in refused(main, *few)


@pytest.mark.parametrize(
    "flags",
    [("--num-questions", 1), ("--max-words", 0), ("--tone", " "), ("--questions", "nowhere.csv"), ("--length", "")],
)
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []
