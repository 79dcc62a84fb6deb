"""7.9 MLflow's server at work: accounts, a gateway with a budget and a guardrail, scores that arrive by themselves.

New here: what ran in your process so far (keys, limits, judges) is done by the server, for every program that asks it.
Run it:   uv run mlflow-online-scoring
          uv run mlflow-online-scoring --sample-rate 0.3 --num-questions 30
          uv run mlflow-online-scoring --budget-usd 0.05
Look at:  uv run mlflow ui  ->  7-production  ->  Training runs  ->  online-scoring: scores.json and calls.json
Change:   --sample-rate 1; how many more tokens do the judge's calls take, and who pays for them?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/automatic-evaluations/
"""

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow import MlflowClient, entities
from mlflow.entities import SpanType
from mlflow.entities.gateway_guardrail import GuardrailAction, GuardrailStage
from mlflow.genai.scorers import Guidelines, ScorerSamplingConfig
from pydantic import SecretStr

from utils.account_server import AccountServer, account_server, is_scored, new_password, signed_in, write_prices
from utils.cli import Steps, lesson, show, show_table, waiting
from utils.errors import CheckFailed, InputError
from utils.gateway_calls import Caller, said, score_of
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.questions import load_questions, spread

APP, SCORER, GUEST = "app", "scorer", "guest"  # accounts beside the administrator's
LIVE, GATEWAY = "live", "gateway"  # experiments of the server
PROMPT = (
    'Answer the question from the context only. If it does not hold the answer, say "I do not know".\n\n'
    "Context:\n{context}\n\nQuestion: {question}"
)
ANSWERED = 'The response must not contain the words "I do not know".'
DISCREET = 'The response must not contain the words "internal use".'
LEAK = "The spare key lies under the mat; this sentence is for internal use."
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105  the name of a variable
BUDGET_CALLS = 50  # at most, until the budget is used up
PATIENCE_S = 240  # the server looks for new traces once a minute


@dataclass(frozen=True)
class Wanted:
    sample_rate: float
    num_questions: int
    budget_usd: float
    usd_per_million: float
    stay_open: bool


@dataclass(frozen=True)
class Outcome:
    run_id: str
    metrics: dict[str, float]


def gateway_settings(folder: Path, scorer: SecretStr, model: str, usd_per_million: float) -> dict[str, str]:
    """What the server is told in its environment. It judges with an account of its own, which may only do that."""
    return {
        "MLFLOW_TRACKING_USERNAME": SCORER,
        "MLFLOW_TRACKING_PASSWORD": scorer.get_secret_value(),
        "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https",  # a model server on this machine has no certificate
        "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_ONLINE_SCORING_DEFAULT_TRACE_COMPLETION_BUFFER_SECONDS": "1",  # by default a trace waits 5 minutes
        "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
        "MLFLOW_MODEL_CATALOG_URI": write_prices(folder / "prices", model, usd_per_million),
    }


def open_endpoints(llm: Backend) -> dict[str, str]:
    """The ids of three names for one model; the key of its server is known to the gateway alone."""
    store = MlflowClient()._tracking_client.store  # MLflow 3.17 has no public client for its gateway
    experiment = mlflow.create_experiment(GATEWAY)
    key = store.create_gateway_secret(
        "backend", {"api_key": llm.settings.api_key}, provider="openai", auth_config={"api_base": llm.settings.base_url}
    )
    model = store.create_gateway_model_definition("backend-model", key.secret_id, "openai", llm.model)
    linked = entities.GatewayEndpointModelConfig(
        model_definition_id=model.model_definition_id, linkage_type=entities.GatewayModelLinkageType.PRIMARY
    )
    found = {}
    for name in ("chat", "judge", "trial"):
        made = store.create_gateway_endpoint(name, [linked], experiment_id=experiment, usage_tracking=True)
        found[name] = made.endpoint_id
    return found


def add_accounts(server: AccountServer, passwords: dict[str, SecretStr], endpoints: dict[str, str]) -> None:
    """Who may do what; the default is nothing at all."""
    with warnings.catch_warnings(action="ignore"):  # Starlette's, about its next release
        from mlflow.server import get_app_client

        accounts = get_app_client("basic-auth", tracking_uri=server.url)
    for name, password in passwords.items():
        accounts.create_user(name, password.get_secret_value())
    experiment = mlflow.get_experiment_by_name(LIVE)
    accounts.grant_user_permission(APP, "experiment", experiment.experiment_id, "EDIT")
    for user, endpoint in ((APP, "chat"), (APP, "trial"), (SCORER, "judge")):
        accounts.grant_user_permission(user, "gateway_endpoint", endpoints[endpoint], "USE")


def start_scorer(sample_rate: float) -> None:
    """From now on the server judges a share of the traces of this experiment, in a process of its own."""
    experiment = mlflow.get_experiment_by_name(LIVE).experiment_id
    judge = Guidelines(name="answered", guidelines=ANSWERED, model="gateway:/judge")
    registered = judge.register(name="answered", experiment_id=experiment)
    registered.start(sampling_config=ScorerSamplingConfig(sample_rate=sample_rate), experiment_id=experiment)


