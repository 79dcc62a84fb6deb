"""7.6 on stores of its own: figures against numpy's, each planted fault its alert, a page that no text can break."""

import re
import shutil
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, SpanEvent, Trace

from genai.deployment.monitor import PLANTED, SCORERS, main
from tests.test_ui import CHROMIUM, QUIET_FLAGS
from utils.monitor_alerts import KINDS
from utils.monitor_requests import figures_of, read_served

NAME = "shop"
BEFORE, NOW = 24, 9  # requests of the baseline, and of each part
SECOND = 1_000_000_000  # ns
HOSTILE = "<script>alert(1)</script><img src=http://x.example/y onerror=alert(2)>\"'{{ 7 * 7 }}"
NOW_FLAGS = ("--monitor", NAME, "--window-minutes", 10, "--sample", 0)


def plant(
    minutes_ago: float, tags: dict[str, str], *, ms: float = 200.0, failed: bool = False, usd: float = 1e-4,
    good: bool = True, question: str = "How much is it?",
) -> None:  # fmt: skip
    """One request written as it might have been: the times, tokens and costs are those that are given."""
    begun = time.time_ns() - int(minutes_ago * 60 * SECOND)
    root = mlflow.start_span_no_context(
        "ask", span_type="AGENT", inputs={"q": question}, tags=tags, start_time_ns=begun
    )
    if not failed:
        call = mlflow.start_span_no_context(
            "call", span_type="CHAT_MODEL", parent_span=root, start_time_ns=begun + 1_000_000
        )
        call.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107})
        call.set_attribute("mlflow.llm.cost", {"input_cost": usd / 2, "output_cost": usd / 2, "total_cost": usd})
        for number, text in enumerate(("", "Three", " euros")):
            chunk = {"mlflow.chunk.value": f'{{"choices": [{{"delta": {{"content": "{text}"}}}}]}}'}
            at = begun + int(ms * 1e6 * (number + 1) / 8)
            call.add_event(SpanEvent(f"mlflow.chunk.item.{number}", timestamp=at, attributes=chunk))
        call.end(end_time_ns=begun + int(ms * 1e6))
        root.end(outputs="Three euros", end_time_ns=begun + int(ms * 1e6))
        if "quality" in tags:  # the baseline, and the part that is about it
            SCORES.append((root.trace_id, good))
    else:
        root.end(status="ERROR", end_time_ns=begun + int(ms * 1e6))


SCORES: list[tuple[str, bool]] = []
FAULTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "quiet": lambda n: {},
    "latency": lambda n: {"ms": 900.0 + n},
    "errors": lambda n: {"failed": n % 3 != 0},
    "cost": lambda n: {"usd": 5e-4},
    "quality": lambda n: {"good": False},
}


