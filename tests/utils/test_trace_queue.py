"""What a flush of MLflow's leaves undone."""

import threading
import time

import mlflow
import pytest
from mlflow.tracing.client import TracingClient

from utils import trace_queue
from utils.errors import CheckFailed
from utils.trace_queue import LINKS, wait_for_prompt_links


def found(version) -> int:
    return len(mlflow.search_traces(filter_string=f"prompt = '{version.name}/{version.version}'", return_type="list"))


def test_a_trace_is_found_by_its_prompt_also_where_the_link_takes_long(store, monkeypatch):
    mlflow.set_experiment("links")
    version = mlflow.genai.register_prompt(name="slow-link", template="Say {{what}}")
    link = TracingClient.link_prompt_versions_to_trace

    def slowly(self, trace_id, prompts):
        time.sleep(0.5)
        return link(self, trace_id, prompts)

    monkeypatch.setattr(TracingClient, "link_prompt_versions_to_trace", slowly)
    with mlflow.start_span("answer"):
        mlflow.genai.load_prompt(version.uri)
    mlflow.flush_trace_async_logging()
    assert found(version) == 0, "MLflow waits for its links itself now: wait_for_prompt_links can go"
    wait_for_prompt_links()
    assert found(version) == 1


def test_a_link_that_is_never_written_is_no_trace_without_a_prompt(monkeypatch):
    monkeypatch.setattr(trace_queue, "LINK_SECONDS", 0.05)
    end = threading.Event()
    threading.Thread(target=end.wait, name=f"{LINKS}-0").start()
    try:
        with pytest.raises(CheckFailed, match="not linked"):
            wait_for_prompt_links()
    finally:
        end.set()
