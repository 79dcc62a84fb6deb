"""Documents of a folder: which files there are, and their text. A file that cannot be read is reported, never fatal."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


SECTION_CHARACTERS = 1_000_000  # a splitter needs many times the memory of the text that it is given at once
KINDS_CURE = "--docs-path FOLDER with txt, md, rst, html or pdf files"
SHOWN = 20  # of the files that are left out, by name


class UnreadableDocument(Exception):
    """This one file has no text that could be used; the message says why."""


@dataclass(frozen=True)
class DocumentFile:
    """A file to read. `name` is its path inside the folder, with forward slashes: what a gold document is called."""

    name: str
    path: str


@dataclass(frozen=True)
class Listing:
    """files: what can be tried, sorted by name. left_out: name → why it is not even tried."""

    files: list[DocumentFile]
    left_out: dict[str, str] = field(default_factory=dict)


def scan_folder(folder: Path) -> Listing:
    """The documents below a folder. Links that lead out of it are left out and named, hidden files passed over.

    Raises:
        InputError: no such folder, one in it that cannot be listed, or no document in it.
    """
    if not folder.is_dir():
        problem = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise InputError(problem, "--docs-path FOLDER, or --create-sample-docs to begin with the sample documents")
    left_out: dict[str, str] = {}
    found = sorted(_walk(folder.resolve(), left_out), key=lambda file: file.name)
    if not found:
        kinds = ", ".join(sorted(READERS))
        reasons = "".join(f"; {name} is {reason}" for name, reason in sorted(left_out.items())[:1])
        raise InputError(
            f"{folder} holds no documents ({kinds}){reasons}", "--create-sample-docs writes the sample documents there"
        )
    return Listing(found, left_out)


def list_documents(folder: Path) -> list[DocumentFile]:
    """The files of scan_folder, for callers that report nothing."""
    return scan_folder(folder).files


def left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    """What to print about documents that are not used: the first ones by name, and how many more there are."""
    lines = [f"left out {name}: {reason}" for name, reason in sorted(left_out.items())]
    more = len(lines) - SHOWN
    return lines if more <= 1 else [*lines[:SHOWN], f"left out {more:,} more"]


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


def hash_file(path: str) -> str:
    """SHA-256 of the bytes, in hexadecimal; the same for a file that was only touched or copied.

    Raises:
        UnreadableDocument: no permission, or it is gone.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableDocument(error.strerror or str(error)) from error


def read_with_hash(path: str) -> tuple[str, str]:
    """hash_file and read_document: the hash is taken first, so that a file which changes meanwhile is read again later.

    Raises:
        UnreadableDocument: as these two.
    """
    return hash_file(path), read_document(path)


def cut_sections(text: str, characters: int = SECTION_CHARACTERS) -> Iterator[str]:
    """The text in pieces of at most so many characters, cut at the end of a paragraph, else of a line, else of a word.

    Joined, they are the text again.
    """
    start = 0
    while len(text) - start > characters:
        end = start + characters
        for mark in ("\n\n", "\n", " "):
            # Not at the very beginning of the piece, which would make no progress.
            if (found := text.rfind(mark, start + 1, end)) > 0:
                end = found + len(mark)
                break
        yield text[start:end]
        start = end
    yield text[start:]


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


def hash_partition(batches: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
    """For Spark's mapInPandas: DataFrame[name, path] to DataFrame[name, content_hash, error], one row per file."""
    import pandas as pd

    for batch in batches:
        rows: list[tuple[str, str | None, str | None]] = []
        for name, path in zip(batch["name"], batch["path"], strict=True):
            try:
                rows.append((name, hash_file(path), None))
            except UnreadableDocument as error:
                rows.append((name, None, str(error)))
        yield pd.DataFrame(rows, columns=["name", "content_hash", "error"])


def _walk(root: Path, left_out: dict[str, str]) -> Iterator[DocumentFile]:
    for folder, subfolders, names in os.walk(root, onerror=_cannot_list):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in (*subfolders, *names):
            path = Path(folder) / name
            is_folder = path.is_dir()
            wanted = path.is_symlink() if is_folder else path.suffix.lower() in READERS
            if name.startswith(".") or not wanted:
                continue
            shown = os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
            if reason := "a link to a folder" if is_folder else _not_to_be_tried(path, root):
                left_out[shown] = reason
            else:
                yield DocumentFile(shown, str(path))


def _not_to_be_tried(path: Path, root: Path) -> str | None:
    """Why this file is not opened; None for a regular one inside the folder."""
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a link to itself
            return "a link to nothing"
        if not target.is_relative_to(root):
            return "a link that leads out of the folder"
    if not path.is_file():
        return "no regular file"  # a pipe or a device would be waited for
    if not _is_text(str(path)):
        return "a file whose name is not UTF-8"
    return None


def _is_text(name: str) -> bool:
    """Python stands in for bytes of a name that are no UTF-8 with halves of characters, which Spark cannot carry."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in name)


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
