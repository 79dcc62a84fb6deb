"""7.7 on stores of its own: books that agree to the token, MLflow's own cost, and calls that stop at the budget."""

import json

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from genai.deployment.track_costs import LONG, PROMPT, SHORT, Desk, main, reconcile
from tests.conftest import Left
from utils.errors import CheckFailed
from utils.llm_backends import open_backend
from utils.mock_llm import MockServer
from utils.pricing import PRICES, Usage
from utils.spending import read_calls

REQUESTS = 24


@pytest.fixture(scope="module")
def done(run_lesson) -> Left:
    return run_lesson(main, "--requests", REQUESTS, "--alert-at", 0.5)


@pytest.fixture
def traces(done) -> dict[str, list]:
    mlflow.set_tracking_uri(done.uri)
    found = mlflow.search_traces(locations=["1"], max_results=500, return_type="list")
    return {part: [t for t in found if t.info.tags["part"] == part] for part in ("bill", "budget")}


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    (found,) = MlflowClient().search_runs(["1"])
    return found


def raw(traces: list) -> pd.DataFrame:
    """User, version, model, tokens and cost by pandas, from what MLflow holds of each trace."""
    rows = []
    for trace in traces:
        call = next(span for span in trace.data.spans if span.span_type == "CHAT_MODEL")
        (prompt,) = json.loads(trace.info.tags["mlflow.linkedPrompts"])
        model, usage = call.attributes["mlflow.llm.model"], trace.info.token_usage
        price = PRICES[model]
        usd = (usage["input_tokens"] * price.input_usd + usage["output_tokens"] * price.output_usd) / 1e6
        rows.append(
            {
                "user": trace.info.trace_metadata["mlflow.trace.user"],
                "prompt": f"{prompt['name']}/{prompt['version']}",
                "model": model,
                "tokens": usage["total_tokens"],
                "usd": usd,
                "mlflow": trace.info.cost["total_cost"],
            }
        )
    return pd.DataFrame(rows)


def test_every_request_has_its_cost_from_mlflow_itself(traces, run):
    frame = raw(traces["bill"])
    assert len(frame) == REQUESTS and (frame.usd - frame.mlflow).abs().max() < 1e-12
    metrics = run.data.metrics
    assert metrics["mlflow_priced"] == REQUESTS and metrics["tokens"] == frame.tokens.sum()
    assert metrics["cost_usd"] == pytest.approx(frame.usd.sum())


def test_three_users_two_versions_two_models_and_a_table_of_all_calls(traces, run, done):
    frame = raw(traces["bill"])
    assert set(frame.user) == {"ada", "bob", "cid"} and set(frame.model) == {"mock-small", "mock-large"}
    assert set(frame.prompt) == {f"{PROMPT}/1", f"{PROMPT}/2"}
    table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/calls.json")
    logged = pd.DataFrame(table["data"], columns=table["columns"])
    for field in ("user", "prompt", "model"):
        assert logged.groupby(field).usd.sum().to_dict() == pytest.approx(frame.groupby(field).usd.sum().to_dict())
    for user, usd in frame.groupby("user").usd.sum().items():
        assert any(str(user) in line and f"{usd:.6f}" in line for line in done.output.splitlines())


def test_calls_stop_at_the_line_and_the_refused_ones_never_reach_the_server(traces, run):
    metrics = run.data.metrics
    refused = [trace for trace in traces["budget"] if trace.info.tags.get("budget") == "refused"]
    paid = [trace for trace in traces["budget"] if trace not in refused]
    assert len(traces["budget"]) == REQUESTS and len(refused) == metrics["refused"] > 0 and paid
    assert all(len(trace.data.spans) == 1 and trace.info.token_usage is None for trace in refused)
    assert raw(paid).usd.sum() == pytest.approx(metrics["spent_usd"])
    assert metrics["spent_usd"] <= metrics["budget_usd"] and metrics["budget_alert"] == 1


def test_a_budget_of_nothing_asks_nobody_and_a_large_one_refuses_nobody(store, run_command):
    for usd, refused in ((0, 4), (1, 0)):
        assert run_command(main, "--requests", 4, "--budget-usd", usd).exit_code == 0
        (newest,) = MlflowClient(store).search_runs(["1"], max_results=1)
        assert newest.data.metrics["refused"] == refused and newest.data.metrics["budget_alert"] == 0


