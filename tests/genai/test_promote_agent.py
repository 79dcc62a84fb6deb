"""7.2 on the versions of 7.1: who goes into production, who does not, what is written down, and the way back."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from genai.deployment.promote_agent import BEFORE, HISTORY, NAME, PRODUCTION, STAGING, main
from genai.deployment.register_agent import SECOND, Settings, log_agent
from genai.deployment.register_agent import main as register
from genai.deployment.register_agent import register as register_version
from tests.conftest import Left
from utils.genai_evaluation import read_scores
from utils.llm_backends import open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.promotion import read_history
from utils.sample_documents import CORPUS

ROWS = 30


@pytest.fixture(scope="module")
def registered(run_lesson) -> Left:
    return run_lesson(register)


@pytest.fixture(scope="module")
def promoted(registered, tmp_path_factory) -> Left:
    path = copied(registered, tmp_path_factory.mktemp("promoted"))
    result = CliRunner().invoke(main, ["--tracking-uri", f"sqlite:///{path}"])
    assert result.exit_code == 0, (result.output, result.exception)
    return Left(path, result.output)


def copied(left: Left, folder: Path) -> Path:
    """The store with everything in it; artifacts stay where they are."""
    with closing(sqlite3.connect(left.path)) as old, closing(sqlite3.connect(folder / "mlflow.db")) as new:
        old.backup(new)
    return folder / "mlflow.db"


@pytest.fixture
def use(tmp_path, clean_environment):
    """A copy of a store as the store in use."""

    def give(left: Left) -> MlflowClient:
        uri = f"sqlite:///{copied(left, tmp_path)}"
        mlflow.set_tracking_uri(uri)
        return MlflowClient(uri)

    return give


def aliases(client: MlflowClient) -> dict[str, str]:
    return {name: str(version) for name, version in client.get_registered_model(NAME).aliases.items()}


def gate_runs(client: MlflowClient) -> dict[str, str]:
    """Version → its evaluation run."""
    versions = [client.get_model_version(NAME, number) for number in ("1", "2")]
    return {str(version.version): version.tags["gate_run"] for version in versions}


# --- both verdicts


def test_the_newer_version_is_in_production_and_the_older_was_refused(promoted, use):
    client = use(promoted)
    assert aliases(client) == {STAGING: "1", PRODUCTION: "2"}
    assert "Version 2 goes into production" in promoted.output and "Version 1 is refused" in promoted.output
    assert client.get_model_version(NAME, "1").tags["gate"] == "refused"
    assert client.get_model_version(NAME, "2").tags["gate"] == "passed"


def test_no_alias_of_production_moved_before_its_tests(promoted, use):
    client = use(promoted)
    moves = read_history(client.get_registered_model(NAME).tags[HISTORY])
    assert [(move.alias, move.before, move.version) for move in moves] == [
        (STAGING, None, "1"), (PRODUCTION, None, "1"), (STAGING, "1", "2"), (PRODUCTION, "1", "2"), (STAGING, "2", "1"),
        (PRODUCTION, "2", "1"), (PRODUCTION, "1", "2"),
    ]  # fmt: skip
    assert [move.why for move in moves[-2:]] == ["rolled back"] * 2
    assert client.get_registered_model(NAME).tags[BEFORE] == "1"


def test_each_version_answered_the_same_rows_and_every_row_has_its_scores(promoted, use):
    client = use(promoted)
    questions = {}
    for version, run_id in gate_runs(client).items():
        assert len(read_scores(run_id, "right", ROWS)) == len(read_scores(run_id, "found", ROWS)) == ROWS
        traces = mlflow.search_traces(run_id=run_id, return_type="list")
        questions[version] = sorted(trace.data.spans[0].inputs["question"] for trace in traces)
        assert all(trace.info.tags["lesson"] == "7.2" for trace in traces)
        for trace in traces:
            kinds = [span.span_type for span in trace.data.spans]
            assert kinds.count("RETRIEVER") == 1 == kinds.count("CHAT_MODEL") == kinds.count("AGENT")
    assert questions["1"] == questions["2"]


def test_the_figures_of_the_run_are_those_of_the_rows(promoted, use):
    client = use(promoted)
    (run,) = [r for r in client.search_runs(["1", "2", "3"]) if r.info.run_name == "promote-agent"]
    for version, run_id in gate_runs(client).items():
        scores = read_scores(run_id, "right", ROWS)
        assert run.data.metrics[f"right_version_{version}"] == pytest.approx(sum(scores.values()) / ROWS)
    assert run.data.metrics["promoted"] == 2 and run.data.metrics["refused"] == 1
    assert run.data.metrics["rollback_ms"] > 0 and run.data.params["in_production"] == "2"
    assert run.data.metrics["right_version_2"] > run.data.metrics["right_version_1"]


# --- one step back, and a candidate of one's own


def test_back_in_one_step_and_forward_by_the_same(promoted, use, run_command):
    client = use(promoted)
    done = run_command(main, "--rollback")
    assert (
        done.exit_code == 0 and "back from version 2 to version 1" in done.stdout and aliases(client)[PRODUCTION] == "1"
    )
    assert "back from version 1 to version 2" in run_command(main, "--rollback").stdout
    assert aliases(client)[PRODUCTION] == "2"
    moves = read_history(client.get_registered_model(NAME).tags[HISTORY])
    assert len(moves) == 9 and "rolled back" in run_command(main, "--history").stdout


def test_a_version_before_that_is_gone_is_no_way_back(promoted, use, refused):
    client = use(promoted)
    client.delete_model_version(NAME, "1")
    assert "version 1 of docs-agent, the one before, is gone" in refused(main, "--rollback")
    assert aliases(client)[PRODUCTION] == "2"


def test_a_worse_candidate_is_refused_with_status_1_and_nothing_moves(promoted, use, run_command):
    client = use(promoted)
    done = run_command(main, "--candidate", "1", "--num-rows", 10)
    assert done.exit_code == 1 and "Version 1 is refused" in done.stdout and aliases(client)[PRODUCTION] == "2"


def test_with_enough_tolerance_the_same_candidate_passes(promoted, use, run_command):
    client = use(promoted)
    assert run_command(main, "--candidate", "1", "--tolerance", 0.9, "--num-rows", 4, "--least-right", 0).exit_code == 0
    assert aliases(client)[PRODUCTION] == "1"


def test_the_version_in_production_has_to_be_good_enough_too(registered, use, run_command):
    client = use(registered)
    done = run_command(main, "--candidate", "2", "--least-right", 1, "--num-rows", 6)
    assert done.exit_code == 1 and "1.000 wanted" in done.stdout and PRODUCTION not in aliases(client)


def test_rows_without_an_answer_let_nothing_pass(registered, use, run_command):
    client = use(registered)
    mlflow.set_experiment("7-production")
    with open_backend("mock") as llm, mlflow.start_run():
        broken = BackendOptions(mock_faults="500:0.5")
        info = log_agent(Settings(SECOND, 1), broken, EmbedOptions(), CORPUS)
        assert register_version(info, CORPUS, llm) == "3"
    done = run_command(main, "--candidate", "3", "--num-rows", 8)
    assert done.exit_code == 1 and "has no answer" in done.stderr and PRODUCTION not in aliases(client)
    assert "gate" not in client.get_model_version(NAME, "3").tags


# --- wrong use


def test_nothing_is_registered(refused, store):
    assert "uv run mlflow-register-agent" in refused(main)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--candidate", "99"), "no version 99"),
        (("--candidate", "x"), "no version x"),
        (("--rollback",), "no way back"),
        (("--num-rows", 1), "--num-rows"),
        (("--tolerance", 2), "--tolerance"),
        (("--questions", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_wrong_use_moves_nothing(registered, use, refused, flags, said):
    client = use(registered)
    assert said in refused(main, *flags) and PRODUCTION not in aliases(client)


def test_questions_about_other_documents(registered, use, refused, tmp_path):
    client = use(registered)
    rows = [{"question": "How long is notice?", "gold_document": "contract.txt", "expected_answer": "three months"}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "gold document" in refused(main, "--questions", tmp_path / "mine.jsonl")
    assert PRODUCTION not in aliases(client)
