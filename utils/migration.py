"""Calls of MLflow 2.x (and of the LangChain of its time) in Python files: found by reading, nothing is executed.

Names are followed through imports (`import mlflow as m`, `from mlflow import load_prompt`), so that a text, a comment
or another library's method of the same name is not taken for MLflow's.
Source: https://mlflow.org/docs/latest/genai/mlflow-3/ and the warnings of MLflow 3.17 itself.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError

ON_PURPOSE = "mlflow-2x: on purpose"  # a line that ends in this comment is not reported
SKIPPED_FOLDERS = {".venv", "venv", ".git", "node_modules", "__pycache__", "site-packages", ".mlflow-learn"}

# Full name -> what to write today. A name that ends in a dot stands for all that begins with it.
MOVED = {
    "mlflow.evaluate": "mlflow.genai.evaluate(scorers=[…]); for classic models mlflow.models.evaluate",
    "mlflow.register_prompt": "mlflow.genai.register_prompt",
    "mlflow.load_prompt": "mlflow.genai.load_prompt",
    "mlflow.search_prompts": "mlflow.genai.search_prompts",
    "mlflow.set_prompt_alias": "mlflow.genai.set_prompt_alias",
    "mlflow.delete_prompt_alias": "mlflow.genai.delete_prompt_alias",
    "mlflow.genai.set_active_model": "mlflow.set_active_model(name=…)",
    "mlflow.metrics.genai.": "scorers: mlflow.genai.scorers, or mlflow.genai.judges.make_judge",
    "langchain.schema.": "langchain_core (output_parsers, messages, documents, runnables)",
    "langchain.prompts.": "langchain_core.prompts",
    "langchain.output_parsers.": "langchain_core.output_parsers",
    "langchain.callbacks.": "langchain_core.callbacks",
    "langchain.chains.": "LangChain's runnables (prompt | model), or LangGraph",
    "langchain.llms.": "the provider's package, for example langchain_openai",
    "langchain.chat_models.ChatOpenAI": "langchain_openai.ChatOpenAI",
    "langchain.memory.": "a LangGraph checkpointer",
    "langchain.vectorstores.": "the store's own package, or langchain_core.vectorstores",
    "langchain.text_splitter.": "langchain_text_splitters",
    "langchain.agents.AgentExecutor": "langchain.agents.create_agent",
    "langchain.agents.create_react_agent": "langchain.agents.create_agent",
    "langchain.agents.initialize_agent": "langchain.agents.create_agent",
    "langgraph.prebuilt.create_react_agent": "langchain.agents.create_agent",
}
# Methods that only MLflow's client has, whatever the variable is called.
METHODS = {
    "transition_model_version_stage": "aliases: client.set_registered_model_alias(name, alias, version)",
    "get_latest_versions": "aliases: client.get_model_version_by_alias(name, alias)",
}
# (how the called name ends, keyword) -> what to write today; only where the name leads to MLflow.
KEYWORDS = {
    ("log_model", "artifact_path"): "name=",
    ("save_model", "artifact_path"): "path=",
    ("search_traces", "experiment_ids"): "locations=[…]",
}
STAGE_URI = re.compile(r"^models:/[^/@]+/(Production|Staging|Archived|None)/?$", re.IGNORECASE)
FILE_STORE = re.compile(r"^file:|^(\.{0,2}/)?(\S*/)?mlruns/?$")
STORE_CALLS = {"set_tracking_uri", "set_registry_uri", "MlflowClient"}
STORE_VARIABLES = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"}
USE_SQLITE = "sqlite:///mlflow.db (bring old runs along: mlflow migrate-filestore)"
USE_ALIAS = "models:/NAME@ALIAS"


@dataclass(frozen=True, order=True)
class Finding:
    """One place to change: `old` as it is written or resolved, `new` what takes its place."""

    path: Path
    line: int
    old: str
    new: str


@dataclass(frozen=True)
class Report:
    """What was read, what was found, and which files could not be read, each with the reason."""

    files: int
    findings: tuple[Finding, ...]
    unreadable: tuple[tuple[Path, str], ...]


def check_path(path: Path) -> Report:
    """Check a Python file, or every one below a folder; environments and caches are left out.

    Raises:
        InputError: there is nothing at this path, or no Python file in it.
    """
    if not path.exists():
        raise InputError(f"there is nothing at {path}", "--check FILE.py or --check FOLDER")
    files = [path] if path.is_file() else list(_python_files(path))
    if not files:
        raise InputError(f"{path} holds no Python files", "--check FILE.py or --check FOLDER")
    findings: list[Finding] = []
    unreadable = []
    for file in files:
        try:
            findings += check_source(file.read_bytes(), file)
        except (SyntaxError, ValueError, OSError, RecursionError) as error:
            unreadable.append((file, f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return Report(len(files), tuple(sorted(findings)), tuple(unreadable))


def check_source(source: bytes, path: Path) -> list[Finding]:
    """The findings of one file, in the order of its lines.

    Raises:
        SyntaxError, ValueError: the source does not parse, or is no text in its encoding.
    """
    tree = ast.parse(source, str(path))
    lines = source.decode("utf-8", errors="replace").splitlines()
    names = _imported_names(tree)
    found = {Finding(path, line, old, new) for line, old, new in _findings(tree, names)}
    return sorted(f for f in found if not lines[f.line - 1].rstrip().endswith(ON_PURPOSE))


def _python_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and entry.name not in SKIPPED_FOLDERS:
            yield from _python_files(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: {"m": "mlflow", "load": "mlflow.load_prompt"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _findings(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[int, str, str]]:
    uses_mlflow = any(full.split(".")[0] == "mlflow" for full in names.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _in_import(node)
        elif isinstance(node, ast.Attribute) and (new := _moved(full := _full_name(node, names), within=True)):
            yield node.end_lineno or node.lineno, full, new
        elif isinstance(node, ast.Call):
            yield from _in_call(node, names, uses_mlflow)
        elif isinstance(node, ast.Assign):
            yield from _in_assignment(node)
        elif uses_mlflow and isinstance(node, ast.Constant) and STAGE_URI.match(str(node.value)):
            yield node.lineno, str(node.value), USE_ALIAS


def _in_import(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str, str]]:
    module = getattr(node, "module", None)
    for alias in node.names:
        full = f"{module}.{alias.name}" if module else alias.name
        if not getattr(node, "level", 0) and (new := _moved(full)):
            yield alias.lineno, full, new


def _in_call(node: ast.Call, names: dict[str, str], uses_mlflow: bool) -> Iterator[tuple[int, str, str]]:
    full = _full_name(node.func, names)
    last = full.split(".")[-1]
    line = node.func.end_lineno or node.lineno
    if isinstance(node.func, ast.Name) and (new := _moved(full)):
        yield line, full, new
    if uses_mlflow and isinstance(node.func, ast.Attribute) and last in METHODS:
        yield line, last, METHODS[last]
    # A method of an unknown variable counts when it is a client's; log_model of another library does not.
    of_mlflow = full.startswith("mlflow.") or (uses_mlflow and last == "search_traces")
    for keyword in node.keywords:
        if of_mlflow and keyword.arg and (new := KEYWORDS.get((last, keyword.arg), "")):
            yield keyword.value.lineno, f"{last}({keyword.arg}=)", new
    if uses_mlflow and last in STORE_CALLS:
        for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if isinstance(value, ast.Constant) and FILE_STORE.search(str(value.value)):
                yield value.lineno, f"{last}({value.value!r})", USE_SQLITE


def _in_assignment(node: ast.Assign) -> Iterator[tuple[int, str, str]]:
    """`os.environ["MLFLOW_TRACKING_URI"] = "file:…"`."""
    for target in node.targets:
        key = target.slice if isinstance(target, ast.Subscript) else None
        if not (isinstance(key, ast.Constant) and key.value in STORE_VARIABLES):
            continue
        if isinstance(node.value, ast.Constant) and FILE_STORE.search(str(node.value.value)):
            yield node.lineno, f"{key.value!s}={node.value.value!s}", USE_SQLITE


def _moved(full: str, within: bool = False) -> str:
    """What takes the place of this name; with `within` not for a moved module itself, only for what is in it."""
    if full in MOVED:
        return MOVED[full]
    name = full if within else f"{full}."
    return next((new for old, new in MOVED.items() if old.endswith(".") and name.startswith(old)), "")


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    """`mlflow.load_prompt` for `m.load_prompt` after `import mlflow as m`; for other expressions what can be told."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return ""
