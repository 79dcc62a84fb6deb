"""8.4 on stores of its own: what is tried is in MLflow, and only what wins on unseen rows is registered."""

import importlib.util
import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.optimization.optimize_prompt import PROMPT, START, TAIL, main
from utils.errors import InputError, JobFailed
from utils.mock_llm import chat
from utils.options import InputOptions
from utils.paired_decision import decide
from utils.prompt_trials import Trials, check_answer, split
from utils.sentiment_job import load_job_rows

TRAIN, HELD_OUT = 8, 16
FLAGS = ("--train-rows", TRAIN, "--held-out-rows", HELD_OUT)
NEEDS_EXTRA = pytest.mark.skipif(
    not importlib.util.find_spec("dspy"), reason="needs uv sync --extra optimize (gepa and dspy)"
)


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, *FLAGS, times=2)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


def runs(client, wanted):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, wanted, order_by=["start_time ASC"])


def jobs(client):
    return runs(client, "metrics.candidates > 0")


def texts_of(run, name):
    traces = mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list")
    return [t.search_spans(name=name)[0].inputs["text"] for t in traces if t.search_spans(name=name)]


def right_of(run):
    """Right or not by text, from the feedback in the store."""
    traces = mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list")
    found = {}
    for trace in traces:
        (said,) = [each for each in trace.info.assessments if each.name == "right"]
        found[trace.search_spans(name="optimized-label")[0].inputs["text"]] = said.value == 1
    return found


def test_a_prompt_that_wins_on_held_out_rows_is_registered_with_who_wrote_it(client):
    first = jobs(client)[0]
    assert first.data.metrics["registered"] == 1 and first.data.metrics["gain_low"] > 0
    made = mlflow.genai.load_prompt(f"prompts:/{PROMPT}/2")
    assert made.tags["method"] == "metaprompt" and "a mock" in made.tags["proposed_by"]
    assert made.variables == {"text"} and made.template != START
    assert mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production", cache_ttl_seconds=0).version == 2
    (candidate,) = runs(client, f"params.prompt = 'candidate' AND tags.mlflow.parentRunId = '{first.info.run_id}'")
    assert mlflow.artifacts.load_text(f"{candidate.info.artifact_uri}/prompt.txt") == made.template


def test_the_second_run_finds_no_gain_says_so_and_registers_nothing(client, done):
    second = jobs(client)[1]
    assert second.data.metrics["registered"] == 0 and second.data.params["prompt_version"] == "2"
    assert "No gain" in done.output.split("Next:")[1]
    assert len(client.search_prompt_versions(PROMPT)) == 2, "optimize_prompts itself would have registered a third"


def test_the_gain_is_that_of_the_rows_that_the_optimiser_has_not_seen(client):
    first = jobs(client)[0]
    held = {run.data.params["prompt"]: run for run in runs(client, f"tags.mlflow.parentRunId = '{first.info.run_id}'")}
    before, after = right_of(held["in-use"]), right_of(held["candidate"])
    assert set(before) == set(after) and len(before) == HELD_OUT
    seen = set(texts_of(first, "optimize-candidate"))
    assert len(seen) == TRAIN and not seen & set(before)
    texts = list(before)
    expected = decide([before[t] for t in texts], [after[t] for t in texts])
    assert first.data.metrics["gain"] == pytest.approx(expected.gain)
    assert first.data.metrics["p"] == pytest.approx(expected.p)
    assert first.data.metrics["held_out_candidate"] == pytest.approx(sum(after.values()) / HELD_OUT)


