"""4.3 on a store of its own: turns and sessions, what is remembered, restarts, what is cut off, and the terminal."""

import signal
import sqlite3
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall
from mlflow import MlflowClient
from mlflow.entities import Trace

from genai.agents import conversational_agent
from genai.agents.conversational_agent import MAX_CALLS, PROMPT, SCRIPT, SYSTEM, build_agent, main
from tests.conftest import Left
from utils.agent_setup import ROOT_COST, ROOT_TOKENS, tool_calls
from utils.conversation_memory import FILE, last_turns, open_memory
from utils.llm_backends import open_backend
from utils.prompt_utils import use_alias
from utils.span_tree import roots

COMMAND = Path(sys.executable).with_name("mlflow-conversational-agent")
SCORES = {"knowledge_retention", "conversation_completeness", "user_frustration"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def done(run_lesson, folder) -> Left:
    return run_lesson(main, "--output", folder)


def stored() -> list[Trace]:
    """All traces of the store in use, oldest first."""
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    return mlflow.search_traces(locations=ids, order_by=["timestamp_ms ASC"], return_type="list")


def session_of(trace: Trace) -> str:
    return trace.info.trace_metadata["mlflow.trace.session"]


def is_whole(trace: Trace) -> bool:
    return len(roots(trace)) == 1 and all(span.end_time_ns for span in trace.data.spans)


@pytest.fixture
def sessions(done) -> dict[str, list[Trace]]:
    """Traces by user, oldest first."""
    mlflow.set_tracking_uri(done.uri)
    found = defaultdict(list)
    for trace in stored():
        found[trace.info.trace_metadata["mlflow.trace.user"]].append(trace)
    return found


# --- the scripted conversations


def test_a_turn_is_one_trace_of_its_session(sessions):
    assert {user: len(turns) for user, turns in sessions.items()} == {
        user: sum(map(len, halves)) for user, halves in SCRIPT.items()
    }
    for user, turns in sessions.items():
        assert len({session_of(turn) for turn in turns}) == 1 and session_of(turns[0]).startswith(f"{user}-")
        asked = [roots(turn)[0].inputs["messages"][0]["content"] for turn in turns]
        assert asked == [question for half in SCRIPT[user] for question in half]
        assert [roots(turn)[0].attributes["conversation.turn"] for turn in turns] == [1, 2, 3]


def test_each_trace_has_typed_spans_tokens_cost_prompt_and_version(sessions):
    for turn in [turn for turns in sessions.values() for turn in turns]:
        (root,) = roots(turn)
        types = [span.span_type for span in turn.data.spans]
        assert root.span_type == "AGENT" and types.count("CHAT_MODEL") == 1 + types.count("TOOL")
        assert root.attributes[ROOT_TOKENS] == turn.info.token_usage["total_tokens"] > 0
        assert root.attributes[ROOT_COST] == pytest.approx(turn.info.cost["total_cost"]) and turn.info.cost
        assert f'"name": "{PROMPT}", "version": "1"' in turn.info.tags["mlflow.linkedPrompts"]
        assert turn.info.tags["lesson"] == "4.3" and is_whole(turn)
    (model,) = mlflow.search_logged_models(experiment_ids=[turn.info.experiment_id], output_format="list")
    assert model.params["window"] == "0" and model.tags["lesson"] == "4.3"
    assert {turn.info.trace_metadata["mlflow.modelId"] for turns in sessions.values() for turn in turns} == {
        model.model_id
    }


def test_what_was_told_before_the_restart_is_known_after_it(sessions):
    last = roots(sessions["ada"][-1])[0]
    assert "your name is Ada" in last.outputs and tool_calls(sessions["ada"][-1]) == []
    (looked_up,) = tool_calls(sessions["ada"][1])
    assert looked_up.name == "search_documents"
    assert str(roots(sessions["ada"][1])[0].outputs).rstrip(".") in looked_up.result, "said from what was found"


def test_the_memory_on_disk_is_what_the_traces_say(sessions, folder):
    with open_backend("mock") as llm, open_memory(folder) as memory:
        agent = build_agent(llm, memory, f"prompts:/{PROMPT}@production", 0)
        for turns in sessions.values():
            state = memory.state(agent, session_of(turns[0]))
            root = roots(turns[-1])[0].attributes
            assert state["turns"] == root["conversation.turn"] == 3
            assert len(state["messages"]) == root["conversation.messages"]
            assert state["documents"] == root["conversation.documents"]
            said = [message.text for message in state["messages"] if message.type == "human"]
            assert said == [roots(turn)[0].inputs["messages"][0]["content"] for turn in turns]


def test_state_by_turn_stands_in_a_run_of_each_session(sessions):
    client = MlflowClient()
    (parent,) = client.search_runs([sessions["ada"][0].info.experiment_id], "tags.lesson = '4.3'")[-1:]
    for turns in sessions.values():
        name = session_of(turns[0])
        (run,) = client.search_runs([parent.info.experiment_id], f"params.session = '{name}'")
        history = sorted(client.get_metric_history(run.info.run_id, "messages"), key=lambda point: point.step)
        assert [point.step for point in history] == [1, 2, 3]
        assert [point.value for point in history] == [
            roots(turn)[0].attributes["conversation.messages"] for turn in turns
        ]
        tokens = client.get_metric_history(run.info.run_id, "prompt_tokens")
        assert sorted(p.value for p in tokens) == sorted(t.info.token_usage["input_tokens"] for t in turns)


def test_sessions_are_judged_whole_on_their_first_turn(sessions, done):
    scores = {}
    for user, turns in sessions.items():
        by_turn = [{item.name: item.value for item in turn.info.assessments} for turn in turns]
        assert set(by_turn[0]) == SCORES and not any(by_turn[1:])
        scores[user] = by_turn[0]
    assert scores["ada"]["user_frustration"] == "none" and scores["ben"]["user_frustration"] == "unresolved"
    assert scores["ada"]["knowledge_retention"] == "yes"
    assert "unresolved" in done.output


# --- sessions of one's own


def say(run_command, folder, *texts: str, flags: tuple = (), session: str = "tea"):
    said = [part for text in texts for part in ("--say", text)]
    return run_command(main, "--output", folder, "--session", session, *said, *flags)


def test_a_session_goes_on_where_it_stopped_and_knows_nothing_of_others(store, run_command, tmp_path):
    assert say(run_command, tmp_path, "My name is Ada.").exit_code == 0
    again = say(run_command, tmp_path, "What is my name?").stdout
    assert "Session tea holds 1 turns" in again and "agent> You told me: your name is Ada." in again
    other = say(run_command, tmp_path, "What is my name?", session="coffee").stdout
    assert "holds 0 turns" in other and "Ada" not in other
    assert "Ada" not in say(run_command, tmp_path / "elsewhere", "What is my name?").stdout
    assert [session_of(trace) for trace in stored()] == ["tea", "tea", "coffee", "tea"]


def test_shown_one_turn_the_model_forgets_what_the_memory_holds_and_the_score_says_so(store, run_command, tmp_path):
    texts = ("My name is Ada.", "What is my name?")
    result = say(run_command, tmp_path, *texts, flags=("--window", 1, "--score"))
    assert result.exit_code == 0
    first, second = stored()
    assert "Ada" not in roots(second)[0].outputs and roots(second)[0].attributes["conversation.turn"] == 2
    assert {item.name: item.value for item in first.info.assessments}["knowledge_retention"] == "no"
    assert "your name is Ada" in say(run_command, tmp_path, "What is my name?").stdout, "the memory kept it"


def test_a_session_can_be_judged_later_and_again(store, run_command, tmp_path):
    say(run_command, tmp_path, "My name is Ada.")
    for _ in range(2):
        result = run_command(main, "--output", tmp_path, "--session", "tea", "--score")
        assert result.exit_code == 0 and "knowledge_retention" in result.stdout
    assert {item.name for item in stored()[0].info.assessments} == SCORES


def test_a_turn_whose_model_did_not_answer_is_not_remembered_and_the_session_goes_on(store, run_command, tmp_path):
    say(run_command, tmp_path, "My name is Ada.")
    failed = say(run_command, tmp_path, "How old am I?", flags=("--mock-faults", "500:1"))
    assert failed.exit_code == 2 and len(failed.stderr.strip().splitlines()) == 2
    assert "not answered (OpenAIAPIError (500)): this question is not remembered" in failed.stdout
    after = say(run_command, tmp_path, "What is my name?").stdout
    assert "holds 1 turns" in after and "cut off and is not remembered: How old am I?" in after
    assert "your name is Ada" in after
    assert [trace.info.state for trace in stored()] == ["OK", "ERROR", "OK"] and all(map(is_whole, stored()))


# --- parts


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_tool_call_without_a_result_is_not_sent_to_the_model(store, tmp_path, checkpointed):
    """What a kill between the call and its result leaves in the memory: the model's step as part of a checkpoint, or
    written beside the one before it."""
    mlflow.set_experiment("4-agents")
    uri = use_alias(PROMPT, "production", SYSTEM)
    asked = {"messages": [("user", "How long does load_prompt remember an alias?")]}
    thread = {"configurable": {"thread_id": "s"}}
    with open_backend("mock") as llm, open_memory(tmp_path) as memory:
        agent = build_agent(llm, memory, uri, 0)
        agent.invoke({"messages": [("user", "My name is Ada.")]}, thread)
        for step in agent.stream(asked, thread, durability="sync"):
            if "model" in step:
                break
        if not checkpointed:
            newest = "(SELECT max(checkpoint_id) FROM checkpoints)"
            memory.saver.conn.execute(f"DELETE FROM checkpoints WHERE checkpoint_id = {newest}")
            memory.saver.conn.commit()
    with open_backend("mock") as llm, open_memory(tmp_path) as memory:
        agent = build_agent(llm, memory, uri, 0)
        assert agent.get_state(thread).values["messages"][-1].tool_calls, "the newest checkpoint ends in the call"
        assert memory.cut_off(agent, "s") == asked["messages"][0][1]
        state = agent.invoke({"messages": [("user", "What is my name?")]}, memory.resume(agent, "s"))
        assert [m.type for m in state["messages"]] == ["human", "ai", "human", "ai"] and state["turns"] == 2
        assert memory.cut_off(agent, "s") is None and len(memory.state(agent, "s")["messages"]) == 4


class Looping(FakeMessagesListChatModel):
    """A model that asks for the same tool for ever."""

    def bind_tools(self, tools, **options):
        return self


def test_a_loop_of_tool_calls_ends(store, tmp_path):
    mlflow.set_experiment("4-agents")
    calls: list[BaseMessage] = [
        AIMessage("", tool_calls=[ToolCall(name="search_documents", args={"query": "x"}, id=str(n))]) for n in range(99)
    ]
    llm: Any = SimpleNamespace(chat_model=lambda: Looping(responses=calls))
    with open_memory(tmp_path) as memory:
        agent = build_agent(llm, memory, use_alias(PROMPT, "production", SYSTEM), 0)
        state = agent.invoke({"messages": [("user", "x")]}, memory.resume(agent, "s"))
    assert sum(m.type == "tool" and m.status == "success" for m in state["messages"]) == MAX_CALLS
    assert "limit" in state["messages"][-1].text and state["turns"] == 1


def test_the_window_begins_at_a_question():
    kinds = (HumanMessage, AIMessage, AIMessage, HumanMessage, AIMessage, HumanMessage)
    messages = [kind(str(place)) for place, kind in enumerate(kinds)]
    shown = {window: "".join(m.text for m in last_turns(messages, window)) for window in (0, 1, 2, 3, 9)}
    assert shown == {0: "012345", 1: "5", 2: "345", 3: "012345", 9: "012345"}


# --- what is typed, in a pipe


def chat(tmp_path, keys: bytes, *flags: str):
    args = ["--chat", "--session", "tea", "--output", str(tmp_path), *flags]
    return CliRunner().invoke(main, args, input=keys)


def test_a_chat_in_a_pipe(store, tmp_path):
    result = chat(tmp_path, b"My name is Ada.\n\n   \nWhat is my name?\n")
    assert result.exit_code == 0 and result.stdout.count("agent> ") == 2 and "your name is Ada" in result.stdout
    assert [trace.info.state for trace in stored()] == ["OK", "OK"]


def test_a_chat_in_which_nothing_is_said_and_one_that_is_no_text(store, tmp_path):
    result = chat(tmp_path, b"")
    assert result.exit_code == 0 and "0 turns" in result.stdout and stored() == []
    assert chat(tmp_path, b"My name is \xff\xfe.\n").exit_code == 0
    (trace,) = stored()
    assert trace.info.state == "OK"


# --- wrong use


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--chat", "--say", "x"), "do not go together"),
        (("--session", "tea"), "add --chat, --say TEXT or --score"),
        (("--session", "tea", "--score"), "no answered turn of a session tea"),
        (("--session", "a'b", "--chat"), "cannot be a session's name"),
        (("--session", "", "--chat"), "cannot be a session's name"),
        (("--session", "x" * 81, "--chat"), "cannot be a session's name"),
        (("--window", -1), "--window"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use(refused, store, tmp_path, flags, said):
    assert said in refused(main, "--output", tmp_path, *flags)
    assert stored() == [] and not (tmp_path / FILE).exists()


def test_a_memory_that_cannot_be_used(refused, store, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    for folder in (tmp_path / "file" / "below", tmp_path):
        assert "--output DIR" in refused(main, "--output", folder, "--session", "tea", "--say", "x")
    assert (tmp_path / FILE).read_bytes().startswith(b"no database"), "nothing of it is overwritten"


def test_a_memory_of_a_newer_form_is_left_alone(refused, store, tmp_path):
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("CREATE TABLE checkpoints (x)")
    assert "conversations cannot be kept" in refused(main, "--output", tmp_path, "--session", "tea", "--say", "x")


# --- a terminal, and a process that is killed


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no pseudo-terminals")
def test_a_process_killed_between_turns_loses_nothing_that_was_answered(store, tmp_path):
    from tests.terminal import Terminal

    typed = [COMMAND, "--session", "tea", "--output", tmp_path, "--chat"]
    with Terminal(typed) as terminal:
        terminal.wait_for("you> ")
        terminal.type("My name is Ada.\n")
        terminal.wait_for("agent> ")
        terminal.wait_for("you> ")
        terminal.kill()
    with Terminal(typed) as terminal:
        assert "holds 1 turns" in terminal.wait_for("you> ")
        terminal.type("What is my name?\n")
        assert "your name is Ada" in terminal.wait_for("you> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    assert [session_of(trace) for trace in stored()] == ["tea", "tea"]
    assert [trace.info.state for trace in stored()] == ["OK", "OK"] and all(map(is_whole, stored()))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no pseudo-terminals")
def test_a_process_killed_while_it_answers_goes_on_before_that_question(store, tmp_path):
    from tests.terminal import Terminal

    typed = [COMMAND, "--session", "tea", "--output", tmp_path, "--chat", "--mock-latency-ms", "4000"]
    with Terminal(typed) as terminal:
        terminal.wait_for("you> ")
        terminal.type("My name is Ada.\n")
        terminal.wait_for("agent> ")
        terminal.wait_for("you> ")
        terminal.type("How long does load_prompt remember an alias?\n")
        wait_until(lambda: b"search_documents" in written(tmp_path))
        terminal.kill()
    with Terminal(typed) as terminal:
        begun = terminal.wait_for("you> ")
        assert "holds 1 turns" in begun and "is not remembered: How long does load_prompt" in begun
        terminal.type("What is my name?\n")
        assert "your name is Ada" in terminal.wait_for("you> ")
        terminal.type("\x04")
        assert terminal.end() == 0


def written(folder: Path) -> bytes:
    """What the steps of all turns have written, as it is on disk."""
    with sqlite3.connect(folder / FILE) as memory:
        return b"".join(value for (value,) in memory.execute("SELECT value FROM writes") if value)


def wait_until(true) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no pseudo-terminals")
def test_control_c_stops_an_answer_control_d_the_chat_and_both_leave_whole_traces(store, tmp_path):
    from tests.terminal import Terminal

    with Terminal(
        [COMMAND, "--session", "tea", "--output", tmp_path, "--chat", "--mock-latency-ms", "3000"]
    ) as terminal:
        terminal.wait_for("you> ")
        terminal.type("My name is Ada.\n")
        terminal.wait_for("agent> ")
        terminal.wait_for("you> ")
        tries, said = 0, ""
        while "stopped: this question is not remembered" not in said:
            tries += 1  # Python drops an interrupt that comes in a callback; a person presses again
            assert tries <= 3, terminal.seen
            terminal.type("How long does load_prompt remember an alias?\n")
            time.sleep(1.5)  # the model has been asked, and needs 3 seconds
            terminal.type("\x03")
            said = terminal.wait_for("you> ")
        terminal.type("What is my name?\n")
        assert "your name is Ada" in terminal.wait_for("you> ")
        terminal.type("\x03")  # at the prompt it ends the chat, as Ctrl-D does
        assert terminal.end() == 0 and "Traceback" not in terminal.seen
    traces = stored()
    assert [trace.info.state for trace in traces] == ["OK"] * tries + ["ERROR", "OK"] and all(map(is_whole, traces))
    (event,) = roots(traces[tries])[0].events
    assert event.attributes["exception.type"] == "KeyboardInterrupt"
    (run,) = MlflowClient().search_runs([traces[0].info.experiment_id], "params.session = 'tea'")
    assert run.info.status == "FINISHED"


def test_the_script_holds_a_restart_for_everybody():
    assert all(len(halves) == 2 and all(halves) for halves in conversational_agent.SCRIPT.values())
