"""Answering a question from the passages in the prompt, and saying so when they do not hold the answer."""

import re

from .conversation import standalone
from .evidence import Evidence, find_evidence, lacks_number, missing_names
from .passages import Passage
from .prompt import Prompt
from .style import read_style
from .text import content_words, overlap, sentences

UNKNOWN = "I do not know: the passages do not contain the answer."
NO_PASSAGES = "I do not know: I was given no passages to answer from, and I have no knowledge of my own."

_QUESTION = re.compile(
    r"^[ \t]*(?:question|query|user question|user query|user input|q|standalone question|the "
    r"original query is as follows)\s*:[ \t]*(.+?)"
    r"(?=\n[ \t]*(?:answer|helpful answer|original answer|refined answer|we have|a)\b[^\n]{0,60}|\n\s*\n|\Z)",
    re.M | re.I | re.S,
)
_EXISTING = re.compile(
    r"(?:existing|original) answer:\s*(.+?)(?=\n\s*we have the opportunity|\n-{5,}|\n\s*given "
    r"the|\n\s*new answer|\Z)",
    re.I | re.S,
)
_STRICT = re.compile(
    r"\bonly (?:use |from |on |the |with |using )|\b(?:do not|don't|cannot|can't) know\b|\bnot "
    r"prior knowledge\b|\bdo(?:n't| not) (?:guess|make)|\bstrictly\b|"
    r"\bnot (?:contain|in the|found)\b|\bunknown\b|\bnot enough information\b|\bcannot answer\b",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:say|reply|answer|respond|write|return|output)(?: with| that)?(?: exactly| just| "
    r"only)?:?\s*[\"“'`]([^\"”`\n]{3,80}?)[\"”'`](?=[\s.,;)]|$)",
    re.I,
)
_THRESHOLDS = {
    (True, True): 0.5,
    (True, False): 0.46,
    (False, True): 0.5,
    (False, False): 0.25,
}  # (large, strict)


def answer_question(prompt: Prompt, passages: tuple[Passage, ...] = ()) -> str:
    """Answer the prompt's question from its passages, or from those given (results of tools)."""
    passages = passages or prompt.passages
    question = standalone(find_question(prompt), prompt.turns)
    existing = _EXISTING.search(prompt.frame)
    if not passages:
        return existing.group(1).strip() if existing else NO_PASSAGES
    evidence = look_up(
        question,
        passages,
        prompt.large,
        bool(_STRICT.search(prompt.frame)),
        read_style(prompt.frame).sentences,
    )
    if existing:
        return _refine(existing.group(1).strip(), evidence)
    if evidence is None:
        return refusal(prompt.frame)
    return read_style(prompt.frame).write(evidence.sentences, evidence.passage.source)


def look_up(question: str, passages: tuple[Passage, ...], large: bool, strict: bool, limit: int = 2) -> Evidence | None:
    """The evidence for an answer, or None when it covers too little of the question to answer honestly."""
    evidence = find_evidence(question, passages, large, limit)
    if evidence is None or evidence.coverage < _THRESHOLDS[large, strict]:
        return None
    if strict and (missing_names(question, passages) or lacks_number(question, evidence)):
        return None
    return evidence


def find_question(prompt: Prompt) -> str:
    """The question: the marked one, else the last sentence with a question mark, else the last user
    message."""
    marked = _QUESTION.findall(prompt.bare_user) or (_QUESTION.findall(prompt.frame) if prompt.passages else [])
    if marked:
        return marked[-1].strip()
    text = prompt.bare_user.strip()
    asked = [sentence for sentence in sentences(text) if sentence.endswith("?")]
    if asked:
        return asked[-1]
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().endswith(":")]
    return lines[-1].strip() if prompt.passages and lines else text


def refusal(frame: str) -> str:
    """The sentence for not knowing: the one that the prompt prescribes, else the usual one."""
    for match in _REFUSAL.finditer(frame):
        phrase = match.group(1).strip()
        if not re.search(r"\bdo(?:n't|n’t| not) know\b", phrase, re.I) and not re.fullmatch(r"yes|no", phrase, re.I):
            return phrase
    return UNKNOWN


def _refine(existing: str, evidence: Evidence | None) -> str:
    """LlamaIndex's refine step: the old answer, or a better one when the new context has it."""
    if evidence is None:
        return existing
    found = " ".join(evidence.sentences)
    if existing.lower().startswith("i do not know"):
        return found
    return existing if overlap(content_words(found), content_words(existing)) > 0.6 else f"{existing} {found}"
