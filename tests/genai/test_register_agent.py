"""7.1 on a store of its own: what is inside a version, and what a fresh process makes of it."""

import os
import shutil
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Trace
from mlflow.entities.model_registry import ModelVersion

from genai.deployment.register_agent import FIRST, NAME, PROMPT, SECOND, copy_documents, digest, main
from tests.conftest import Left
from utils.registry import logged_model_id
from utils.sample_documents import CORPUS
from utils.span_tree import roots

SECRET = "sk-of-a-real-account-0123456789"


@pytest.fixture(scope="module")
def done(run_lesson) -> Left:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", SECRET)
        return run_lesson(main)


@pytest.fixture
def versions(done) -> list[ModelVersion]:
    mlflow.set_tracking_uri(done.uri)
    return [MlflowClient().get_model_version(NAME, number) for number in ("1", "2")]


@pytest.fixture
def traces(done) -> list[Trace]:
    mlflow.set_tracking_uri(done.uri)
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    return mlflow.search_traces(locations=ids, order_by=["timestamp_ms ASC"], return_type="list")


def files_of(version: ModelVersion) -> list[Path]:
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version.version}"))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def config_of(version: ModelVersion) -> dict:
    (path,) = [path for path in files_of(version) if path.name == "MLmodel"]
    return yaml.safe_load(path.read_text())["flavors"]["python_function"]["config"]


def test_two_versions_differ_in_prompt_and_search_and_in_nothing_else(versions):
    first, second = map(config_of, versions)
    assert {name for name in first if first[name] != second[name]} == {"prompt", "top_k"}
    for config, template in ((first, FIRST), (second, SECOND)):
        assert mlflow.genai.load_prompt(config["prompt"]).template == template
    assert (first["top_k"], second["top_k"]) == (1, 3)


def test_the_tags_say_what_is_inside_without_loading_it(versions):
    for version in versions:
        assert version.tags["lesson"] == "7.1" and version.tags["llm_model"] == "mock-small"
        assert version.tags["documents"] == digest(CORPUS) and version.tags["prompt"] == config_of(version)["prompt"]
        model = mlflow.get_logged_model(logged_model_id(version))
        assert model.params["top_k"] == version.tags["top_k"] and model.tags["lesson"] == "7.1"


def test_a_version_holds_its_documents_and_no_key_and_no_port(versions):
    files = files_of(versions[0])
    inside = {path.name: path.read_bytes() for path in files if "documents" in path.parts}
    assert inside == {path.name: path.read_bytes() for path in CORPUS.iterdir() if path.is_file()} and len(inside) >= 12
    everything = b"\n".join(path.read_bytes() for path in files if "documents" not in path.parts)
    assert SECRET.encode() not in everything and b"127.0.0.1" not in everything


def test_each_answer_came_from_another_process_and_names_version_and_prompt(done, traces, versions):
    asked = [trace for trace in traces if roots(trace)[0].name == "predict"]
    assert len(asked) == 2 == len(traces), "the try-out of log_model leaves no trace"
    for trace, version in zip(asked, versions, strict=True):
        assert trace.info.trace_metadata["mlflow.modelId"] == logged_model_id(version)
        number = version.tags["prompt"].rsplit("/", 1)[1]
        assert f'"name": "{PROMPT}", "version": "{number}"' in trace.info.tags["mlflow.linkedPrompts"]
        assert trace.info.tags["lesson"] == "7.1"
        kinds = {span.span_type for span in trace.data.spans}
        assert {"AGENT", "RETRIEVER", "CHAT_MODEL"} <= kinds and len(roots(trace)) == 1
        (retriever,) = [span for span in trace.data.spans if span.span_type == "RETRIEVER"]
        assert len(retriever.outputs) == int(version.tags["top_k"])
    assert f"Asked in process {os.getpid()}" not in done.output


def test_the_answers_are_what_the_documents_say(done):
    assert "60 seconds" in done.output


@pytest.fixture
def load(versions):
    def give(**config):
        return mlflow.pyfunc.load_model(f"models:/{NAME}/2", model_config=config)

    return give


def test_in_pieces_and_at_once_the_answer_is_the_same(load):
    agent, request = load(), {"input": [{"role": "user", "content": "Which test suits right-or-wrong outcomes?"}]}
    whole = agent.predict(request)
    events = list(agent.predict_stream(request))
    pieces = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert pieces == whole["output"][0]["content"][0]["text"] == events[-1]["item"]["content"][0]["text"]
    assert whole["custom_outputs"] == events[-1]["custom_outputs"] and whole["custom_outputs"]["sources"]


def test_a_client_that_leaves_closes_the_call_to_the_model(load):
    stream = load(backend={"llm_type": "mock", "mock_latency_ms": 300}).predict_stream(
        {"input": [{"role": "user", "content": "Which test suits right-or-wrong outcomes?"}]}
    )
    next(stream)
    stream.close()
    assert mlflow.get_current_active_span() is None, "the next request would become part of this one"


@pytest.mark.parametrize("content", ["", "  \n ", "x" * 2001])
def test_what_is_no_question_is_refused_before_the_model(load, content):
    with pytest.raises(Exception, match="characters"):
        load().predict({"input": [{"role": "user", "content": content}]})


def test_another_file_in_the_folder_is_another_digest(tmp_path):
    shutil.copytree(CORPUS, tmp_path / "docs")
    assert digest(tmp_path / "docs") == digest(CORPUS)
    (tmp_path / "docs" / "new.md").write_text("# New\n\nSomething.")
    assert digest(tmp_path / "docs") != digest(CORPUS)


def test_files_that_are_no_documents_stay_outside(tmp_path):
    folder = tmp_path / "docs"
    (folder / "deeper").mkdir(parents=True)
    (folder / "contract.txt").write_text("Notice is three months.")
    (folder / "deeper" / "more.md").write_text("# More")
    (folder / ".env").write_text(f"OPENAI_API_KEY={SECRET}")
    (folder / "dump.bin").write_bytes(b"\0\1")
    copy = copy_documents(folder, tmp_path / "copy")
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == {
        "contract.txt", "deeper/more.md",
    }  # fmt: skip


def test_a_model_server_that_fails_is_said_so(run_command, store):
    result = run_command(main, "--mock-faults", "500:1")  # MLflow may add a warning of its own about the lost trace
    assert result.exit_code == 2 and "InternalServerError" in result.stderr and "try:   " in result.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ask", "  "), "the question is empty"),
        (("--docs-path", "nowhere"), "nowhere"),
        (("--top-k", 0), "--top-k"),
        (("--chunk-tokens", 8), "--chunk-tokens"),
        (("--model", "mock-medium"), "no model mock-medium"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use_registers_nothing(refused, store, flags, said):
    assert said in refused(main, *flags)
    assert MlflowClient().search_registered_models() == []
