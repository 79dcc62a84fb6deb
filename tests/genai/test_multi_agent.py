"""8.1 on a store of its own: who was handed what, who was right, and what ends a loop."""

import json
from types import SimpleNamespace
from typing import Any

import httpx
import mlflow
import pytest
from langchain_core.messages import AIMessage
from mlflow import MlflowClient

from genai.agents.multi_agent import PROMPTS, SPECIALISTS, TWO_NEEDED, Team, ask, build_graph, main
from utils.agent_budget import Budget
from utils.agent_tasks import Task, Work, load_tasks, read_hand_offs, score_agent
from utils.errors import InputError
from utils.prompt_utils import use_alias
from utils.span_tree import roots

TASKS = load_tasks(tuple(SPECIALISTS))


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main)


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    client = MlflowClient()
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return found


@pytest.fixture
def traces(run):
    found = mlflow.search_traces(locations=[run.info.experiment_id], max_results=200, return_type="list")
    return sorted(found, key=lambda trace: trace.info.request_time)


def typed(trace, kind):
    return [span for span in trace.data.spans if span.span_type == kind]


def test_every_request_is_one_trace_with_one_root_its_session_model_prompt_and_sums(traces):
    assert len(traces) == 1 + len(TASKS) + 3
    for trace in traces:
        (root,) = roots(trace)
        metadata = trace.info.trace_metadata
        assert root.span_type == "AGENT" and root.name == "multi-agent" and trace.info.state == "OK"
        assert metadata["mlflow.trace.session"].startswith("multi-agent-") and metadata["mlflow.trace.user"]
        assert metadata["mlflow.modelId"].startswith("m-")
        assert "multi-agent-coordinator" in trace.info.tags["mlflow.linkedPrompts"]
        assert root.attributes["agent.total_tokens"] == root.attributes["budget.tokens"] > 0
        assert root.attributes["agent.cost_usd"] > 0 and len(typed(trace, "CHAT_MODEL")) >= 1


def test_a_question_that_needs_two_specialists_gets_both_each_with_its_own_work_below_it(traces):
    first = traces[0]
    works = read_hand_offs(first)
    assert [work.agent for work in works] == ["rag", "calculator"]
    assert "6000" in works[0].answer and "1500" in works[1].answer
    answer = roots(first)[0].outputs["answer"]
    assert "6000" in answer and "1500" in answer
    below = {work.agent: kinds_below(first, work.span_id) for work in works}
    assert {"RETRIEVER", "CHAT_MODEL"} <= below["rag"] and {"TOOL", "CHAT_MODEL"} <= below["calculator"]
    for span in typed(first, "AGENT")[1:]:
        assert span.attributes["handoff.from"] == "coordinator" and span.inputs["request"]


def kinds_below(trace, span_id) -> set[str]:
    found, wanted = set(), {span_id}
    for span in sorted(trace.data.spans, key=lambda span: span.start_time_ns):
        if span.parent_id in wanted:
            wanted.add(span.span_id)
            found.add(span.span_type)
    return found


def test_the_scores_are_those_of_the_traces_and_stand_on_them_as_feedback(traces, run):
    metrics = run.data.metrics
    for name in SPECIALISTS:
        assert metrics[f"{name}_needed"] >= 5 and metrics[f"{name}_recall"] >= 0.8 and metrics[f"{name}_tokens"] > 0
    tasks = {task.question: task for task in TASKS}
    right = []
    for trace in traces[1 : 1 + len(TASKS)]:
        root = roots(trace)[0]
        (given,) = [each for each in trace.info.assessments if each.name == "right"]
        assert given.value == tasks[root.inputs["question"]].right(root.outputs["answer"])
        assert given.metadata["lesson"] == "8.1" and given.source.source_type == "CODE"
        right.append(given.value)
        own = {work.span_id for work in read_hand_offs(trace)}
        assert {each.span_id for each in trace.info.assessments if each.name != "right"} <= own
    assert metrics["tasks_right"] == sum(right) / len(right) and metrics["two_specialists_right"] == 1.0


def test_loops_end_at_the_budget_and_say_so(traces, run):
    assert run.data.metrics["budgets_that_ended_it"] == 3 and run.data.metrics["ended_by_budget"] == 0
    for trace in traces[-3:]:
        root = roots(trace)[0]
        assert typed(trace, "GUARDRAIL") and root.attributes["budget.ended"]
        assert "I stopped before I was done" in root.outputs["answer"]
    steps, tokens, loop = (roots(trace)[0] for trace in traces[-3:])
    assert steps.attributes["budget.steps"] == 2 and "6000" in steps.outputs["answer"]
    assert tokens.attributes["budget.steps"] == 1 and "nothing" in tokens.outputs["answer"]
    assert 4 < loop.attributes["budget.steps"] <= 12


class Scripted:
    """A model that says what the test wrote, again and again."""

    def __init__(self, *replies: AIMessage, breaks: bool = False) -> None:
        self.replies, self.turn, self.breaks = replies, 0, breaks

    def bind_tools(self, _tools, **_choice) -> "Scripted":
        return self

    def invoke(self, _messages) -> AIMessage:
        if self.turn == len(self.replies) and self.breaks:
            raise httpx.ConnectError("gone")
        reply = self.replies[min(self.turn, len(self.replies) - 1)]
        self.turn += 1
        return reply.model_copy(update={"id": str(self.turn)})


def calling(*names: str) -> AIMessage:
    calls = [{"name": name, "args": {}, "id": f"c{number}"} for number, name in enumerate(names)]
    return AIMessage("", tool_calls=calls)


