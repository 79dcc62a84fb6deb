"""Chat memory: what was said before, and what a follow-up question refers to."""

import re

from .prompt import Message, Prompt
from .text import STOP_WORDS, content_words, overlap, sentences, words

_PRONOUN = re.compile(
    r"\b(its|it|they|them|their|he|she|him|his|her|those|these|this one|that one|this|"
    r"that)\b(?! \w+ (?:is|was|are)\b)",
    re.I,
)
_POSSESSIVE = ("its", "their", "his", "her")
_ELLIPSIS = re.compile(
    r"^\s*(?:and |so |ok |okay )*(?:what|how) about\s+(.+?)\s*\??\s*$|^\s*and\s+(?:for |in |"
    r"with |on )?(.+?)\s*\?\s*$",
    re.I,
)
# What begins a question of its own, also behind an "and"; "what about" does not.
_CLAUSE = (
    r"(?:how (?!about\b)|what (?!about\b)|where|when|why|who|which|is|are|was|were|does|do|did|can|could|should|will|"
    r"must|may)\b"
)
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w-]+(?:\s+(?:of |the )?[A-Z][\w-]+)*")
_HISTORY = re.compile(
    r"chat history>?\s*:?\s*\n?(.*?)\n\s*<?(?:follow[ -]up (?:input|question|message)|latest "
    r"question|new question)>?\s*:?\s*(.+?)(?:\n\s*<?standalone|\n\s*\n|\Z)",
    re.I | re.S,
)
_REWRITE = re.compile(
    r"\bstandalone (?:question|query)|\b(?:rephrase|rewrite|reformulate)\b.{0,60}\b(?:question|"
    r"query|follow[- ]up|message)|\bcondense\b.{0,40}\bquestion",
    re.I | re.S,
)
_SPOKEN = re.compile(r"^\s*(human|user|assistant|ai|bot)\s*:\s*(.*)$", re.I)
_FACT = re.compile(
    r"\b(?:my [\w ]{2,40}? (?:is|are|was)\b|i am\b|i'm\b|i live\b|i work\b|i like\b|i love\b|i "
    r"prefer\b|i have\b|i bought\b|i need\b|call me\b|we are\b|our [\w ]{2,30}? (?:is|are)\b)",
    re.I,
)
_RECALL = re.compile(
    r"\b(?:what|which|who|where|when|how (?:many|old|much))(?:'s|\b).{0,40}\b(?:my|i|me|we|"
    r"our)\b|\b(?:do you )?remember\b|\b(?:did|have) i (?:tell|told|say|said|mention|ask)",
    re.I,
)
_OWN_DOING = re.compile(r"\b(?:can|could|should|do|must|may|would|shall) (?:i|we)\b|\bhow (?:do|can|should)\b", re.I)
_TURNED = {
    "my": "your",
    "i": "you",
    "me": "you",
    "mine": "yours",
    "am": "are",
    "i'm": "you are",
    "our": "your",
    "we": "you",
    "myself": "yourself",
}


def standalone(question: str, turns: tuple[Message, ...]) -> str:
    """The question with its pronouns, or its missing half, filled in from the user's earlier questions."""
    asked = [turn.text for turn in turns if turn.role == "user"]
    if not asked:
        return question
    question = re.sub(rf"^\s*(?:and|but|so)\s+({_CLAUSE})", lambda m: m[1].capitalize(), question, flags=re.I)
    ellipsis = None if re.match(_CLAUSE, question, re.I) else _ELLIPSIS.match(question)
    if ellipsis:
        return _complete(asked[-1], (ellipsis[1] or ellipsis[2]).strip())
    pronoun = next((m for m in _PRONOUN.finditer(question)), None)
    topic = next((found for found in map(find_topic, reversed(asked)) if found), "")
    if not pronoun or not topic or _NAME.search(question[: pronoun.start()]):
        return question
    filling = f"{topic}'s" if pronoun[1].lower() in _POSSESSIVE else topic
    return question[: pronoun.start()] + filling + question[pronoun.end() :]


def _complete(previous: str, subject: str) -> str:
    """The previous question asked about another subject: in place of the words that the subject is like, or of what
    the question was about."""
    owned = re.match(rf"({'|'.join(_POSSESSIVE)})\s+(.+)", subject, re.I)
    bare = owned[2] if owned else subject
    alike = re.search(rf"(?:[\w-]+ )?\b{re.escape(bare.split()[-1])}\b", previous, re.I)
    if alike and len(bare.split()) > 1:  # "the first version", "its second version"
        return previous.replace(alike[0], bare)
    topic = find_topic(previous)
    if owned:
        beside = re.search(rf"\b{owned[1]} [\w-]+", previous, re.I)
        part = re.search(rf"[\w-]+(?= of (?:an? |the )?{re.escape(topic)}\b)", previous) if topic else None
        if found := beside or part:  # "its numbers", or "the identifier of a trace"
            return previous.replace(found[0], f"{owned[1]} {bare}" if beside else bare)
        return f"What is {topic}'s {bare}?" if topic else f"{previous.rstrip(' ?')} for {subject}?"
    if topic and topic in previous:
        return previous.replace(topic, re.sub(r"^the ", "", subject) if f"the {topic}" in previous else subject)
    return f"{previous.rstrip(' ?')} for {subject}?"


