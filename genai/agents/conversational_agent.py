"""4.3 A conversation that is remembered over turns and restarts.

New here: what an agent remembers is a checkpoint on disk, what it did is a trace, and the session's name joins the two.
Run it:   uv run mlflow-conversational-agent
          uv run mlflow-conversational-agent --session tea --chat
          uv run mlflow-conversational-agent --session tea --say "My name is Ada." --say "What is my name?"
          uv run mlflow-conversational-agent --session tea --score
Look at:  uv run mlflow ui  ->  4-agents  ->  Sessions: each conversation, its turns, and its three scores
Change:   run it with --window 1, so that the model is shown one turn only; which score changes?
Docs:     https://mlflow.org/docs/latest/genai/tracing/track-users-sessions/
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow.entities import LoggedModel, SpanEvent, SpanType, Trace
from mlflow.genai.scorers import ConversationCompleteness, KnowledgeRetention, UserFrustration

from utils.agent_setup import priced_spans, tool_calls
from utils.cli import Steps, lesson, show, show_table, typed_lines, waiting
from utils.conversation_memory import Memory, last_turns, open_memory
from utils.document_search import search_tool
from utils.errors import InputError
from utils.genai_evaluation import quiet_evaluation, read_session_scores
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.mlflow_setup import STATE_DIR
from utils.model_servers import BackendUnavailable, describe_failed_call
from utils.options import BackendOptions
from utils.prompt_utils import use_alias

NAME, PROMPT, ALIAS = "conversational-agent", "conversation-agent", "production"
SYSTEM = """You talk with a developer about MLflow. Answer in one or two sentences.
Look up facts with search_documents. What the developer told you about themselves stands in the conversation."""
# Who says what; between the two halves the memory is closed and opened again.
SCRIPT = {
    "ada": (
        ("My name is Ada, and I work on the checkout service.", "How long does load_prompt remember an alias?"),
        ("What is my name?",),
    ),
    "ben": (
        ("How many characters may a parameter value have before it is truncated?",),
        ("And for a tag value?", "That is not what I asked. This is useless."),
    ),
}
MAX_CALLS = 5  # of tools, in one turn: a loop of calls ends here
SESSION_NAME = re.compile(r"[\w.-]{1,80}")


@dataclass(frozen=True)
class Turn:
    """One question and its answer. messages, documents: what the session remembers after it."""

    session: str
    turn: int
    question: str
    answer: str
    messages: int
    documents: list[str]
    trace_id: str


@dataclass(frozen=True)
class Outcome:
    run_id: str
    turns: list[Turn]
    scores: list[dict[str, Any]]  # one row for each session that was scored


def build_agent(llm: Backend, memory: Memory, prompt_uri: str, window: int) -> Any:
    """A model, a tool, a checkpointer, and hooks around them."""
    from langchain.agents import AgentState, create_agent
    from langchain.agents.middleware import ToolCallLimitMiddleware, after_agent, wrap_model_call

    class Conversation(AgentState, total=False):  # besides the messages, a checkpoint holds what we count
        turns: int
        documents: list[str]

    @wrap_model_call
    def show_newest(request: Any, handler: Callable[[Any], Any]) -> Any:
        """The memory keeps everything; the model is shown the newest turns, and the rules as they are now."""
        rules = mlflow.genai.load_prompt(prompt_uri).format()
        return handler(request.override(system_prompt=rules, messages=last_turns(request.messages, window)))

    @after_agent(state_schema=Conversation)
    def count(state: Any, _runtime: Any) -> dict[str, Any]:
        found = [name for message in state["messages"] for name in getattr(message, "artifact", None) or ()]
        return {"turns": state.get("turns", 0) + 1, "documents": list(dict.fromkeys(found))}

    hooks: Any = [show_newest, count, ToolCallLimitMiddleware(run_limit=MAX_CALLS, exit_behavior="end")]
    return create_agent(llm.chat_model(), [search_tool()], middleware=hooks, checkpointer=memory.saver, name=NAME)


def take_turn(agent: Any, memory: Memory, session: str, user: str, question: str) -> Turn:
    """One turn is one trace. It goes on from the newest turn that was answered: one that was cut off never was."""
    with mlflow.start_span("turn", span_type=SpanType.AGENT) as span:
        mlflow.update_current_trace(session_id=session, user=user)
        span.set_inputs({"messages": [{"role": "user", "content": question}]})
        try:
            asked = {"messages": [{"role": "user", "content": question}]}
            state = agent.invoke(asked, memory.resume(agent, session))
        except KeyboardInterrupt as stop:  # MLflow notes exceptions by itself, but Ctrl-C is none
            span.add_event(SpanEvent.from_exception(stop))
            span.set_status("ERROR")
            raise
        answer = str(state["messages"][-1].text)
        remembered = {"turn": state["turns"], "messages": len(state["messages"]), "documents": state["documents"]}
        span.set_attributes({f"conversation.{name}": value for name, value in remembered.items()})
        span.set_outputs(answer)
    return Turn(session=session, question=question, answer=answer, trace_id=span.trace_id, **remembered)


def talk(agent: Any, memory: Memory, session: str, user: str, questions: Iterable[str]) -> Iterator[Turn]:
    """A turn for each question. Its trace is in the store before the next one is asked."""
    for question in questions:
        try:
            with waiting("thinking"):  # below: half a character from a terminal is no text
                turn = take_turn(agent, memory, session, user, question.encode(errors="replace").decode())
        except KeyboardInterrupt:
            click.echo("\nstopped: this question is not remembered")
        except Exception as error:
            if not (failure := describe_failed_call(error)):
                raise
            click.echo(f"not answered ({failure}): this question is not remembered")
        else:
            yield turn
        mlflow.flush_trace_async_logging()  # a kill at the next prompt loses nothing that was answered


def score(llm: Backend, sessions: list[str]) -> list[dict[str, Any]]:
    """Judge whole conversations. MLflow stores a session's scores on the trace of its first turn."""
    judge = llm.judge()["model"]
    scorers = [KnowledgeRetention(model=judge), ConversationCompleteness(model=judge), UserFrustration(model=judge)]
    with quiet_evaluation():
        mlflow.genai.evaluate(data=[trace for session in sessions for trace in traces_of(session)], scorers=scorers)
    names = [scorer.name for scorer in scorers]
    return [{"session": session, **read_session_scores(traces_of(session), names)} for session in sessions]


