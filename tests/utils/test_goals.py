"""mlflow-learn goals: ticked only after MLflow holds the evidence; what only the learner knows is asked."""

import re

import mlflow
import pytest
from mlflow import MlflowClient

from tracking.simple_tracking_basic import main as tracking_example
from utils import curriculum
from utils.curriculum import Evidence
from utils.goals import GOALS, Goal, is_reached
from utils.goals.entries import later
from utils.learn import main
from utils.learn.goals import state_of
from utils.lesson_context import tagged
from utils.progress import Store
from utils.sample_documents import main as sample_documents

PROVABLE = [goal for goal in GOALS if goal.evidence and not goal.to_come]


def state_shown(output: str, goal: Goal) -> str:
    """The state in front of a goal's text."""
    (state,) = re.findall(rf"^  (\w+(?: come)?) +{re.escape(goal.text)}", output, re.M)
    return state


def goal(text: str) -> Goal:
    (found,) = [entry for entry in GOALS if entry.text.startswith(text)]
    return found


def test_without_a_store_nothing_is_ticked_and_none_is_made(run_command, tmp_path):
    output = run_command(main, "goals").stdout
    assert {state_shown(output, entry) for entry in PROVABLE} == {"open"}
    assert f"0 of {len(PROVABLE)} proved" in output and list(tmp_path.iterdir()) == []


def test_each_goal_is_shown_once_with_its_state(store, run_command):
    output = run_command(main, "goals").stdout
    for entry in GOALS:
        expected = "to come" if entry.to_come else "yours" if entry.asked else "open"
        assert state_shown(output, entry) == expected
        if entry.to_come:
            assert f"{entry.text}   ({entry.lesson})" in output
        else:
            assert f"{entry.text}\n{' ' * 11}{entry.command}\n" in output


def test_module_shows_only_its_goals(store, run_command):
    output = run_command(main, "goals", "--module", 5).stdout
    assert [entry for entry in GOALS if entry.text in output] == [entry for entry in GOALS if entry.module == 5]


@pytest.mark.parametrize("entry", PROVABLE, ids=lambda entry: entry.text)
def test_in_an_empty_store_no_goal_is_reached(store, entry):
    assert not is_reached(entry, Store())


def test_goals_are_ticked_by_doing_the_lesson_and_open_again_without_its_experiment(store, run_command):
    written = goal("At least twelve documents")
    assert state_shown(run_command(main, "goals").stdout, written) == "open"
    run_command(sample_documents)
    output = run_command(main, "goals").stdout
    assert state_shown(output, written) == "done" == state_shown(output, goal("The questions are a dataset"))
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("5-rag")
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    assert state_shown(run_command(main, "goals").stdout, written) == "open"


def test_the_exercise_of_1_1_is_not_ticked_by_the_lesson_as_it_is(store, run_command, monkeypatch):
    from sklearn.ensemble import RandomForestRegressor

    run_command(tracking_example)
    done = [entry for entry in PROVABLE if entry.lesson == "1.1" and is_reached(entry, Store())]
    changed = goal("A forest of another depth")
    assert done == [entry for entry in PROVABLE if entry.lesson == "1.1" and entry != changed]
    shallow = {"forest": RandomForestRegressor(n_estimators=2, max_depth=3, random_state=0)}
    monkeypatch.setattr("tracking.simple_tracking_basic.regressors", lambda: shallow)
    run_command(tracking_example)
    assert is_reached(changed, Store())


@pytest.mark.parametrize(
    ("text", "number", "params", "metrics"),
    [
        ("Retrieval was measured with a single", "5.2", {"top_k": 1}, {}),
        ("Retrieval was measured with another", "5.2", {"chunk_tokens": 64}, {}),
        ("A question was asked by itself", "5.2", {}, {"questions_asked": 1}),
        ("A large job traces a sample", "2.2", {"trace_share": 0.5}, {}),
        ("The same job ran with spans of autolog", "2.2", {"span_source": "autolog", "client": "openai"}, {}),
    ],
)
def test_a_run_that_was_changed_reaches_the_goal_and_the_default_does_not(store, text, number, params, metrics):
    default = {"top_k": 3, "chunk_tokens": 512, "trace_share": 1.0, "span_source": "driver", "client": "langchain"}
    log_run(number, {name: default[name] for name in params}, dict.fromkeys(metrics, 20))
    assert not is_reached(goal(text), Store())
    log_run(number, params, metrics)
    assert is_reached(goal(text), Store())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_trace_and_every_trace_are_no_sample(store, share):
    log_run("2.2", {"trace_share": share}, {})
    assert not is_reached(goal("A large job traces a sample"), Store())


@pytest.mark.parametrize(
    ("text", "number", "root", "child"),
    [
        ("Each review has a span", "2.1", "spark-sentiment", {"name": "review"}),
        ("One trace holds the whole job", "2.1", "spark-sentiment", {"name": "x", "span_type": "CHAT_MODEL"}),
        ("Calls that failed are spans", "2.2", "spark-sentiment-any", {"name": "x", "fails": True}),
    ],
)
def test_a_span_reaches_the_goal_and_a_trace_without_it_does_not(store, text, number, root, child):
    log_trace(number, root, {"name": "other"})
    assert not is_reached(goal(text), Store())
    log_trace(number, root, child)
    assert is_reached(goal(text), Store())


def test_a_run_linked_to_its_prompt(store):
    linked = goal("The run is linked")
    log_run("2.1", {}, {})
    assert not is_reached(linked, Store())
    mlflow.genai.register_prompt("sentiment", "{{text}}")
    mlflow.set_experiment("2-tracing")
    with tagged(lesson="2.1"), mlflow.start_run():
        mlflow.genai.load_prompt("prompts:/sentiment/1")
    assert is_reached(linked, Store())


def test_what_is_asked_is_never_ticked_and_a_lesson_to_come_ticks_nothing(store, run_command):
    asked = Goal("Do you know?", 5, "learning", "5.1", None, "x")
    coming = Goal("It will be.", 9, "learning", "9.9", Evidence("run", "any"))
    log_run("9.9", {}, {})
    run_command(sample_documents)
    assert [state_of(entry, is_reached(entry, Store())) for entry in (asked, coming)] == ["yours", "to come"]


def test_a_goal_to_come_becomes_one_to_prove_with_its_lesson(monkeypatch):
    goal = later("criterion", "9.9", "It will be.")
    assert goal.to_come
    coming = curriculum.Lesson("9.9", "t", "c", "f.py", "runs", "look", (), (), ())
    monkeypatch.setattr(curriculum, "LESSONS", (*curriculum.LESSONS, coming))
    assert not goal.to_come and goal.asked


def log_run(number: str, params: dict, metrics: dict) -> None:
    mlflow.set_experiment("any")
    with tagged(lesson=number), mlflow.start_run():
        mlflow.log_params(params)
        mlflow.log_metrics(metrics)


def log_trace(number: str, root: str, child: dict) -> None:
    fails = child.pop("fails", False)
    mlflow.set_experiment("any")
    with tagged(lesson=number), mlflow.start_span(root), mlflow.start_span(**child) as span:
        if fails:
            span.set_status("ERROR")
    mlflow.flush_trace_async_logging()
