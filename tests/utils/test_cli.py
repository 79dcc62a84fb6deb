"""The frame of every command: what it prints, how it ends, and what it leaves on runs and traces."""

import json
import logging
import re
import subprocess
import sys

import click
import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from spark.spark_langchain_multiple_mode import main as multiple_mode
from spark.spark_llamaindex_rag import main as rag
from tracking.simple_tracking_basic import main as tracking_example
from utils import cli, curriculum, lesson_context
from utils.errors import UserError
from utils.learn import main as learn
from utils.llm_backends import open_backend
from utils.mlflow_setup import use_store
from utils.options import BackendOptions, EmbedOptions, InputOptions, SparkOptions

ANSI = re.compile(r"\x1b\[")
COMMANDS = (learn, tracking_example, multiple_mode, rag)


def make_command(body):
    """A lesson of the curriculum whose main is `body`."""
    return cli.lesson("2.2")(body)


def make_failing(error):
    def main():
        raise error

    return make_command(main)


# --- refusals


def test_a_problem_of_the_user_is_two_lines_and_status_2(store, refused):
    said = refused(make_failing(UserError("the tea is cold", "boil some water")))
    assert said == "error: the tea is cold\ntry:   boil some water\n"


def test_a_problem_with_several_lines_is_still_two_lines(store, refused):
    said = refused(make_failing(UserError("it failed:\n  Traceback\n\n  no", "again")))
    assert said.splitlines()[0] == "error: it failed: Traceback no"


@pytest.mark.parametrize(
    ("command", "flags", "named"),
    [
        (tracking_example, ["--no-such-flag"], "--no-such-flag"),
        (tracking_example, ["--backend", "oracle"], "oracle"),
        (tracking_example, ["unexpected"], "unexpected"),
        (tracking_example, ["--db-path"], "--db-path"),
        (multiple_mode, ["--num-samples", "many"], "many"),
        (multiple_mode, ["--temperature", "3"], "3"),
        (multiple_mode, ["--request-timeout", "0"], "--request-timeout"),
        (rag, ["--top-k", "0"], "--top-k"),
        (learn, ["no-such-call"], "no-such-call"),
        (learn, ["run"], "NUMBER"),
        (learn, ["tour", "--module", "9"], "9"),
    ],
)
def test_wrong_use_of_a_flag_names_it_and_the_help_that_lists_the_right_ones(refused, command, flags, named):
    problem, cure = refused(command, *flags).splitlines()
    assert named in problem
    assert re.fullmatch(rf"try:   uv run {command.name}( \w+)? --help", cure)


def test_the_help_of_the_subcommand_is_the_cure_for_its_flags(refused):
    assert "uv run mlflow-learn tour --help" in refused(learn, "tour", "--no-such-flag")


def test_a_bug_is_no_refusal(store):
    result = CliRunner().invoke(make_failing(RuntimeError("a bug")), [])
    assert isinstance(result.exception, RuntimeError) and "error:" not in result.output


# --- exit statuses


def test_an_interrupted_command_says_so_and_ends_with_130(store):
    result = CliRunner().invoke(make_failing(KeyboardInterrupt()), [])
    assert result.exit_code == 130 and result.stderr.strip() == "stopped"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_what_main_returns_is_the_exit_status(store, run_command, returned, status):
    assert run_command(make_command(lambda: returned)).exit_code == status