def guard(endpoint_id: str) -> None:
    """An answer that breaks the rule does not leave the gateway. It must be a judge: with MLflow 3.17 a scorer that
    needs no model, such as PIIDetection, makes the gateway answer 500, since it takes no inputs."""
    store = MlflowClient()._tracking_client.store
    experiment = mlflow.get_experiment_by_name(GATEWAY).experiment_id
    Guidelines(name="discreet", guidelines=DISCREET, model="gateway:/judge").register(experiment_id=experiment)
    (kept,) = store.list_scorers(experiment)
    made = store.create_gateway_guardrail(
        "discreet", kept.scorer_id, kept.scorer_version, GuardrailStage.AFTER, GuardrailAction.VALIDATION
    )
    store.add_guardrail_to_endpoint(endpoint_id, made.guardrail_id)


def set_budget(endpoint_id: str, budget_usd: float) -> None:
    """The gateway counts what the calls to one endpoint cost in a day, and refuses the next ones."""
    MlflowClient()._tracking_client.store.create_budget_policy(
        budget_unit=entities.BudgetUnit.USD,
        budget_amount=budget_usd,
        duration=entities.BudgetDuration(entities.BudgetDurationUnit.DAYS, 1),
        target_scope=entities.BudgetTargetScope.ENDPOINT,
        budget_action=entities.BudgetAction.REJECT,
        target_value=endpoint_id,
    )


def prompt(context: str, question: str) -> str:
    return PROMPT.format(context=context, question=question)


def answer(caller: Caller, context: str, question: str) -> None:
    """A request as the server stores it. Without an active run: online scoring leaves out the traces of runs."""
    with mlflow.start_span("answer", span_type=SpanType.AGENT) as span:
        span.set_inputs({"question": question})
        span.set_outputs(caller.ask("chat", prompt(context, question)))


def try_accounts(server: AccountServer, passwords: dict[str, SecretStr]) -> list[dict[str, Any]]:
    """The same question from four callers."""
    callers = {
        "nobody": Caller(server.url), "app, wrong password": Caller(server.url, APP, new_password()),
        "guest": Caller(server.url, GUEST, passwords[GUEST]), "app": Caller(server.url, APP, passwords[APP]),
    }  # fmt: skip
    text = prompt("Tea is hot.", "Is tea hot?")
    replies = {name: caller.post("chat", text) for name, caller in callers.items()}
    replies["app, another endpoint"] = callers["app"].post("judge", text)
    return [{"caller": name, "status": reply.status_code} for name, reply in replies.items()]


def wait_for_scores(sample_rate: float, since: float) -> list[dict[str, Any]]:
    """Every trace of the experiment, and the score of those that the server took.

    Raises:
        CheckFailed: no score, or a score on another share than the one asked for.
    """
    experiment = mlflow.get_experiment_by_name(LIVE).experiment_id
    while True:
        traces = mlflow.search_traces(locations=[experiment], return_type="list", max_results=500)
        rows = [
            {"trace": trace.info.trace_id, "question": trace.data.spans[0].inputs["question"],
             "sampled": is_scored(trace.info.trace_id, "answered", sample_rate),
             "score": score_of(trace, "answered")}
            for trace in traces
        ]  # fmt: skip
        if all(row["score"] for row in rows if row["sampled"]):
            break
        if time.monotonic() - since > PATIENCE_S:
            raise CheckFailed(f"not every sampled trace has a score after {PATIENCE_S} s", "the server's log")
        time.sleep(2)
    if not any(row["sampled"] for row in rows):
        raise CheckFailed(
            f"the sample took none of {len(rows)} traces", "a larger --sample-rate, or more --num-questions"
        )
    if any(row["score"] and not row["sampled"] for row in rows):
        raise CheckFailed("a trace outside of the sample has a score", "mlflow.genai.scorers.list_scorers()")
    return rows


def send_traffic(caller: Caller, number: int) -> None:
    """Questions with the sentence that answers them, or with one that does not."""
    for question in spread(load_questions(), number, seed=7):
        answer(caller, question.gold_sentence or "Tea is a hot drink.", question.question)


def try_gateway(caller: Caller, endpoints: dict[str, str], budget_usd: float) -> tuple[list[Any], dict[str, float]]:
    """A guardrail on one endpoint, a budget on another: what each says when it is broken."""
    guard(endpoints["chat"])
    harmless = caller.post("chat", prompt("Tea is a hot drink.", "What is tea?"))
    leaking = caller.post("chat", prompt(LEAK, "Where does the spare key lie?"))
    set_budget(endpoints["trial"], budget_usd)
    passed, refusal = caller.use_up("trial", prompt("Tea is a hot drink.", "What is tea?"), BUDGET_CALLS)
    replies = {"harmless": harmless, "a sentence that must not get out": leaking, "over the budget": refusal}
    table = [
        {"call": name, "status": reply.status_code, "what came back": "an answer" if reply.is_success else said(reply)}
        for name, reply in replies.items()
    ]
    blocked = int(leaking.status_code == 400)
    return table, {"guard_blocked": blocked, "calls_before_budget": passed, "over_budget_status": refusal.status_code}


