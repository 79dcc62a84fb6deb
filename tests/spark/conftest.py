"""Model servers for the Spark lessons: the mock's, remembered; and a real one, where it is."""

import pytest

from utils import mock_llm
from utils.mock_llm import MockServer

QUEUE = "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[MockServer]:
    """The mock's servers that commands of this test started, in order: their counts say what was really served."""
    started: list[MockServer] = []

    class Remembered(MockServer):
        def start(self) -> MockServer:
            started.append(self)
            return super().start()

    monkeypatch.setattr(mock_llm, "MockServer", Remembered)
    return started


@pytest.fixture
def without_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver writes its spans at once: flushing the queue in the background costs three seconds a job."""
    monkeypatch.setenv(QUEUE, "false")


@pytest.fixture
def with_queue(without_queue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a learner runs it, in a file whose other tests do without the queue."""
    monkeypatch.delenv(QUEUE)
