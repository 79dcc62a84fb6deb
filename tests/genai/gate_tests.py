"""Lesson 6.7's gate as a test with @mlflow.test: the evaluation belongs to the test session's own run in MLflow.

    uv run mlflow-quality-gate --record
    uv run pytest -p mlflow.pytest.plugin tests/genai/gate_tests.py

`uv run pytest` alone leaves this file out, because it needs a baseline. QUALITY_GATE_BASELINE (a run id; default:
latest), QUALITY_GATE_PROMPT_VERSION and QUALITY_GATE_QUESTIONS choose as the command's flags do, MLFLOW_TRACKING_URI
and LLM_TYPE as ever.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from genai.evaluation.quality_gate import Rag, choose_version, evaluate, find_baseline, judge
from utils import curriculum
from utils.cli import lesson_session
from utils.document_index import open_index
from utils.gate_rows import build_rows
from utils.llm_backends import open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.questions import load_questions
from utils.sample_documents import CORPUS


@pytest.fixture(autouse=True)
def clean_environment() -> None:
    """In place of the fixture of this name that keeps other tests away from the real store: this one is about it."""


@pytest.fixture
def rag() -> Iterator[Rag]:
    with (
        lesson_session(curriculum.lesson("6.7"), os.environ.get("MLFLOW_TRACKING_URI"), None),
        open_backend(BackendOptions(llm_type=os.environ.get("LLM_TYPE", "mock"))) as llm,
    ):
        yield Rag(llm, llm.openai_client(), open_index(CORPUS, llm, EmbedOptions()))


@mlflow.test
def test_no_scorer_fell_below_the_baseline(rag):
    baseline = find_baseline(os.environ.get("QUALITY_GATE_BASELINE", "latest"))
    version = os.environ.get("QUALITY_GATE_PROMPT_VERSION")
    own = os.environ.get("QUALITY_GATE_QUESTIONS")
    rows = build_rows(load_questions(Path(own) if own else None), None)
    candidate = evaluate(rag, choose_version(int(version) if version else None), rows, "candidate")
    verdict = judge(baseline.info.run_id, candidate, {}, alpha=0.05)
    assert verdict.refusals == []
