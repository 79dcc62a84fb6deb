"""Draw images/: screenshots of mlflow ui on a store filled by the tour, and the journey through the modules.

    uv run --extra browser python benchmarks/pictures.py             # runs the tour first, a few minutes
    uv run --extra browser python benchmarks/pictures.py --journey   # only the journey, in seconds

Needs Chromium (Debian: apt-get install chromium). Every picture is of a real run.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow

from utils import curriculum
from utils.errors import InputError
from utils.mlflow_server import mlflow_server
from utils.mlflow_setup import ROOT

IMAGES = ROOT / "images"
JOURNEY = IMAGES / "mlflow_genai_learning_plan.gif"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
A_ROW = 4  # commands in a line of the journey
SIZE: Any = {"width": 1500, "height": 900}
APPEARS_WITHIN_MS = 120_000
FRAME_MS = 1_400


@dataclass(frozen=True)
class Shot:
    """A page, the text that shows that it is ready, and what to click before the picture is taken."""

    file: str
    page: str
    ready: str
    click: tuple[str, ...] = ()


def shots(client: mlflow.MlflowClient) -> list[Shot]:
    """The pages that README and LEARNING_PLAN.md show."""
    ids = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    rag = newest_trace(client, ids["5-rag"], "trace.name = 'rag-question' AND span.type = 'RETRIEVER'")
    team = newest_trace(client, ids["8-advanced"], "trace.name = 'multi-agent' AND span.type = 'TOOL'")
    return [
        Shot("runs.png", f"experiments/{ids['1-fundamentals']}/runs", "forest"),
        Shot("rag_trace.png", f"experiments/{ids['5-rag']}/traces?selectedEvaluationId={rag}", "rag-question",
             click=("VectorIndexRetriever.retrieve",)),
        Shot("prompt_versions.png", "prompts/sentiment", "Version 1"),
        Shot("evaluation.png", f"experiments/{ids['3-prompts']}/evaluation-runs", "version-2", click=("version-2",)),
        Shot("agent_trace.png", f"experiments/{ids['8-advanced']}/traces?selectedEvaluationId={team}", "multi-agent"),
    ]  # fmt: skip


def newest_trace(client: mlflow.MlflowClient, experiment_id: str, wanted: str, at_most_spans: int = 40) -> str:
    """The newest that fits into a picture."""
    found = client.search_traces(locations=[experiment_id], filter_string=wanted, max_results=20)
    return next(trace.info.trace_id for trace in found if len(trace.data.spans) <= at_most_spans)


def fill(uri: str) -> None:
    """Run the tour, with the mock, into this store."""
    subprocess.run([sys.executable, "-m", "utils.learn", "--tracking-uri", uri, "tour"], check=True, cwd=ROOT)


def dashboard(client: mlflow.MlflowClient, folder: str) -> Path:
    """The page that 7.6 wrote, as a file."""
    experiment = client.get_experiment_by_name("7-production")
    wanted = "tags.lesson = '7.6' AND attributes.run_name = 'monitor'"
    newest = client.search_runs([experiment.experiment_id], wanted, max_results=1)[0]
    return Path(client.download_artifacts(newest.info.run_id, "dashboard.html", folder))


def take(address: str, wanted: list[Shot], own_page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=SIZE, base_url=address)
        page.set_default_timeout(APPEARS_WITHIN_MS)
        for shot in wanted:
            page.goto(f"/#/{shot.page}")
            page.get_by_text(shot.ready).first.wait_for()
            close_introductions(page, ("Got it",) if shot.click else ("Got it", "Close"))
            for text in shot.click:
                # To the element itself: a pointer over a cell of a table brings up a hint that covers the cell.
                page.get_by_text(text, exact=True).first.dispatch_event("click")
            page.wait_for_timeout(5_000)  # charts are drawn, side panels slide in
            page.screenshot(path=IMAGES / shot.file)
            click.echo(f"wrote images/{shot.file}")
        page.goto(own_page.as_uri())
        page.screenshot(path=IMAGES / "monitor.png")
        click.echo("wrote images/monitor.png")
        browser.close()


def close_introductions(page: Any, names: tuple[str, ...]) -> None:
    """Panels and pop-ups of a first visit cover what the picture is about. Once closed, they stay closed."""
    page.wait_for_timeout(2_000)
    for name in names:
        for button in page.get_by_role("button", name=name, exact=True).all():
            if button.is_visible():
                button.click()


def draw_journey() -> None:
    """The eight modules as stations, one frame each: where you are, and the commands there."""
    from PIL import Image

    frames = [draw_station(module) for module in curriculum.MODULES]
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(JOURNEY, save_all=True, append_images=rest, duration=FRAME_MS, loop=0, optimize=True)
    click.echo(f"wrote images/{JOURNEY.name}")


def draw_station(here: curriculum.Module) -> Any:
    """One frame as an array of RGB pixels."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0, 4.2))
    axes.axis("off")
    axes.text(0.5, 3.75, "MLflow 3 for GenAI and agents", fontsize=17, weight="bold", color="#1b2a41")
    axes.plot([0.9, 9.1], [2.75, 2.75], color="#c9d3df", linewidth=4, zorder=1)
    for module in curriculum.MODULES:
        x = 0.9 + (module.number - 1) * 8.2 / 7
        passed, current = module.number <= here.number, module is here
        axes.scatter([x], [2.75], s=900 if current else 480, color="#0b6fa4" if passed else "#c9d3df", zorder=2)
        axes.text(x, 2.74, str(module.number), ha="center", va="center", color="white", weight="bold", zorder=3)
        axes.text(x, 2.2, module.title, ha="center", fontsize=10, weight="bold" if current else "normal")
    lessons = [entry.command for entry in curriculum.LESSONS if entry.module is here]
    axes.text(0.5, 1.45, here.goal, fontsize=13, color="#1b2a41")
    axes.text(0.5, 1.0, here.track, fontsize=10, color="#5b6b7f", style="italic")
    rows = ["    ".join(lessons[first : first + A_ROW]) for first in range(0, len(lessons), A_ROW)]
    axes.text(0.5, 0.72, "\n".join(rows), fontsize=8.5, family="monospace", color="#0b6fa4", va="top", linespacing=1.5)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@click.command()
@click.option("--journey", is_flag=True, help="Only draw the journey; no tour, no browser.")
@click.option("--store", help="Take the screenshots of this store instead of running the tour.")
def main(journey: bool, store: str | None) -> None:
    IMAGES.mkdir(exist_ok=True)
    draw_journey()
    if journey:
        return
    if not CHROMIUM:
        raise InputError("there is no Chromium on this machine", "apt-get install chromium   (or: --journey)")
    with tempfile.TemporaryDirectory() as folder:
        uri = store or f"sqlite:///{Path(folder) / 'mlflow.db'}"
        if not store:
            fill(uri)
        with mlflow_server(uri) as address:
            client = mlflow.MlflowClient(uri)
            take(address, shots(client), dashboard(client, folder))


if __name__ == "__main__":
    main()
