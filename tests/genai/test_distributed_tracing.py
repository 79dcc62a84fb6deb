"""2.5 on a store of its own: a hundred requests, a hundred complete traces; and the half that is lost by `late`."""

from collections import Counter

import mlflow
import pytest
from mlflow import MlflowClient

from genai.tracing.distributed_tracing import PASSAGES, PROMPT, is_complete, main
from utils.local_services import listen
from utils.span_tree import roots

REQUESTS = 100


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-requests", REQUESTS, "--concurrency", 16)


@pytest.fixture
def traces(done):
    mlflow.set_tracking_uri(done.uri)
    return stored()


def stored():
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    return mlflow.search_traces(locations=ids, max_results=500, return_type="list")


def test_every_request_is_one_complete_trace_and_there_is_no_other(traces):
    assert len(traces) == REQUESTS and all(is_complete(trace) for trace in traces)
    shapes = Counter(tuple(sorted(span.name for span in trace.data.spans)) for trace in traces)
    assert shapes == {("Completions", "answer", "ask", "call-answer-service"): REQUESTS}


def test_the_second_process_hangs_below_the_span_that_called_it(traces):
    for trace in traces:
        spans = {span.name: span for span in trace.data.spans}
        assert spans["answer"].parent_id == spans["call-answer-service"].span_id
        assert spans["call-answer-service"].parent_id == spans["ask"].span_id == roots(trace)[0].span_id
        assert spans["ask"].start_time_ns <= spans["answer"].start_time_ns <= spans["ask"].end_time_ns


def test_answers_belong_to_their_questions(traces):
    for trace in traces:
        question = roots(trace)[0].inputs["question"]
        assert roots(trace)[0].outputs.split()[-1] == PASSAGES[question].split()[-1]


def test_traces_carry_lesson_session_and_state(traces):
    assert {trace.info.tags["lesson"] for trace in traces} == {"2.5"}
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 1
    assert {trace.info.state for trace in traces} == {"OK"}
    assert MlflowClient().get_prompt_version_by_alias(PROMPT, "production").version == 1


def test_stored_too_late_the_second_half_is_lost_and_the_lesson_says_so(store, run_command):
    result = run_command(main, "--num-requests", 4, "--export", "late")
    assert result.exit_code == 1, result.output
    assert "4 hold nothing of the second process" in result.stderr and "--export sync" in result.stderr
    assert [len(trace.data.spans) for trace in stored()] == [2] * 4
    (run,) = MlflowClient().search_runs([trace.info.experiment_id for trace in stored()][:1])
    assert run.info.status == "FAILED"


def test_a_flush_inside_the_block_loses_nothing(store, run_command):
    assert run_command(main, "--num-requests", 2, "--concurrency", 2, "--export", "flush").exit_code == 0
    assert [len(trace.data.spans) for trace in stored()] == [4] * 2


def test_a_taken_port_is_refused(store, refused):
    with listen(0) as taken:
        said = refused(main, "--port", taken.getsockname()[1])
    assert "is taken" in said and stored() == []


@pytest.mark.parametrize("flags", [("--num-requests", 0), ("--export", "never"), ("--port", 70_000)])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
