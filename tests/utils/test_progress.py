"""Progress is proved from the store: nothing counts that did not happen, or is gone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanType
from sklearn.linear_model import LinearRegression

from tracking.simple_tracking_basic import main as tracking_example
from utils import curriculum
from utils.curriculum import Evidence, Lesson
from utils.lesson_context import tagged
from utils.mlflow_setup import use_store
from utils.progress import Store

NUMBER = "9.9"


def make_lesson(*evidence: Evidence) -> Lesson:
    """A lesson that exists in this test only."""
    return Lesson(NUMBER, "t", "c", "f.py", "traces", "look", shows=(), evidence=evidence, hints=())


def proved(*evidence: Evidence) -> bool:
    return Store().is_done(make_lesson(*evidence))


@contextmanager
def in_lesson(number: str = NUMBER, experiment: str = "2-tracing") -> Iterator[None]:
    use_store(None, experiment)  # artifacts beside the store, not in the working folder
    with tagged(lesson=number):
        yield
    mlflow.flush_trace_async_logging()


def log_run(status: str = "FINISHED", **metrics: float) -> str:
    with mlflow.start_run() as run:
        mlflow.log_metrics(metrics)
    MlflowClient().set_terminated(run.info.run_id, status)
    return run.info.run_id


RUN = Evidence("run", "a run")


def test_in_an_empty_store_nothing_is_done(store):
    finished = [entry.number for entry in curriculum.LESSONS if Store().is_done(entry)]
    assert finished == []


def test_a_store_without_a_single_experiment(store):
    MlflowClient(store).delete_experiment("0")
    kinds = [Evidence(kind, "x", name="x") for kind in ("run", "trace", "model", "prompt", "dataset")]
    assert [finding.found for finding in Store().findings(make_lesson(*kinds))] == [0] * 5


def test_a_finished_run_of_the_lesson_counts(store):
    assert not proved(RUN)
    with in_lesson():
        log_run()
    assert proved(RUN)


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_run_that_did_not_end_well_does_not_count(store, status):
    with in_lesson():
        log_run(status)
    assert not proved(RUN)


@pytest.mark.parametrize("number", ["9.8", "9.99", "19.9"])
def test_a_run_of_another_lesson_does_not_count(store, number):
    with in_lesson(number):
        log_run()
    assert not proved(RUN)


def test_a_run_without_the_metric_that_was_asked_for_does_not_count(store):
    measured = Evidence("run", "with accuracy", filter="metrics.accuracy >= 0")
    with in_lesson():
        log_run(loss=1.0)
        assert not proved(measured)
        log_run(accuracy=0.0)
    assert proved(measured)


def test_as_many_as_the_minimum_are_needed(store):
    three = Evidence("run", "three", minimum=3)
    with in_lesson():
        for _ in range(2):
            log_run()
        assert not proved(three)
        log_run()
    assert proved(three)


def test_runs_count_in_whichever_experiment_they_are(store):
    with in_lesson(experiment="my own name"):
        log_run()
    assert proved(RUN)


def test_what_is_in_the_trash_no_longer_counts(store):
    with in_lesson():
        run_id = log_run()
    client = MlflowClient(store)
    client.delete_run(run_id)
    assert not proved(RUN)
    client.restore_run(run_id)
    assert proved(RUN)
    client.delete_experiment(client.get_run(run_id).info.experiment_id)
    assert not proved(RUN)


def test_a_trace_counts_by_lesson_name_and_span(store):
    named = Evidence("trace", "with a retriever", filter="trace.name = 'rag-question' AND span.type = 'RETRIEVER'")
    with in_lesson(), mlflow.start_span("rag-question"):
        pass
    assert not proved(named)
    with in_lesson("9.8"), mlflow.start_span("rag-question"), mlflow.start_span("r", span_type=SpanType.RETRIEVER):
        pass
    assert not proved(named)
    with in_lesson(), mlflow.start_span("rag-question"), mlflow.start_span("r", span_type=SpanType.RETRIEVER):
        pass
    assert proved(named)


def test_a_dataset_is_an_input_of_a_finished_run(store):
    two = Evidence("dataset", "two of them", minimum=2)
    first, second = (mlflow.data.from_pandas(pd.DataFrame({"x": [n]}), name="d") for n in (1, 2))
    with in_lesson():
        for dataset in (first, first):
            with mlflow.start_run():
                mlflow.log_input(dataset)
        assert not proved(two), "the same one twice"
        with mlflow.start_run() as run:
            mlflow.log_input(second)
    assert proved(two)
    MlflowClient().set_terminated(run.info.run_id, "FAILED")
    assert not proved(two)


def test_a_prompt_counts_by_its_name(store):
    prompt = Evidence("prompt", "the prompt", name="sentiment")
    mlflow.genai.register_prompt("sentiment-of-mine", "{{x}}")
    assert not proved(prompt)
    mlflow.genai.register_prompt("sentiment", "{{x}}")
    assert proved(prompt)


def test_a_logged_model_counts_by_the_tag_of_the_lesson(store):
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    wanted = Evidence("model", "a model")
    for number in ("9.8", NUMBER):
        assert not proved(wanted)
        with in_lesson(number), mlflow.start_run():
            mlflow.sklearn.log_model(model, name="m", pip_requirements=["scikit-learn"])
    assert proved(wanted)


def test_a_lesson_is_done_when_all_its_evidence_is_there(store):
    trace = Evidence("trace", "a trace")
    with in_lesson():
        log_run()
        assert not proved(RUN, trace)
        with mlflow.start_span("x"):
            pass
    assert proved(RUN, trace)


def test_a_real_lesson_is_done_by_doing_it_and_open_again_without_its_experiment(store, run_command):
    entry = curriculum.lesson("1.1")
    assert run_command(tracking_example).exit_code == 0
    assert Store().is_done(entry)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(entry.experiment)
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    assert not Store().is_done(entry)


@pytest.mark.parametrize("kind", ["run", "trace", "model", "dataset"])
def test_what_was_left_before_the_time_that_is_asked_about_does_not_count(store, kind):
    with in_lesson():
        mlflow.initialize_logged_model(name="mine")
        with mlflow.start_run(), mlflow.start_span("mine"):
            mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), name="mine"))
    entry = make_lesson(Evidence(kind, "x"))
    later = int(time.time() * 1000) + 1
    assert Store().is_done(entry)
    assert not Store(since_ms=later).is_done(entry)
