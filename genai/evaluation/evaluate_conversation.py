"""6.6 Judge whole conversations: those that took place, and those of simulated users.

New here: a scorer that is given a session instead of a trace, and users played by a model, whose goals have facts that
can be checked. Where the judge says that a goal was reached and a fact was never said, one of the two is wrong.
Run it:   uv run mlflow-evaluate-conversation
          uv run mlflow-evaluate-conversation --max-turns 2
          uv run mlflow-evaluate-conversation --users my_users.jsonl --prompt prompts:/conversation-agent/2
          uv run mlflow-evaluate-conversation --conversations my-experiment --num-users 3
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Sessions: each conversation with its scores, turn by turn
Change:   register a prompt with another wording and name it by --prompt; how many of the facts are said now?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/running-evaluation/multi-turn/
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow.entities import AssessmentSource, Feedback, SpanType, Trace
from mlflow.exceptions import MlflowException
from mlflow.genai.scorers import (
    ConversationalGuidelines,
    ConversationCompleteness,
    KnowledgeRetention,
    Scorer,
    UserFrustration,
)
from mlflow.genai.simulators import ConversationSimulator

from utils.agent_setup import priced_spans
from utils.cli import Steps, lesson, show, show_table, waiting
from utils.curriculum import lesson as entry_of
from utils.document_search import search_tool
from utils.errors import InputError, JobFailed
from utils.evaluation import wilson_interval
from utils.genai_evaluation import quiet_evaluation, read_session, short_errors
from utils.judge_backend import judge_options, open_judge
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import require_rules
from utils.simulated_users import SimulatedUser, load_users
from utils.span_tree import roots

TALKS = entry_of("4.3")  # the lesson whose conversations are judged
PROMPT = "prompts:/conversation-agent@production"
SESSION, GOAL = "mlflow.trace.session", "goal"
MAX_CALLS = 5  # of tools, in one turn
GUIDELINES = ["The response is at most three sentences long."]
GOAL_JUDGE = """Judge a conversation between a user and an assistant.

What the user wanted: {{ expectations }}

The conversation: {{ conversation }}

Has the user's goal been fully and completely achieved? It has when every part of it was answered with something that
the user can act on; touching the topic is not enough."""


@dataclass(frozen=True)
class Talk:
    """A conversation and its scores by scorer; None where a judge failed."""

    turns: list[Trace]
    scores: dict[str, Any]

    @property
    def answers(self) -> list[str]:
        return [str(roots(turn)[0].outputs or "") for turn in self.turns]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    real: list[Talk]
    simulated: list[Talk]
    rows: list[dict[str, Any]]


def built_in(model: str) -> list[Scorer]:
    """Four questions that can be asked of any conversation. model: where the judge is, as MLflow writes it."""
    return [
        ConversationCompleteness(model=model),
        KnowledgeRetention(model=model),
        UserFrustration(model=model),
        ConversationalGuidelines(name="short_answers", guidelines=GUIDELINES, model=model),
    ]


@mlflow.genai.scorer
def turns(session: list[Trace]) -> Feedback:
    """A scorer of our own that takes `session` is asked once for each conversation."""
    failed = sum(trace.info.state == "ERROR" for trace in session)
    return Feedback(value=len(session), rationale=f"{failed} of them failed", source=AssessmentSource("CODE"))


def find_conversations(experiment: str, limit: int) -> list[list[Trace]]:
    """The newest sessions of an experiment, the turns of each one oldest first.

    Raises:
        InputError: there is no such experiment, or no answered turn with a session in it.
    """
    found = mlflow.get_experiment_by_name(experiment)
    mine = f"tags.lesson = '{TALKS.number}' AND " if experiment == TALKS.experiment else ""
    traces = found and mlflow.search_traces(
        locations=[found.experiment_id], filter_string=f"{mine}trace.status = 'OK'", return_type="list",
        order_by=["timestamp_ms DESC"], max_results=50 * limit,
    )  # fmt: skip
    sessions: dict[str, list[Trace]] = {}
    for trace in traces or []:
        if name := trace.info.trace_metadata.get(SESSION):
            sessions.setdefault(name, []).insert(0, trace)
    if not sessions:
        raise InputError(f"the experiment {experiment} of this store holds no conversation", f"uv run {TALKS.command}")
    return list(sessions.values())[:limit]


def evaluate(conversations: Sequence[Sequence[Trace]], scorers: list[Scorer], name: str) -> list[Talk]:
    """One evaluation run for many conversations. MLflow keeps a session's scores on the trace of its first turn."""
    names = [scorer.name for scorer in scorers]
    with mlflow.start_run(run_name=name, nested=True) as active, quiet_evaluation():
        # Traces of another experiment are copied into this one; the copies keep their session, and get the scores.
        mlflow.genai.evaluate(data=[trace for turns in conversations for trace in turns], scorers=scorers)
        mlflow.flush_trace_async_logging()
        judged = mlflow.search_traces(run_id=active.info.run_id, order_by=["timestamp_ms ASC"], return_type="list")
    talks = []
    for conversation in conversations:
        session = conversation[0].info.trace_metadata[SESSION]
        copies = [trace for trace in judged if trace.info.trace_metadata.get(SESSION) == session]
        talks.append(Talk(copies, read_session(copies, names)))
    return talks


