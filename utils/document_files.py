"""Documents of a folder: which files there are, and their text. A file that cannot be read is reported, never fatal."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class UnreadableDocument(Exception):
    """This one file has no text that could be used; the message says why."""


@dataclass(frozen=True)
class DocumentFile:
    """A file to read. `name` is its path inside the folder, with forward slashes: what a gold document is called."""

    name: str
    path: str


def list_documents(folder: Path) -> list[DocumentFile]:
    """The documents below a folder, sorted by name. Links that lead out of it are not followed, hidden files left out.

    Raises:
        InputError: no such folder, or no document in it.
    """
    if not folder.is_dir():
        problem = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise InputError(problem, "--docs-path FOLDER, or --create-sample-docs to begin with the sample documents")
    found = sorted(_walk(folder.resolve()), key=lambda file: file.name)
    if not found:
        kinds = ", ".join(sorted(READERS))
        raise InputError(
            f"{folder} holds no documents ({kinds})", "--create-sample-docs writes the sample documents there"
        )
    return found


def read_document(path: str) -> str:
    """The text of a file.

    Raises:
        UnreadableDocument: no permission, not UTF-8, a broken PDF, or nothing in it.
    """
    try:
        text = READERS[Path(path).suffix.lower()](Path(path))
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UnreadableDocument(error.strerror or str(error)) from error
    if not text.strip():
        raise UnreadableDocument("no text in it")
    return text


def read_partition(batches: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
    """For Spark's mapInPandas: DataFrame[name, path] to DataFrame[document, text, error], one row per file."""
    import pandas as pd

    for batch in batches:
        rows = []
        for name, path in zip(batch["name"], batch["path"], strict=True):
            try:
                rows.append({"document": name, "text": read_document(path), "error": None})
            except UnreadableDocument as error:
                rows.append({"document": name, "text": None, "error": str(error)})
        yield pd.DataFrame(rows, columns=["document", "text", "error"])


def _walk(root: Path) -> Iterator[DocumentFile]:
    for folder, subfolders, names in os.walk(root, onerror=_cannot_list):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder) / name
            # A pipe or a device would be waited for.
            inside = path.is_file() and path.resolve().is_relative_to(root)
            if inside and not name.startswith(".") and path.suffix.lower() in READERS:
                yield DocumentFile(path.relative_to(root).as_posix(), str(path))


def _cannot_list(error: OSError) -> None:
    problem = f"cannot list the folder {error.filename}: {error.strerror}"
    raise InputError(problem, "check its permissions") from error


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _read_html(path: Path) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(_read_text(path), "html.parser")
    for element in soup(["script", "style"]):
        element.decompose()
    return soup.get_text("\n", strip=True)


def _read_pdf(path: Path) -> str:
    from pypdf import PdfReader

    try:
        text = "\n\n".join(page.extract_text() for page in PdfReader(path).pages)
    except OSError:
        raise
    except Exception as error:  # broken files make pypdf raise far more than its own errors
        raise UnreadableDocument(f"broken PDF ({type(error).__name__})") from error
    # A wrong character map yields halves of characters, which no UTF-8 can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


READERS = {
    ".txt": _read_text,
    ".md": _read_text,
    ".rst": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
}


def read_folder(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """All documents below a folder: name → text, and for those that cannot be read name → why.

    Raises:
        InputError: no such folder, no document in it, or none that can be read.
    """
    texts, unreadable = {}, {}
    for file in list_documents(folder):
        try:
            texts[file.name] = read_document(file.path)
        except UnreadableDocument as error:
            unreadable[file.name] = str(error)
    if not texts:
        reason = next(iter(unreadable.values()))
        raise InputError(f"none of the documents in {folder} can be read ({reason})", "check the files")
    return texts, unreadable
