"""Lesson 7.8: the version in production answers every row once, and a job that was interrupted goes on."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from genai.deployment.batch_inference import ALIAS, NAME, main
from genai.deployment.register_agent import FIRST, SECOND, Settings, log_agent, register
from tests.conftest import Left
from tests.spark.evidence import flags, of_type, root_of, runs
from utils.batch_journal import ANSWERS, FINISHED
from utils.llm_backends import open_backend
from utils.mock_llm import MockServer
from utils.options import BackendOptions, EmbedOptions, InputOptions
from utils.registry import logged_model_id
from utils.sample_documents import CORPUS
from utils.tickets import made_tickets, open_tickets

EXPERIMENT = "7-production"
ROWS = 30


def register_versions(uri: str, backend: BackendOptions, *templates: str) -> None:
    """One version for each template; the newest goes into production."""
    mlflow.set_tracking_uri(uri)
    artifacts = (Path(uri.removeprefix("sqlite:///")).parent / "artifacts").as_uri()
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts))
    with open_backend(backend) as llm:
        for template in templates:
            newest = register(log_agent(Settings(template, 3), backend, EmbedOptions("lexical"), CORPUS), CORPUS, llm)
    MlflowClient().set_registered_model_alias(NAME, ALIAS, newest)


@pytest.fixture(scope="module")
def registered(template_store, tmp_path_factory) -> Left:
    path = tmp_path_factory.mktemp("registered") / "mlflow.db"
    path.write_bytes(template_store.read_bytes())
    register_versions(f"sqlite:///{path}", BackendOptions(), FIRST, SECOND)
    return Left(path, "")


@pytest.fixture
def here(registered, clean_environment) -> Left:
    mlflow.set_tracking_uri(registered.uri)
    return registered


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("batch") / "job"


@pytest.fixture(scope="module")
def done(registered, folder, spark) -> Left:
    from click.testing import CliRunner

    given = flags(num_rows=ROWS, output=folder, tracking_uri=registered.uri, traced_rows=1_000)
    result = CliRunner().invoke(main, list(map(str, given)))
    assert result.exit_code == 0, (result.output, result.exception)
    return Left(registered.path, result.output)


def result_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "result")


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for path in (folder / ANSWERS).glob("*.jsonl") for line in path.read_text().splitlines()]


# --- one run that several tests look at


@pytest.mark.slow
def test_every_row_has_the_answer_to_its_text_and_each_text_was_asked_once(done, here, folder):
    found, given = result_of(folder), made_tickets(ROWS)
    assert found["id"].is_unique and set(found["id"]) == set(given["id"])
    assert found.set_index("id")["text"].to_dict() == given.set_index("id")["text"].to_dict()
    assert found["answer"].notna().all() and found["error"].isna().all()
    assert all(len(sources) >= 1 for sources in found["sources"])
    asked = [text for line in lines_of(folder) for text in line["texts"]]
    assert sorted(asked) == sorted(set(given["text"])) and len(asked) == 21


@pytest.mark.slow
def test_the_answers_are_those_of_the_version_and_name_their_sources(done, here, folder):
    agent = mlflow.pyfunc.load_model(f"models:/{NAME}/2")
    row = result_of(folder).sort_values("id").iloc[0]
    reply = agent.predict({"input": [{"role": "user", "content": row["text"]}]})
    assert row["answer"] == reply["output"][0]["content"][0]["text"]
    assert list(row["sources"]) == reply["custom_outputs"]["sources"]


@pytest.mark.slow
def test_the_run_names_the_version_and_its_figures_are_those_of_the_result(done, here, folder):
    (run,) = [run for run in runs(EXPERIMENT) if run.info.run_name == "agent-batch"]
    version = MlflowClient().get_model_version(NAME, "2")
    assert run.data.params["version"] == "2" == run.data.tags["agent_version"] and run.data.tags["lesson"] == "7.8"
    assert run.data.params["model_id"] == logged_model_id(version)
    measured, found = run.data.metrics, result_of(folder)
    assert (measured["rows"], measured["calls"], measured["kept_texts"]) == (ROWS, 21, 0)
    assert measured["lost_rows"] == measured["failed_rows"] == measured["asked_twice"] == 0
    labelled = found[found["label"].notna()]
    right = [row["label"] in row["sources"] for _, row in labelled.iterrows()]
    assert measured["found"] == pytest.approx(sum(right) / len(right)) and sum(right) > 0
    model = mlflow.get_logged_model(logged_model_id(version))
    assert {metric.key for metric in model.metrics or []} >= {"found", "answers_per_second"}


@pytest.mark.slow
def test_each_answer_of_a_worker_is_a_trace_of_the_version(done, here):
    found = mlflow.search_traces(
        locations=[mlflow.get_experiment_by_name(EXPERIMENT).experiment_id], return_type="list", max_results=200,
        filter_string="tags.lesson = '7.8' AND trace.name = 'predict'",
    )  # fmt: skip
    assert len(found) == 21
    version = MlflowClient().get_model_version(NAME, "2")
    for trace in found:
        assert root_of(trace).span_type == "AGENT" and len(of_type(trace, "CHAT_MODEL")) == 1
        assert trace.info.tags["agent_version"] == "2" and "batch_run" in trace.info.tags
        assert trace.info.trace_metadata["mlflow.modelId"] == logged_model_id(version)
        assert '"name": "docs-agent-answer"' in trace.info.tags["mlflow.linkedPrompts"]


@pytest.mark.slow
def test_an_interrupted_job_asks_only_what_has_no_answer(done, here, folder, run_command, spark):
    """As a kill leaves it: some lines are missing, one is torn, nothing says that the job had ended."""
    (folder / FINISHED).unlink()
    lines = [line for path in (folder / ANSWERS).glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    for path in (folder / ANSWERS).glob("*.jsonl"):
        path.write_bytes(b"")
    kept, torn = lines[:15], lines[15]
    next((folder / ANSWERS).glob("*.jsonl")).write_bytes(b"".join(kept) + torn[:-20])
    given = flags(num_rows=ROWS, output=folder, tracking_uri=here.uri, traced_rows=0)
    assert run_command(main, *given).exit_code == 2, "an interrupted job is not overwritten"
    assert run_command(main, *given, "--resume").exit_code == 0
    newest = runs(EXPERIMENT, "FINISHED")[0].data.metrics
    assert (newest["kept_texts"], newest["calls"], newest["total_calls"]) == (15, 6, 21)
    assert newest["rows"] == ROWS == len(result_of(folder)) and newest["lost_rows"] == newest["asked_twice"] == 0


@pytest.mark.slow
def test_a_resume_with_another_version_or_other_rows_is_refused(done, here, folder, refused, spark):
    given = flags(output=folder, tracking_uri=here.uri, resume=True)
    assert "docs-agent version 2" in refused(main, *given, "--num-rows", ROWS, "--version", 1)
    assert f"rows tickets {ROWS}, not tickets 31" in refused(main, *given, "--num-rows", 31)
    assert len(result_of(folder)) == ROWS


# --- own rows, and what the agent refuses


def test_a_row_that_the_agent_refuses_fails_by_itself_and_at_once(here, run_command, tmp_path, spark):
    file = tmp_path / "own.csv"
    long = "x" * 2_001
    file.write_text(f"comment,document\nWhich address does MLflow 3 save to?,Tracking_Store.md\n{long},none.md\n")
    given = flags(input=file, text_column="comment", label_column="document", output=tmp_path / "job", version=1)
    assert run_command(main, *given, "--tracking-uri", here.uri, "--traced-rows", 0).exit_code == 0
    found = result_of(tmp_path / "job").set_index("text")
    assert "2001 characters" in found.loc[long, "error"] and found.loc[long, "attempts"] == 1
    assert found.drop(long)["answer"].notna().all()
    newest = runs(EXPERIMENT, "FINISHED")[0]
    assert newest.data.params["version"] == "1" and newest.data.metrics["failed_rows"] == 1
    assert newest.data.metrics["found"] == 0.5


def test_made_tickets_repeat_the_last_ones_and_differ_otherwise():
    for number in (1, 10, 5_000):
        frame = made_tickets(number)
        assert len(frame) == number and frame["id"].is_unique
        assert frame["text"].nunique() == max(1, number - int(number * 0.3))
    assert (made_tickets(100)["label"].isna()).sum() > 0
    assert open_tickets(InputOptions(), 10).description == "10 tickets, 3 of them repeated"


# --- wrong use


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (flags(version=9), "no version 9"),
        (flags(version=0), "--version"),
        (flags(num_rows=0), "--num-rows"),
        (flags(input="nowhere.csv"), "nowhere.csv"),
        (flags(spark_master="nonsense"), "--spark-master"),
    ],
)
def test_wrong_flags(here, refused, given, said):
    before = len(runs(EXPERIMENT))
    assert said in refused(main, *given, "--tracking-uri", here.uri)
    assert len(runs(EXPERIMENT)) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"text\n", "no rows"),
        (b"text\n \n", "text"),
        (b"a,b\n1,2\n", "text"),
        (b"text\n\xff\n", "UTF-8"),
    ],
)
def test_files_that_hold_no_questions(here, refused, tmp_path, content, said):
    (tmp_path / "own.csv").write_bytes(content)
    assert said in refused(main, "--input", tmp_path / "own.csv", "--tracking-uri", here.uri)


def test_without_an_agent(store, refused):
    assert "uv run mlflow-register-agent" in refused(main)


def test_without_one_in_production(here, refused):
    MlflowClient().delete_registered_model_alias(NAME, ALIAS)
    assert "uv run mlflow-promote-agent" in refused(main, "--tracking-uri", here.uri)
    MlflowClient().set_registered_model_alias(NAME, ALIAS, "2")


def test_a_model_server_that_is_gone_is_noticed_before_spark(store, refused, tmp_path):
    with MockServer() as server:
        register_versions(store, BackendOptions("openai", "mock-small", openai_base_url=server.base_url), SECOND)
    assert server.base_url in refused(main, "--output", tmp_path / "job")
    assert not (tmp_path / "job").exists()
