"""Small agents inside larger ones: a loop of model and tool, and how a coordinator is told of it."""

from collections.abc import Callable, Sequence
from typing import Any

from utils.llm_backends import Backend

TURNS = 8  # model and tool turns of one tool agent


def run_tool_agent(llm: Backend, system: str, tool: Callable[..., str], request: str) -> tuple[str, int]:
    """LangChain's loop with one tool: its answer, and the tokens of its model calls.

    A loop that does not end says so after TURNS turns; the tokens until then count.
    """
    from langchain.agents import create_agent
    from langgraph.errors import GraphRecursionError

    agent = create_agent(llm.chat_model(), [tool], system_prompt=system)
    question: Any = {"messages": [{"role": "user", "content": request}]}
    messages: list[Any] = []
    try:
        for state in agent.stream(question, {"recursion_limit": TURNS}, stream_mode="values"):
            messages = state["messages"]
    except GraphRecursionError:
        return f"I stopped after {TURNS} turns without a result.", tokens_of(messages)
    return messages[-1].text, tokens_of(messages)


def tokens_of(messages: Sequence[Any]) -> int:
    """Of the model calls among LangChain messages; 0 where the server counts no tokens."""
    return sum((getattr(each, "usage_metadata", None) or {}).get("total_tokens", 0) for each in messages)


def hand_off_tool(name: str, description: str) -> dict[str, Any]:
    """How a coordinator sees a specialist: as a tool `transfer_to_NAME` that takes a request in words."""
    text = {"type": "string", "description": "What to find out, in full: the specialist sees nothing else."}
    parameters = {"type": "object", "properties": {"request": text}, "required": ["request"]}
    function = {"name": f"transfer_to_{name}", "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
