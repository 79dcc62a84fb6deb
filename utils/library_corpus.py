"""The documentation of installed packages as documents: docstrings of what users import, and READMEs.

Nothing is imported or run: sources are parsed with ast. A package that cannot be read is left out and named; so are
files that are no Python. `id` and `content_hash` do not change with the machine, the order or the time, so that an
index can tell which documents are new, changed or gone.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from utils.errors import InputError
from utils.library_names import Exports, depth, is_public

# Those that the lessons speak of first: a part of the corpus is taken from them, in turn.
CORE = ("mlflow", "pyspark", "langchain", "langchain-core", "langgraph", "llama-index-core", "openai", "pandas")
MORE = (
    "langchain-openai", "langchain-ollama", "fastembed", "scikit-learn", "numpy", "scipy", "pyarrow", "matplotlib",
    "fastapi", "pydantic", "click", "rich", "httpx", "aiohttp", "tenacity", "pypdf",
)  # fmt: skip
PACKAGES = (*CORE, *MORE)
KINDS = ("module", "class", "function", "method", "readme")
# When a part of the corpus is chosen: how often a package comes in each turn, and below which names it begins anew.
TURNS = {"mlflow": 4}
TOPICS = (
    "mlflow.genai", "mlflow.tracing", "mlflow.models", "pyspark.sql",
    "pyspark.sql.functions", "langchain.agents", "langchain_core.prompts", "langgraph.graph", "llama_index.core",
    "llama_index.core.node_parser", "pandas.DataFrame",
)  # fmt: skip
LEAST_WORDS = 8  # a docstring below that says no more than the name
# Folders of a package that document nothing for its users.
NOT_FOR_USERS = frozenset(
    {"tests", "test", "testing", "_vendor", "vendor", "vendored", "externals", "protos", "migrations", "store",
     "server", "distutils"}
)  # fmt: skip
HASH_LENGTH = 16  # hexadecimal digits


@dataclass(frozen=True)
class LibraryDocument:
    """One docstring or README. `qualified_name` is the shortest public name under which a user imports it."""

    package: str
    version: str
    qualified_name: str
    kind: str  # one of KINDS
    signature: str  # names of the parameters, without types; empty for modules and READMEs
    body: str  # the docstring, its indentation removed, or the README
    source: str  # path inside site-packages, with forward slashes

    @property
    def id(self) -> str:
        """The same for every version of the package: `mlflow/mlflow.genai.register_prompt`."""
        return f"{self.package}/{self.qualified_name}"

    @property
    def text(self) -> str:
        """What is indexed and read: the name with its parameters, then the body. The version is not part of it, so
        that an upgrade changes only documents whose words changed."""
        return f"{self.qualified_name}{self.signature}\n\n{self.body}"

    @cached_property
    def content_hash(self) -> str:
        """Of `text`: 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()[:HASH_LENGTH]

    def row(self) -> dict[str, str]:
        """id, package, version, qualified_name, kind, signature, body, source, text, content_hash."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"id": self.id, **own, "text": self.text, "content_hash": self.content_hash}


@dataclass(frozen=True)
class Library:
    """documents: in the order of the packages, then of their files. left_out: package → why it could not be read.
    unreadable: source file → why. repeated: how many documents were dropped since an earlier one of the same package
    has the same body (an asynchronous twin, say)."""

    documents: list[LibraryDocument]
    left_out: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    repeated: int = 0


class UnreadablePackage(Exception):
    """The package has no sources that could be read; the message says why."""


def read_library(packages: Sequence[str] = PACKAGES) -> Library:
    """All documents of these distributions (names as a package index knows them).

    Raises:
        InputError: not one of the packages could be read.
    """
    library, repeated = Library([]), 0
    for package in dict.fromkeys(packages):
        try:
            found = list(read_package(package, library.unreadable))
        except UnreadablePackage as error:
            library.left_out[package] = str(error)
            continue
        kept = _without_repeats(found)
        repeated += len(found) - len(kept)
        library.documents.extend(kept)
    if not library.documents:
        reasons = "; ".join(f"{package}: {reason}" for package, reason in library.left_out.items())
        raise InputError(f"no documentation could be read ({reasons})", "--package mlflow")
    return Library(library.documents, library.left_out, library.unreadable, repeated)


def read_package(package: str, unreadable: dict[str, str]) -> Iterator[LibraryDocument]:
    """README, modules, classes, functions and methods of one distribution; files that are no Python go to `unreadable`.

    Raises:
        UnreadablePackage: not installed, no list of its files, or no source with a docstring.
    """
    try:
        installed = distribution(package)
    except (PackageNotFoundError, ValueError) as error:
        raise UnreadablePackage("not installed") from error
    if installed.files is None:
        raise UnreadablePackage("its installation lists no files")
    version = installed.version  # each access reads the metadata again
    documents = list(_readmes(package, version, installed))
    exports = Exports()
    for file in sorted(path for path in installed.files if _is_for_users(path)):
        try:
            documents += _parse(package, version, file, exports)
        except (SyntaxError, ValueError, OSError, RecursionError) as error:
            unreadable[file.as_posix()] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    offered = list(_once_each(_as_offered(documents, exports)))
    if not offered:
        raise UnreadablePackage("no source file with a docstring")
    yield from offered


def choose_documents(documents: Sequence[LibraryDocument], number: int) -> list[LibraryDocument]:
    """`number` documents, of the packages in turn, within each those with the shortest names first: what is imported
    from the top of a package is what its users meet. All when there are no more; always the same ones."""
    queues: dict[str, list[LibraryDocument]] = {}
    for document in documents:
        queues.setdefault(document.package, []).append(document)
    for queue in queues.values():
        queue.sort(key=_prominence, reverse=True)  # taken from the end
    chosen: list[LibraryDocument] = []
    while len(chosen) < min(number, len(documents)):
        for package, queue in queues.items():
            chosen += [queue.pop() for _ in range(min(TURNS.get(package, 1), len(queue)))]
    return chosen[:number]


def write_jsonl(documents: Iterable[LibraryDocument], path: Path) -> Path:
    """One document a line (LibraryDocument.row), written whole or not at all."""
    lines = (json.dumps(document.row(), ensure_ascii=False) for document in documents)
    return _write_whole(path, "".join(f"{line}\n" for line in lines))


def write_parquet(documents: Iterable[LibraryDocument], path: Path) -> Path:
    """One document a row, all columns strings (LibraryDocument.row), written whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist([document.row() for document in documents]), part)
    part.replace(path)
    return path


