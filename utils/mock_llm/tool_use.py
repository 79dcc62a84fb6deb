"""Choosing tools, filling their arguments, chaining calls, and answering from their results.

A plan is a generator: it yields the next call and is sent that call's result. Each request replays the plan
over the results in the conversation, so the model needs no memory of its own.
"""

import re
from collections.abc import Generator
from typing import Any

from .answering import UNKNOWN, find_question, look_up
from .arguments import clean_query, fill, fits_dates, fits_product
from .arithmetic import build, number_in
from .conversation import standalone
from .kinds import NUMBER, UNIT, is_hand_off, need_of, offer_of, score_tool
from .prompt import Message, Prompt
from .reply import Call, Reply, calling
from .results import is_error, is_sentence, parse, short_value, to_passages
from .small_talk import talk
from .style import read_style
from .text import content_words, shorten

MAX_CALLS = 8
_ENOUGH = 1.5  # the score from which a tool fits
_SPLIT = re.compile(
    r"(?<=[.?!])\s+|\s*;\s*|,?\s+(?:and\s+)?(?:then|afterwards|after that)\s+|"
    r",?\s+and\s+(?:also\s+)?(?=(?:(?:on|in|for|at|by|to|from|with|of)\s+)?(?:what|who|how|when|where|which|why|multiply|divide|add|"
    r"subtract|convert|"
    r"calculate|compute|tell|find|search|look|send|create|double|halve|say|give|show|list|"
    r"check)\b)|,\s+(?=(?:multiply|divide|convert|calculate|compute)\b)",
    re.I,
)
_PRONOUN = re.compile(r"it|that|this|them|(?:the|this|that) (?:result|number|answer|total|amount|value)", re.I)
# Words of the request about the search itself, which no passage can answer.
_ABOUT_SEARCH = re.compile(
    r"\b(?:in|from|across|according to) (?:the|our|my|these) (?:documents?|docs|manual|files|"
    r"knowledge base|handbook)\b|\b(?:number|amount) of\b",
    re.I,
)
# A request for the documents themselves, not for what they say.
_WHICH_DOCUMENTS = re.compile(
    r"\b(?:which|what|list|find|show)(?: me)?(?: all)?(?: of)?(?: the| our)? (?:documents?|files?|pages?)\b(?! for\b)",
    re.I,
)
# The same by what stands in them: only those whose text holds it.
_MENTIONING = re.compile(
    r"\b(?:which|what|list|find|search|name)\b.{0,20}\b(?:documents?|files?|pages?)\b.{0,20}?"
    r"\b(?:mention\w*|about|contain\w*|for)\s+(.+?)[\s.?!]*$",
    re.I,
)
Plan = Generator[Call, str, str | None]


def use_tools(prompt: Prompt) -> Reply | None:
    """The next call, or the final answer from the results; None when no tool fits and nothing has been
    called."""
    functions = [tool.get("function", tool) for tool in prompt.tools]
    past = [message.text for message in prompt.after_user if message.role in ("tool", "function")]
    step = replay(make_plan(prompt, functions), past)
    return calling(step) if isinstance(step, Call) else Reply(step) if step is not None else None


def replay(plan: Plan, past: list[str]) -> Call | str | None:
    """Run the plan over the results so far: the call it wants next, its answer, or None when it needs no
    tool."""
    try:
        call = next(plan)
        for number, result in enumerate(past, 1):
            call = plan.send(result)
            if number >= MAX_CALLS:
                return f"I stopped after {MAX_CALLS} tool calls. The last result was: {shorten(result, 300)}"
    except StopIteration as done:
        return done.value if done.value is not None or not past else answer_from(past)
    return call


def answer_from(results: list[str]) -> str:
    """An answer when results are there that no plan of ours asked for."""
    value = short_value(results[-1])
    return (
        f"The tool failed: {value}"
        if is_error(results[-1])
        else value if is_sentence(value) else f"The result is {value}."
    )


def make_plan(prompt: Prompt, functions: list[dict[str, Any]]) -> Plan:
    """Serve the parts of the request one after the other. The small model stops after its first call."""
    question = standalone(find_question_whole(prompt), prompt.turns)
    if talk(question):
        return None
    worker = _Worker(prompt, functions)
    findings: list[str] = []
    said: tuple[Message, ...] = ()
    for part in map(worker.count, split_request(question)):
        finding = yield from worker.serve(standalone(part, said) if need_of(part) not in ("math", "convert") else part)
        said = (*said, Message("user", part))
        if finding:
            findings.append(finding)
        if worker.results and not prompt.large:
            break
    if not worker.results:
        return None
    return " ".join(dict.fromkeys(findings)) or UNKNOWN


