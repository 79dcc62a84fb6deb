"""The agent of lesson 4.4, as MLflow logs it: this file is the model, and is run again wherever the model is loaded.

Its settings come from model_config; they name no port and hold no key. The backend is opened at the first request.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from functools import cached_property, wraps
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import mlflow
from mlflow.entities import LiveSpan
from mlflow.models import ModelConfig
from mlflow.pyfunc import ResponsesAgent
from mlflow.tracing.provider import safe_set_span_in_context
from mlflow.types.agent import ChatContext
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from utils.conversation_memory import Memory, open_memory
from utils.kept_backends import kept_backend
from utils.llm_backends import BackendUnavailable
from utils.options import BackendOptions
from utils.time_limits import OutOfTime, within

DEFAULTS: dict[str, Any] = {
    "backend": {},  # fields of BackendOptions
    "fallback_model": None,
    "prompt": "prompts:/order-agent@production",
    "folder": ".",  # for what waits for approval, and for the refunds
    "seconds": 20.0,  # for a request, whatever fails
    "call_seconds": 5.0,  # for one call to a model
    "tool_seconds": 2.0,  # for one call of a tool
    "tries": 2,  # calls to each model
    "tool_calls": 4,
    "characters": 2000,  # of a question
    "tool_faults": {},  # failures on demand: name of a tool → hang
}
ORDERS = {
    "1042": "two teapots, shipped on Monday",
    "1043": "a kettle, waiting for stock",
    "1044": "six cups, delivered",
}
DECISIONS = {
    "approve": {"type": "approve"},
    "reject": {"type": "reject", "message": "A person refused this, and nothing was done."},
}
DEADLINE: ContextVar[float] = ContextVar("deadline")  # of the request that a tool is called for
CANNOT = "I cannot answer this now: {why}. Please try again later."


def find_order(order_id: str) -> str:
    """Look up an order by its number: what was ordered, and where it is."""
    if order_id not in ORDERS:
        raise LookupError(f"there is no order {order_id}")
    return f"Order {order_id}: {ORDERS[order_id]}."


def track_parcel(order_id: str) -> str:
    """Ask the carrier on which day the parcel of an order arrives."""
    if "shipped" not in ORDERS.get(order_id, ""):
        raise LookupError(f"there is no parcel of order {order_id}")
    return f"The parcel of order {order_id} arrives in 2 days."


class OrderAgent(ResponsesAgent):
    """Answers in pieces as they come, within its time, and asks a person before it pays money back."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = {**DEFAULTS, **config}
        self._open = ExitStack()

    def load_context(self, context: Any) -> None:  # noqa: ARG002
        """Imports take seconds, which are not the first request's; a server may be missing until then."""
        with suppress(BackendUnavailable):
            _ = self.agent

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        events = list(self.answer(request))
        items = [event.item for event in events if event.type == "response.output_item.done"]
        return ResponsesAgentResponse(output=items, custom_outputs=events[-1].custom_outputs)

    def predict_stream(self, request: ResponsesAgentRequest) -> Generator[ResponsesAgentStreamEvent, None, None]:
        yield from self.answer(request)

    def answer(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:
        """Pieces of text, then the whole of it, with what became of the request. Never an exception."""
        begun, root = time.monotonic(), mlflow.get_current_active_span()  # none while log_model tries the model out
        wanted = request.custom_inputs or {}
        thread = str(wanted.get("thread") or uuid4().hex)
        if root:
            who = request.context or ChatContext()
            mlflow.update_current_trace(session_id=who.conversation_id or thread, user=who.user_id)
        said: dict[str, str] = {}  # by message: a call that broke off and was repeated begins a new one
        outcome, first_ms = "answered", None
        steps = self.steps(request, wanted, thread, begun + self.config["seconds"])
        try:
            for kind, value in steps:
                if kind == "text":
                    first_ms = first_ms or (time.monotonic() - begun) * 1000
                    said[value.id] = said.get(value.id, "") + value.text
                    yield ResponsesAgentStreamEvent(**self.create_text_delta(value.text, value.id))
                else:
                    outcome, said = kind, {"end": value}
        except GeneratorExit:  # the client has left: MLflow would leave the root open, and its spans in the context
            if root:
                with safe_set_span_in_context(root):
                    steps.close()
                root.set_attribute("agent.outcome", "left")
                root.end(status="ERROR")
            raise
        text = (list(said.values()) or [""])[-1]
        if not text.strip():
            outcome, text = "failed", CANNOT.format(why="the model said nothing")
        if root:
            note_outcome(root, outcome, first_ms, (time.monotonic() - begun) * 1000)
        yield ResponsesAgentStreamEvent(
            type="response.output_item.done",
            item=self.create_text_output_item(text, uuid4().hex),
            custom_outputs={"outcome": outcome, "thread": thread, "trace_id": root.trace_id if root else None},
        )

    def steps(
        self, request: ResponsesAgentRequest, wanted: dict[str, Any], thread: str, deadline: float
    ) -> Generator[tuple[str, Any], None, None]:
        """("text", piece) as the model speaks; at most one other pair, which is the outcome and what to say."""
        from langchain.agents.middleware.tool_call_limit import ToolCallLimitExceededError
        from langgraph.errors import GraphRecursionError
        from langgraph.types import Command

        question = text_of(request)
        if not wanted.get("decision") and (problem := self.refuse(question)):
            yield "refused", problem
            return
        config = {"configurable": {"thread_id": thread}, "callbacks": [stop_at(deadline)], "recursion_limit": 30}
        try:
            given: Any = {"messages": [{"role": "user", "content": question}]}
            if decision := wanted.get("decision"):
                if not self.agent.get_state(config).interrupts:
                    yield "refused", "There is nothing that waits for an approval."
                    return
                given = Command(resume={"decisions": [DECISIONS["approve" if decision == "approve" else "reject"]]})
            stream = self.agent.stream(
                given, config, stream_mode=["messages", "updates"], context={"deadline": deadline}
            )
            for mode, part in stream:
                if mode == "messages" and part[0].type == "AIMessageChunk" and part[0].text:
                    yield "text", part[0]
                elif mode == "updates" and "__interrupt__" in part:
                    actions = part["__interrupt__"][0].value["action_requests"]
                    yield "waiting", "A person has to approve this first: " + "; ".join(map(in_words, actions))
        except (ToolCallLimitExceededError, GraphRecursionError):
            yield "looped", CANNOT.format(why=f"{self.config['tool_calls']} calls of tools led to no answer")
        except OutOfTime:
            yield "late", CANNOT.format(why=f"my {self.config['seconds']:g} seconds are over")
        except Exception as error:  # noqa: BLE001  it stands on the spans that it left; the user hears what it was
            yield "failed", CANNOT.format(why=f"it failed with {type(error).__name__}")

    def refuse(self, question: str) -> str | None:
        if len(question) > self.config["characters"]:
            return f"The question has {len(question)} characters; I read at most {self.config['characters']}."
        return None if question.strip() else "There is no question in this request."

    @cached_property
    def agent(self) -> Any:
        """Retries inside the fallback, time limits inside both: each try is a span of its own."""
        from langchain.agents import create_agent
        from langchain.agents.middleware import (
            HumanInTheLoopMiddleware,
            ModelFallbackMiddleware,
            ModelRetryMiddleware,
            ToolCallLimitMiddleware,
        )
        from langchain_core.tools import tool

        mlflow.langchain.autolog(silent=True)
        settings = kept_backend(BackendOptions(**self.config["backend"])).settings
        names = [settings.model, *filter(None, [self.config["fallback_model"]])]
        models = [settings.chat_model(**settings.no_retries, streaming=True, model=name) for name in names]
        tools = [tool(self.guarded(find_order)), tool(self.guarded(track_parcel)), tool(self.make_refund())]
        retry = ModelRetryMiddleware(
            max_retries=self.config["tries"] - 1, on_failure="error", initial_delay=0.1, max_delay=1.0,
            retry_on=lambda error: not isinstance(error, OutOfTime),
        )  # fmt: skip
        hooks: Any = [
            HumanInTheLoopMiddleware({"refund_order": {"allowed_decisions": ["approve", "reject"]}}),
            ToolCallLimitMiddleware(run_limit=self.config["tool_calls"], exit_behavior="error"),
            *[ModelFallbackMiddleware(model) for model in models[1:]],
            retry,
            self.make_limit(settings.llm_type),
            say_what_failed(),
        ]
        return create_agent(models[0], tools, middleware=hooks, checkpointer=self.memory.saver, name="order-agent")

    @cached_property
    def memory(self) -> Memory:
        """What waits for an approval outlives the process that asked for it."""
        return self._open.enter_context(open_memory(Path(self.config["folder"])))

    def guarded(self, work: Callable[[str], str]) -> Callable[[str], str]:
        """The tool within its time, and with the failure that was ordered for it."""

        @wraps(work)
        def limited(order_id: str) -> str:
            fault = self.config["tool_faults"].get(work.__name__)
            left = min(self.config["tool_seconds"], DEADLINE.get() - time.monotonic())
            return within(left, FAULTS[fault] if fault else work, order_id)

        return limited

    def make_refund(self) -> Callable[[str], str]:
        def refund_order(order_id: str) -> str:
            """Pay the price of an order back to the customer."""
            if order_id not in ORDERS:
                raise LookupError(f"there is no order {order_id}")
            with (Path(self.config["folder"]) / "refunds.jsonl").open("a", encoding="utf-8") as ledger:
                ledger.write(json.dumps({"order_id": order_id, "at": time.time()}) + "\n")
            return f"Order {order_id} was refunded."

        return refund_order

    def make_limit(self, llm_type: str) -> Any:
        """Around each call to a model: what is left of the time, and the prompt as it is in the registry now."""
        from langchain.agents.middleware import wrap_model_call

        @wrap_model_call
        def in_time(request: Any, handler: Callable[[Any], Any]) -> Any:
            left = request.runtime.context["deadline"] - time.monotonic()
            if left <= 0:
                raise OutOfTime("no time is left for another call")
            changed = {"system_prompt": mlflow.genai.load_prompt(self.config["prompt"]).format()}
            if llm_type != "ollama":  # whose client takes no limit for one call
                changed["model_settings"] = {"timeout": min(self.config["call_seconds"], left)}
            return handler(request.override(**changed))

        return in_time


def say_what_failed() -> Any:
    """A tool's exception stays on its span; the model reads a text about it and can go on."""
    from langchain.agents.middleware import wrap_tool_call
    from langchain_core.messages import ToolMessage
    from langgraph.errors import GraphBubbleUp

    @wrap_tool_call
    def as_text(request: Any, handler: Callable[[Any], Any]) -> Any:
        DEADLINE.set(request.runtime.context["deadline"])
        try:
            return handler(request)
        except GraphBubbleUp:  # the graph's own signals
            raise
        except Exception as error:  # noqa: BLE001
            text = f"error: {error or type(error).__name__}"
            return ToolMessage(text, tool_call_id=request.tool_call["id"], status="error")

    return as_text


def stop_at(deadline: float) -> Any:
    """A stream that never ends has no time limit of its own: look at the clock with each piece."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Clock(BaseCallbackHandler):
        raise_error = True

        def on_llm_new_token(self, *_: Any, **__: Any) -> None:
            if time.monotonic() > deadline:
                raise OutOfTime("the answer was not complete in time")

    return Clock()


FAULTS: dict[str, Callable[[str], str]] = {"hang": lambda _order_id: str(Event().wait())}


def text_of(request: ResponsesAgentRequest) -> str:
    """The newest message of the request, its parts joined."""
    content = request.input[-1].model_dump().get("content") if request.input else ""
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "\n".join(str(part.get("text", "")) for part in parts)


def in_words(action: dict[str, Any]) -> str:
    return f"{action['name']}({', '.join(f'{name}={value}' for name, value in action['args'].items())})"


def note_outcome(root: LiveSpan, outcome: str, first_ms: float | None, total_ms: float) -> None:
    """Where monitoring looks: a tag to search by, figures on the root, and its status."""
    mlflow.update_current_trace(tags={"outcome": outcome})
    figures = {"agent.outcome": outcome, "agent.first_token_ms": first_ms, "agent.total_ms": total_ms}
    root.set_attributes({name: value for name, value in figures.items() if value is not None})
    if outcome in ("failed", "late", "looped"):
        root.set_status("ERROR")


mlflow.models.set_model(OrderAgent(ModelConfig(development_config=DEFAULTS).to_dict()))
