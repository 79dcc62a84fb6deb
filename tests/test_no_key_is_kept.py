"""No lesson that asks a model leaves the key anywhere: not in a trace, a run, an artifact or its output."""

from pathlib import Path

import pytest

from utils import curriculum
from utils.learn.tour import run_tour
from utils.mock_llm import MockServer

KEY = "gateway-key-0123456789"


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_lesson_keeps_the_key(store, tmp_path, monkeypatch, capfd):
    lessons = [lesson for lesson in curriculum.LESSONS if lesson.uses_llm]
    with MockServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("LLM_MODEL", "mock-small")
        assert run_tour(lessons, store, "openai", timeout_s=300) == 0, capfd.readouterr().out
        assert server.counts.chat_calls > len(lessons), "they asked this server"
    said = capfd.readouterr()
    assert KEY not in said.out + said.err and files_with(KEY, tmp_path) == []
