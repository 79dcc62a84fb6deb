"""What is written in several places agrees, and the storeys of the house hold: read from the files."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import util
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from utils import curriculum
from utils.learn.tour import EXTRA_MODULES
from utils.migration import ON_PURPOSE, check_path
from utils.progress import COUNTERS

PACKAGES = ("utils", "tracking", "spark", "genai")
STOREYS_ABOVE_UTILS = {"tracking", "spark", "genai"}
LESSONS = pytest.mark.parametrize("entry", curriculum.LESSONS, ids=lambda entry: entry.number)
DOCSTRING_PARTS = ("New here:", "Run it:", "Look at:", "Change:", "Docs:")
HIGHEST_FILE = 300  # lines; only the mock model may be longer


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is, or could be, committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(ROOT / name for name in sorted(set(listed.split("\0")) - {""}) if (ROOT / name).is_file())


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


OWN = sources(*PACKAGES)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(node: ast.AST) -> str:
    """`mlflow.genai.load_prompt` for the expression of that name; empty for every other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def names_used(path: Path) -> set[str]:
    return {name for node in ast.walk(tree(path)) if (name := dotted(node))}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# --- the manifest, pyproject, the files and README agree


def test_each_command_of_the_manifest_is_a_script_of_its_file_and_there_is_no_other():
    expected = {entry.command: f"{module_of(ROOT / entry.file)}:main" for entry in curriculum.LESSONS}
    assert project()["project"]["scripts"] == {"mlflow-learn": "utils.learn:main", **expected}


def test_the_files_whose_docstring_begins_with_a_number_are_the_lessons():
    numbered = {}
    for path in sources(*PACKAGES):
        if found := re.match(r"(\d+\.\d+) ", ast.get_docstring(tree(path)) or ""):
            numbered[path.relative_to(ROOT).as_posix()] = found[1]
    assert numbered == {entry.file: entry.number for entry in curriculum.LESSONS}


def test_lessons_stand_in_order_and_none_twice():
    places = [tuple(map(int, entry.number.split("."))) for entry in curriculum.LESSONS]
    assert places == sorted(set(places))
    assert len({entry.command for entry in curriculum.LESSONS}) == len(places)
    for entry in curriculum.LESSONS:
        assert {curriculum.lesson(number).number for number in entry.requires} <= {
            before.number for before in curriculum.LESSONS if before.number < entry.number
        }


@LESSONS
def test_the_docstring_says_what_to_run_where_to_look_and_what_to_change(entry):
    text = ast.get_docstring(tree(ROOT / entry.file)) or ""
    lines = text.splitlines()
    for part in DOCSTRING_PARTS:
        assert sum(line.startswith(part) for line in lines) == 1, part
    assert text.startswith(f"{entry.number} ") and entry.docs in text


@LESSONS
def test_the_lines_to_paste_call_the_command_of_the_manifest(entry):
    text = ast.get_docstring(tree(ROOT / entry.file)) or ""
    lines = text[text.index("Run it:") : text.index("Look at:")].removeprefix("Run it:").strip().splitlines()
    commands = [re.sub(r"^uv run --extra \w+ ", "uv run ", line.strip()).split() for line in lines]
    assert commands and all(words[:3] == ["uv", "run", entry.command] for words in commands), commands


@LESSONS
def test_what_a_lesson_teaches_stands_in_its_own_source(entry):
    assert set(entry.shows) <= names_used(ROOT / entry.file)


@LESSONS
def test_hints_lead_to_places_that_exist(entry):
    assert "::" in entry.hints[-1], "the last hint says where to look"
    for hint in entry.hints:
        for file, name in re.findall(r"([\w/]+\.py)?::(\w+)", hint):
            nodes = list(ast.walk(tree(ROOT / (file or entry.file))))
            constants = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            assert name in constants | {getattr(node, "name", "") for node in nodes}, hint


@LESSONS
def test_evidence_is_of_a_kind_that_progress_can_ask_for(entry):
    assert entry.evidence and {evidence.kind for evidence in entry.evidence} <= set(COUNTERS)
    assert entry.extra is None or entry.extra in EXTRA_MODULES


def test_readme_names_every_command_and_the_two_to_begin_with():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [f"uv run {entry.command}" for entry in curriculum.LESSONS]
    for command in [*commands, "uv run mlflow-learn tour", "uv run pytest"]:
        assert command in text


def test_ci_runs_the_tests_by_the_command_of_the_readme():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines.count("uv run pytest") == 1
    assert {"uv run pytest -m slow", "uv run black --check .", "uv run isort --check ."} <= set(lines)
    assert {"uv run ruff check .", "uv run mypy ."} <= set(lines)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(r"run: (bash )?\.ci/run$", workflow, re.M)


# --- packaging


def test_the_extra_dev_and_the_group_dev_are_the_same_list():
    assert project()["project"]["optional-dependencies"]["dev"] == project()["dependency-groups"]["dev"]


def test_every_requirement_of_a_learner_has_a_lower_bound():
    extras = project()["project"]["optional-dependencies"]
    listed = [*project()["project"]["dependencies"], *(item for extra in extras.values() for item in extra)]
    unbounded = [item for item in listed if not any(s.operator in (">=", "==") for s in Requirement(item).specifier)]
    assert unbounded == []


