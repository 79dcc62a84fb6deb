"""Keyword search over a folder of documents, for agents: titles and snippets, never a file outside the folder.

Documents are read once, through list_documents, which follows no link that leads out. A query is words to look for and
a name is looked up among the names that were read, so that no text a model sends ever becomes a path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.document_files import UnreadableDocument, list_documents, read_document
from utils.errors import InputError

SNIPPET_CHARACTERS = 240
WORD = r"(?u)\b\w[\w.]*\w\b"  # a name such as mlflow.trace is one word


@dataclass(frozen=True)
class Hit:
    """A document that a search found. `document` is its path inside the folder; score: 0 to 1, cosine."""

    document: str
    title: str
    snippet: str
    score: float


class DocumentSearch:
    """The texts of a folder and their words. unreadable: file name → why it was left out."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            InputError: there is no such folder, or nothing in it can be read.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.texts: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        for file in list_documents(folder):
            try:
                self.texts[file.name] = read_document(file.path)
            except UnreadableDocument as error:
                self.unreadable[file.name] = str(error)
        if not any(text.strip() for text in self.texts.values()):
            raise InputError(f"no document of {folder} can be read", "--docs-path FOLDER of UTF-8 texts")
        self._passages = [(name, part) for name, text in self.texts.items() for part in _paragraphs(text)]
        self._vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", token_pattern=WORD)
        self._matrix = self._vectorizer.fit_transform(
            f"{title_of(self.texts[name])} {part}" for name, part in self._passages
        )

    def search(self, query: str, limit: int = 3) -> list[Hit]:
        """The documents with the best paragraph for these words, best first; none when no word occurs."""
        scores = (self._matrix @ self._vectorizer.transform([query[:1000]]).T).toarray()[:, 0]
        best: dict[str, Hit] = {}
        for index in scores.argsort(kind="stable")[::-1]:
            name, part = self._passages[index]
            if scores[index] <= 0 or len(best) >= max(limit, 1):
                break
            best.setdefault(
                name, Hit(name, title_of(self.texts[name]), _snippet(part, query), round(float(scores[index]), 4))
            )
        return list(best.values())

    def read(self, document: str) -> str:
        """The whole text of a document, by its name as a search gave it; "error: …" for any other name."""
        if document not in self.texts:
            return f"error: there is no document {document[:80]!r} in the folder"
        return self.texts[document]


def search_tool(folder: Path | None = None) -> Any:
    """The search as a LangChain tool over a folder, by default the sample documents. Its text is for the model; the
    names of the files stay beside it, as the artifact of the tool's message.

    Raises:
        InputError: as DocumentSearch.
    """
    from langchain_core.tools import tool

    from utils.sample_documents import CORPUS

    documents = DocumentSearch(folder or CORPUS)

    @tool(response_format="content_and_artifact")
    def search_documents(query: str) -> tuple[str, list[str]]:
        """Search the documents for keywords; returns file names and snippets."""
        hits = documents.search(query)
        text = "\n".join(f"[{hit.document}] {hit.snippet}" for hit in hits)
        return text or "No document holds these words.", [hit.document for hit in hits]

    return search_documents


def title_of(text: str) -> str:
    """The first line that is not empty, without the marks of a heading."""
    return next((line.strip("# ").strip() for line in text.splitlines() if line.strip()), "")


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs that say something; a heading joins the one after it."""
    heading = ""
    for part in text.split("\n\n"):
        plain = " ".join(part.split())
        if plain.startswith("#") or (plain and len(plain) < 60 and not plain.endswith((".", ":", "?"))):
            heading = plain.strip("# ")
        elif plain:
            yield f"{heading}: {plain}" if heading else plain
            heading = ""
    if heading:
        yield heading


def _snippet(text: str, query: str) -> str:
    """The part of the text that begins a little before the rarest-looking (longest) word of the query in it."""
    if len(text) <= SNIPPET_CHARACTERS:
        return text
    found = [
        place
        for word in sorted(query.split(), key=len, reverse=True)
        if (place := text.lower().find(word.lower().strip("?.,!"))) >= 0
    ]
    start = max(0, found[0] - SNIPPET_CHARACTERS // 2) if found else 0
    start = text.find(" ", start) + 1 if start else 0
    cut = text[start : start + SNIPPET_CHARACTERS]
    after = f"{cut.rsplit(' ', 1)[0]} …" if start + SNIPPET_CHARACTERS < len(text) else cut
    return f"… {after}" if start else after
