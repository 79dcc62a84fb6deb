"""6.3 on a store of its own: three prompts, the same rows, all pairs, corrected; equal prompts are called equal."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.evaluation.compare_prompts import PROMPT, WORDINGS, load_prompts, main, run
from utils.evaluation import holm_correction, mcnemar_exact
from utils.evaluation_rows import row_key
from utils.llm_backends import open_backend
from utils.options import InputOptions
from utils.row_scores import read_row_scores
from utils.sentiment_job import load_job_rows

ROWS = 24
NAMES = [f"{PROMPT}/{version}" for version in (1, 2, 3)]


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-rows", ROWS)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return MlflowClient()


def runs(client, wanted=""):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, wanted, order_by=["start_time ASC"])


def traces_of(run):
    return mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list")


def test_three_prompts_answered_the_same_rows_each_linked_to_its_version(client):
    found = runs(client, "params.prompt != ''")
    assert [each.data.params["prompt"] for each in found] == NAMES
    asked = []
    for number, each in enumerate(found, start=1):
        traces = traces_of(each)
        asked.append(sorted(trace.search_spans(name="compared-label")[0].inputs["text"] for trace in traces))
        for trace in traces:
            assert f'"version": "{number}"' in trace.info.tags["mlflow.linkedPrompts"]
            assert trace.info.tags["lesson"] == "6.3"
    assert asked[0] == asked[1] == asked[2] and len(set(asked[0])) == ROWS


def test_all_pairs_stand_in_the_run_with_the_correction_of_the_scores_in_the_store(client):
    """Computed again from the feedback on the traces."""
    (job,) = runs(client, "metrics.pairs = 3")
    right = {}
    for each in runs(client, "params.prompt != ''"):
        keys = [row_key(trace.search_spans(name="compared-label")[0].inputs) for trace in traces_of(each)]
        scores = read_row_scores(each.info.run_id, ["right"], keys).of("right")
        right[each.data.params["prompt"].replace("/", "-")] = scores
    names = list(right)
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    p_values = []
    for first, second in pairs:
        differing = [(right[first][key], right[second][key]) for key in right[first]]
        p_values.append(mcnemar_exact(differing.count((True, False)), differing.count((False, True))))
    for (first, second), p, corrected in zip(pairs, p_values, holm_correction(p_values), strict=True):
        assert job.data.metrics[f"p/{first}_{second}"] == pytest.approx(p)
        assert job.data.metrics[f"p_corrected/{first}_{second}"] == pytest.approx(corrected)
    real = sum(corrected < 0.05 for corrected in holm_correction(p_values))
    assert job.data.metrics["pairs_told_apart"] == real == 2, "the vague one is worse than both, which are alike"
    table = json.loads(mlflow.artifacts.load_text(f"{job.info.artifact_uri}/pairs.json"))
    assert len(table["data"]) == 3


def test_the_best_prompt_is_named_with_what_may_be_as_good_and_why(client, done):
    (job,) = runs(client, "metrics.pairs = 3")
    assert job.data.tags["best_prompt"] in NAMES[1:]
    assert f"Best: {job.data.tags['best_prompt']}" in done.output and "may be as good" in done.output
    assert "Without a label that a program can read" in done.output


def compare(prompts, rows=12, alpha=0.05):
    mlflow.set_experiment("6-evaluation")
    with open_backend("mock") as llm:
        return run(llm, prompts, load_job_rows(InputOptions(), rows, 7), alpha)


@pytest.mark.slow
def test_of_equal_prompts_it_says_that_they_are_equal(store, capsys):
    wording = WORDINGS["Ask for one word"]
    uris = []
    for _ in range(3):
        version = mlflow.genai.register_prompt("same", wording)
        uris.append(f"prompts:/same/{version.version}")
    outcome = compare(load_prompts(uris))
    assert all(pair.same and pair.corrected == 1 and pair.winner is None for pair in outcome.pairs)
    assert len(outcome.as_good) == 2
    said = capsys.readouterr().out
    assert "The 3 prompts are equal: not one row has another result" in said and "Best:" not in said
    assert [each.data.metrics["pairs_told_apart"] for each in runs(MlflowClient(), "metrics.pairs = 3")] == [0]


def test_a_difference_on_few_rows_is_not_called_a_gain(store, capsys):
    """Seven rows are more than the smallest p of one pair needs; corrected for three pairs, fewer do not suffice."""
    for template in list(WORDINGS.values())[:2]:
        mlflow.genai.register_prompt("few", template)
    outcome = compare(load_prompts(["prompts:/few/1", "prompts:/few/2"]), rows=7, alpha=0.001)
    assert not outcome.pairs[0].same and not outcome.pairs[0].is_real
    assert "No pair can be told apart" in capsys.readouterr().out


def test_own_rows_and_two_of_the_registered_prompts(done, client, run_command, tmp_path):
    lines = [
        f"The lamp number {n} is {'great' if n % 2 else 'awful'}.,{'positive' if n % 2 else 'negative'}"
        for n in range(8)
    ]
    (tmp_path / "my.csv").write_text("comment,verdict\n" + "\n".join([*lines, lines[0]]) + "\n")
    own = ("--input", tmp_path / "my.csv", "--text-column", "comment", "--label-column", "verdict")
    named = [flag for name in NAMES[:2] for flag in ("--prompt", f"prompts:/{name}")]
    result = run_command(main, "--tracking-uri", done.uri, *own, *named)
    assert result.exit_code == 0, result.stderr
    assert "2 prompts, 8 different rows" in result.output, "a row that comes twice counts once"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--prompt", "prompts:/nobody/1", "--prompt", "prompts:/nobody/2"), "no prompt"),
        (("--num-rows", 1), "--num-rows"),
        (("--alpha", 0), "--alpha"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
        (("--input", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_wrong_use(store, refused, flags, said):
    assert said in refused(main, *flags)


def test_prompts_that_cannot_be_compared(store, refused):
    mlflow.genai.register_prompt("fits", "Label: {{text}}")
    mlflow.genai.register_prompt("fits", "Label {{text}} please")
    mlflow.genai.register_prompt("other", "Label {{review}}")
    mlflow.genai.register_prompt("chat", [{"role": "user", "content": "{{text}}"}])
    one = ("--prompt", "prompts:/fits/1")
    assert "nothing to be compared with" in refused(main, *one)
    assert "named twice" in refused(main, *one, *one)
    assert "cannot be filled" in refused(main, *one, "--prompt", "prompts:/other/1")
    assert "cannot be filled" in refused(main, *one, "--prompt", "prompts:/chat/1")


def test_rows_without_labels(store, refused, tmp_path):
    (tmp_path / "my.csv").write_text("text\na\nb\n")
    assert "--label-column" in refused(main, "--input", tmp_path / "my.csv")