def write_files(documents: Iterable[LibraryDocument], folder: Path) -> dict[str, Path]:
    """One text file a document, `<package>/<qualified name>.<kind>.txt`; document id → path. A file whose text is the
    same is left alone, with its time."""
    written = {}
    for document in documents:
        name = f"{document.qualified_name.replace('/', '_')[:180]}.{document.kind}.txt"
        path = folder / document.package / name
        if not path.is_file() or path.read_text(encoding="utf-8") != document.text:
            _write_whole(path, document.text)
        written[document.id] = path
    return written


def _readmes(package: str, version: str, installed: Distribution) -> Iterator[LibraryDocument]:
    """The description in the metadata is the README of most packages."""
    text = str(installed.metadata.json.get("description", "")).strip()
    if len(text.split()) >= LEAST_WORDS:
        source = f"{package}-{version}.dist-info/METADATA"
        yield LibraryDocument(package, version, f"{package} README", "readme", "", text, source)


def _is_for_users(path: PackagePath) -> bool:
    name = path.name
    tested = name.startswith("test_") or name in ("conftest.py", "setup.py")
    folders = path.parts[:-1]
    own = all(part.isidentifier() for part in folders) and not NOT_FOR_USERS & set(folders)
    return path.suffix == ".py" and path.stem.isidentifier() and own and not tested


def _parse(package: str, version: str, file: PackagePath, exports: "Exports") -> Iterator[LibraryDocument]:
    """Documents of one source file under the names where they are defined; what it offers from elsewhere goes to
    `exports`."""
    source = Path(str(file.locate())).read_text(encoding="utf-8")
    is_package = file.name == "__init__.py"
    offers = is_package or "__all__" in source
    if not offers and '"""' not in source and "'''" not in source:
        return  # no docstring: nothing to parse for
    module = ".".join(file.parent.parts if is_package else (*file.parent.parts, file.stem))
    tree = ast.parse(source)
    if offers and is_public(module):
        exports.collect(tree, module, ".".join(file.parent.parts))
    for name, kind, node in _documented(tree, module):
        body = ast.get_docstring(node) or ""
        if len(body.split()) >= LEAST_WORDS and _is_utf8(body):
            yield LibraryDocument(package, version, name, kind, _signature(node), body, file.as_posix())


def _documented(
    tree: ast.Module, module: str
) -> Iterator[tuple[str, str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Name, kind and node of the module itself, its public classes and functions, and their public methods."""
    yield module, "module", tree
    waiting: list[tuple[str, str, ast.AST]] = [(module, "function", tree)]
    while waiting:
        name, inside, parent = waiting.pop(0)
        for node in getattr(parent, "body", []):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"{name}.{node.name}", "class", node
                waiting.append((f"{name}.{node.name}", "method", node))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                yield f"{name}.{node.name}", inside, node


def _signature(node: ast.AST) -> str:
    """`(name, template, *, tags)`, or nothing where there are no parameters to name."""
    if isinstance(node, ast.ClassDef):
        made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return _signature(made[0]) if made else ""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    given = node.args
    names = [item.arg for item in (*given.posonlyargs, *given.args) if item.arg not in ("self", "cls")]
    names += [f"*{given.vararg.arg}"] if given.vararg else ["*"] if given.kwonlyargs else []
    names += [item.arg for item in given.kwonlyargs]
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return f"({', '.join(names)})"


def _as_offered(documents: Iterable[LibraryDocument], exports: Exports) -> Iterator[LibraryDocument]:
    """What users can import, under its public name; a method comes with its class. The rest is internal."""
    for document in documents:
        name, rest = document.qualified_name, ""
        if document.kind == "method":
            name, _, last = name.rpartition(".")
            rest = f".{last}"
        if document.kind not in ("module", "readme"):
            if not exports.is_offered(name):
                continue
            name = exports.best_name(name)
        if document.kind == "readme" or is_public(f"{name}{rest}"):
            yield replace(document, qualified_name=f"{name}{rest}")


def _once_each(documents: Iterable[LibraryDocument]) -> Iterator[LibraryDocument]:
    """The first of each name: overloads and setters come after it."""
    seen: set[str] = set()
    for document in documents:
        if document.id not in seen:
            seen.add(document.id)
            yield document


def _without_repeats(documents: Iterable[LibraryDocument]) -> list[LibraryDocument]:
    return list({document.body: document for document in reversed(list(documents))}.values())[::-1]


def _prominence(document: LibraryDocument) -> tuple[int, str]:
    """Small is prominent: how far the name is below the package or below a topic."""
    name = document.qualified_name
    above = max((len(topic.split(".")) - 1 for topic in TOPICS if f"{name}.".startswith(f"{topic}.")), default=0)
    return depth(name) - above, name


def _is_utf8(text: str) -> bool:
    """Half a character in an escape ("\\ud800") is legal Python and no text that a file could hold."""
    return text.isascii() or not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _write_whole(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return path