def test_the_flat_packages_are_built_and_imported_from_the_checkout():
    assert sorted(project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
    for package in PACKAGES:
        spec = util.find_spec(package)
        assert spec and spec.origin and Path(spec.origin).parent == ROOT / package


def test_nothing_is_uploaded_and_no_lock_file_is_committed():
    assert "Private :: Do Not Upload" in project()["project"]["classifiers"]
    assert ROOT / "uv.lock" not in project_files()
    assert project()["tool"]["uv"]["exclude-newer"]


# --- the storeys


def test_utils_imports_no_lesson_and_no_lesson_imports_a_lesson():
    above = {*STOREYS_ABOVE_UTILS, "tests", "benchmarks"}
    wrong = {module_of(path): {name for name in imported(path) if name.split(".")[0] in above} for path in OWN}
    assert {name: modules for name, modules in wrong.items() if modules} == {}


def test_no_file_finds_our_modules_by_other_ways_than_import():
    ways = {"__import__", "import_module", "run_path", "run_module", "spec_from_file_location", "exec_module"}
    loader = ROOT / "utils" / "loader.py"  # it imports packages of extras, as the next test says
    for path in OWN:
        used = names_used(path)
        assert "sys.path" not in used, path
        assert path == loader or not {name.split(".")[-1] for name in used} & ways, path


def test_what_the_loader_imports_is_never_ours():
    for path in sources(*PACKAGES):
        for call in calls(path):
            if dotted(call.func).split(".")[-1] == "require":
                module, _ = [*call.args, *(keyword.value for keyword in call.keywords)]
                assert isinstance(module, ast.Constant), "the package is named where it is required"
                assert str(module.value).split(".")[0] not in PACKAGES


# --- what our code never does


def test_no_code_is_made_from_text_and_no_shell_is_asked():
    forbidden = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load"}
    for path in [*OWN, *sources("benchmarks")]:
        for call in calls(path):
            assert dotted(call.func) not in forbidden, path
            assert not any(keyword.arg == "shell" for keyword in call.keywords), path


def test_no_call_that_mlflow_has_given_up():
    report = check_path(ROOT)
    assert (report.findings, report.unreadable) == ((), ()) and report.files >= len(OWN)


def test_old_calls_stand_only_in_the_lesson_about_them():
    with_pragma = {path.relative_to(ROOT).as_posix() for path in OWN if ON_PURPOSE in path.read_text(encoding="utf-8")}
    assert with_pragma == {"tracking/migration_from_2x.py", "utils/migration.py"}


def test_no_file_of_utils_is_too_long_to_read():
    long = {
        module_of(path): lines
        for path in sources("utils")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > HIGHEST_FILE
    }
    assert {name for name in long if not name.startswith("utils.mock_llm")} == set()


# Put together from parts, so that this file does not hold what it looks for.
PACKAGE_HOSTS = [
    f"{name}[.]{domain}"
    for name, domain in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
        ("anaconda", "org"), ("rubygems", "org"), ("maven", "org"), ("golang", "org"),
    )
]  # fmt: skip
PRIVATE_PATHS = ["(?<![\\w.-])/(?:home|root|work|Users)/"]


def test_no_file_names_a_package_host_or_a_path_of_somebodys_machine():
    forbidden = re.compile("|".join([*PACKAGE_HOSTS, *PRIVATE_PATHS]))
    found = [
        f"{path.relative_to(ROOT)}: {hit[0]}"
        for path in project_files()
        for hit in forbidden.finditer(path.read_bytes().decode("utf-8", errors="ignore"))
    ]
    assert found == []


def test_the_text_rule_finds_what_it_should():
    forbidden = re.compile("|".join([*PACKAGE_HOSTS, *PRIVATE_PATHS]))
    bad = [f"https://{'pypi'}.org/simple", "/".join(["", "home", "me", "x"]), f"sqlite:///{'/root'}/x.db"]
    assert all(forbidden.search(text) for text in bad)
    assert not forbidden.search("docs/work/flow.md, https://mlflow.org/docs/latest/home.html")


@pytest.mark.slow
@LESSONS
def test_each_lesson_also_runs_as_a_file(entry):
    """From another folder, so that nothing depends on where it is typed."""
    asked = [sys.executable, str(ROOT / entry.file), "--help"]
    answer = subprocess.run(asked, cwd=ROOT.parent, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert (ast.get_docstring(tree(ROOT / entry.file)) or "").splitlines()[0] in answer.stdout


def prompt_names(source: str) -> set[str]:
    """The prompts that a file registers under a name that stands in it."""
    tree = ast.parse(source)
    constants: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]  # type: ignore[attr-defined]
            constants |= {a.id: b.value for a, b in pairs if isinstance(a, ast.Name) and isinstance(b, ast.Constant)}
    found = set()
    for call in ast.walk(tree):
        called = getattr(call.func, "id", getattr(call.func, "attr", "")) if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and call.args and called in ("use_alias", "get_or_register", "register_prompt"):
            first = call.args[0]
            name = first.value if isinstance(first, ast.Constant) else constants.get(getattr(first, "id", ""))
            found |= {name} if isinstance(name, str) else set()
    return found


def test_no_two_lessons_register_different_prompts_under_one_name():
    """They share a store: the second one would find a template without its variables."""
    shared = {"rag-answer"}  # 5.5 asks with the prompt of 5.2
    owners: dict[str, list[str]] = {}
    for entry in curriculum.LESSONS:
        for name in prompt_names((ROOT / entry.file).read_text(encoding="utf-8")) - shared:
            owners.setdefault(name, []).append(entry.number)
    assert len(owners) > len(curriculum.LESSONS) // 2
    assert {name: numbers for name, numbers in owners.items() if len(numbers) > 1} == {}
