"""8.1 A coordinator and three specialists: one trace, visible hand-offs, and a budget that ends every loop.

New here: an agent may be another agent's tool. Who did what is a tree of AGENT spans; what it may cost is a budget.
Run it:   uv run mlflow-multi-agent
          uv run mlflow-multi-agent --query "Which port does AgentServer listen on, and what is 7 * 6?"
          uv run mlflow-multi-agent --max-steps 4 --max-tokens 800
          uv run mlflow-multi-agent --llm-type ollama --ollama-model llama3.2 --limit 5
Look at:  uv run mlflow ui  ->  8-advanced  ->  Traces: open a multi-agent; each AGENT span below it is a hand-off
Change:   --model mock-small; which agent's recall falls, and does the trace say why?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType, SpanType

from utils.agent_budget import Budget, Reply, TeamState, used
from utils.agent_loop import hand_off_tool, run_tool_agent, tokens_of
from utils.agent_setup import check_answered, priced_spans
from utils.agent_tasks import Task, Work, load_tasks, part_right, read_hand_offs, score_team
from utils.calculator import calculate
from utils.cli import Steps, lesson, show, show_table, track
from utils.document_index import DocumentIndex, open_index
from utils.document_search import DocumentSearch
from utils.errors import InputError
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions, EmbedOptions
from utils.prompt_utils import use_alias
from utils.sample_documents import CORPUS
from utils.span_tree import tree_lines

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

COORDINATOR = """Hand each part of the request over with the tool that fits, one after the other, then answer from what
came back. Add nothing of your own. What nobody could find out, say that you do not know."""
RAG = """Answer the question from the passages only, in one sentence, and name the source in square brackets.
If they do not hold the answer, say: I do not know.

<passages>
{{passages}}
</passages>

Question: {{question}}"""
CALCULATOR = "You calculate. Use the tool calculator for every calculation, and answer with its result."
SEARCH = """You search documents. Use the tool search_documents. Say in one sentence what it found, and name the sources
in square brackets."""
PROMPTS = {"coordinator": COORDINATOR, "rag": RAG, "calculator": CALCULATOR, "search": SEARCH}
SPECIALISTS = {
    "rag": "Answers a question about MLflow from passages of its documents.",
    "calculator": "Calculates an arithmetic expression.",
    "search": "Searches which documents mention certain words, and names them.",
}
TWO_NEEDED = "How many characters may a parameter value have before it is truncated, and what is that divided by 4?"


@dataclass(frozen=True)
class Team:
    """The models and what the specialists work with."""

    llm: Backend
    index: DocumentIndex
    search: DocumentSearch

    def ask_rag(self, request: str) -> tuple[str, int]:
        """The RAG specialist: its answer, and the tokens of its call."""
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"query": request})
            passages = self.index.retrieve(request)
            span.set_outputs([passage.as_page() for passage in passages])
        prompt = mlflow.genai.load_prompt(uri("rag"))
        material = "\n".join(f'<passage source="{p.document}">{escape(p.text)}</passage>' for p in passages)
        reply = self.llm.chat_model().invoke(str(prompt.format(passages=material, question=request)))
        return reply.text, tokens_of([reply])

    def search_documents(self, words: str) -> str:
        """Search the documents for keywords; returns names, titles and snippets of those that mention them."""
        hits = [{"source": hit.document, "title": hit.title, "text": hit.snippet} for hit in self.search.search(words)]
        return json.dumps(hits) if hits else "no document mentions these words"

    def work(self, name: str, request: str) -> tuple[str, int]:
        """One hand-off, visible as a span of type AGENT with the specialist's own calls below it."""
        with mlflow.start_span(name, span_type=SpanType.AGENT) as span:
            span.set_inputs({"request": request})
            span.set_attributes({"handoff.from": "coordinator", "handoff.to": name})
            if name == "rag":
                answer, tokens = self.ask_rag(request)
            elif name == "calculator":
                answer, tokens = run_tool_agent(self.llm, system_of(name), calculator, request)
            else:
                answer, tokens = run_tool_agent(self.llm, system_of(name), self.search_documents, request)
            span.set_attribute("handoff.tokens", tokens)
            span.set_outputs({"answer": answer})
        return answer, tokens


def calculator(expression: str) -> str:
    """Calculate an arithmetic expression such as (17 + 5) / 4."""
    return calculate(expression)


def uri(name: str) -> str:
    return f"prompts:/multi-agent-{name}@production"


def system_of(name: str) -> str:
    """Loaded inside the request's trace: the trace is linked to the version."""
    return str(mlflow.genai.load_prompt(uri(name)).template)


