"""The documentation of installed packages as a folder of files, for lessons that index files."""

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from utils.document_files import DocumentFile, scan_folder
from utils.library_corpus import PACKAGES, choose_documents, read_library, write_files
from utils.mlflow_setup import STATE_DIR

LIBRARY = STATE_DIR / "library-files"
ORDER = "order.json"


@dataclass(frozen=True)
class Sources:
    """Documents to index. left_out: name → why it is not even tried. described: in words."""

    folder: Path
    files: list[DocumentFile]
    left_out: dict[str, str]
    described: str


def list_sources(folder: Path | None, number: int) -> Sources:
    """The documents of the learner's folder; without one, `number` documents of the installed packages.

    Raises:
        InputError: there are none.
    """
    if folder is not None:
        listing = scan_folder(folder)
        return Sources(folder, listing.files, listing.left_out, f"{len(listing.files):,} documents in {folder}")
    library = library_files(LIBRARY, number)
    described = f"{len(library.files):,} of {library.total:,} documents of the installed packages"
    return Sources(LIBRARY, library.files, {}, described)


@dataclass(frozen=True)
class LibraryFiles:
    """files: sorted by name. total: how many documents there are. reused: nothing had to be read from the sources."""

    files: list[DocumentFile]
    total: int
    reused: bool


def library_files(folder: Path, number: int) -> LibraryFiles:
    """`number` documents as text files below `folder`: written when they are missing or a package was upgraded.

    A file that somebody has changed stays as it is until then. Reading all sources takes some ten seconds.

    Raises:
        InputError: not one of the packages could be read.
    """
    known = _read_order(folder)
    if known.get("versions") == _versions() and min(number, known["total"]) <= len(known["names"]):
        names = known["names"][:number]
        if all((folder / name).is_file() for name in names):
            return LibraryFiles(_files(folder, names), known["total"], True)
    documents = read_library().documents
    chosen = choose_documents(documents, number)
    written = write_files(chosen, folder)
    names = [written[document.id].relative_to(folder).as_posix() for document in chosen]
    content = {"versions": _versions(), "total": len(documents), "names": names}
    (folder / ORDER).write_text(json.dumps(content, indent=0), encoding="utf-8")
    return LibraryFiles(_files(folder, names), len(documents), False)


def _files(folder: Path, names: list[str]) -> list[DocumentFile]:
    # Two names that were cut to the same length would be one file.
    return [DocumentFile(name, str((folder / name).absolute())) for name in sorted(set(names))]


def _versions() -> dict[str, str | None]:
    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: installed(package) for package in PACKAGES}


def _read_order(folder: Path) -> dict:
    try:
        found = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # to be written anew
    return found if isinstance(found, dict) and {"versions", "total", "names"} <= found.keys() else {}
