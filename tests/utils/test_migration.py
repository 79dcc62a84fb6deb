"""The reader of old code: every pattern with its line, no lookalike, and files that it cannot read."""

import importlib.util
from pathlib import Path

import pytest

from utils.errors import InputError
from utils.migration import MOVED, ON_PURPOSE, check_path, check_source

# (line to add after the imports, what is reported for it)
OLD = [
    ("m.evaluate(frame, model_type='question-answering')", "mlflow.evaluate"),
    ("m.register_prompt('a', 'b')", "mlflow.register_prompt"),
    ("load('prompts:/a/1')", "mlflow.load_prompt"),
    ("m.search_prompts()", "mlflow.search_prompts"),
    ("m.set_prompt_alias('a', 'b', 1)", "mlflow.set_prompt_alias"),
    ("m.delete_prompt_alias('a', 'b')", "mlflow.delete_prompt_alias"),
    ("m.genai.set_active_model(model_name='a')", "mlflow.genai.set_active_model"),
    ("genai.set_active_model(model_name='a')", "mlflow.genai.set_active_model"),
    ("m.metrics.genai.answer_similarity()", "mlflow.metrics.genai.answer_similarity"),
    ("from mlflow.metrics.genai import faithfulness", "mlflow.metrics.genai.faithfulness"),
    ("m.sklearn.log_model(x, artifact_path='model')", "log_model(artifact_path=)"),
    ("m.search_traces(experiment_ids=['1'])", "search_traces(experiment_ids=)"),
    ("client.search_traces(experiment_ids=['1'])", "search_traces(experiment_ids=)"),
    ("client.transition_model_version_stage('a', 1, 'Staging')", "transition_model_version_stage"),
    ("client.get_latest_versions('a', stages=['Production'])", "get_latest_versions"),
    ("m.pyfunc.load_model('models:/a/Production')", "models:/a/Production"),
    ("m.set_tracking_uri('file:./mlruns')", "set_tracking_uri('file:./mlruns')"),
    ("m.set_tracking_uri('./mlruns')", "set_tracking_uri('./mlruns')"),
    ("Client(tracking_uri='mlruns')", "MlflowClient('mlruns')"),
    ("os.environ['MLFLOW_TRACKING_URI'] = 'file:/tmp/runs'", "MLFLOW_TRACKING_URI=file:/tmp/runs"),
    ("from langchain.schema import Document", "langchain.schema.Document"),
    (
        "from langchain.schema.output_parser import StrOutputParser",
        "langchain.schema.output_parser.StrOutputParser",
    ),
    ("import langchain.schema", "langchain.schema"),
    ("from langchain.agents import AgentExecutor", "langchain.agents.AgentExecutor"),
    ("from langchain.agents import create_react_agent", "langchain.agents.create_react_agent"),
    ("from langgraph.prebuilt import create_react_agent", "langgraph.prebuilt.create_react_agent"),
    ("from langchain.chains import LLMChain", "langchain.chains.LLMChain"),
]
IMPORTS = """import os
import mlflow as m
from mlflow import MlflowClient as Client, genai
from mlflow import load_prompt as load
client = Client()
"""
NEW = """import mlflow
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from mlflow import MlflowClient

# mlflow.evaluate(model_type="x") and models:/a/Production in a comment
TEXT = "call mlflow.register_prompt here, see file:./mlruns"
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_tracking_uri("http://127.0.0.1:5000")
mlflow.genai.register_prompt(name="a", template="b")
mlflow.models.evaluate(1)
mlflow.genai.evaluate(data=[], scorers=[])
mlflow.set_active_model(name="a")
mlflow.sklearn.log_model(model, name="model")
mlflow.log_artifact("a.txt", artifact_path="files")
mlflow.search_traces(locations=["1"])
mlflow.pyfunc.load_model("models:/a@production")
MlflowClient().search_model_versions("name='a'")
"""


def found(text: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.old) for finding in check_source(text.encode(), Path("x.py"))]


@pytest.mark.parametrize(("line", "old"), OLD)
def test_an_old_call_is_found_in_its_line(line, old):
    number = IMPORTS.count("\n") + 1
    assert (number, old) in found(IMPORTS + line)
    assert [n for n, _ in found(IMPORTS + line) if n == number] == [number], "reported once"


def test_all_of_them_in_one_file_each_with_its_line(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(IMPORTS + "\n".join(line for line, _ in OLD))
    report = check_path(path)
    first = IMPORTS.count("\n") + 1
    assert {(first + i, old) for i, (_, old) in enumerate(OLD)} <= {(f.line, f.old) for f in report.findings}
    assert all(finding.new and finding.path == path for finding in report.findings)


def test_new_code_and_lookalikes_are_left_alone():
    assert found(NEW) == []


@pytest.mark.parametrize(
    "text",
    [
        "import wandb\nwandb.log_model(1, artifact_path='m')\n",
        "from mine import register_prompt, evaluate\nregister_prompt('a')\nevaluate(model_type='x')\n",
        "store.transition_model_version_stage('a', 1, 'b')\n",  # no MLflow in this file
        "from .langchain.schema import Document\n",
        "mlflow = fake()\nmlflow.evaluate()\n",
        "set_tracking_uri('file:./mlruns')\n",
    ],
)
def test_what_is_not_mlflows_is_not_reported(text):
    assert found(text) == []


def test_a_call_over_several_lines_is_reported_where_the_name_stands():
    text = "import mlflow\nmlflow.sklearn.log_model(\n    model,\n    artifact_path='m',\n)\nmlflow.evaluate(\n  1\n)\n"
    assert found(text) == [(4, "log_model(artifact_path=)"), (6, "mlflow.evaluate")]


def test_a_line_can_be_left_out_on_purpose():
    assert found(f"import mlflow\nmlflow.evaluate(1)  # {ON_PURPOSE}\n") == []
    assert found(f"import mlflow\nmlflow.evaluate(1)  # {ON_PURPOSE}, but why\n") != []


def test_files_that_do_not_parse_are_named_and_the_others_checked(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "latin.py").write_bytes("name = 'Scheußlich'\n".encode("cp1252"))
    (tmp_path / "nul.py").write_bytes(b"a = 1\0")
    (tmp_path / "old.py").write_text("import mlflow\nmlflow.evaluate()\n")
    (tmp_path / "notes.txt").write_text("mlflow.evaluate()")
    for skipped in (".venv", "__pycache__"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "old.py").write_text("import mlflow\nmlflow.evaluate()\n")
    report = check_path(tmp_path)
    assert [finding.path.name for finding in report.findings] == ["old.py"]
    assert [path.name for path, _ in report.unreadable] == ["broken.py", "latin.py", "nul.py"]
    assert report.files == 4 and all(reason for _, reason in report.unreadable)


def test_a_declared_encoding_is_read(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nimport mlflow\nmlflow.evaluate('ß')\n".encode("latin-1"))
    report = check_path(path)
    assert [finding.line for finding in report.findings] == [3] and not report.unreadable


def test_nothing_to_check_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError):
            check_path(path)


def test_a_loop_of_links_is_not_followed(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert check_path(tmp_path).files == 1


@pytest.mark.parametrize("old", [old for old in MOVED if old.startswith("langchain.") and old.endswith(".")])
def test_modules_called_gone_are_gone(old):
    """With the version installed here; a module that came back must not be reported."""
    assert importlib.util.find_spec(old.rstrip(".")) is None