@pytest.fixture
def asked(store, monkeypatch):
    """Ask a coordinator that follows a script; specialists answer at once."""
    mlflow.set_experiment("8-advanced")
    for name, template in PROMPTS.items():
        use_alias(f"multi-agent-{name}", "production", template)
    monkeypatch.setattr(Team, "work", lambda self, name, request: (f"{name} was asked: {request}", 10))

    def give(*replies: AIMessage, steps: int = 5, tokens: int = 1000, breaks: bool = False):
        nothing: Any = None
        llm: Any = SimpleNamespace(chat_model=lambda: Scripted(*replies, breaks=breaks))
        return ask(build_graph(Team(llm, nothing, nothing), Budget(steps, tokens)), "The question?", "s")

    return give


def test_a_coordinator_that_never_ends_is_stopped_after_exactly_its_steps(asked):
    for steps in (1, 2, 5):
        reply = asked(calling("transfer_to_rag"), steps=steps)
        assert (reply.steps, reply.stopped_by) == (steps, f"{steps} steps")


def test_many_hand_offs_at_once_do_not_slip_past_the_budget(asked):
    reply = asked(calling(*["transfer_to_rag"] * 50), steps=4)
    assert reply.steps == 4 and reply.stopped_by == "4 steps"
    assert asked(calling(*["transfer_to_rag"] * 50), steps=99, tokens=25).tokens == 30, "looked at before each step"


def test_a_call_that_fails_midway_is_no_end_by_the_budget_and_the_steps_before_it_count(asked):
    reply = asked(calling("transfer_to_rag"), breaks=True)
    assert reply.failed and reply.stopped_by == "" and (reply.steps, reply.tokens) == (2, 10)
    assert "I cannot answer" in reply.answer


def test_a_model_that_says_nothing_is_a_loop_too(asked):
    assert asked(AIMessage(""), steps=3).stopped_by == "3 steps"


def test_a_specialist_that_there_is_not_is_an_error_for_the_model_to_read(asked):
    reply = asked(calling("transfer_to_lawyer"), AIMessage("So be it."))
    assert reply.answer == "So be it." and not reply.stopped_by
    assert "error: there is no specialist lawyer" in asked(calling("transfer_to_lawyer"), steps=2).answer


def test_a_hand_off_without_a_request_gets_the_question(asked):
    assert "rag was asked: The question?" in asked(calling("transfer_to_rag"), steps=2).answer


def test_a_model_server_that_fails_ends_the_request_and_not_the_lesson(store, run_command):
    result = run_command(main, "--mock-faults", "500:1.0", "--query", TWO_NEEDED)
    assert result.exit_code == 2 and "I cannot answer" in result.stdout and "failed on all 1 requests" in result.stderr
    (experiment,) = [e for e in MlflowClient().search_experiments() if e.name == "8-advanced"]
    (trace,) = mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")
    (root,) = roots(trace)
    assert root.status.status_code == "ERROR" and root.attributes["budget.ended"] == ""
    assert root.attributes["budget.steps"] == 0, "no step was completed"


def test_a_server_that_fails_on_every_task_is_no_score(store, refused):
    assert "failed on all 2 requests" in refused(main, "--limit", 2, "--mock-faults", "500:1.0")


def test_the_small_mock_hands_over_once_and_the_large_one_is_the_default(store, run_command):
    small = run_command(main, "--model", "mock-small", "--query", TWO_NEEDED).output
    assert "hand_offs       1" in " ".join(small.split("\n")) and "1500" not in small.split("Answer:")[1]


# --- scores and tasks


def work(agent: str, answer: str, tokens: int = 5) -> Work:
    return Work(agent, answer, tokens, 10.0, "s")


def test_an_agent_is_scored_where_it_was_needed_and_where_it_was_called():
    tasks = [Task("1", "q", {"rag": "6"}), Task("2", "q", {"rag": "7"}), Task("3", "q", {})]
    works = [[work("rag", "It is 6."), work("rag", "no")], [], [work("rag", "x")]]
    scores = score_agent("rag", tasks, works)
    assert scores == {
        "needed": 2, "called": 2, "recall": 0.5, "right": 0.5, "precision": 0.5, "p50_ms": 10.0, "tokens": 15
    }  # fmt: skip
    assert score_agent("search", tasks, works) == {"needed": 0, "called": 0, "tokens": 0}, "no share of nothing"


def test_a_task_is_right_when_every_part_is_in_the_answer():
    task = Task("1", "q", {"rag": "6000", "calculator": "1500"})
    assert task.right("6000, so 1500.") and not task.right("6000") and not task.right("60001500")
    assert Task("2", "Hello", {}).right("Hello.") and not Task("2", "Hello", {}).right("I do not know.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no tasks"),
        ("{", "line 1 is no JSON"),
        ('{"parts": {}}', "line 1 has no text question"),
        ('{"question": "q", "parts": ["rag"]}', "parts are no texts by agent"),
        ('{"question": "q", "parts": {"lawyer": "x"}}', "there is no agent lawyer"),
    ],
)
def test_tasks_that_cannot_be_used(refused, store, tmp_path, text, said):
    (tmp_path / "tasks.jsonl").write_text(text)
    assert said in refused(main, "--tasks", tmp_path / "tasks.jsonl")


def test_own_tasks_and_missing_ones(tmp_path):
    (tmp_path / "own.jsonl").write_text(json.dumps({"question": "q", "parts": {"rag": "a"}}))
    assert load_tasks(("rag",), tmp_path / "own.jsonl")[0].parts == {"rag": "a"}
    with pytest.raises(InputError, match="cannot read"):
        load_tasks(("rag",), tmp_path / "none.jsonl")


@pytest.mark.parametrize("flags", [("--query", " "), ("--max-steps", 0), ("--max-tokens", 0), ("--llm-type", "openai")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)


def test_no_documents(refused, store, tmp_path):
    assert "no folder" in refused(main, "--docs-path", tmp_path / "none")