def traces_of(session: str) -> list[Trace]:
    """The turns of a session that were answered, oldest first, as the store has them."""
    mine = f"metadata.`mlflow.trace.session` = '{session}' AND trace.status = 'OK'"
    return mlflow.search_traces(filter_string=mine, order_by=["timestamp_ms ASC"], return_type="list")


def track_turns(turns: list[Turn]) -> list[dict[str, Any]]:
    """What each session remembered after each turn: a nested run each, the turn as the step. Returns rows to show."""
    rows = []
    for session in dict.fromkeys(turn.session for turn in turns):
        with mlflow.start_run(run_name=session, nested=True):
            mlflow.log_param("session", session)
            for turn in (turn for turn in turns if turn.session == session):
                trace = mlflow.get_trace(turn.trace_id)
                tokens = (trace.info.token_usage or {}).get("input_tokens", 0)
                remembered = {"messages": turn.messages, "documents": len(turn.documents), "prompt_tokens": tokens}
                mlflow.log_metrics(remembered, step=turn.turn)
                tools = ", ".join(call.name for call in tool_calls(trace)) or "none"
                asked = shorten(turn.question, 34, placeholder=" …")
                rows.append({"session": session, "turn": turn.turn, "question": asked, "tools": tools, **remembered})
    return rows


def create_version(llm: Backend, prompt_uri: str, window: int) -> LoggedModel:
    """What this agent is made of: the traces of its turns belong to it."""
    prompt = mlflow.genai.load_prompt(prompt_uri, cache_ttl_seconds=0)
    params = {"prompt": prompt.uri, "llm_model": llm.model, "window": str(window)}
    return mlflow.create_external_model(name=NAME, params=params, tags=current_tags(), model_type="agent")


def run_script(llm: Backend, folder: Path, prompt_uri: str, window: int, steps: Steps) -> list[Turn]:
    """Two people talk to the agent, and between two of their questions its memory is closed and opened again."""
    turns: list[Turn] = []
    names = {user: f"{user}-{secrets.randbelow(10**6):06}" for user in SCRIPT}
    for half in range(2):
        with open_memory(folder) as memory:
            agent = build_agent(llm, memory, prompt_uri, window)
            held = {name: len(memory.state(agent, name).get("messages", [])) for name in names.values()}
            steps(f"Memory {memory.path.name} opened: " + ", ".join(f"{name} {n} messages" for name, n in held.items()))
            for user, halves in SCRIPT.items():
                turns += talk(agent, memory, names[user], user, halves[half])
    return turns


