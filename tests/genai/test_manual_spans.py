"""2.3 on a store of its own: each type of span, the exception on its span, one trace per stream and coroutine."""

from collections import Counter

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanType, Trace

from genai.tracing.manual_spans import FILTERS, PASSAGES, PROMPT, describe_failures, main
from utils.span_tree import roots, tree_lines

TYPES = {value for name, value in vars(SpanType).items() if name.isupper()}


@pytest.fixture(scope="module")
def done(run_lesson):
    """The lesson run once, with a filter of the learner's own."""
    return run_lesson(main, "--filter", "tags.story = 'nowhere'")


@pytest.fixture
def traces(done) -> dict[str, Trace]:
    mlflow.set_tracking_uri(done.uri)
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    found = mlflow.search_traces(locations=ids, return_type="list")
    assert len({roots(trace)[0].name for trace in found}) == len(found)
    return {roots(trace)[0].name: trace for trace in found}


def test_one_trace_each_for_the_question_the_stream_and_the_coroutines(traces):
    assert set(traces) == {"answer-question", "stream-answer", "look-up-all"}
    assert all(len(roots(trace)) == 1 for trace in traces.values())


def test_every_type_of_span_once_in_its_place(traces):
    pipeline = Counter(span.span_type for span in traces["answer-question"].data.spans)
    assert set(pipeline.values()) == {1}
    assert set(pipeline) | {span.span_type for span in traces["stream-answer"].data.spans} == TYPES


def test_the_exception_is_on_the_span_that_failed_and_on_no_other(traces):
    failed = [span for span in traces["answer-question"].data.spans if span.status.status_code == "ERROR"]
    (convert,) = failed
    (event,) = [event for event in convert.events if event.name == "exception"]
    assert convert.name == "convert" and event.attributes["exception.type"] == "KeyError"
    assert traces["answer-question"].info.state == "OK"
    assert list(describe_failures(traces["answer-question"])) == ["convert failed with KeyError: 'furlongs'"]
    assert list(describe_failures(traces["look-up-all"])) == [], "a learner may mend the tool"


def test_session_user_tag_prompt_and_tokens_are_on_the_trace(traces):
    info = traces["answer-question"].info
    assert info.trace_metadata["mlflow.trace.session"] == "kitchen-1"
    assert info.trace_metadata["mlflow.trace.user"] == "ada"
    assert (info.tags["story"], info.client_request_id) == ("kitchen", "request-1")
    assert f'"name": "{PROMPT}", "version": "1"' in info.tags["mlflow.linkedPrompts"]
    assert info.token_usage and info.token_usage["total_tokens"] > info.token_usage["output_tokens"] > 0


def test_what_spans_carry_beside_inputs_and_outputs(traces):
    spans = {span.name: span for span in traces["answer-question"].data.spans}
    assert spans["retrieve"].attributes["corpus.documents"] == len(PASSAGES)
    assert [event.name for event in spans["rerank"].events] == ["ranked"]
    assert spans["retrieve"].outputs[0].keys() == {"page_content", "metadata"}
    assert "80 degrees" in spans["answer-question"].outputs
    assert spans["deliver"].outputs == {"bytes": len(spans["answer-question"].outputs.encode())}
    assert spans["assemble"].end_time_ns <= spans["deliver"].start_time_ns <= spans["deliver"].end_time_ns


def test_a_stream_is_one_span_with_all_its_pieces_as_one_output(traces):
    (span,) = traces["stream-answer"].data.spans
    assert isinstance(span.outputs, str) and len(span.outputs) > 10
    assert span.inputs and span.attributes["mlflow.spanType"] == "LLM"


def test_coroutines_find_their_parent(traces):
    spans = traces["look-up-all"].data.spans
    (root,) = roots(traces["look-up-all"])
    assert sorted(span.name for span in spans if span.parent_id == root.span_id) == ["look-up"] * len(PASSAGES)
    assert sorted(root.outputs) == sorted(PASSAGES.values())


def test_every_filter_finds_what_is_there_and_nothing_else(traces, done):
    found = {text: mlflow.search_traces(filter_string=text, return_type="list", locations=ids()) for text in FILTERS}
    assert {text: len(hits) for text, hits in found.items() if len(hits) != 1} == {
        "trace.status = 'OK'": 3,
        "execution_time >= 0": 3,
    }
    assert "tags.story = 'nowhere'" in done.output and f"prompt = '{PROMPT}/1'" in done.output


def ids() -> list[str]:
    return [experiment.experiment_id for experiment in MlflowClient().search_experiments()]


def test_the_tree_is_indented_below_its_root(traces, done):
    lines = tree_lines(traces["answer-question"])
    assert lines[0].startswith("WORKFLOW  answer-question")
    assert any(line.startswith("    TOOL  convert") and line.endswith("ERROR") for line in lines)
    assert all(line.split("  ms")[0].strip().split("  ")[0] in done.output for line in lines)


def test_a_filter_with_a_typo_is_refused_before_anything_is_traced(refused, store):
    said = refused(main, "--filter", "nam = 'x'")
    assert "nam = 'x'" in said and "--filter" in said
    assert mlflow.search_traces(locations=ids(), return_type="list") == []