def build_agent(llm: Backend, prompt_uri: str) -> Callable[..., str]:
    """The agent of 4.3 without its memory: the simulator brings the conversation along."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import ToolCallLimitMiddleware

    limit: Any = ToolCallLimitMiddleware(run_limit=MAX_CALLS, exit_behavior="end")
    rules = str(mlflow.genai.load_prompt(prompt_uri).format())
    agent: Any = create_agent(llm.chat_model(), [search_tool()], system_prompt=rules, middleware=[limit])

    @tagged_in_threads
    def reply(messages: list[dict[str, str]], mlflow_session_id: str) -> str:
        with mlflow.start_span("simulated-turn", span_type=SpanType.AGENT) as span:
            mlflow.update_current_trace(session_id=mlflow_session_id, user="simulated")
            mlflow.genai.load_prompt(prompt_uri)  # links the version to this trace
            span.set_inputs({"messages": messages[-1:]})
            answer = str(agent.invoke({"messages": messages})["messages"][-1].text)
            span.set_outputs(answer)
        return answer

    return reply


def simulate(
    reply: Callable[..., str], users: Sequence[SimulatedUser], max_turns: int, model: str
) -> list[list[Trace]]:
    """The turns of each user; none where not even the first one was answered.

    Without user_model, MLflow would ask a model of somebody else's for both: the user's words, and whether the goal is
    reached.

    Raises:
        JobFailed: no user got an answer.
    """
    simulator = ConversationSimulator([u.test_case() for u in users], max_turns=max_turns, user_model=model)
    with quiet_evaluation(), short_errors("mlflow.genai.simulators.simulator"), waiting("talking"):
        try:
            conversations = simulator.simulate(reply)
        except MlflowException as error:  # as it says when no conversation left a trace
            raise JobFailed(f"none of {len(users)} users got an answer", JobFailed.CURE) from error
    for user, talk in zip(users, conversations, strict=True):
        if not talk:  # the first call failed, and the simulator has reported it
            continue
        first = talk[0].info
        about = {SESSION: first.trace_metadata[SESSION]}  # by this, scorers of sessions find what was expected
        mlflow.log_expectation(trace_id=first.trace_id, name=GOAL, value=user.goal, metadata=about)
    return [[mlflow.get_trace(trace.info.trace_id) for trace in talk] for talk in conversations]  # with the goals


def compare(users: Sequence[SimulatedUser], talks: Sequence[Talk], max_turns: int) -> list[dict[str, Any]]:
    """For each user what the simulator thought, what the judge says, and what was in fact said."""
    rows = []
    for user, talk in zip(users, talks, strict=True):
        missing = user.missing(talk.answers)
        for name, value in {"facts_said": 1 - len(missing) / user.wanted, "facts_all_said": not missing}.items():
            why = f"not said: {', '.join(missing)}" if missing else "all of them"
            mlflow.log_feedback(
                trace_id=talk.turns[0].info.trace_id, name=name, value=value, rationale=why,
                source=AssessmentSource("CODE"), metadata={SESSION: talk.turns[0].info.trace_metadata[SESSION]},
            )  # fmt: skip
        rows.append(
            {
                "goal": shorten(user.goal.removeprefix("find out "), 36, placeholder=" …"),
                "turns": len(talk.turns),
                # At the last turn the simulator does not tell whether its check of the goal said yes.
                "simulator": "reached" if len(talk.turns) < max_turns else "not known",
                "judge": {True: "reached", False: "not reached", None: "failed"}[talk.scores["goal_reached"]],
                "facts said": f"{user.wanted - len(missing)} of {user.wanted}",
                "missing": ", ".join(fact.split(" | ")[0] for fact in missing),
            }
        )
    return rows


def track(real: Sequence[Talk], simulated: Sequence[Talk], rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Failed judgements are counted, and stand in no share."""
    said = [not row["missing"] for row in rows]
    verdicts = [talk.scores["goal_reached"] for talk in simulated]
    known = [(verdict, fact) for verdict, fact in zip(verdicts, said, strict=True) if verdict is not None]
    low, high = wilson_interval(sum(said), len(said))
    metrics = {
        "real_sessions": len(real),
        "simulated_sessions": len(simulated),
        "simulated_turns": sum(len(talk.turns) for talk in simulated),
        "goals_reached_by_facts": sum(said) / len(said),
        "goals_reached_by_facts_low": low,
        "goals_reached_by_facts_high": high,
        "judge_failures": sum(value is None for talk in (*real, *simulated) for value in talk.scores.values()),
    }
    if known:
        metrics["goals_reached_by_judge"] = sum(verdict for verdict, _ in known) / len(known)
        metrics["judge_agrees_with_facts"] = sum(verdict == fact for verdict, fact in known) / len(known)
    mlflow.log_metrics(metrics)
    mlflow.log_table({name: [row[name] for row in rows] for name in rows[0]}, "simulated_users.json")
    return metrics


