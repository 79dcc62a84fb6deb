"""5.5a Index again, and prove that only what changed was embedded.

Add, change and delete files between two runs of an indexing job. Write the comparison that chooses what the second run
embeds and what it takes out of the index.

Run it:   uv run python spark/exercises/index_again.py
Check:    uv run mlflow-learn check 5.5a
Look at:  uv run mlflow ui  ->  5-rag  ->  Training runs  ->  index-again, and the two runs below it
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

import tempfile
from pathlib import Path

import mlflow

from utils.cli import show_table
from utils.document_files import hash_file, list_documents, read_document
from utils.exercise_cli import exercise_command
from utils.incremental_index import Content, DocumentIndex, IndexSettings
from utils.lexical import LEXICAL_DIMENSIONS, embed_lexically
from utils.sample_documents import write_documents

SETTINGS = IndexSettings(4096, 0, "lexical", "lexical", LEXICAL_DIMENSIONS)  # every document is one chunk


def choose(found: dict[str, str], stored: dict[str, str]) -> tuple[list[str], list[str]]:  # noqa: ARG001
    """Documents to embed, and documents to take out; both arguments are name → content hash, of files and of the
    index."""
    # Your turn (2): only what is new or changed is embedded, and what is gone leaves. Now all is embedded again.
    return sorted(found), []


def change_files(folder: Path) -> None:
    """What happens to the documents between the two runs."""
    # Your turn (1): add a file, change a file, delete a file.


def index_folder(folder: Path, index: DocumentIndex) -> dict[str, float]:
    """Bring the index up to date by `choose`, and count what was done and what the index holds then."""
    found = {file.name: hash_file(file.path) for file in list_documents(folder)}
    before = index.hashes()
    embed, remove = choose(dict(found), dict(before))
    index.begin()
    texts = [read_document(str(folder / name)) for name in embed]
    if embed:
        contents = [Content(name, found[name], [text]) for name, text in zip(embed, texts, strict=True)]
        index.replace(contents, embed_lexically(texts))
    index.remove(remove)
    index.end()
    after = index.hashes()
    return {
        "documents": len(found),
        "new_or_changed": sum(before.get(name) != content_hash for name, content_hash in found.items()),
        "gone": len(before.keys() - found.keys()),
        "embedded_documents": len(embed),
        "wrong_in_index": sum(after.get(name) != found.get(name) for name in after.keys() | found.keys()),
    }


@exercise_command("5.5a")
def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name, mlflow.start_run(run_name="index-again"):
        folder, index = Path(name) / "documents", DocumentIndex.open(Path(name) / "index", SETTINGS)
        write_documents(folder)
        for turn in ("first", "second"):
            with mlflow.start_run(run_name=turn, nested=True):
                measured = index_folder(folder, index)
                mlflow.log_metrics(measured)
            rows.append({"run": turn, **measured})
            change_files(folder)
    show_table(rows)


if __name__ == "__main__":
    main()