# --- help


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_shows_the_docstring_line_by_line(run_command, command, flag):
    text = sys.modules[command.callback.__module__].__doc__ or ""
    result = run_command(command, flag)
    shown = [line.strip() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [line.strip() for line in text.strip().splitlines() if line.strip() not in shown] == []


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        (multiple_mode, ["mock", "llama3.2", "http://localhost:11434", "local[*]", "16", "50", "60.0", "langchain"]),
        (rag, ["512", "50", "3", "20", "(documents in the checkout)"]),
        (tracking_example, ["sqlite"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_help_shows_the_defaults(run_command, command, defaults):
    shown = " ".join(run_command(command, "--help").stdout.split())
    for default in defaults:
        assert f"default: {default}" in shown


def test_help_opens_no_store_and_imports_no_model_library(tmp_path):
    asked = "import sys; from utils.learn import main; main(['--help'], standalone_mode=False); "
    asked += "print([name for name in ('mlflow', 'pandas', 'pyspark', 'openai', 'langchain') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr
    assert list(tmp_path.iterdir()) == []


HEAVY = ("openai", "scipy.stats", "sklearn", "llama_index", "langchain", "pyspark", "matplotlib",
         "lancedb", "langgraph", "fastembed", "dspy")  # fmt: skip


def test_the_help_of_a_lesson_waits_for_nothing_but_mlflow(tmp_path):
    """Each lesson's module imported after mlflow, as its --help does: it brings no library that is slow to load."""
    files = [entry.file.removesuffix(".py").replace("/", ".") for entry in curriculum.LESSONS]
    asked = f"""
import importlib, sys
import mlflow
for name in {files}:
    before = set(sys.modules)
    importlib.import_module(name)
    print(*[(name, heavy) for heavy in {HEAVY} if heavy in sys.modules and heavy not in before] or ["-"])
"""
    answer = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.split() == ["-"] * len(files), answer.stdout + answer.stderr


# --- output in a pipe


def test_ids_and_paths_in_a_table_are_not_broken_in_a_pipe(capsys):
    ids = {"run": "0123456789abcdef" * 2, "trace": "tr-" + "fedcba9876543210" * 2, "number": 1}
    cli.show_table([ids, ids], title="Two rows")
    shown = capsys.readouterr().out
    assert shown.count(ids["run"]) == shown.count(ids["trace"]) == 2
    assert max(map(len, shown.splitlines())) <= 120 and not ANSI.search(shown)


def test_brackets_in_a_table_are_text_not_markup(capsys):
    cli.show_table([{"master": "local[*]", "note": "[bold]kept[/bold]"}])
    shown = capsys.readouterr().out
    assert "local[*]" in shown and "[bold]kept[/bold]" in shown


def test_progress_in_a_pipe_is_numbered_lines_and_nothing_that_moves(capsys):
    steps = cli.Steps(2)
    steps("Chunked 12 documents")
    assert list(cli.track([1, 2, 3], "Asking")) == [1, 2, 3]
    with cli.waiting("Asking"):
        steps("Asked")
    assert capsys.readouterr().out == "[1/2] Chunked 12 documents\n[2/2] Asked\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (0.12345, "0.123"), (1234.56, "1,234.6"),
     (float("nan"), "nan"), ("local[*]", "local[*]")],
)  # fmt: skip
def test_values_are_shown_as_people_read_them(value, shown):
    assert cli.format_value(value) == shown


def test_the_end_names_the_ids_the_page_and_the_next_command(store, capsys):
    use_store(store, "2-tracing")
    with mlflow.start_run() as run, mlflow.start_span("job") as span:
        pass
    cli.show("2.2", {"accuracy": 0.75}, run_id=run.info.run_id, trace_id=span.trace_id)
    shown = capsys.readouterr().out
    assert run.info.run_id in shown and span.trace_id in shown and "0.750" in shown
    assert f"#/experiments/{run.info.experiment_id}/{curriculum.lesson('2.2').page}" in shown and store in shown
    following = curriculum.next_lesson("2.2")
    assert following and shown.splitlines()[-1] == f"Next:    uv run {following.command}"
    assert not ANSI.search(shown)


# --- flags and environment variables


def capture_records(**kinds):
    """A command that prints the records its main was given."""

    def main(**records):
        click.echo(json.dumps({name: vars(record) for name, record in records.items()}, default=str))

    return cli.lesson("2.2", **kinds)(main)


VARIABLES = [
    ("LLM_TYPE", "openai", "--llm-type", "ollama", "backend", "llm_type"),
    ("LLM_MODEL", "from-env", "--model", "from-flag", "backend", "model"),
    ("OLLAMA_MODEL", "from-env", "--ollama-model", "from-flag", "backend", "ollama_model"),
    ("OLLAMA_URL", "http://env:1", "--ollama-url", "http://flag:1", "backend", "ollama_url"),
    ("OPENAI_BASE_URL", "http://env:1/v1", "--openai-base-url", "http://flag:1/v1", "backend", "openai_base_url"),
    ("SPARK_MASTER", "local[1]", "--spark-master", "local[3]", "spark", "spark_master"),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "in_env", "flag", "in_flag", "record", "field"), VARIABLES)
def test_a_variable_does_the_same_as_its_flag_and_the_flag_wins(
    store, run_command, monkeypatch, variable, in_env, flag, in_flag, record, field
):
    command = capture_records(llm="mock", spark=True)
    monkeypatch.setattr(cli, "refuse_early", lambda uri, backend: None)  # none of these servers runs here
    monkeypatch.setenv(variable, in_env)
    assert json.loads(run_command(command).stdout)[record][field] == in_env
    assert json.loads(run_command(command, flag, in_flag).stdout)[record][field] == in_flag