def run(
    llm: Backend, judge: Backend, users: Sequence[SimulatedUser], max_turns: int, prompt: str, talks: list[list[Trace]]
) -> Outcome:
    mlflow.langchain.autolog()
    mlflow.openai.autolog(disable=True)  # evaluate would switch it on, and each call would be two spans
    model, steps = judge.judge()["model"], Steps(3)
    with mlflow.start_run(run_name="evaluate-conversation") as active, priced_spans(llm):
        mlflow.log_params({"prompt": prompt, "max_turns": max_turns, "user_model": judge.model, "users": len(users)})
        # 1. Conversations that took place
        real = evaluate(talks, [*built_in(model), turns], "real-conversations")
        steps(f"{len(real)} conversations that took place, judged by {judge.model}")
        show_table([{"session": talk.turns[0].info.trace_metadata[SESSION], **talk.scores} for talk in real])

        # 2. Users that a model plays
        conversations = simulate(build_agent(llm, prompt), users, max_turns, model)
        talked = [(user, talk) for user, talk in zip(users, conversations, strict=True) if talk]
        silent = len(users) - len(talked)
        steps(f"{len(users)} users played by {judge.model}: {sum(map(len, conversations))} turns, {silent} without any")

        # 3. Was the goal reached? The judge's word, and the facts
        goal_reached = mlflow.genai.make_judge(
            name="goal_reached", instructions=GOAL_JUDGE, model=model, feedback_value_type=bool
        )
        simulated = evaluate([talk for _, talk in talked], [*built_in(model), turns, goal_reached], "simulated-users")
        rows = compare([user for user, _ in talked], simulated, max_turns)
        steps("Goals reached, by the judge and by the facts")
        show_table(rows)
        track(real, simulated, rows)
        mlflow.log_metric("users_without_answer", silent)
    return Outcome(active.info.run_id, simulated[0].turns[0].info.trace_id, real, simulated, rows)


@lesson("6.6", llm="mock")
@judge_options
@click.option("--conversations", default=TALKS.experiment, show_default=True, metavar="EXPERIMENT",
              help="Where the conversations that took place are.")  # fmt: skip
@click.option("--num-sessions", type=click.IntRange(min=1), default=10, show_default=True, help="The newest ones.")
@click.option("--users", "file", type=click.Path(path_type=Path), metavar="FILE", help="Your own users, JSONL.")
@click.option("--num-users", type=click.IntRange(min=1), help="The first ones; default: all.")
@click.option("--max-turns", type=click.IntRange(min=1), default=4, show_default=True, help="Of a simulated user.")
@click.option("--prompt", default=PROMPT, show_default=True, metavar="URI", help="The rules of the agent.")
def main(
    conversations: str, num_sessions: int, file: Path | None, num_users: int | None, max_turns: int, prompt: str,
    backend: BackendOptions, judge_llm_type: str | None, judge_model: str | None,
) -> None:  # fmt: skip
    users = load_users(file)[:num_users]
    talks = find_conversations(conversations, num_sessions)
    require_rules(prompt, f"uv run {TALKS.command}")
    with open_backend(backend) as llm, open_judge(backend, llm, judge_llm_type, judge_model) as judge:
        outcome = run(llm, judge, users, max_turns, prompt, talks)
    measured = {
        "users": len(users),
        "goals reached, says the judge": sum(row["judge"] == "reached" for row in outcome.rows),
        "goals reached, say the facts": sum(not row["missing"] for row in outcome.rows),
        "users on whom they agree": sum((row["judge"] == "reached") == (not row["missing"]) for row in outcome.rows),
    }
    turns_made = sum(len(talk.turns) for talk in outcome.simulated)
    show("6.6", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=turns_made)


if __name__ == "__main__":
    main()