def find_question_whole(prompt: Prompt) -> str:
    """The request: the marked question if there is one, else the whole last user message."""
    text = prompt.bare_user.strip()
    marked = re.search(r"^(?:question|query|task|new task|request)\s*:", text, re.I | re.M)
    return re.sub(r"^new task:\s*", "", find_question(prompt) if marked and "?" in text else text, flags=re.I)


def split_request(text: str) -> list[str]:
    """The parts of a request that ask for something; the whole when none does."""
    parts = [part.strip() for part in _SPLIT.split(text) if part and part.strip(" .?!")]
    asking = [
        part
        for part in parts
        if need_of(part) or part.split()[0].lower() in ("send", "create", "convert", "book", "cancel")
    ]
    return asking or [text]


class _Worker:
    """Serves one part of a request after the other and keeps the results."""

    def __init__(self, prompt: Prompt, functions: list[dict[str, Any]]) -> None:
        self._prompt = prompt
        self._functions = functions
        self.results: list[str] = []
        self._latest = ""  # what "it" and "that" stand for: the answer read out of the last result

    def count(self, part: str) -> str:
        """The part with "that many" replaced by the number found last."""
        number = number_in([self._latest], "") if self._latest else None
        return re.sub(r"\b(?:that|this) many\b", number, part, flags=re.I) if number else part

    def serve(self, part: str) -> Plan:
        """Find the tool for this part, call it, and say what came of it; None when no tool fits."""
        function = self._choose(part)
        if function is None:
            return None
        offer = offer_of(function["name"], function.get("description") or "")
        if offer == "math":
            done = yield from self._calculate(function, part)
            # "How many times does it try?" has a word of arithmetic and nothing to calculate.
            function = None if done is not None else self._choose(part, without="math", need="ask")
            if function is None:
                return done
            offer = offer_of(function["name"], function.get("description") or "")
        if offer == "convert":
            part = yield from self._with_amount(part)
        result = yield from self._call(function, part)
        return self._read(function, part, result)

    def _choose(self, part: str, without: str = "", need: str = "") -> dict[str, Any] | None:
        offered = [
            f for f in self._functions if not without or offer_of(f["name"], f.get("description") or "") != without
        ]
        best = max(offered, key=lambda function: _score(function, part, need), default=None)
        return best if best is not None and score_tool(best, part, need) >= _ENOUGH else None

    def _call(self, function: dict[str, Any], part: str, query: str = "") -> Generator[Call, str, str]:
        """One call, and a second one with fewer words when the first failed."""
        arguments = fill(function.get("parameters") or {}, part, query)
        result = yield Call(function["name"], arguments)
        if is_error(result) and self._prompt.large:
            simpler = {
                k: " ".join(content_words(v)[:4]) if isinstance(v, str) and " " in v else v
                for k, v in arguments.items()
            }
            if simpler != arguments and offer_of(function["name"]) != "math":
                result = yield Call(function["name"], simpler)
        self.results.append(result)
        return result

    def _calculate(self, function: dict[str, Any], part: str) -> Plan:
        found: list[str] = []
        expression, missing = build(part, self._number)
        if missing:
            looked_up = yield from self._look_for(missing)
            if looked_up is None:
                return f"I found no number for {missing!r}, so I cannot calculate."
            found.append(looked_up)
            if not self._prompt.large:
                return looked_up
            expression, missing = build(part, self._number)
        if not expression:
            return " ".join(found) or "I could not make out what to calculate." if found or missing else None
        arguments = _math_arguments(function, expression, part)
        result = yield Call(function["name"], arguments)
        self.results.append(result)
        self._latest = "" if is_error(result) else result
        value = short_value(result)
        if is_error(result):
            return f"{' '.join(found)} The tool {function['name']} failed: {value}".strip()
        return " ".join([*found, f"{expression} = {value}." if "=" not in value else value])

    def _look_for(self, phrase: str) -> Plan:
        question = f"What is the {re.sub(r'^(?:the|a|an) ', '', phrase)}?"
        function = self._choose(question, without="math")
        if function is None:
            return None
        result = yield from self._call(function, question, query=phrase)
        return self._read(function, question, result)

    def _number(self, phrase: str) -> str | None:
        usable = [_spoken(result) for result in self.results if not is_error(result)]
        pronoun = re.fullmatch(
            r"(?:it|that|this|the result|this number|that number|the number|them|the answer|the total)",
            phrase.strip(),
            re.I,
        )
        plain = re.sub(r"^(?:the |number of |amount of )+", "", phrase, flags=re.I)
        return number_in([self._latest] if pronoun else usable, "" if pronoun else plain)

    def _with_amount(self, part: str) -> Generator[Call, str, str]:
        """The part with the number to convert: its own, or one that was found or must be looked up first."""
        if re.search(rf"{NUMBER}\s*{UNIT}", part, re.I):
            return part
        counted = re.search(rf"\bhow many ({UNIT}) (?:is|are|does|do) (?:that|it|this)\b", part, re.I)
        if counted:
            return f"convert {self._amount()} to {counted[1]}" if self._amount() else part
        phrase = re.search(
            r"\b(?:convert|express|turn|what(?:'s| is)|how (?:much|long|tall) is)\s+(.+?)\s+(?:to|into|" r"in)\s+(.+)",
            part,
            re.I,
        )
        if not phrase:
            return part
        if not self._amount() and not _PRONOUN.fullmatch(phrase.group(1).strip()):
            yield from self._look_for(phrase.group(1))
        amount = self._amount()
        return f"convert {amount} to {phrase.group(2)}" if amount else part

    def _amount(self) -> str:
        for result in reversed(self.results):
            match = re.search(rf"{NUMBER}\s*{UNIT}", _spoken(result), re.I)
            if match:
                return match.group(0)
        return ""

    def _read(self, function: dict[str, Any], part: str, result: str) -> str:
        """What the result says, remembered as what a pronoun in the next part refers to."""
        said = self._say(function, part, result)
        self._latest = "" if is_error(result) else said
        return said

    def _say(self, function: dict[str, Any], part: str, result: str) -> str:
        """What the result says about this part of the request."""
        value = short_value(result)
        if is_error(result):
            return f"The tool {function['name']} failed: {value}"
        offer = offer_of(function["name"], function.get("description") or "")
        style = read_style(self._prompt.frame)
        if offer == "search" and _WHICH_DOCUMENTS.search(part):
            found = [passage.source for passage in to_passages(result) if passage.source]
            if found:
                return f"The documents found are {', '.join(dict.fromkeys(found))}."
            if not is_hand_off(function["name"]):  # another agent says it in words
                return UNKNOWN.replace("passages", "results")
        if offer in ("search", "ask"):
            if named := _documents_with(part, result):
                return named
            question = clean_query(_ABOUT_SEARCH.sub("", part))
            evidence = look_up(question, to_passages(result), self._prompt.large, False, style.sentences)
            if evidence:
                return style.write(evidence.sentences, evidence.passage.source)
            spoken = offer == "ask" or is_hand_off(function["name"])  # another agent's answer is in words
            answered = spoken and isinstance(parse(result), dict | str) and len(value) < 300 and is_sentence(value)
            return value if answered else UNKNOWN.replace("passages", "results")
        return value if is_sentence(value) else f"The result of {function['name']} is {value}."