def build_graph(team: Team, budget: Budget, *, must_hand_over: bool = False) -> "CompiledStateGraph":
    """coordinator ⇄ specialists, until the coordinator answers or the budget is used up.

    must_hand_over: the coordinator may never answer by itself. It is a loop without an end, made on purpose.
    """
    from langchain_core.messages import ToolMessage
    from langgraph.graph import END, START, StateGraph

    tools = [hand_off_tool(name, description) for name, description in SPECIALISTS.items()]
    model = team.llm.chat_model().bind_tools(tools, **({"tool_choice": "any"} if must_hand_over else {}))

    def coordinator(state: TeamState) -> dict[str, Any]:
        reply: Any = model.invoke(state["messages"])
        answer = "" if reply.tool_calls else reply.text
        return {"messages": [reply], "pending": reply.tool_calls, "answer": answer, **used(state, tokens_of([reply]))}

    def specialist(state: TeamState) -> dict[str, Any]:
        call, *rest = state["pending"]
        name = call["name"].removeprefix("transfer_to_")
        finding, tokens = f"error: there is no specialist {name}", 0
        if name in SPECIALISTS:
            finding, tokens = team.work(name, str(call["args"].get("request") or state["messages"][1].text))
        message = ToolMessage(finding, tool_call_id=call["id"])
        return {"messages": [message], "pending": rest, "findings": [f"{name}: {finding}"], **used(state, tokens)}

    def stop(state: TeamState) -> dict[str, Any]:
        with mlflow.start_span("budget", span_type=SpanType.GUARDRAIL) as span:
            span.set_inputs({"steps": state["steps"], "tokens": state["tokens"]})
            spent, found = budget.spent(state), " ".join(dict.fromkeys(state["findings"])) or "nothing."
            answer = f"I stopped before I was done: the budget of {spent} is used up. Found so far: {found}"
            span.set_outputs(answer)
        return {"answer": answer, "stopped_by": spent}

    def route(state: TeamState) -> str:
        if state.get("answer"):
            return END
        if budget.spent(state):
            return "stop"
        return "specialist" if state["pending"] else "coordinator"

    graph = StateGraph(TeamState)
    for node in (coordinator, specialist, stop):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "coordinator")
    graph.add_conditional_edges("coordinator", route, ["specialist", "stop", "coordinator", END])
    graph.add_conditional_edges("specialist", route, ["specialist", "stop", "coordinator"])
    graph.add_edge("stop", END)
    return graph.compile()


def ask(graph: "CompiledStateGraph", question: str, session_id: str) -> Reply:
    """One request, one trace with one root: autolog hangs the graph, its nodes and model calls below it."""
    from langchain_core.messages import HumanMessage, SystemMessage

    with mlflow.start_span("multi-agent", span_type=SpanType.AGENT) as root:
        mlflow.update_current_trace(session_id=session_id, user="learner")
        root.set_inputs({"question": question})
        messages = [SystemMessage(system_of("coordinator")), HumanMessage(question)]
        end: Any = TeamState(messages=messages, pending=[], findings=[], steps=0, tokens=0)
        failed = False
        try:
            # The budget ends every loop; LangGraph's own limit only has to be out of its way.
            for state in graph.stream(end, {"recursion_limit": 10_000}, stream_mode="values"):
                end = state
        except Exception as error:
            if (reason := describe_failed_call(error)) is None:
                raise
            root.record_exception(f"a model call failed: {reason}")
            failed, end = True, {**end, "answer": f"I cannot answer: {reason}"}
        stopped_by = end.get("stopped_by", "")
        root.set_attributes({"budget.steps": end["steps"], "budget.tokens": end["tokens"], "budget.ended": stopped_by})
        root.set_outputs({"answer": end["answer"]})
    return Reply(end["answer"], end["steps"], end["tokens"], stopped_by, root.trace_id, failed)


def give_feedback(task: Task, reply: Reply, works: Sequence[Work]) -> None:
    """The verdicts stand on the trace, and each specialist's on the span of its hand-off."""
    source = AssessmentSource(AssessmentSourceType.CODE, "multi_agent")
    mark: dict[str, Any] = {"trace_id": reply.trace_id, "source": source, "metadata": current_tags()}
    mlflow.log_feedback(name="right", value=task.right(reply.answer), **mark)
    for work in works:
        if work.agent in task.parts:
            value = part_right(task, work.agent, [work])
            mlflow.log_feedback(name=f"{work.agent}_right", value=value, span_id=work.span_id, **mark)


