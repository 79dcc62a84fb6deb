"""3.5 on a store of its own: users keep their variant, the verdict is read from traces, and it can be taken back."""

import itertools
from collections import defaultdict

import mlflow
import pytest
from mlflow import MlflowClient
from scipy.stats import binomtest

from genai.prompts.ab_test import (  # fmt: skip
    CANDIDATE,
    PRODUCTION,
    PROMPT,
    RELEASE,
    check_split,
    main,
    read_outcomes,
    requests,
    variant_of,
)
from utils.errors import CheckFailed
from utils.options import InputOptions
from utils.sentiment_job import load_job_rows
from utils.sequential_decision import Arm

FEW = ("--looks", 2, "--users-per-look", 8)
MANY = ("--looks", 2, "--users-per-look", 24, "--noise", 0, "--alpha", 0.9)  # a level that is generous on purpose


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, *FEW)


@pytest.fixture
def job(done):
    mlflow.set_tracking_uri(done.uri)
    (run,) = mlflow.search_runs(experiment_names=["3-prompts"], output_format="list")
    return run, mlflow.search_traces(run_id=run.info.run_id, max_results=1000, return_type="list")


def user(trace):
    return trace.info.request_metadata["mlflow.trace.user"]


def test_every_request_is_a_trace_with_its_user_variant_version_and_thumb(job):
    run, traces = job
    versions = {name: run.data.params[name] for name in ("production", "candidate")}
    assert len({user(trace) for trace in traces}) == run.data.metrics["users"] == 16
    for trace in traces:
        variant = trace.info.tags["variant"]
        assert variant == variant_of(user(trace), 0.5)
        assert f'"version": "{versions[variant]}"' in trace.info.tags["mlflow.linkedPrompts"]
        (thumb,) = trace.info.assessments
        assert thumb.name == "helpful" and thumb.source.source_type == "CODE" and isinstance(thumb.value, bool)
        assert sum(span.parent_id is None for span in trace.data.spans) == 1


def test_a_user_counts_once_and_is_satisfied_when_all_answers_helped(job):
    run, traces = job
    thumbs = defaultdict(list)
    for trace in traces:
        thumbs[trace.info.tags["variant"], user(trace)].append(trace.info.assessments[0].value)
    assert max(map(len, thumbs.values())) == 2, "some come twice"
    arms = read_outcomes(run.info.run_id)
    for name, arm in arms.items():
        mine = [all(said) for (variant, _), said in thumbs.items() if variant == name]
        assert arm == Arm(len(mine), sum(mine))
        assert run.data.metrics[f"satisfied_{name}"] == pytest.approx(arm.rate)


def test_so_few_users_decide_nothing(job, done):
    run, _ = job
    assert run.data.tags["winner"] == "none" and run.data.metrics["in_use"] == 1
    assert RELEASE.in_use() == 1 and "No winner after 16" in done.output


def test_a_trace_without_a_thumb_or_a_user_of_both_variants_is_no_result(job, store):
    mlflow.set_experiment("3-prompts")
    with mlflow.start_run() as active:
        for variant in ("production", "candidate"):
            with mlflow.start_span("label-live") as span:
                mlflow.update_current_trace(user="user-0001", tags={"variant": variant})
            mlflow.flush_trace_async_logging()
            if variant == "candidate":
                with pytest.raises(CheckFailed, match="no feedback"):
                    read_outcomes(active.info.run_id)
            mlflow.log_feedback(trace_id=span.trace_id, name="helpful", value=True)
        with pytest.raises(CheckFailed, match="both variants"):
            read_outcomes(active.info.run_id)


def test_a_winner_goes_to_production_and_can_be_taken_back_at_once(store, run_command, refused):
    assert "candidate wins" in run_command(main, *MANY).output
    assert RELEASE.in_use() == 2 and MlflowClient().get_prompt(PROMPT).tags[RELEASE.tag] == "1"
    alias = f"prompts:/{PROMPT}@production"
    assert mlflow.genai.load_prompt(alias).template == CANDIDATE, "and now this process remembers it"
    assert "back from version 2 to version 1" in run_command(main, "--rollback").output
    assert mlflow.genai.load_prompt(alias).template == PRODUCTION, "the very next call uses it"
    assert "no release" in refused(main, "--rollback")


def test_a_worse_candidate_is_not_promoted_and_the_test_ends(store, run_command):
    for version, (wording, alias) in enumerate(((CANDIDATE, "production"), (PRODUCTION, "candidate")), 1):
        mlflow.genai.register_prompt(PROMPT, wording)
        mlflow.genai.set_prompt_alias(PROMPT, alias, version)
    assert "production wins" in run_command(main, *MANY).output and RELEASE.in_use() == 1


def test_a_user_keeps_the_variant_and_the_shares_are_those_asked_for():
    users = [f"user-{number}" for number in range(2_000)]
    for share in (0.5, 0.1):
        candidates = [name for name in users if variant_of(name, share) == "candidate"]
        assert binomtest(len(candidates), len(users), share).pvalue > 0.001
    tenth = {name for name in users if variant_of(name, 0.1) == "candidate"}
    assert tenth < {name for name in users if variant_of(name, 0.5) == "candidate"}, "a larger share keeps its users"


def test_the_traffic_is_the_same_every_time():
    rows = load_job_rows(InputOptions(), 20, seed=0)
    first, again = (list(itertools.islice(requests(rows, 0.3), 50)) for _ in range(2))
    assert first == again and {len(visits) for visits in first} == {1, 2}
    thumbs = [request.misclicks for visits in first for request in visits]
    assert binomtest(sum(thumbs), len(thumbs), 0.3).pvalue > 0.001


def test_a_split_that_is_no_split_by_chance_voids_the_test():
    assert check_split({"production": Arm(52, 9), "candidate": Arm(48, 9)}, 0.5) > 0.5
    with pytest.raises(CheckFailed, match="48 of 200"):
        check_split({"production": Arm(152, 9), "candidate": Arm(48, 9)}, 0.5)


def test_rows_of_ones_own(store, run_command, refused, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,verdict\n" + "Great fun,good\nIt broke,bad\n" * 4)
    flags = ("--input", path, "--looks", 1, "--users-per-look", 4)
    assert "--label-column" in refused(main, *flags)
    assert run_command(main, *flags, "--label-column", "verdict").exit_code == 0
    trace, *_ = mlflow.search_traces(max_results=1, return_type="list", order_by=["timestamp_ms DESC"])
    assert trace.info.tags["lesson"] == "3.5"


@pytest.mark.parametrize(
    "flags",
    [("--looks", 0), ("--share", 0), ("--share", 1), ("--alpha", 1), ("--noise", 2), ("--input", "nowhere.csv"),
     ("--rollback",), ("--llm-type", "openai")],
)  # fmt: skip
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []
