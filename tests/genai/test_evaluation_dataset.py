"""6.1 on a store of its own: rows merged by their inputs, versions that can be loaded again, rows that are refused."""

import json
import re

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from genai.evaluation.evaluation_dataset import CHANGED, EDGE_CASES, NAME, ROWS_FILE, USERS, load_version, main
from utils.errors import CheckFailed, InputError
from utils.evaluation_rows import content_digest, plain_row, row_key
from utils.questions import NO_ANSWER
from utils.row_scores import read_row_scores

QUESTIONS = 6
NEW_USERS = len({question for question, _ in USERS} - {question for question, _ in EDGE_CASES})
ROWS = QUESTIONS + len(EDGE_CASES) + NEW_USERS


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-questions", QUESTIONS)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return MlflowClient()


def runs(client, wanted=""):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, wanted, order_by=["start_time ASC"])


def kept(client):
    """The evaluation runs: first version, changed version, first version again."""
    return runs(client, "params.rows_digest != ''")


def records():
    (dataset,) = mlflow.genai.search_datasets(filter_string=f"name = '{NAME}'")
    return mlflow.genai.get_dataset(dataset_id=dataset.dataset_id).to_df().to_dict("records")


def test_rows_from_a_file_and_from_traces_are_merged_by_their_inputs(client):
    found = records()
    assert len(found) == ROWS == len({row_key(row["inputs"]) for row in found}), "merged twice, and no duplicate"
    by_question = {row["inputs"]["question"]: row for row in found}
    for question, expected in USERS:
        row = by_question[question]
        assert row["expectations"]["expected_response"] == expected and row["tags"]["kind"] in ("user", "failure")
        if question not in dict(EDGE_CASES):
            assert row["source_type"] == "TRACE"
            assert mlflow.get_trace(row["source"].source_data["trace_id"]).info.tags["lesson"] == "6.1"
    assert {"edge-case", "failure"} <= {row["tags"]["kind"] for row in found}


def test_the_same_rows_keep_their_digest_and_mlflows_own_moves(done):
    (line,) = [line for line in done.output.splitlines() if line.startswith("[3/6]")]
    first, again = re.findall(r"\b[0-9a-f]{8}\b", line)
    assert first == again and "MLflow's own has changed: yes" in line