def _score(function: dict[str, Any], part: str, need: str) -> float:
    """How well a tool fits, by its words and by whether the request names what it takes."""
    parameters = function.get("parameters") or {}
    score = score_tool(function, part, need) + fits_product(parameters, part)
    offers_dates = offer_of(function["name"], function.get("description") or "") == "date"
    return score + fits_dates(parameters, part) if offers_dates else score


def _spoken(result: str) -> str:
    passages = to_passages(result)
    return "\n".join(passage.text for passage in passages) if passages else result


def _documents_with(part: str, result: str) -> str:
    """The names of the documents that a search found and that hold what was asked for; empty for another request."""
    asked = _MENTIONING.search(part)
    if not asked:
        return ""
    wanted = set(content_words(asked[1]))
    found = [p.source for p in to_passages(result) if p.source and wanted and wanted <= set(content_words(p.text))]
    names = ", ".join(f"[{name}]" for name in dict.fromkeys(found))
    return f"{asked[1]} is mentioned in {names}." if names else ""


def _math_arguments(function: dict[str, Any], expression: str, part: str) -> dict[str, Any]:
    """An expression for the parameter that takes one; operands for tools such as multiply(a, b)."""
    parameters = function.get("parameters") or {}
    properties = parameters.get("properties") or {}
    texts = [name for name, schema in properties.items() if schema.get("type") == "string"]
    if not texts:
        return fill(parameters, re.sub(r"[-+*/()]+", " ", expression.replace("**", " ")))
    named = next((name for name in texts if re.search(r"expr|formula|equation|calc|input|query", name, re.I)), texts[0])
    return {**fill({**parameters, "required": []}, part), named: expression}
