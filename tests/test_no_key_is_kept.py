"""No lesson that asks a model leaves the key anywhere: not in a trace, a run, an artifact or its output."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_learning_plan import command_of
from utils import curriculum
from utils.learn.tour import run_tour
from utils.mock_llm import MockServer

KEY = "gateway-key-0123456789"


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


# What a lesson asks for where the model is one that it does not know.
NEEDED = {
    "mlflow-track-costs": ("--usd-per-million", "0.10", "0.40"),
    "mlflow-route-models": ("--small-model", "mock-small", "--large-model", "mock-large"),
}


def offline(lesson: curriculum.Lesson) -> curriculum.Lesson:
    """Beside a real backend, embeddings come from a model of the hub, which cannot be reached here."""
    options = {name for option in command_of(lesson.command).params for name in option.opts}
    lexical = ("--embed-type", "lexical") if "--embed-type" in options else ()
    return replace(lesson, tour_args=(*lesson.tour_args, *lexical, *NEEDED.get(lesson.command, ())))


@pytest.mark.slow
@pytest.mark.timeout(2_700)
def test_no_lesson_keeps_the_key(store, tmp_path, monkeypatch, capfd):
    lessons = [offline(lesson) for lesson in curriculum.LESSONS if lesson.uses_llm]
    with MockServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("LLM_MODEL", "mock-small")
        assert run_tour(lessons, store, "openai", timeout_s=600) == 0, capfd.readouterr().out
        assert server.counts.chat_calls > len(lessons), "they asked this server"
    said = capfd.readouterr()
    assert KEY not in said.out + said.err and files_with(KEY, tmp_path) == []