def test_a_changed_expectation_makes_a_new_digest_and_the_old_rows_are_evaluated_again(client):
    first, changed, again = kept(client)
    digests = [run.data.params["rows_digest"] for run in (first, changed, again)]
    assert digests[0] == digests[2] != digests[1]
    old, new = load_version(digests[0]), load_version(digests[1])
    assert content_digest(old) == digests[0] and content_digest(new) == digests[1] == content_digest(records())
    differing = [a for a in new if a not in old]
    assert len(old) == len(new) == ROWS and [row["inputs"] for row in differing] == [CHANGED["inputs"]]
    assert differing[0]["expectations"]["expected_response"] == NO_ANSWER
    scores = {}
    for run, rows in ((first, old), (changed, new), (again, old)):
        keys = {row_key(row["inputs"]) for row in rows}
        scores[run.info.run_id] = read_row_scores(run.info.run_id, ["right"], keys).of("right")
        assert run.data.metrics["right/mean"] == pytest.approx(sum(scores[run.info.run_id].values()) / ROWS)
        assert (NAME, run.data.params["rows_digest"]) in {
            (item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs
        }
    assert scores[first.info.run_id] == scores[again.info.run_id]
    moved = {key for key, value in scores[first.info.run_id].items() if value != scores[changed.info.run_id][key]}
    assert moved == {row_key(CHANGED["inputs"])}, "only the row whose expectation changed has another score"


def test_every_evaluated_row_has_its_answer_traced(client):
    for run in kept(client):
        traces = mlflow.search_traces(run_id=run.info.run_id, max_results=500, return_type="list")
        assert len(traces) == ROWS
        for trace in traces:
            types = [span.span_type for span in trace.data.spans]
            assert types.count("RETRIEVER") == 1 == types.count("CHAT_MODEL")
            assert sum(span.parent_id is None for span in trace.data.spans) == 1
            assert trace.info.tags["lesson"] == "6.1"
    dataset_tags = mlflow.genai.search_datasets(filter_string=f"name = '{NAME}'")[0].tags
    assert dataset_tags["lesson"] == "6.1" and dataset_tags["rows_digest"] == content_digest(records())


def test_rows_that_were_changed_after_the_fact_are_not_evaluated(client, tmp_path):
    run = kept(client)[1]
    digest = run.data.params["rows_digest"]
    path = f"{run.info.artifact_uri}/{ROWS_FILE}"
    whole = mlflow.artifacts.load_dict(path)
    tampered = {"rows": [{**row, "expectations": {"expected_response": "x"}} for row in whole["rows"]]}
    client.log_dict(run.info.run_id, tampered, ROWS_FILE)
    with pytest.raises(CheckFailed, match="not those that were scored"):
        load_version(digest)
    client.log_dict(run.info.run_id, whole, ROWS_FILE)
    assert content_digest(load_version(digest)) == digest


def test_an_earlier_version_by_its_digest_and_one_that_nobody_kept(client, done, run_command, refused):
    digest = kept(client)[0].data.params["rows_digest"]
    at = ("--tracking-uri", done.uri)
    before = content_digest(records())
    result = run_command(main, *at, "--rows-digest", digest)
    assert result.exit_code == 0 and f"Loaded {digest}" in result.output
    assert content_digest(records()) == before, "evaluating an old version changes nothing in the dataset"
    for unknown in ("ffffffff", "x' OR ''='", "../rows"):
        assert "--rows-digest" in refused(main, *at, "--rows-digest", unknown) or unknown == "ffffffff"
    with pytest.raises(InputError):
        load_version("ffffffff")


# --- rows of one's own

GOOD = {"inputs": {"question": "On which port does AgentServer listen?"}, "expectations": {"expected_response": "8000"}}
OTHER = {"inputs": {"question": "How many spans are in a batch?"}, "expectations": {"expected_response": "5"}}


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"expectations": {"expected_response": "x"}}, "has no inputs"),
        ({"inputs": {}}, "has no inputs"),
        ({**OTHER, "expected": "x"}, "unknown field 'expected'"),
        ({**OTHER, "inputs": {"question": "a", "answer": "b"}}, "unknown input 'answer'"),
        ({**OTHER, "expectations": {"expected_respones": "x"}}, "unknown expectation 'expected_respones'"),
        ({**OTHER, "inputs": {"question": "a" * 5_000_000}}, "has 5.0 MB"),
        ({**OTHER, "tags": {"note": "b" * 5_000_000}}, "has 5.0 MB"),
        ({"inputs": {"question": "a"}}, "has no text expected_response"),
        ({**OTHER, "inputs": {"question": "  "}}, "has no text question"),
        ({**OTHER, "inputs": ["a"]}, "has no inputs"),
        ({**OTHER, "tags": {"n": 1}}, "a tag that is no text"),
        ({**OTHER, "expectations": {"expected_response": float("nan")}}, "cannot be written as JSON"),
        ({**OTHER, "inputs": {"question": "\ud800"}}, "cannot be written as JSON"),
        ([1], "is no JSON object"),
        (GOOD, "has the inputs of row 1"),
    ],
)
def test_a_row_that_is_refused_is_named_by_its_number_and_nothing_is_merged(store, refused, tmp_path, bad, said):
    path = (
        write(tmp_path / "mine.jsonl", [GOOD, OTHER, bad])
        if bad != GOOD
        else write(tmp_path / "mine.jsonl", [GOOD, OTHER, {**GOOD, "expectations": {"expected_response": "9"}}])
    )
    answer = refused(main, "--input", path)
    assert "row 3" in answer and said in answer and len(answer) < 1_000
    assert list(mlflow.genai.search_datasets(filter_string="name = 'mine'")) == [] and runs(MlflowClient()) == []


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_own_rows_in_three_formats_are_the_same_rows(store, run_command, tmp_path, suffix):
    """Merged from two files in turn: the second finds the rows of the first, and changes none."""
    path = tmp_path / f"mine{suffix}"
    flat = pd.DataFrame([{**row["inputs"], **row["expectations"]} for row in (GOOD, OTHER)])
    if suffix == ".jsonl":
        write(path, [GOOD, OTHER])
    elif suffix == ".csv":
        flat.to_csv(path, index=False)
    else:
        flat.to_parquet(path)
    assert run_command(main, "--input", path).exit_code == 0
    (dataset,) = mlflow.genai.search_datasets(filter_string="name = 'mine'")
    found = [plain_row(row) for row in dataset.to_df().to_dict("records")]
    assert content_digest(found) == content_digest([GOOD, OTHER]) and len(found) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.jsonl", "", "no rows"),
        ("mine.jsonl", "{", "row 1 is no JSON"),
        ("mine.csv", "question\nx\n", "no column expected_response"),
        ("mine.csv", "question,expected_response,stars\nx,y,5\n", "unknown column 'stars'"),
        ("mine.csv", "question,expected_response\nx,y,z\n", "row 2"),
        ("mine.parquet", "no parquet", "no readable Parquet"),
        ("mine.txt", "x", "neither .jsonl"),
    ],
)
def test_a_file_that_holds_no_rows(store, refused, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    assert said in refused(main, "--input", tmp_path / name)


@pytest.mark.parametrize(
    "flags",
    [
        ("--input", "nowhere.csv"),
        ("--num-questions", 0),
        ("--dataset", "it's"),
        ("--docs-path", "nowhere"),
        ("--llm-type", "openai"),
    ],
)
def test_wrong_use(store, refused, flags):
    refused(main, *flags)


def test_two_datasets_of_one_name_are_refused_with_the_call_that_removes_one(store, refused):
    experiment = mlflow.set_experiment("6-evaluation")
    for _ in range(2):
        mlflow.genai.create_dataset(name=NAME, experiment_id=[experiment.experiment_id])
    assert "delete_dataset" in refused(main, "--num-questions", 1)


def test_a_row_whose_call_failed_is_a_failure_of_the_lesson(store, run_command, tmp_path):
    path = write(tmp_path / "mine.jsonl", [GOOD, OTHER])
    result = run_command(main, "--input", path, "--mock-faults", "500:1")
    assert result.exit_code == 1 and "a row has no answer" in result.stderr