def on_the_server(server: AccountServer, llm: Backend, scorer: SecretStr, options: Wanted) -> dict[str, Any]:
    """All that happens on the server; nothing of it reaches the learner's own store."""
    steps, passwords = Steps(4), {APP: new_password(), GUEST: new_password(), SCORER: scorer}
    with signed_in(server, server.user, server.password, LIVE):
        endpoints = open_endpoints(llm)
        add_accounts(server, passwords, endpoints)
        start_scorer(options.sample_rate)
    callers = try_accounts(server, passwords)
    steps(f"{server.url} asks for an account; the scorer is started for {options.sample_rate:.0%} of the traces")
    show_table(callers)
    app = Caller(server.url, APP, passwords[APP])
    with signed_in(server, APP, passwords[APP], LIVE):
        send_traffic(app, options.num_questions)
    sent = time.monotonic()
    steps(f"{options.num_questions} requests through the gateway, each a trace on the server")
    with signed_in(server, server.user, server.password):
        calls, figures = try_gateway(app, endpoints, options.budget_usd)
        steps(f"{figures['calls_before_budget']} calls, then the budget of {options.budget_usd:g} USD was used up")
        show_table(calls)
        with waiting("Waiting for scores: the server looks once a minute"):
            rows = wait_for_scores(options.sample_rate, sent)
        page = f"{server.url}/#/experiments/{mlflow.get_experiment_by_name(LIVE).experiment_id}/playground"
    scored = [row for row in rows if row["score"]]
    figures |= {"traces": len(rows), "sampled": sum(row["sampled"] for row in rows), "scored": len(scored)}
    figures["seconds_to_scores"] = time.monotonic() - sent
    figures |= {"answered_yes": sum(row["score"] == "yes" for row in scored)}
    statuses = [row["status"] for row in callers]
    figures |= {"refused_401": statuses.count(401), "refused_403": statuses.count(403)}
    steps(f"{len(scored)} of {len(rows)} traces have a score, those that the sample takes and no other")
    first = sorted(rows, key=lambda row: row["score"] is None)[:8]
    show_table([{"question": shorten(row["question"], 70), "answered": row["score"] or "not taken"} for row in first])
    return {
        "figures": figures,
        "scores": rows,
        "calls": [*({"call": row["caller"], "status": row["status"]} for row in callers), *calls],
        "playground": page,
    }


def run(llm: Backend, options: Wanted) -> Outcome:
    import pandas as pd

    scorer = new_password()
    with TemporaryDirectory(prefix="mlflow-learn-server-") as name:
        settings = gateway_settings(Path(name), scorer, llm.model, options.usd_per_million)
        with account_server(Path(name), **settings) as server:
            left = on_the_server(server, llm, scorer, options)
            click.echo(f"Prompt playground: {left['playground']}   (account {server.user})")
            if options.stay_open:
                click.pause("The server stays open until you press a key.")
    # A summary in the learner's own store, which has no accounts
    with mlflow.start_run(run_name="online-scoring") as active:
        mlflow.log_params({"sample_rate": options.sample_rate, "budget_usd": options.budget_usd, "scorer": "answered"})
        mlflow.log_metrics(left["figures"])
        for file in ("scores", "calls"):
            mlflow.log_table(pd.DataFrame(left[file]), f"{file}.json")
    return Outcome(active.info.run_id, left["figures"])


@lesson("7.9", llm="mock")
@click.option("--num-questions", type=click.IntRange(4, 70), default=12, show_default=True, help="Requests of the app.")
@click.option("--sample-rate", type=click.FloatRange(0, 1, min_open=True), default=0.5, show_default=True,
              help="Share of the traces that the server scores.")  # fmt: skip
@click.option("--budget-usd", type=click.FloatRange(0, min_open=True), default=0.05, show_default=True,
              help="Of the endpoint trial, for a day.")  # fmt: skip
@click.option("--usd-per-million", type=click.FloatRange(0, min_open=True), default=100.0, show_default=True,
              help="Made-up price, so that a few calls use up a budget.")  # fmt: skip
@click.option("--stay-open", is_flag=True, help=f"Look around before the server ends; needs {ADMIN_PASSWORD}.")
def main(backend: BackendOptions, **wanted: Any) -> None:
    options = Wanted(**wanted)
    given = os.environ.get(ADMIN_PASSWORD, "")
    if options.stay_open and not given:
        raise InputError(f"{ADMIN_PASSWORD} is not set, and nobody could sign in", f"export {ADMIN_PASSWORD}=…")
    if given and len(given) < 12:
        raise InputError(f"MLflow wants 12 characters in {ADMIN_PASSWORD}", f"export {ADMIN_PASSWORD}=…, or unset it")
    with open_backend(backend) as llm:
        outcome = run(llm, options)
    show("7.9", outcome.metrics, run_id=outcome.run_id)


if __name__ == "__main__":
    main()
