"""Judging whole conversations: frustration, completeness, retention, role, tool use, and whether a goal was
reached."""

import re
from collections.abc import Callable

from .comparing import UNKNOWN, Finding, contradicts, relevance
from .conversation import personal_words, standalone
from .materials import Materials, read_turns
from .prompt import Message
from .sentiment import judge_text
from .text import content_words, overlap, sentences, shorten
from .tool_use import split_request

_FRUSTRATED = re.compile(
    r"\b(?:frustrat\w+|annoy\w*|ridiculous|useless|terrible|awful|still (?:not|doesn't|does "
    r"not|wrong|broken)|not what i asked|wrong again|again\?|this is (?:not|wrong)|"
    r"you(?:'re| are) not (?:helping|listening)|waste of|already (?:told|asked|said)|doesn't "
    r"work|does not work|give up|fed up|unacceptable|come on)\b",
    re.I,
)
_SATISFIED = re.compile(
    r"\b(?:thanks?|thank you|great|perfect|that helps|helpful|works now|solved|got it|"
    r"wonderful|appreciate|excellent)\b",
    re.I,
)
_TOLD = re.compile(r"\b(?:my|i am|i'm|i live|i work|i have|i prefer|i like|call me|our)\b", re.I)


def frustration(m: Materials) -> str:
    """none, resolved or unresolved, from the user's own words."""
    said = [text for role, text in read_turns(m.get("conversation")) if role == "user"]
    upset = [i for i, text in enumerate(said) if _FRUSTRATED.search(text) or judge_text(text, True).score < -1.5]
    if not upset:
        return "none"
    return "resolved" if upset[-1] < len(said) - 1 and _SATISFIED.search(said[-1]) else "unresolved"


def all_answered(m: Materials, _: bool) -> Finding:
    """Each request of the user must be taken up by a later reply."""
    turns = read_turns(m.get("conversation"))
    for place, (role, text) in enumerate(turns):
        if role != "user" or ("?" not in text and len(content_words(text)) < 3):
            continue
        earlier = tuple(Message(r, t) for r, t in turns[:place])
        replies = " ".join(t for r, t in turns[place + 1 :] if r == "assistant")
        for request in split_request(text):
            finding = relevance(standalone(request, earlier), re.sub(r"^I do not know[^.]*\.", "", replies) or replies)
            # "What is my name?" has no other word to look for.
            named = not content_words(request) and overlap(personal_words(request), personal_words(replies)) >= 0.5
            if finding.score < 0.25 and not named and not (UNKNOWN.search(replies) and len(replies) > 30):
                return Finding(0.0, f"not taken up: {shorten(request, 60)!r}; {finding.reason}")
    return Finding(1.0, "every request is taken up by a later reply")


def retention(m: Materials, _: bool) -> Finding:
    """The last reply must not contradict, or plead not to know, what the user told earlier."""
    turns = read_turns(m.get("conversation"))
    replies = [text for role, text in turns if role == "assistant"]
    asked = [text for role, text in turns if role == "user"]
    if len(asked) < 2 or not replies:
        return Finding(1.0, "there are no earlier turns to remember")
    told = [s for text in asked[:-1] for s in sentences(text) if _TOLD.search(s) and not s.endswith("?")]
    wanted = [fact for fact in told if overlap(personal_words(asked[-1]), personal_words(fact)) >= 0.3]
    for fact in wanted:
        if UNKNOWN.search(replies[-1]):
            return Finding(0.0, f"the user said {shorten(fact, 60)!r}, the last reply does not know it")
        share = overlap(personal_words(fact), personal_words(replies[-1]))
        if share < 0.4 or contradicts(fact, replies[-1]):
            return Finding(0.2, f"the user said {shorten(fact, 60)!r}, the last reply holds {share:.0%} of it")
    return Finding(1.0, f"{len(wanted)} earlier statement(s) matter for the last reply, and it keeps to them")


def role_kept(m: Materials, _: bool) -> Finding:
    replies = [text for role, text in read_turns(m.get("conversation")) if role == "assistant"]
    broken = next(
        (
            t
            for t in replies
            if re.search(
                r"\bas an ai language model\b|\bi am not (?:really )?(?:an? )?(?:assistant|agent)\b|\bi "
                r"refuse to play\b",
                t,
                re.I,
            )
        ),
        "",
    )
    return Finding(
        0.0 if broken else 1.0,
        f"it leaves its role: {shorten(broken, 60)!r}" if broken else "no reply leaves its role",
    )


def tools_efficient(m: Materials, _: bool) -> Finding:
    calls = [text for role, text in read_turns(m.get("conversation")) if role == "tool"]
    repeated = next((text for i, text in enumerate(calls) if text in calls[:i]), "")
    return Finding(
        0.0 if repeated else 1.0,
        (f"repeated: {shorten(repeated, 60)!r}" if repeated else f"{len(calls)} tool message(s), none repeated"),
    )


def goal_reached(m: Materials, _: bool) -> Finding:
    """The goal's words must have come up in the assistant's replies."""
    goal = re.search(r"following goal:\s*(.+?)\n\s*\n", m.rules, re.S)
    so_far = re.search(r"conversation so far:\s*(.*)", m.rules, re.S | re.I)
    wanted = content_words(goal.group(1) if goal else m.get("goal", "expectations"))
    said = so_far.group(1) if so_far else m.get("conversation")
    replies = " ".join(text for role, text in read_turns(said) if role == "assistant")
    last = re.search(r"just responded with:\s*(.+?)\n\s*\n", m.rules, re.S)
    share = overlap(wanted, content_words(f"{replies} {last.group(1) if last else ''}"))
    return Finding(share, f"the replies hold {share:.0%} of the goal's words")


SESSION_CRITERIA: tuple[tuple[re.Pattern[str], Callable[[Materials, bool], Finding]], ...] = tuple(
    (re.compile(pattern, re.I | re.S), decide)
    for pattern, decide in (
        (r"list all explicit user requests made throughout", all_answered),
        (r"evaluate the last ai response", retention),
        (r"maintains its assigned role", role_kept),
        (r"whether tool usage was efficient", tools_efficient),
        (r"has the user's goal been", goal_reached),
    )
)