def find_topic(question: str) -> str:
    """The noun phrase that a question is about: a name, else what follows of, for or about, else its longest
    run of content words."""
    names: list[str] = _NAME.findall(question)
    name = max(names, key=len, default="")
    if name:
        return name
    behind = re.search(
        r"\b(?:about|of|for|with|on) (?:the |a |an |my |your |our )?((?:[\w-]+ ?){1,4})\??\s*$",
        question,
        re.I,
    )
    if behind and not set(behind[1].lower().split()) <= STOP_WORDS | {"it"}:
        return behind[1].strip()
    runs: list[list[str]] = [[]]
    for word in re.findall(r"[\w'-]+|[,.;?]", question):
        if word.lower() in STOP_WORDS or not word[0].isalnum():
            runs.append([])
        else:
            runs[-1].append(word)
    return max((" ".join(run) for run in runs), key=lambda run: run.count(" ") + bool(run))


def asks_for_rewrite(frame: str) -> bool:
    """Whether the instructions ask for a standalone version of a follow-up question."""
    return bool(_REWRITE.search(frame))


def rewrite(prompt: Prompt) -> str:
    """The follow-up question as a standalone one, from the history in the text or in the messages."""
    shown = _HISTORY.search(prompt.user) or _HISTORY.search(f"{prompt.system}\n{prompt.user}")
    if not shown:
        return standalone(prompt.user.strip(), prompt.turns)
    turns = []
    for line in shown.group(1).splitlines():
        spoken = _SPOKEN.match(line)
        if spoken:
            role = "user" if spoken.group(1).lower() in ("human", "user") else "assistant"
            turns.append(Message(role, spoken.group(2)))
    return standalone(re.sub(r"^(?:human|user)\s*:\s*", "", shown.group(2).strip(), flags=re.I), tuple(turns))


def recall(prompt: Prompt) -> str | None:
    """What the user said about themselves earlier, when they ask for it; None when they do not ask."""
    question = prompt.bare_user
    if not _asks_back(question):
        return None
    if told := told_before(prompt):
        return told
    if re.search(r"\bmy (?:name|\w+ (?:number|name|address))|\bdid i\b|\bhave i\b|\bremember\b", question, re.I):
        return "I do not know: you have not told me in this conversation."
    return None


def told_before(prompt: Prompt) -> str | None:
    """The answer that an earlier turn holds, when the user asks for what they said; None when none does."""
    question = prompt.bare_user
    if not _asks_back(question):
        return None
    told = [s for turn in prompt.turns if turn.role == "user" for s in sentences(turn.text) if not s.endswith("?")]
    told = [sentence for sentence in told if _FACT.search(sentence)]
    wanted = personal_words(question)
    best = max(told, key=lambda s: overlap(wanted, personal_words(s)), default="")
    if best and (overlap(wanted, personal_words(best)) > 0.3 or _named(question, best)):
        return f"You told me: {turn_around(best)}"
    return None


def _asks_back(question: str) -> bool:
    return bool(
        _RECALL.search(question)
        and not _OWN_DOING.search(question)
        and ("?" in question or "remember" in question.lower())
    )


def _named(question: str, sentence: str) -> bool:
    return "name" in question.lower() and bool(re.search(r"\b(?:my name is|i am|i'm|call me)\s+\w", sentence, re.I))


def personal_words(text: str) -> list[str]:
    """Content words, and "name", which elsewhere says too little to count."""
    return content_words(text) + [word for word in words(text) if word == "name"]


def turn_around(sentence: str) -> str:
    """A sentence in the first person said back in the second."""
    turned = re.sub(r"\b(?:I'm|I|my|me|mine|am|our|we|myself)\b", lambda m: _TURNED[m[0].lower()], sentence, flags=re.I)
    return turned[:1].lower() + turned[1:]


def state_facts(text: str) -> str | None:
    """An acknowledgement, when the user tells something about themselves and asks nothing."""
    if "?" in text or not _FACT.search(text):
        return None
    fact = next(s for s in sentences(text) if _FACT.search(s))
    return f"Noted: {turn_around(fact)}"


def plays_user(prompt: Prompt) -> bool:
    """Whether the prompt asks to play the user of an assistant, as MLflow's ConversationSimulator does."""
    return "role-play" in prompt.user and "<goal>" in prompt.user


def play_user(prompt: Prompt) -> str:
    """The next question of a user on the way to the goal: one part of the goal per turn."""
    goal = re.search(
        r"<goal>\s*(?:Your underlying goal in this conversation is:)?\s*(.*?)\s*</goal>", prompt.user, re.S
    )
    parts = [
        part
        for part in re.split(r",\s*(?:and\s+)?|\s+and\s+|(?<=\.)\s+", goal.group(1) if goal else "")
        if part.strip()
    ]
    asked = len(re.findall(r"^\s*\W{0,2}user\W{0,2}\s*:", prompt.user, re.M | re.I))
    part = (parts or ["this"])[min(asked, max(0, len(parts) - 1))].strip(" .")
    part = re.sub(
        r"^(?:to )?(?:learn|understand|find out|know|get help(?: with)?|figure out|" r"decide)\s+(?:about\s+)?",
        "",
        part,
        flags=re.I,
    )
    if re.match(r"how to ", part, re.I):
        return f"How do I {part[7:]}?"
    if re.match(
        r"(?:(?:at|by|for|from|in|on|to|with) )?(?:what|who|when|where|how|which|why|whether|if)\b", part, re.I
    ):
        return f"Can you tell me {part}?"
    return f"What can you tell me about {part}?"