def test_every_candidate_and_its_score_is_in_the_run(client):
    first = jobs(client)[0]
    table = json.loads(mlflow.artifacts.load_text(f"{first.info.artifact_uri}/candidates.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["calls"] for row in rows] == [TRAIN, TRAIN] and rows[0]["prompt"] == START
    steps = {m.step: m.value for m in client.get_metric_history(first.info.run_id, "candidate_score")}
    assert steps == {row["candidate"]: pytest.approx(row["score"]) for row in rows}
    assert first.data.metrics["initial_eval_score"] == pytest.approx(rows[0]["score"]), "as MLflow counted it"
    assert first.data.metrics["final_eval_score"] == pytest.approx(rows[1]["score"])
    for row in rows:
        text = mlflow.artifacts.load_text(f"{first.info.artifact_uri}/candidates/{row['candidate']}.txt")
        assert text == row["prompt"]


def test_the_model_that_reflects_is_the_chosen_one_and_traces_carry_the_lesson(client):
    first = jobs(client)[0]
    traces = mlflow.search_traces(run_id=first.info.run_id, max_results=200, return_type="list")
    (reflection,) = [t for t in traces if t.search_spans(name="metaprompt_reflection")]
    assert reflection.search_spans(name="metaprompt_reflection")[0].inputs["model"] == "openai:/mock-small"
    assert {t.info.tags["lesson"] for t in traces} == {"8.4"} and len(traces) == 2 * TRAIN + 1


def test_equal_seeds_make_equal_results(done, store, run_command):
    result = run_command(main, *FLAGS)
    assert result.exit_code == 0, result.stderr
    ours, theirs = jobs(MlflowClient())[0], jobs(MlflowClient(done.uri))[0]
    assert ours.data.metrics == theirs.data.metrics


def test_a_reply_that_is_no_prompt_is_no_missing_gain(store, run_command, monkeypatch):
    monkeypatch.setattr(chat, "improve", lambda prompt: json.dumps({PROMPT: "Answer with one word."}))  # no {{text}}
    result = run_command(main, *FLAGS)
    assert result.exit_code == 1 and "gave no prompt that can be used" in result.stderr
    assert [version.version for version in MlflowClient().search_prompt_versions(PROMPT)] == [1]
    assert jobs(MlflowClient()) == []


def test_calls_that_fail_are_no_wrong_answers(store, refused):
    assert "Failed" not in refused(main, *FLAGS, "--mock-faults", "garbage:1")
    assert jobs(MlflowClient()) == []


@pytest.mark.slow
@NEEDS_EXTRA
def test_gepa_tries_several_and_the_chosen_model_writes_them(store, run_command):
    result = run_command(main, *FLAGS, "--method", "gepa", "--max-calls", 60)
    assert result.exit_code == 0, result.stderr
    (job,) = jobs(MlflowClient())
    assert job.data.metrics["candidates"] > 2 and job.data.params["method"] == "gepa"


@pytest.mark.slow
@NEEDS_EXTRA
def test_dspy_compiles_under_its_autolog(store, run_command):
    result = run_command(main, *FLAGS, "--method", "dspy", "--max-calls", 40)
    assert result.exit_code == 0, result.stderr
    (job,) = jobs(MlflowClient())
    table = json.loads(mlflow.artifacts.load_text(f"{job.info.artifact_uri}/candidates.json"))
    assert all(row[table["columns"].index("prompt")].endswith(TAIL) for row in table["data"])
    assert runs(MlflowClient(), "metrics.eval >= 0"), "autolog has logged an evaluation of DSPy's"


@NEEDS_EXTRA
def test_dspy_refuses_a_prompt_whose_text_stands_elsewhere(store, refused):
    mlflow.set_tracking_uri(store)
    mlflow.genai.register_prompt(name=PROMPT, template="Review: {{text}}\n\nIs it good?")
    mlflow.genai.set_prompt_alias(PROMPT, "production", 1)
    assert "version 1 in use does not" in refused(main, "--method", "dspy")
    assert jobs(MlflowClient()) == []


@pytest.mark.skipif(bool(importlib.util.find_spec("dspy")), reason="the extra optimize is installed")
@pytest.mark.parametrize("method", ["gepa", "dspy"])
def test_without_the_extra_it_is_named(store, refused, method):
    assert "uv sync --extra optimize" in refused(main, "--method", method)


def test_trials_are_grouped_by_prompt():
    trials = Trials()
    for template, scores in (("a", [1, 0]), ("b", [1.0]), ("a", [0, 0])):
        trials.add(template, scores)
    assert [(row["candidate"], row["calls"], row["score"]) for row in trials.rows()] == [(1, 4, 0.25), (2, 1, 1.0)]


def test_a_failed_call_is_no_wrong_answer():
    check_answer("positive")
    with pytest.raises(JobFailed, match="Connection"):
        check_answer("Failed to invoke the predict_fn with {'text': 'x'}: Connection error")


def test_no_text_stands_on_both_sides():
    task = split(load_job_rows(InputOptions(), 40, 1), 20, 20)
    sides = [{row["inputs"]["text"] for row in side} for side in (task.train, task.held_out)]
    assert not sides[0] & sides[1] and len(sides[0]) == 20
    with pytest.raises(InputError, match="held out"):
        split(load_job_rows(InputOptions(), 25, 1), 20, 20)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--method", "magic"), "--method"),
        (("--train-rows", 2), "--train-rows"),
        (("--input", "nowhere.csv"), "nowhere.csv"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use(store, refused, flags, said):
    assert said in refused(main, *flags)
