"""Which skill answers a prompt."""

import json

from .answering import answer_question
from .classify import classify
from .code_agent import is_code_agent, write_code
from .conversation import asks_for_rewrite, play_user, plays_user, recall, rewrite, state_facts, told_before
from .fields import answer_fields, has_field_markers
from .judging import judge
from .labels import asks_for_label
from .materials import is_judgement
from .prompt import Prompt
from .reflecting import asks_to_improve, improve
from .reply import Call, Reply, calling
from .schema import fill_schema
from .small_talk import admit, asks_for_summary, summarise, talk
from .style import read_style
from .tool_use import use_tools
from .trace_judging import judge_trace


def answer(prompt: Prompt) -> Reply:
    """Read the prompt, choose the skill, answer."""
    if has_field_markers(prompt):
        return Reply(answer_fields(prompt))
    if is_code_agent(prompt):
        return Reply(write_code(prompt))
    if asks_to_improve(prompt):
        return Reply(improve(prompt))
    if is_judgement(prompt):
        reply = judge_trace(prompt) if prompt.tools else Reply(judge(prompt))
        if reply is not None:
            return reply
    if prompt.tools and prompt.tool_choice != "none":
        reply = _answer_with_tools(prompt)
        if reply is not None:
            return reply
    if prompt.schema is not None:
        return Reply(json.dumps(fill_schema(prompt, prompt.schema), ensure_ascii=False))
    return Reply(speak(prompt))


def _answer_with_tools(prompt: Prompt) -> Reply | None:
    functions = {f["name"]: f for f in (tool.get("function", tool) for tool in prompt.tools)}
    named = (
        prompt.tool_choice.get("function", prompt.tool_choice).get("name")
        if isinstance(prompt.tool_choice, dict)
        else None
    )
    if isinstance(named, str) and named in functions:
        return calling(Call(named, fill_schema(prompt, functions[named].get("parameters") or {})))
    # What the user has said about themselves stands in the conversation; no tool knows it.
    told = None if any(message.role == "tool" for message in prompt.after_user) else told_before(prompt)
    reply = Reply(told) if told else use_tools(prompt)
    if prompt.tool_choice in ("required", "any") and (reply is None or not reply.calls):
        return _finish(prompt, functions, reply)
    return reply


def _finish(prompt: Prompt, functions: dict[str, dict], reply: Reply | None) -> Reply:
    """A call where one is demanded and none is needed: the tool that takes the final answer, else the last
    one offered."""
    text = reply.text if reply else speak(prompt)
    name = next((name for name in functions if name.startswith("final")), list(functions)[-1])
    parameters = functions[name].get("parameters") or {}
    if name.startswith("final"):
        return calling(Call(name, dict.fromkeys(parameters.get("properties") or {"answer": {}}, text)))
    return calling(Call(name, fill_schema(prompt, parameters)))


def speak(prompt: Prompt) -> str:
    """The answer in words to a prompt without tools and without a schema."""
    if plays_user(prompt):
        return play_user(prompt)
    if asks_for_rewrite(prompt.frame):
        return rewrite(prompt)
    if prompt.passages:
        return recall(prompt) or answer_question(prompt)
    if asks_for_label(prompt.frame):
        return classify(prompt)
    if asks_for_summary(prompt.frame):
        return summarise(prompt.user, read_style(prompt.frame).sentences)
    remembered = recall(prompt) or talk(prompt.user) or state_facts(prompt.user)
    if remembered:
        return remembered
    return answer_question(prompt) if "?" in prompt.user else admit(prompt.user)
