"""Greetings, summaries, and an honest answer to everything that the mock cannot do."""

import re

from .text import content_words, overlap, sentences, shorten

_GREETING = re.compile(
    r"^\s*(?:hello|hi|hey|good (?:morning|afternoon|evening)|greetings)\b[\s\w,]{0,20}[!.]?\s*$", re.I
)
_THANKS = re.compile(r"^\s*(?:thanks|thank you|many thanks|great, thanks|cheers|ok thanks)\b[^?]{0,40}$", re.I)
_HOW = re.compile(r"\bhow are you\b|\bhow do you do\b", re.I)
_WHO = re.compile(
    r"\bwho are you\b|\bwhat are you\b|\bwhat can you do\b|\bare you (?:an? )?(?:ai|bot|human|" r"robot|model|real)\b",
    re.I,
)
_SUMMARY = re.compile(r"\b(?:summari[sz]e|summary|tl;?dr|in a nutshell|key points|main points)\b", re.I)
_ORDER = re.compile(
    r"^\s*(?:please )?(?:summari[sz]e|write|give|provide|create|text|document|article|"
    r"conversation|summary|tl;?dr|you are)\b[^\n]*?(?::\s*|\n|(?<=[.])\s)",
    re.I,
)
ABOUT = (
    "a small rule-based mock model: I label sentiment, answer from passages, call tools, judge "
    "answers and improve prompts"
)


def talk(text: str) -> str | None:
    """An answer to small talk, or None when the text is something else."""
    if _HOW.search(text):
        return "I am running as usual, thank you. What can I do for you?"
    if _GREETING.match(text):
        return "Hello. What can I do for you?"
    if _THANKS.match(text):
        return "You are welcome."
    if _WHO.search(text):
        return f"I am {ABOUT}."
    return None


def asks_for_summary(frame: str) -> bool:
    """Whether the instructions ask for a summary."""
    return bool(_SUMMARY.search(frame))


def summarise(text: str, limit: int = 2) -> str:
    """The lead sentence and those that share most words with the rest of the text, in their order."""
    found = [s for s in sentences(_ORDER.sub("", text, count=1)) if len(s.split()) > 2]
    if len(found) <= limit:
        return " ".join(found) or shorten(text)
    everything = content_words(" ".join(found))
    central = {concept for concept in everything if everything.count(concept) > 1}
    ranked = sorted(range(1, len(found)), key=lambda i: -overlap(central, content_words(found[i])))
    return " ".join(found[i] for i in sorted([0, *ranked[: limit - 1]]))


def admit(text: str) -> str:
    """The honest answer to a request that no rule covers."""
    return f"I am {ABOUT}. I have no rule for this request: {shorten(text, 80)}"