def test_without_flags_the_records_hold_their_own_defaults(store, run_command):
    given = json.loads(
        run_command(capture_records(llm="mock", spark=True, rows=True, embed=True), "--model", "m").stdout
    )
    assert given == {
        "backend": vars(BackendOptions(model="m")),
        "spark": vars(SparkOptions()),
        "source": vars(InputOptions()),
        "embedding": vars(EmbedOptions()),
    }


def test_store_and_experiment_come_from_flags_before_variables_before_defaults(
    store, run_command, monkeypatch, template_store, tmp_path
):
    where = make_command(lambda: click.echo(f"{mlflow.get_tracking_uri()} {mlflow.get_experiment_by_name('mine')}"))
    assert run_command(where).stdout.split() == [store, "None"]
    assert MlflowClient(store).get_experiment_by_name("2-tracing")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert "name='mine'" in run_command(where).stdout
    other = f"sqlite:///{tmp_path / 'other.db'}"
    (tmp_path / "other.db").write_bytes(template_store.read_bytes())
    assert run_command(where, "--tracking-uri", other, "--experiment-name", "1-x").stdout.split() == [other, "None"]
    assert MlflowClient(other).get_experiment_by_name("1-x")


# --- what a lesson leaves, and what it does not


@cli.lesson("2.2", llm="mock")
def traced_lesson(backend: BackendOptions) -> None:
    mlflow.openai.autolog(silent=True)
    with open_backend(backend) as llm, mlflow.start_run():
        messages = [{"role": "user", "content": "Answer with one word: positive or negative.\nLovely soup."}]
        with llm.openai_client() as client:
            client.chat.completions.create(model=llm.model, messages=messages)  # type: ignore[arg-type]
    with mlflow.start_run(), mlflow.start_span("after the backend"):
        pass


def test_runs_and_traces_carry_the_lesson_and_the_model_while_it_is_open(store, run_command):
    assert run_command(traced_lesson, "--model", "mock-large").exit_code == 0
    client = MlflowClient(store)
    (experiment,) = [e for e in client.search_experiments() if e.name == "2-tracing"]
    wanted = {"lesson": "2.2", "llm_type": "mock", "llm_model": "mock-large"}
    later, earlier = client.search_runs([experiment.experiment_id])
    assert {name: earlier.data.tags.get(name) for name in wanted} == wanted
    assert {name: later.data.tags.get(name) for name in wanted} == {
        "lesson": "2.2", "llm_type": None, "llm_model": None,
    }  # fmt: skip
    traces = {
        trace.data.spans[0].name: trace.info.tags
        for trace in client.search_traces(locations=[experiment.experiment_id])
    }
    assert {name: traces["Completions"].get(name) for name in wanted} == wanted
    assert traces["after the backend"].get("lesson") == "2.2" and "llm_type" not in traces["after the backend"]


def test_after_a_lesson_no_tag_is_left_and_no_autolog_is_on(store, run_command):
    run_command(traced_lesson)
    assert lesson_context.current_tags() == {}
    with open_backend("mock") as llm, llm.openai_client() as client, mlflow.start_run() as run:
        client.chat.completions.create(model=llm.model, messages=[{"role": "user", "content": "Hello."}])
    assert "lesson" not in run.data.tags
    mlflow.flush_trace_async_logging()
    names = [trace.data.spans[0].name for trace in MlflowClient(store).search_traces(
        locations=[e.experiment_id for e in MlflowClient(store).search_experiments()])]  # fmt: skip
    assert sorted(names) == ["Completions", "after the backend"], "only those of the lesson"


def test_after_a_lesson_that_failed_tags_and_autolog_are_gone_too(store):
    def main():
        mlflow.sklearn.autolog(silent=True)
        raise RuntimeError("a bug")

    CliRunner().invoke(make_command(main), [])
    assert lesson_context.current_tags() == {}
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    ids = [experiment.experiment_id for experiment in MlflowClient(store).search_experiments()]
    assert MlflowClient(store).search_runs(ids) == []


def test_every_trace_is_in_the_store_when_the_command_ends(store, run_command):
    def main():
        for number in range(30):
            with mlflow.start_span(f"span {number}"):
                pass

    run_command(make_command(main))
    experiment = MlflowClient(store).get_experiment_by_name("2-tracing")
    assert experiment
    assert len(MlflowClient(store).search_traces(locations=[experiment.experiment_id], max_results=100)) == 30


def test_a_lesson_prints_nothing_about_mlflows_own_tables(tmp_path, run_command, caplog):
    with caplog.at_level(logging.INFO):
        result = run_command(make_command(lambda: None), "--tracking-uri", f"sqlite:///{tmp_path / 'new.db'}")
    assert result.output == "" and "alembic" not in caplog.text and "tables" not in caplog.text
