"""What the lessons leave is found on the pages of mlflow ui that they name, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner

from spark.spark_llamaindex_rag import main as rag
from tracking.simple_tracking_basic import main as tracking_example
from utils.mlflow_server import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
APPEARS_WITHIN_MS = 60_000


@pytest.fixture(scope="module")
def filled_store(template_store: Path, tmp_path_factory: pytest.TempPathFactory, spark) -> str:
    """A store with the results of lessons 1.1 and 5.2."""
    path = tmp_path_factory.mktemp("ui") / "mlflow.db"
    shutil.copy(template_store, path)
    uri = f"sqlite:///{path}"
    for command, flags in ((tracking_example, []), (rag, ["--num-questions", "3"])):
        result = CliRunner().invoke(command, ["--tracking-uri", uri, *flags])
        assert result.exit_code == 0, result.output
    return uri


@pytest.fixture(scope="module")
def ui(filled_store: str) -> Iterator[str]:
    """The address of a running `mlflow server` on that store."""
    with mlflow_server(filled_store) as address:
        yield address


@pytest.fixture(scope="module")
def page(ui: str):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs uv sync --extra browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 950}, base_url=ui)
        page.set_default_timeout(APPEARS_WITHIN_MS)
        yield page
        browser.close()


def experiment_id(uri: str, name: str) -> str:
    found = mlflow.MlflowClient(uri).get_experiment_by_name(name)
    assert found
    return found.experiment_id


def test_the_runs_of_1_1_stand_in_its_table(page, filled_store: str) -> None:
    page.goto(f"/#/experiments/{experiment_id(filled_store, '1-fundamentals')}/runs")
    for name in ("forest", "ridge", "linear", "autolog"):
        page.get_by_role("link", name=name, exact=True).first.wait_for()


def test_a_trace_of_5_2_shows_its_retriever_span(page, filled_store: str) -> None:
    number = experiment_id(filled_store, "5-rag")
    client = mlflow.MlflowClient(filled_store)
    trace = client.search_traces(locations=[number], max_results=1)[0]
    page.goto(f"/#/experiments/{number}/traces?selectedEvaluationId={trace.info.trace_id}")
    page.get_by_text("rag-question").first.wait_for()
    retriever = next(span for span in trace.data.spans if span.span_type == "RETRIEVER")
    page.get_by_text(retriever.name, exact=True).first.wait_for()


def test_the_prompt_of_5_2_and_its_version_are_in_the_registry(page) -> None:
    page.goto("/#/prompts/rag-answer")
    page.get_by_text("Version 1").first.wait_for()
    page.get_by_text("Context information is below.").first.wait_for()