def try_tasks(team: Team, budget: Budget, tasks: Sequence[Task], session_id: str) -> dict[str, float]:
    """All tasks, scored per agent from the traces; prints the table and returns the metrics."""
    graph = build_graph(team, budget)
    replies = [ask(graph, task.question, session_id) for task in track(tasks, "Tasks")]
    mlflow.flush_trace_async_logging()
    check_answered(len(replies), sum(reply.failed for reply in replies))
    works = [read_hand_offs(mlflow.get_trace(reply.trace_id)) for reply in replies]
    for task, reply, each in zip(tasks, replies, works, strict=True):
        give_feedback(task, reply, each)
    table, metrics = score_team(tuple(SPECIALISTS), tasks, [reply.answer for reply in replies], works)
    show_table(table)
    metrics["ended_by_budget"] = sum(bool(reply.stopped_by) for reply in replies)
    metrics["failed"] = sum(reply.failed for reply in replies)
    return metrics | {"team_tokens": sum(reply.tokens for reply in replies)}


def try_budgets(team: Team, budget: Budget, question: str, session_id: str) -> dict[str, float]:
    """The same question with too few steps, with too few tokens, and in a loop that only the budget ends."""
    graphs = {
        "2 steps": build_graph(team, replace(budget, steps=2)),
        "100 tokens": build_graph(team, replace(budget, tokens=100)),
        "a loop": build_graph(team, budget, must_hand_over=True),
    }
    replies = {name: ask(graph, question, session_id) for name, graph in graphs.items()}
    table = {name: {"steps": r.steps, "tokens": r.tokens, "answer": r.answer} for name, r in replies.items()}
    show_table([{"budget": name, **row} for name, row in table.items()])
    ended = sum(bool(reply.stopped_by) for reply in replies.values())
    return {"budgets_tried": len(replies), "budgets_that_ended_it": ended, "loop_steps": replies["a loop"].steps}


def run(team: Team, budget: Budget, question: str, tasks: Sequence[Task]) -> tuple[str, Reply, dict[str, float]]:
    steps = Steps(3 if tasks else 1)
    mlflow.langchain.autolog(silent=True)
    needs = {"rag": ("passages", "question")}
    for name, template in PROMPTS.items():
        use_alias(f"multi-agent-{name}", "production", template, needs=needs.get(name, ()))
    params = {"llm_model": team.llm.model, "max_steps": str(budget.steps), "max_tokens": str(budget.tokens)}
    model = mlflow.create_external_model(name="multi-agent", params=params, tags=current_tags(), model_type="agent")
    with (
        mlflow.start_run(run_name="multi-agent") as active,
        mlflow.set_active_model(model_id=model.model_id),
        priced_spans(team.llm),
    ):
        session_id = f"multi-agent-{active.info.run_id[:8]}"
        mlflow.log_params(params)

        # 1. One question, two specialists, one trace
        reply = ask(build_graph(team, budget), question, session_id)
        mlflow.flush_trace_async_logging()
        trace = mlflow.get_trace(reply.trace_id)
        tree = "\n".join(f"      {line}" for line in tree_lines(trace))
        steps(f"{question}\n{tree}\n      Answer: {reply.answer}")
        if not tasks:
            check_answered(1, int(reply.failed))
        metrics: dict[str, float] = {"steps": reply.steps, "tokens": reply.tokens}
        metrics["hand_offs"] = len(read_hand_offs(trace))

        if tasks:
            # 2. Who was called, who was needed, who was right
            steps(f"{len(tasks)} tasks with {team.llm.llm_type} {team.llm.model}, scored per agent")
            metrics |= try_tasks(team, budget, tasks, session_id)

            # 3. What ends a request that would not end by itself
            steps("The first question again, with budgets that are too small, and in a loop")
            metrics |= try_budgets(team, budget, question, session_id)
        mlflow.log_metrics(metrics, model_id=model.model_id)
    return active.info.run_id, reply, metrics


@lesson("8.1", llm="mock", embed=True)
@click.option("--query", help="One question of your own, and no tasks.")
@click.option("--tasks", "tasks_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Your own tasks, JSONL: question, and parts by agent.")  # fmt: skip
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--max-steps", type=click.IntRange(min=1), default=12, show_default=True,
              help="Turns of the coordinator and hand-offs, for each request.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(min=1), default=8000, show_default=True, help="For each request.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Tasks, at most.")
def main(
    query: str | None, tasks_file: Path | None, docs_path: Path, max_steps: int, max_tokens: int, limit: int,
    backend: BackendOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if query is not None and not query.strip():
        raise InputError("the question is empty", f'--query "{TWO_NEEDED}"')
    if backend.llm_type == "mock" and not backend.model:
        backend = replace(backend, model="mock-large")  # the small one stops after its first hand-off
    tasks = [] if query else load_tasks(tuple(SPECIALISTS), tasks_file)[:limit]
    search = DocumentSearch(docs_path)
    with open_backend(backend) as llm:
        team = Team(llm, open_index(docs_path, llm, embedding), search)
        run_id, reply, metrics = run(team, Budget(max_steps, max_tokens), query or TWO_NEEDED, tasks)
    show("8.1", metrics, run_id=run_id, trace_id=reply.trace_id)


if __name__ == "__main__":
    main()
