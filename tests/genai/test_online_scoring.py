"""7.9: a real server with accounts. The one run is slow (the server looks for traces once a minute); around it the
rules that decide: who is sampled, where passwords stand, what is refused."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.genai.scorers import Guidelines
from mlflow.genai.scorers.online.entities import OnlineScorer, OnlineScoringConfig
from mlflow.genai.scorers.online.sampler import OnlineScorerSampler
from pydantic import SecretStr

from genai.deployment.online_scoring import ADMIN_PASSWORD, gateway_settings, main
from tests.conftest import Left
from tests.stub_server import stub_server
from utils.account_server import AccountServer, is_scored, new_password, signed_in, write_prices
from utils.errors import CheckFailed
from utils.gateway_calls import Caller, score_of

PASSWORD = "open-sesame-0123456789"
ANSWER = {"choices": [{"message": {"content": "yes"}}]}
GATEWAY = "/gateway/mlflow/v1/chat/completions"

# --- who is sampled


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_the_sample_is_the_one_that_mlflow_takes(rate):
    judge = Guidelines(name="answered", guidelines="x", model="gateway:/judge")
    config = OnlineScoringConfig("c", "s", rate, "1")
    sampler = OnlineScorerSampler([OnlineScorer("answered", json.dumps(judge.model_dump()), config)])
    (scorers,) = sampler.group_scorers_by_filter(session_level=False).values()
    ids = [f"tr-{hashlib.md5(str(n).encode()).hexdigest()}" for n in range(300)]
    taken = [bool(sampler.sample(trace_id, scorers)) for trace_id in ids]
    assert [is_scored(trace_id, "answered", rate) for trace_id in ids] == taken
    assert sum(taken) / len(taken) == pytest.approx(rate, abs=0.1)


# --- accounts and passwords


def test_passwords_are_random_and_print_as_stars():
    first, second = new_password(), new_password()
    assert first != second and len(first.get_secret_value()) >= 24
    server = AccountServer("http://x", Path("log"), first)
    for text in (repr(first), str(first), repr(server), repr(Caller("http://x", "app", first))):
        assert first.get_secret_value() not in text


def test_signing_in_is_undone_also_after_an_error(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "before")
    experiment = mlflow.set_experiment("mine")
    server = AccountServer("http://127.0.0.1:9", Path("log"), SecretStr(PASSWORD))
    with pytest.raises(ZeroDivisionError), signed_in(server, "app", SecretStr(PASSWORD)):
        assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("app", PASSWORD)
        assert mlflow.get_tracking_uri() == server.url
        raise ZeroDivisionError
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "before" and "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert mlflow.get_tracking_uri() == store
    with mlflow.start_run() as active:
        assert active.info.experiment_id == experiment.experiment_id


def test_prices_are_those_that_mlflow_reads(tmp_path, monkeypatch):
    from mlflow.utils import providers

    settings = gateway_settings(tmp_path, SecretStr(PASSWORD), "some-model", 100.0)
    monkeypatch.setenv("MLFLOW_MODEL_CATALOG_URI", settings["MLFLOW_MODEL_CATALOG_URI"])
    monkeypatch.setattr(providers, "_remote_cache", None)
    info = providers._load_provider("openai")["some-model"]
    assert info["input_cost_per_token"] == info["output_cost_per_token"] == pytest.approx(1e-4)
    assert write_prices(tmp_path / "prices", "some-model", 100.0) == settings["MLFLOW_MODEL_CATALOG_URI"]
    assert PASSWORD not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


# --- what the gateway says


def test_a_caller_asks_with_its_account_and_nobody_without():
    with stub_server({GATEWAY: (200, ANSWER)}) as stub:
        assert Caller(stub.url, "app", SecretStr(PASSWORD)).ask("chat", "Is it?") == "yes"
        assert Caller(stub.url).post("chat", "Is it?").status_code == 200


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [(403, "Permission denied", "Permission denied"), (500, {"message": "broken"}, "broken"), (429, {}, "429")],
)
def test_a_refusal_is_told_and_never_taken_for_an_answer(status, body, told):
    with stub_server({GATEWAY: (status, body)}) as stub, pytest.raises(CheckFailed, match=told):
        Caller(stub.url).ask("chat", "Is it?")


def test_a_budget_that_is_never_used_up_is_no_success():
    with stub_server({GATEWAY: (200, ANSWER)}) as stub, pytest.raises(CheckFailed, match="3 calls have not used up"):
        Caller(stub.url).use_up("trial", "Is it?", 3)
    with stub_server({GATEWAY: (429, {"detail": "Budget limit exceeded."})}) as stub:
        passed, refusal = Caller(stub.url).use_up("trial", "Is it?", 3)
    assert passed == 0 and "Budget" in refusal.text


def test_a_scorer_that_failed_is_no_score(store):
    mlflow.set_experiment("any")
    with mlflow.start_span("answer") as span:
        pass
    mlflow.flush_trace_async_logging()
    assert score_of(mlflow.get_trace(span.trace_id), "answered") is None
    mlflow.log_feedback(trace_id=span.trace_id, name="answered", value="no")
    assert score_of(mlflow.get_trace(span.trace_id), "answered") == "no"
    assert score_of(mlflow.get_trace(span.trace_id), "other") is None
    mlflow.log_feedback(trace_id=span.trace_id, name="broken", error=ValueError("no model"))
    with pytest.raises(CheckFailed, match="broken failed: no model"):
        score_of(mlflow.get_trace(span.trace_id), "broken")


# --- wrong use


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--stay-open",), ADMIN_PASSWORD),
        (("--sample-rate", 0), "--sample-rate"),
        (("--sample-rate", 1.5), "--sample-rate"),
        (("--num-questions", 0), "--num-questions"),
        (("--budget-usd", 0), "--budget-usd"),
        (("--usd-per-million", -1), "--usd-per-million"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
        (("--model", "mock-medium"), "no model mock-medium"),
    ],
)
def test_wrong_use_starts_no_server(refused, store, monkeypatch, flags, said):
    monkeypatch.delenv(ADMIN_PASSWORD, raising=False)
    monkeypatch.setattr("genai.deployment.online_scoring.account_server", None)
    assert said in refused(main, *flags)


def test_a_password_that_mlflow_would_refuse(refused, store, monkeypatch):
    monkeypatch.setenv(ADMIN_PASSWORD, "short-one")
    said = refused(main)
    assert "12 characters" in said and "short-one" not in said


# --- the whole of it, on a real server


@pytest.fixture(scope="module")
def done(run_lesson) -> Left:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADMIN_PASSWORD, PASSWORD)
        patch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
        return run_lesson(main, "--num-questions", 12)


@pytest.fixture
def run(done, clean_environment):
    mlflow.set_tracking_uri(done.uri)
    experiment = mlflow.get_experiment_by_name("7-production")
    (found,) = MlflowClient().search_runs([experiment.experiment_id])
    return found


def table(run, name: str):
    return mlflow.load_table(name, run_ids=[run.info.run_id])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_scores_arrive_on_the_sampled_traces_and_on_no_other(run):
    rows = table(run, "scores.json")
    assert len(rows) == 12 == run.data.metrics["traces"]
    expected = [is_scored(trace_id, "answered", 0.5) for trace_id in rows["trace"]]
    assert rows["score"].isin(["yes", "no"]).tolist() == expected
    assert run.data.metrics["scored"] == sum(expected) == run.data.metrics["sampled"] and sum(expected) > 0
    assert run.data.tags["lesson"] == "7.9" and run.data.params["sample_rate"] == "0.5"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accounts_guardrail_and_budget_each_say_no(run):
    calls = table(run, "calls.json").set_index("call")
    assert calls["status"].to_dict() == {
        "nobody": 401, "app, wrong password": 401, "guest": 403, "app": 200, "app, another endpoint": 403,
        "harmless": 200, "a sentence that must not get out": 400, "over the budget": 429,
    }  # fmt: skip
    said = calls["what came back"]
    assert "Budget limit exceeded" in said["over the budget"]
    assert "Guardrail 'discreet' blocked" in said["a sentence that must not get out"]
    assert run.data.metrics["calls_before_budget"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_password_is_kept_and_the_learners_store_has_no_accounts_and_no_traces(run, done):
    everything = [path for path in done.path.parent.rglob("*") if path.is_file()]
    assert PASSWORD not in done.output and all(PASSWORD.encode() not in path.read_bytes() for path in everything)
    assert [path.name for path in everything if "account" in path.name] == []
    assert mlflow.search_traces(locations=[run.info.experiment_id], return_type="list") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_server_and_its_workers_end_with_the_lesson(done):
    port = re.search(r"http://127\.0\.0\.1:(\d+)/#/experiments/\d+/playground", done.output)
    assert port
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"--port {port[1]}" not in listed