def run_talk(
    llm: Backend, folder: Path, prompt_uri: str, window: int, session: str, said: Iterable[str], steps: Steps
) -> list[Turn]:
    """What was typed or said, in a session that may have begun in another process."""
    turns = []
    with open_memory(folder) as memory:
        agent = build_agent(llm, memory, prompt_uri, window)
        state = memory.state(agent, session)
        steps(f"Session {session} holds {state.get('turns', 0)} turns")
        if lost := memory.cut_off(agent, session):
            click.echo(f"      its last question was cut off and is not remembered: {lost}")
        for turn in talk(agent, memory, session, "learner", said):
            click.echo(f"agent> {turn.answer}")
            turns.append(turn)
    return turns


def run(
    llm: Backend, folder: Path, window: int, session: str | None, said: Iterable[str] | None, judged: bool
) -> Outcome:
    mlflow.langchain.autolog()
    prompt_uri = use_alias(PROMPT, ALIAS, SYSTEM, commit_message="Look facts up, keep what was told")
    steps = Steps(3 + (said is None) if judged else 2)
    with mlflow.start_run(run_name=NAME) as active, priced_spans(llm):
        model = create_version(llm, prompt_uri, window)
        with mlflow.set_active_model(model_id=model.model_id):
            # 1. Every turn a trace of its session, and a checkpoint of its thread
            if said is None:
                turns = run_script(llm, folder, prompt_uri, window, steps)
            else:
                turns = run_talk(llm, folder, prompt_uri, window, session or "", said, steps)

        if not turns and (said is None or (isinstance(said, tuple) and said)):  # a chat may end without a question
            raise BackendUnavailable("no question was answered", "uv run mlflow-learn doctor, then the same again")

        # 2. What was remembered after each turn
        rows = track_turns(turns)
        steps(f"{len(turns)} turns, each one trace")
        show_table(rows)

        # 3. Whole conversations, judged
        sessions = [session] if session else list(dict.fromkeys(turn.session for turn in turns))
        scores = score(llm, sessions) if judged else []
        if judged:
            steps(f"Scores of {len(sessions)} sessions, judged by {llm.model}")
            show_table(scores)
    return Outcome(active.info.run_id, turns, scores)


def choose_session(session: str | None, chat: bool, say: tuple[str, ...], judged: bool) -> str | None:
    """The session that is meant; None for the scripted conversations, which get sessions of their own.

    Raises:
        InputError: flags that do not go together, or a name that a filter could not find again.
    """
    if chat and say:
        raise InputError("--chat and --say do not go together", "--chat, and type it there")
    if session is None:
        return f"talk-{secrets.randbelow(10**6):06}" if chat or say else None
    if not SESSION_NAME.fullmatch(session):
        raise InputError(f"{session!r} cannot be a session's name", "1 to 80 letters, digits, dots, _ and -")
    if not (chat or say or judged):
        raise InputError(f"nothing is to be done in the session {session}", "add --chat, --say TEXT or --score")
    if judged and not (chat or say) and not traces_of(session):
        raise InputError(f"this store holds no answered turn of a session {session}", f"--session {session} --chat")
    return session


@lesson("4.3", llm="mock")
@click.option("--session", metavar="NAME", help="Which conversation to go on with, or to begin.")
@click.option("--chat", is_flag=True, help="Type your questions here.")
@click.option("--say", multiple=True, metavar="TEXT", help="Ask this and end; may be repeated.")
@click.option("--score", "judged", is_flag=True, help="Judge the session at the end; the scripted ones always are.")
@click.option("--window", type=click.IntRange(min=0), default=0, show_default=True,
              help="How many of the newest turns the model is shown; 0: all.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Default: .mlflow-learn.")  # fmt: skip
def main(
    session: str | None, chat: bool, say: tuple[str, ...], judged: bool, window: int, output: Path | None,
    backend: BackendOptions,
) -> None:  # fmt: skip
    named = choose_session(session, chat, say, judged)
    said = None if named is None else typed_lines("you>   ") if chat else say
    with open_backend(backend) as llm:
        outcome = run(llm, output or STATE_DIR, window, named, said, judged or named is None)
    last = outcome.turns[-1] if outcome.turns else None
    measured = {"sessions": len({turn.session for turn in outcome.turns}), "turns": len(outcome.turns)}
    click.echo(f"Go on:   uv run mlflow-conversational-agent --session {last.session if last else named} --chat")
    show("4.3", measured, run_id=outcome.run_id, trace_id=last.trace_id if last else None, trace_ids=len(outcome.turns))


if __name__ == "__main__":
    main()