def test_failed_calls_are_in_no_book(store, run_command):
    result = run_command(main, "--requests", 12, "--mock-faults", "500:0.3,429:0.2")
    assert result.exit_code == 0, result.output
    (newest,) = MlflowClient(store).search_runs(["1"])
    assert newest.data.metrics["failed"] > 0 and newest.data.metrics["calls"] < 12


def test_the_prices_of_ones_own_count_and_mlflow_takes_them(store, run_command):
    """A server that is not the mock of this process: its count is what its answers name."""
    with MockServer() as server:
        given = ("--llm-type", "openai", "--openai-base-url", server.base_url, "--model", "mock-small")
        done = run_command(main, *given, "--requests", 4, "--usd-per-million", 100, 1000, "--budget-usd", 1)
        assert done.exit_code == 0, done.output
        served = server.counts
    found = mlflow.search_traces(locations=["1"], return_type="list")
    tokens = [trace.info.token_usage for trace in found]
    assert sum(usage["total_tokens"] for usage in tokens) == served.prompt_tokens + served.completion_tokens
    for trace in found:
        usage = trace.info.token_usage
        assert trace.info.cost["total_cost"] == pytest.approx(
            (usage["input_tokens"] * 100 + usage["output_tokens"] * 1000) / 1e6
        )


def test_a_token_or_a_cost_that_is_not_in_both_books_is_found(done, traces):
    calls, uncounted = read_calls(traces["bill"])
    total = Usage(sum(c.input_tokens for c in calls), sum(c.output_tokens for c in calls))
    assert uncounted == [] and reconcile(calls, total, PRICES) == REQUESTS
    with pytest.raises(CheckFailed, match="the server counted"):
        reconcile(calls, Usage(total.prompt_tokens + 1, total.completion_tokens), PRICES)
    dearer = {**PRICES, "mock-large": PRICES["gpt-4o"]}
    with pytest.raises(CheckFailed, match="MLflow's cost differs"):
        reconcile(calls, total, dearer)


def test_a_desk_keeps_no_key_in_its_traces(traces):
    with open_backend("mock") as llm:
        assert Desk(llm, {}).usages == []
    for trace in traces["bill"]:
        root = next(span for span in trace.data.spans if span.parent_id is None)
        assert set(root.inputs) == {"text"}


def test_the_bill_of_an_experiment_ends_with_1_near_the_budget(done, run_command):
    flags = ("--tracking-uri", done.uri, "--report", "7-production", "--filter", "tags.part = 'bill'")
    plenty = run_command(main, *flags, "--budget-usd", 1)
    assert plenty.exit_code == 0 and f"{REQUESTS} of {REQUESTS} calls have a price" in plenty.output
    spent = next(iter(MlflowClient(done.uri).search_runs(["1"], max_results=1))).data.metrics["spent_usd"]
    near = run_command(main, *flags, "--budget-usd", spent / 0.85)
    assert near.exit_code == 1 and "dearest: tr-" in near.stderr
    assert run_command(main, *flags, "--budget-usd", spent / 0.85, "--alert-at", 0.9).exit_code == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--report", "nowhere"), "no experiment nowhere"),
        (("--report", "Default"), "names tokens"),
        (("--report", "Default", "--filter", "nam = 'x'"), "cannot search for nam"),
        (("--requests", 1), "--requests"),
        (("--budget-usd", -1), "--budget-usd"),
        (("--usd-per-million", -1, 2), "--usd-per-million"),
        (("--alert-at", 0), "--alert-at"),
    ],
)
def test_wrong_use(refused, store, flags, said):
    assert said in refused(main, *flags)


def test_a_model_without_a_price_is_refused_before_it_is_asked(refused, store):
    with MockServer() as server:
        given = ("--llm-type", "openai", "--openai-base-url", server.base_url, "--model", "mock-small")
        assert "--usd-per-million" in refused(main, *given)
        assert server.counts.chat_calls == 0
    assert LONG != SHORT and mlflow.search_traces(locations=["1"], return_type="list") == []
