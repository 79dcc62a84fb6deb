"""3.4 on a store of its own: what the filters find, page after page, and who used a version."""

import mlflow
import pytest
from mlflow import MlflowClient

from genai.prompts.search_prompts import FILTERS, PROMPTS, REFUND, find_usage, main, pages, search


@pytest.fixture(scope="module")
def uri(run_lesson) -> str:
    """A store in which the lesson was run twice."""
    return run_lesson(main, "--page-size", 2, times=2).uri


@pytest.fixture
def opened(uri) -> str:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("3-prompts")
    return uri


def test_a_second_run_registers_nothing_again(opened):
    client = MlflowClient()
    assert sorted(int(version.version) for version in client.search_prompt_versions(REFUND)) == [1, 2]
    assert all(len(client.search_prompt_versions(name)) == 1 for name in PROMPTS if name != REFUND)


@pytest.mark.parametrize(("text", "names"), list(zip(FILTERS, (
    {"desk-refund"},
    {"desk-refund", "desk-reminder"},
    {"desk-greeting", "desk-refund", "desk-summary"},
    {"desk-refund", "desk-summary", "desk-reminder"},
), strict=True)))  # fmt: skip
def test_a_filter_finds_these_and_no_others(opened, text, names):
    assert {prompt.name for prompt in search(text)} == names


@pytest.mark.parametrize(("size", "lengths"), [(2, [2, 2, 1]), (5, [5]), (4, [4, 1]), (1, [1] * 5), (50, [5])])
def test_pages_hold_every_prompt_once(opened, size, lengths):
    listed = list(pages("name LIKE 'desk-%'", size))
    assert [len(page) for page in listed] == lengths
    assert sorted(name for page in listed for name in page) == sorted(PROMPTS)


@pytest.mark.parametrize(("reference", "uses"), [(f"{REFUND}/1", 2), (f"{REFUND}/2", 4), (f"{REFUND}@production", 4)])
def test_usage_is_what_loaded_the_version_and_nothing_else(opened, reference, uses):
    usage = find_usage(reference)
    assert {run.info.run_name for run in usage.runs} == {f"use-{REFUND}-{usage.version.version}"}
    assert len(usage.runs) == len(usage.traces) == uses
    roots = {span.name for trace in usage.traces for span in trace.data.spans if span.parent_id is None}
    assert roots == {"desk-answer"}


def test_the_model_calls_are_spans_below_the_answer(opened):
    for trace in find_usage(f"{REFUND}/2").traces:
        assert sum(span.span_type == "CHAT_MODEL" for span in trace.data.spans) == 1


def test_a_version_that_nothing_used(opened, run_command):
    result = run_command(main, "--tracking-uri", opened, "--usage", "desk-offer/1")
    assert result.exit_code == 0 and "Nothing in this experiment used prompts:/desk-offer/1" in result.output


def test_an_own_filter_only_lists(opened, run_command):
    runs = len(mlflow.search_runs(output_format="list"))
    result = run_command(main, "--tracking-uri", opened, "--filter", "tags.team = 'sales'")
    assert "desk-offer" in result.output and "1 prompts" in result.output and "mlflow." not in result.output
    assert len(mlflow.search_runs(output_format="list")) == runs


@pytest.mark.parametrize(
    "reference", ["nowhere/1", "nowhere@production", f"{REFUND}/9", f"{REFUND}@staging", "x", "a/b"]
)
def test_a_prompt_version_or_alias_that_is_not_there(refused, opened, reference):
    assert reference in refused(main, "--tracking-uri", opened, "--usage", reference)


@pytest.mark.parametrize("flags", [("--filter", "tags.team="), ("--filter", "nam = 'x'"), ("--page-size", 0)])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)


def test_a_store_without_a_registry(refused, tmp_path):
    assert "migrate-filestore" in refused(main, "--tracking-uri", f"file:{tmp_path / 'mlruns'}")
