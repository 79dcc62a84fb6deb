"""Model servers for the Spark lessons: the mock's, remembered; and a real one, where it is."""

import pytest

from utils import mock_llm
from utils.mock_llm import MockServer


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
