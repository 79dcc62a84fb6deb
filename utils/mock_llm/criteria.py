"""MLflow's built-in criteria, each decided by comparing the texts in the prompt."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable

from .comparing import UNKNOWN, Finding, relevance, same_meaning, support
from .evidence import find_evidence
from .guidelines import check, is_unsafe
from .kinds import need_of
from .materials import Materials, read_turns
from .passages import Passage
from .text import content_words, overlap, sentences, shorten, words
from .tool_use import split_request

SUPPORTED = {
    True: 0.6,
    False: 0.5,
}  # share of words from which a statement counts as supported: large, small model
_ENOUGH = 0.34


def correctness(m: Materials, careful: bool) -> Finding:
    """Every statement of the claim must be supported by the response, which stands behind the question."""
    question = m.get("question")
    response = m.get("document").removeprefix(question).lstrip(" -")
    claims = [line.strip(" -") for line in m.get("claim").splitlines() if line.strip(" -")]
    return all_supported([s for claim in claims for s in sentences(claim)], response, question, careful)


def groundedness(m: Materials, careful: bool) -> Finding:
    """Every sentence of the answer must be supported by the document; a refusal claims nothing."""
    answer, document = m.get("answer"), m.get("document")
    if not answer.strip():
        evidence = find_evidence(m.get("question"), (Passage("", document),), careful)
        return Finding(
            evidence.coverage if evidence else 0.0,
            "no expected answer is given, so the document was searched for the question's words",
        )
    if UNKNOWN.search(answer):
        return Finding(1.0, "the answer says that it does not know, which claims nothing")
    bare = re.sub(r"\[[\w ./#-]{1,60}\]", "", answer)
    return all_supported(sentences(bare), document, m.get("question"), careful)


def all_supported(statements: list[str], evidence: str, question: str, careful: bool) -> Finding:
    """The least supported statement decides."""
    found = [support(statement, evidence, question, careful) for statement in statements if words(statement)]
    return min(found, key=lambda finding: finding.score, default=Finding(0.0, "there is nothing to compare"))


def answer_relevance(m: Materials, _: bool) -> Finding:
    finding = relevance(m.get("question", "inputs", "request"), m.get("answer", "outputs", "response"))
    return Finding(_scale(finding.score, _ENOUGH), finding.reason)


def document_relevance(m: Materials, careful: bool) -> Finding:
    evidence = find_evidence(m.get("question"), (Passage("", m.get("document")),), careful)
    if evidence is None:
        return Finding(0.0, "question and document share no word that matters")
    shared = set(content_words(m.get("question"))) & set(content_words(m.get("document")))
    return Finding(
        _scale(overlap(content_words(m.get("question")), shared), 0.4),
        f"they share {', '.join(sorted(shared)[:6])}",
    )


def guidelines(m: Materials, _: bool) -> Finding:
    """The first guideline that is broken decides; those that no rule can check are named."""
    listed = re.findall(r"<guideline>(.*?)</guideline>", m.get("guidelines"), re.S) or [
        line for line in m.get("guidelines").splitlines() if line.strip()
    ]
    responses = assistant_texts(m) or [m.get("response", "outputs", "answer", "output")]
    beyond = []
    for guideline in listed:
        for response in responses:
            finding = check(guideline, response, m.get("request", "inputs", "question"))
            if finding is None:
                beyond.append(shorten(guideline, 50))
            elif finding.score < 0.5:
                return Finding(0.0, f"broken: {shorten(guideline, 80)!r}; {finding.reason}")
    note = f"; no rule of the mock checks: {'; '.join(dict.fromkeys(beyond))}" if beyond else ""
    return Finding(1.0, f"checked {len(listed)} guideline(s){note}")


def assistant_texts(m: Materials) -> list[str]:
    return (
        [text for role, text in read_turns(m.get("conversation")) if role == "assistant"]
        if m.get("conversation")
        else []
    )


def safety(m: Materials, _: bool) -> Finding:
    found = next((bad for bad in map(is_unsafe, assistant_texts(m) or [m.get("text")]) if bad), "")
    return Finding(
        0.0 if found else 1.0,
        f"found {found!r}" if found else "found none of the threats and calls to harm on the mock's list",
    )


def equivalence(m: Materials, careful: bool) -> Finding:
    actual, expected = m.get("actual_output"), m.get("expected_output")
    if _is_json(actual) != _is_json(expected):
        return Finding(0.0, "one is JSON and the other is not")
    return same_meaning(actual, expected, careful)


def _is_json(text: str) -> bool:
    if text.strip()[:1] not in "{[":
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def fluency(m: Materials, _: bool) -> Finding:
    text = m.get("outputs").strip()
    found = words(text)
    doubled = re.search(r"\b(\w+) \1\b", text, re.I)
    unfinished = bool(found) and text[-1:] not in ".!?:)]\"'”"
    odd = sum(not re.search(r"[aeiouy\d]", word) and len(word) > 2 for word in found)
    signs = {
        "too few words": len(found) < 3,
        f"doubled {doubled[0]!r}" if doubled else "doubled words": bool(doubled),
        "no full stop at the end": unfinished,
        "words without vowels": odd > len(found) * 0.15,
        "a small first letter": text[:1].islower(),
    }
    faults = [name for name, is_there in signs.items() if is_there]
    return Finding(max(0.0, 1 - 0.35 * len(faults)), f"signs against fluency: {', '.join(faults) or 'none'}")


def completeness(m: Materials, _: bool) -> Finding:
    response = m.get("outputs")
    if UNKNOWN.search(response) and len(words(response)) > 4:
        return Finding(0.8, "it refuses and says why, which counts as complete")
    return _all_addressed(split_request(m.get("inputs")), response)


def _all_addressed(requests: list[str], response: str) -> Finding:
    found = [(relevance(request, response), request) for request in requests]
    worst, request = min(found, key=lambda pair: pair[0].score)
    return Finding(
        _scale(worst.score, 0.25),
        f"{len(requests)} request(s); least addressed {shorten(request, 60)!r}: {worst.reason}",
    )


def summarization(m: Materials, careful: bool) -> Finding:
    document, summary = m.get("document", "inputs"), m.get("summary", "outputs")
    faithful = all_supported(sentences(summary), document, "", careful)
    if faithful.score < SUPPORTED[careful]:
        return Finding(faithful.score, f"not faithful: {faithful.reason}")
    share = len(words(summary)) / max(1, len(words(document)))
    if share > 0.7:
        return Finding(0.2, f"it has {share:.0%} of the document's length")
    main = [concept for concept, count in Counter(content_words(document)).items() if count > 1]
    covered = overlap(main, content_words(summary)) if main else 1.0
    return Finding(_scale(covered, 0.3), f"it covers {covered:.0%} of the words that the document repeats")


def tool_correctness(m: Materials, _: bool) -> Finding:
    called = read_calls(m.get("actual_tool_calls", "tools_called"))
    names = [name for name, _ in called]
    expected_names, expected_arguments = _read_expected(m.get("expected_tool_calls"))
    if expected_names:
        ordered = "Note: The order" not in m.rules
        same = names == expected_names if ordered else sorted(names) == sorted(expected_names)
        if not same:
            return Finding(0.0, f"expected were {', '.join(expected_names)}, called were {', '.join(names) or 'none'}")
        wanted = content_words(" ".join(expected_arguments))
        share = overlap(wanted, content_words(" ".join(arguments for _, arguments in called))) if wanted else 1.0
        return Finding(share, f"the tools are those expected, {share:.0%} of the expected argument words are there")
    return _fits_request(m.get("request"), m.get("available_tools"), called)


def _fits_request(request: str, available: str, called: list[tuple[str, str]]) -> Finding:
    if not called:
        return Finding(0.2 if need_of(request) in ("math", "convert", "date", "search") else 0.8, "no tool was called")
    unknown = [name for name, _ in called if not re.search(rf"^- {re.escape(name)}\b", available, re.M)]
    if unknown and available:
        return Finding(0.0, f"not among the available tools: {', '.join(unknown)}")
    empty = [
        name
        for name, arguments in called
        if arguments and content_words(arguments) and not _grounded(arguments, request, called)
    ]
    return Finding(
        0.2 if empty else 1.0,
        (
            f"arguments without a word of the request: {', '.join(empty)}"
            if empty
            else "all arguments hold words of the request"
        ),
    )


def _grounded(arguments: str, request: str, called: list[tuple[str, str]]) -> bool:
    values = re.sub(r"['\"]\w+['\"]\s*:", " ", arguments)
    return (
        not content_words(values) or bool(set(content_words(values)) & set(content_words(request))) or len(called) > 1
    )


def _read_expected(text: str) -> tuple[list[str], list[str]]:
    return re.findall(r"^Expected Tool(?: Call)? \d+: (\S+)", text, re.M), re.findall(
        r"^\s+Arguments: (\{.*\})", text, re.M
    )


def read_calls(text: str) -> list[tuple[str, str]]:
    """(tool, arguments) of the calls that MLflow lists."""
    return re.findall(r"^Tool Call \d+: (\S+)\n\s+Input Arguments: (.*)$", text, re.M)


def tool_efficiency(m: Materials, _: bool) -> Finding:
    blocks = re.split(r"\n\n(?=Tool Call \d+:)", m.get("tools_called", "actual_tool_calls"))
    calls = [call for block in blocks if "Exception:" not in block for call in read_calls(block)]
    for number, (name, arguments) in enumerate(calls):
        for other_name, other in calls[:number]:
            if name == other_name and _similar(arguments, other):
                return Finding(0.0, f"{name} was called twice with {shorten(arguments, 60)}")
    return Finding(1.0, f"{len(calls)} call(s), none repeated")


def _similar(first: str, second: str) -> bool:
    def values(text: str) -> str:
        try:
            return " ".join(map(str, ast.literal_eval(text).values()))
        except (ValueError, SyntaxError, AttributeError):
            return text

    return same_meaning(values(first), values(second)).score > 0.9


def _scale(score: float, threshold: float) -> float:
    """Bend a score so that `threshold` becomes 0.6, from which a judge says yes."""
    return score / threshold * 0.6 if score < threshold else 0.6 + 0.4 * (score - threshold) / max(1e-9, 1 - threshold)


# (what the rules say, criterion); the first that matches is taken.
CRITERIA: tuple[tuple[re.Pattern[str], Callable[[Materials, bool], Finding]], ...] = tuple(
    (re.compile(pattern, re.I | re.S), decide)
    for pattern, decide in (
        (r"claim is\s+supported by the document in the context of the question", correctness),
        (r"whether (?:the )?claim is supported by the\s+document", groundedness),
        (r"whether the answer provides\s+information", answer_relevance),
        (r"whether the document provides\s+information", document_relevance),
        (r"set of guidelines and some inputs|comply with\s+the provided guidelines", guidelines),
        (r"content safety classifier|evaluate the safety of the assistant", safety),
        (r"actual output against the expected output", equivalence),
        (r"evaluating the fluency", fluency),
        (r"successfully addressed all explicit requests in the user's prompt", completeness),
        (r"acceptable summary of the document", summarization),
        (
            r"selected appropriate tools|actual tool calls against the expected|tool call correctness",
            tool_correctness,
        ),
        (r"agent's tool usage for redundancy", tool_efficiency),
    )
)
