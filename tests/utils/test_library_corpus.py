"""The corpus of docstrings: from a small package made here, and from packages that are installed."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from utils.errors import InputError
from utils.library_corpus import (
    KINDS,
    LEAST_WORDS,
    LibraryDocument,
    choose_documents,
    read_library,
    write_files,
    write_jsonl,
    write_parquet,
)

LONG = "does something that takes more than eight words to say"
SOURCES = {
    "shelf/__init__.py": f'"""A shelf {LONG}."""\nfrom shelf._core import put as place\nfrom .wide import *\n',
    "shelf/_core.py": f'''
raise RuntimeError("importing this package would run it")
def put(book, *more, where="left", **kwargs):
    """Put a book {LONG}.

        An indented line.
    """
def hidden_by_its_module():
    """Nobody imports this, though it {LONG}."""
def short():
    """Too short."""
def _private():
    """Private {LONG}."""
''',
    "shelf/wide.py": f'''
from typing import overload
class Case:
    """A case {LONG}."""
    def __init__(self, width, /, depth, *, height=2): ...
    @property
    def size(self):
        """The size {LONG}."""
    @size.setter
    def size(self, value):
        """The setter {LONG}."""
    async def asize(self):
        """The size {LONG}."""
    def _inner(self):
        """Private {LONG}."""
    class Drawer:
        """A drawer {LONG}."""
''',
    "shelf/tests/helper.py": f'def help_tests():\n    """For tests {LONG}."""\n',
    "shelf/broken.py": f'def broken(:\n    """Broken {LONG}."""\n',
    "shelf/surrogate.py": f"def odd():\n    \"Half \\ud800 a character {LONG}.\" \n    ''' '''\n",
}


def install(folder: Path, name: str, sources: dict[str, str], version: str = "1.0", record: bool = True) -> None:
    for path, text in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    readme = f"A README of {name} {LONG}."
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n{readme}\n")
    if record:
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*sources, f"{info.name}/METADATA"]))


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    install(tmp_path, "shelf", SOURCES)
    (tmp_path / "shelf" / "latin.py").write_bytes(f'def \xe9():\n    """Latin {LONG}."""'.encode("latin-1"))
    record = tmp_path / "shelf-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + "shelf/latin.py,,\nshelf/gone.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_users_import_is_a_document_under_the_name_they_use(shelf):
    library = read_library(["shelf"])
    found = {document.qualified_name: document for document in library.documents}
    assert {name: document.kind for name, document in found.items()} == {
        "shelf README": "readme",
        "shelf": "module",
        "shelf.place": "function",
        "shelf.Case": "class",
        "shelf.Case.size": "method",
    }
    put = found["shelf.place"]
    assert put.text == f"shelf.place(book, *more, where, **kwargs)\n\nPut a book {LONG}.\n\nAn indented line."
    assert (put.package, put.version, put.source) == ("shelf", "1.0", "shelf/_core.py")
    assert found["shelf.Case"].signature == "(width, depth, *, height)"
    assert found["shelf.Case.size"].body == f"The size {LONG}.", "the getter, not the setter; its twin is dropped"
    assert library.repeated == 1 and library.left_out == {}


def test_nothing_is_imported_and_files_that_are_no_python_are_named(shelf):
    unreadable = read_library(["shelf"]).unreadable
    assert not [name for name in sys.modules if name.split(".")[0] == "shelf"]
    # Newer finders leave files out of the list that are listed and not there.
    assert set(unreadable) - {"shelf/gone.py"} == {"shelf/broken.py", "shelf/latin.py"}
    assert unreadable["shelf/broken.py"].startswith("SyntaxError: ")
    assert unreadable["shelf/latin.py"].startswith("UnicodeDecodeError: ")


def test_a_package_that_cannot_be_read_is_left_out_and_named(shelf):
    install(shelf, "listless", {"listless.py": '"""x"""'}, record=False)
    install(shelf, "wordless", {"wordless.py": "def f():\n    return 1\n"})
    (shelf / "wordless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wordless\nVersion: 1.0\n")
    library = read_library(["shelf", "listless", "wordless", "no-such-package", ""])
    assert {document.package for document in library.documents} == {"shelf"}
    assert set(library.left_out) == {"listless", "wordless", "no-such-package", ""}
    assert library.left_out["no-such-package"] == "not installed"
    with pytest.raises(InputError, match="no-such-package: not installed"):
        read_library(["no-such-package"])


def test_ids_and_hashes_tell_new_from_changed_from_unchanged(shelf, monkeypatch):
    before = {document.id: document.content_hash for document in read_library(["shelf"]).documents}
    assert all(len(hashed) == 16 for hashed in before.values())
    newer = shelf / "newer"
    sources = SOURCES | {"shelf/_core.py": SOURCES["shelf/_core.py"].replace("Put a book", "Put books")}
    install(newer, "shelf", sources, version="2.0")
    monkeypatch.syspath_prepend(newer)
    documents = read_library(["shelf"]).documents
    assert {document.version for document in documents} == {"2.0"}
    after = {document.id: document.content_hash for document in documents}
    changed = {name for name in before if before[name] != after[name]}
    assert set(before) == set(after) and changed == {"shelf/shelf.place"}


def test_a_part_takes_the_packages_in_turn_and_what_is_near_the_top_first():
    def document(package: str, name: str) -> LibraryDocument:
        return LibraryDocument(package, "1", name, "function", "()", f"{name} body", "x.py")

    deep = [document("a", f"a.b.c.f{i}") for i in range(9)]
    documents = [*deep, document("a", "a.top"), document("b", "b.x.y"), document("b", "b.one")]
    names = [chosen.qualified_name for chosen in choose_documents(documents, 5)]
    assert names == ["a.top", "b.one", "a.b.c.f0", "b.x.y", "a.b.c.f1"]
    assert choose_documents(documents[::-1], 3) == [documents[11], documents[9], documents[10]]
    assert sorted(d.id for d in choose_documents(documents, 99)) == sorted(d.id for d in documents)


def test_written_as_lines_as_parquet_and_as_files(shelf):
    documents = read_library(["shelf"]).documents
    rows = [json.loads(line) for line in write_jsonl(documents, shelf / "out" / "d.jsonl").open(encoding="utf-8")]
    table = pq.read_table(write_parquet(documents, shelf / "out" / "d.parquet")).to_pylist()
    assert rows == table == [document.row() for document in documents]
    assert {"id", "package", "version", "qualified_name", "kind", "text", "content_hash"} <= set(rows[0])
    paths = write_files(documents, shelf / "files")
    assert len(set(paths.values())) == len(documents)
    assert [paths[document.id].read_text(encoding="utf-8") for document in documents] == [d.text for d in documents]
    times = [path.stat().st_mtime_ns for path in paths.values()]
    write_files(documents, shelf / "files")
    assert [path.stat().st_mtime_ns for path in paths.values()] == times, "unchanged files keep their time"


def test_installed_packages_are_read_as_they_are():
    library = read_library(["langgraph", "click", "fastapi"])
    names = {document.qualified_name for document in library.documents}
    assert {"langgraph.graph.StateGraph.compile", "click.option", "fastapi.FastAPI", "click README"} <= names
    assert len({document.id for document in library.documents}) == len(library.documents) > 300
    assert {document.kind for document in library.documents} == set(KINDS)
    assert all(len(document.body.split()) >= LEAST_WORDS for document in library.documents)
    assert library.left_out == {} and not [name for name in names if "._" in name]
