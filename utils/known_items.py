"""Questions whose right document is known because they were made from it, and texts that do not give them away.

A document's summary (the first sentence of its docstring) becomes the question: somebody looks for what it describes.
Searched as it stands, the document is found by its own words, and the score says nothing. A masked text has lost its
title and its summary, and every run of RUN words that stands in a question, its own or another: what is left to be
found is what the rest of the documentation says.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from utils.library_corpus import LibraryDocument
from utils.questions import Question

RUN = 4  # words; shorter ones ("of the run") are anybody's
LEAST_QUESTION, MOST_QUESTION = 6, 30  # words
LEAST_REST = 15  # words that a document must have left besides its summary
KNOWN_ITEM = "known-item"
_WORD = re.compile(r"\w+")
_SUMMARY_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n|\n(?=\s*(?:[-*>.]|\w+:\s*$|-{3}|={3}))", re.M)


def split_summary(body: str) -> tuple[str, str]:
    """The first sentence of a docstring on one line, and what follows it."""
    body = body.strip()
    end = _SUMMARY_END.search(body)
    summary, rest = (body[: end.start()], body[end.end() :]) if end else (body, "")
    return " ".join(summary.split()), rest


def make_questions(documents: Sequence[LibraryDocument], number: int, seed: int = 0) -> list[Question]:
    """At most `number` questions, drawn with the seed from documents whose summary is theirs alone.

    gold_document is the document's id. Left out: READMEs and modules, summaries that are too short to ask for one
    thing, that two documents share, or that have less than LEAST_REST words after them.
    """
    summaries = {document.id: split_summary(document.body) for document in documents}
    shared = Counter(_key(summary) for summary, _ in summaries.values())
    fit = [
        document
        for document in documents
        if document.kind not in ("readme", "module") and _is_fit(*summaries[document.id], shared)
    ]
    drawn = random.Random(seed).sample(fit, min(number, len(fit)))
    return [
        Question(document.id, summaries[document.id][0], document.id, summaries[document.id][0], "", KNOWN_ITEM)
        for document in drawn
    ]


def mask(documents: Iterable[LibraryDocument], questions: Sequence[Question]) -> dict[str, str]:
    """Document id → its text without title, summary and every run of RUN words of a question; may be empty."""
    runs = {run for question in questions for run in _runs(_words(question.question))}
    return {document.id: _without_runs(split_summary(document.body)[1], runs) for document in documents}


def leaks(texts: Iterable[str], questions: Sequence[Question]) -> int:
    """How many runs of RUN consecutive words in these texts stand in a question; 0 for masked ones."""
    runs = {run for question in questions for run in _runs(_words(question.question))}
    return sum(run in runs for text in texts for run in _runs(_words(text)))


def _without_runs(text: str, runs: set[tuple[str, ...]]) -> str:
    while True:
        places = list(_WORD.finditer(text))
        words = [place[0].lower() for place in places]
        taken = {
            index
            for start, run in enumerate(zip(*(words[shift:] for shift in range(RUN)), strict=False))
            if run in runs
            for index in range(start, start + RUN)
        }
        if not taken:
            return text
        # Words that were apart are neighbours now: they may form another run.
        for index in sorted(taken, reverse=True):
            text = text[: places[index].start()] + text[places[index].end() :]


def _is_fit(summary: str, rest: str, shared: Counter[str]) -> bool:
    words = len(_words(summary))
    alone = shared[_key(summary)] == 1
    return alone and LEAST_QUESTION <= words <= MOST_QUESTION and len(_words(rest)) >= LEAST_REST


def _key(summary: str) -> str:
    return " ".join(_words(summary))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[shift:] for shift in range(RUN)), strict=False)