@pytest.fixture(scope="module")
def planted(template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a baseline that all faults share, and some requests with each; found by the fault's tag."""
    path = tmp_path_factory.mktemp("monitored") / "mlflow.db"
    shutil.copy(template_store, path)
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    for name in (NAME, "7-production"):  # numbers 1 and 2
        mlflow.create_experiment(name, artifact_location=(path.parent / "artifacts").as_uri())
    mlflow.set_experiment(NAME)
    dice = np.random.default_rng(0)
    SCORES.clear()
    for _ in range(BEFORE):
        tags = dict.fromkeys(FAULTS, "yes")
        plant(60 + 60 * dice.random(), tags, ms=float(dice.normal(200, 20)), usd=float(dice.normal(1e-4, 1e-5)))
    for kind, fault in FAULTS.items():
        for n in range(NOW):
            given: dict[str, Any] = {
                "ms": float(dice.normal(200, 20)),
                "usd": float(dice.normal(1e-4, 1e-5)),
                "question": HOSTILE,
            }
            plant(1 + n / 2, {kind: "yes"}, **(given | fault(n)))
    mlflow.flush_trace_async_logging()
    source = AssessmentSource(source_type="CODE", source_id="test")
    for trace_id, good in SCORES:
        for name in SCORERS:
            mlflow.log_feedback(trace_id=trace_id, name=name, value=good or name == "answered", source=source)
    return path


def monitor(path: Path, *flags: object):
    return CliRunner().invoke(main, ["--tracking-uri", f"sqlite:///{path}", *map(str, (*NOW_FLAGS, *flags))])


def newest_run():
    mlflow.flush_trace_async_logging()
    return MlflowClient().search_runs(["2"], "attributes.run_name = 'monitor'", max_results=1)[0]


def traces_with(tag: str) -> list[Trace]:
    return mlflow.search_traces(
        locations=["1"], filter_string=f"tags.{tag} = 'yes'", max_results=500, return_type="list"
    )


def frame_of(traces: list[Trace]) -> pd.DataFrame:
    """The figures' raw material, read without the code that is tested."""
    rows = []
    for trace in traces:
        info, call = trace.info, next((s for s in trace.data.spans if s.name == "call"), None)
        root = next(s for s in trace.data.spans if s.parent_id is None)
        scores = [a.value for a in info.assessments]
        rows.append(
            {
                "ms": (root.end_time_ns - root.start_time_ns) / 1e6,
                "failed": info.state == "ERROR",
                "first": (call.events[1].timestamp - root.start_time_ns) / 1e6 if call else np.nan,
                "tokens": (info.token_usage or {}).get("total_tokens", 0),
                "usd": (info.cost or {}).get("total_cost", np.nan),
                "good": min(scores) if scores else np.nan,
            }
        )
    return pd.DataFrame(rows)


def test_figures_are_those_of_the_raw_traces(planted):
    mlflow.set_tracking_uri(f"sqlite:///{planted}")
    for tag in FAULTS:
        traces = traces_with(tag)
        raw, figures = frame_of(traces), figures_of(read_served(traces, SCORERS))
        good = raw[~raw.failed]
        assert (figures.requests, figures.failed) == (len(raw), raw.failed.sum()) and len(raw) == BEFORE + NOW
        for q in (50, 95, 99):
            assert getattr(figures, f"p{q}_ms") == pytest.approx(np.percentile(good.ms, q))
        assert figures.first_p95_ms == pytest.approx(np.percentile(good["first"], 95))
        assert figures.input_tokens + figures.output_tokens == raw.tokens.sum()
        assert figures.cost_usd == pytest.approx(raw.usd.sum()) and figures.priced == raw.usd.notna().sum()
        scores = good.good.dropna().astype(float)
        assert figures.quality == pytest.approx(scores.mean()) and figures.scored == len(scores) >= BEFORE


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_fires_its_alert_only_and_exits_1(planted, kind):
    result = monitor(planted, "--filter", f"tags.{kind} = 'yes'")
    assert result.exit_code == 1, (result.output, result.exception)
    table = mlflow.artifacts.load_dict(f"{newest_run().info.artifact_uri}/alerts.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert {row["kind"] for row in rows} == {kind}
    named = {trace_id for row in rows for trace_id in row["traces"].split()}
    faulty = {t.info.trace_id for t in traces_with(kind) if len([k for k in t.info.tags if k in FAULTS]) == 1}
    assert named and named <= faulty and any(trace_id in result.stderr for trace_id in named)


def test_a_quiet_window_exits_0_and_its_figures_are_in_the_run(planted):
    result = monitor(planted, "--filter", "tags.quiet = 'yes'")
    assert result.exit_code == 0, (result.output, result.exception)
    metrics = newest_run().data.metrics
    assert metrics["requests"] == NOW and metrics["alerts"] == 0 and metrics["p95_ms"] > metrics["p50_ms"] > 0


def test_a_limit_fires_without_a_baseline(planted):
    flags = ("--filter", "tags.quiet = 'yes'", "--baseline-minutes", 0)
    assert monitor(planted, *flags).exit_code == 0
    result = monitor(planted, *flags, "--max-p95-ms", 100)
    assert result.exit_code == 1 and "slower than 100 ms" in result.output and "only limits" in result.output


class Page(HTMLParser):
    """The tags of a page, and every attribute that makes a browser fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.active: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loads = ("src", "href", "xlink:href", "action", "data", "srcset")
        self.active += [
            (n, v) for n, v in attrs if n.startswith("on") or (n in loads and not (v or "").startswith("#"))
        ]


def page_of(planted: Path) -> str:
    monitor(planted, "--filter", "tags.latency = 'yes'")
    return mlflow.artifacts.load_text(f"{newest_run().info.artifact_uri}/dashboard.html")


def test_the_page_needs_no_network_and_hostile_text_stays_text(planted):
    text = page_of(planted)
    page = Page(text)
    assert page.active == [] and not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert "&lt;script&gt;alert(1)" in text and "{{ 7 * 7 }}" in text and "<script" not in text
    assert page.tags.count("svg") == 7 and page.tags.count("path") > 100, "plots are drawn, not named"
    assert not re.search(r"url\((?!['\"]?#)|@import", text)


def watched(planted: Path, tmp_path: Path, tag: str, *flags: object) -> tuple[Result, str]:
    """Watch the traces with this tag, a second after whose beginning twelve requests fail."""
    copy = tmp_path / "watched.db"
    shutil.copy(planted, copy)
    uri = f"sqlite:///{copy}"

    def break_down() -> None:
        time.sleep(1.0)
        from mlflow.tracing.fluent import start_span_no_context  # the store is that of the command by now

        for _ in range(12):
            root = start_span_no_context("ask", tags={tag: "yes"}, experiment_id="1")
            root.end(status="ERROR")

    thread = threading.Thread(target=break_down)
    thread.start()
    given = ["--tracking-uri", uri, *NOW_FLAGS, "--filter", f"tags.{tag} = 'yes'", "--watch", 0.2, *flags]
    result = CliRunner().invoke(main, [str(each) for each in given])
    thread.join()
    return result, uri


def test_watching_goes_on_until_an_alert(planted, tmp_path):
    result, uri = watched(planted, tmp_path, "quiet")
    assert result.exit_code == 1 and "errors" in result.stderr
    assert len(MlflowClient(uri).search_runs(["2"], "attributes.run_name = 'monitor'")) > 2


def test_watching_goes_on_where_nobody_asks(planted, tmp_path):
    result, uri = watched(planted, tmp_path, "at_night", "--max-error-rate", 0.1)
    assert result.exit_code == 1 and "no look: " in result.stderr and "errors" in result.stderr
    found = MlflowClient(uri).search_runs(["2"], "attributes.run_name = 'monitor'")
    assert len(found) > 0 and {
        run.info.status for run in found if run.info.start_time > time.time() * 1000 - 60_000
    } <= {"FINISHED"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--watch", 5), "--monitor"),
        (("--monitor", "nowhere"), "no experiment nowhere"),
        (("--monitor", "nowhere", "--watch", 1), "no experiment nowhere"),
        (("--monitor", "Default", "--filter", "nam = 'x'", "--watch", 1), "cannot search for nam"),
        (("--monitor", "Default"), "no request in the last 60 minutes"),
        (("--monitor", "Default", "--filter", "nam = 'x'"), "cannot search for nam"),
        (("--requests", 1), "--requests"),
        (("--false-alarms", 0), "--false-alarms"),
        (("--sample", 2), "--sample"),
    ],
)
def test_wrong_use(refused, store, flags, said):
    assert said in refused(main, *flags)


# --- the lesson's own traffic


@pytest.fixture(scope="module")
def done(run_lesson):
    """So few requests that one hiccup of the machine would hide the planted latency at the default rate."""
    return run_lesson(main, "--requests", 6, "--sample", 1, "--mock-latency-ms", 10, "--false-alarms", 0.5)


def test_each_planted_fault_is_found_in_real_calls(done):
    """A busy machine may slow any part down, which raises an alert of its own: no other kind may be raised."""
    mlflow.set_tracking_uri(done.uri)
    (run,) = MlflowClient().search_runs(["1"], "attributes.run_name = 'monitor'")
    table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/alerts.json")
    raised = {(row[0], row[1]) for row in table["data"]}
    assert raised >= {(f"{kind} planted", kind) for kind in PLANTED} and run.data.metrics["planted_found"] == 4
    assert {pair for pair in raised if pair[1] != "latency"} == {(f"{k} planted", k) for k in PLANTED if k != "latency"}


def test_every_answered_trace_is_scored_once_however_often_it_is_looked_at(done, run_command):
    mlflow.set_tracking_uri(done.uri)
    flags = ("--tracking-uri", done.uri, "--monitor", "7-production", "--filter", "tags.planted = 'cost'")
    looked = run_command(main, *flags, "--sample", 1, "--baseline-minutes", 0)
    assert looked.exit_code == 0 and "; 0 scored now" in looked.output
    traces = mlflow.search_traces(locations=["1"], filter_string="tags.planted LIKE '%'", return_type="list")
    for trace in traces[:-1]:
        names = sorted(item.name for item in trace.info.assessments)
        assert names == (sorted(SCORERS) if trace.info.state == "OK" else [])
    assert all(item.source.source_type in ("CODE", "LLM_JUDGE") for t in traces for item in t.info.assessments)


def test_the_first_piece_comes_before_the_end(done):
    mlflow.set_tracking_uri(done.uri)
    traces = mlflow.search_traces(locations=["1"], filter_string="tags.planted = 'nothing'", return_type="list")
    for each in read_served(traces):
        assert each.first_ms is not None and 10 <= each.first_ms <= each.latency_ms and each.cost_usd


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser_asks_for_nothing_and_fits(planted, tmp_path, width):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs uv sync --extra browser")
    file = tmp_path / "dashboard.html"
    file.write_text(page_of(planted))
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail("a script ran"))
        page.goto(file.as_uri())
        assert page.get_by_text("<script>alert(1)</script>").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "no scrolling sideways"
        sizes = page.evaluate("[...document.querySelectorAll('svg')].map(s => [s.clientWidth, s.clientHeight])")
        assert len(sizes) == 7 and all(w > 250 and h > 100 for w, h in sizes)
        browser.close()
    assert asked == [file.as_uri()]
