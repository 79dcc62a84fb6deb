"""3.5 Split live traffic between two prompts, and stop when the difference is known.

New here: who sees which prompt is decided by a hash of the user, and the test may stop only at looks planned before.
Run it:   uv run mlflow-prompt-ab-test
          uv run mlflow-prompt-ab-test --looks 8 --users-per-look 30 --share 0.3
          uv run mlflow-prompt-ab-test --rollback
Look at:  uv run mlflow ui  ->  3-prompts  ->  Traces: filter by the tag variant, and see the column helpful
Change:   give CANDIDATE the wording of PRODUCTION and use a new store; how many users does the test need, and who wins?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/manage-prompt-lifecycles/
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import mlflow
from mlflow.entities import AssessmentSource, SpanType, Trace

from utils.cli import Steps, lesson, show, show_table, track
from utils.errors import CheckFailed, InputError
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, InputOptions
from utils.prompt_release import Release
from utils.prompt_utils import use_alias
from utils.sentiment_job import JobRows, load_job_rows, parse_label
from utils.sequential_decision import Arm, Plan, better_p, simulate

PROMPT = "live-review-label"
PRODUCTION = "Is this review positive or negative? Answer with one word.\n\n{{text}}"
CANDIDATE = "Answer with one word: {{labels}}.\n\n{{text}}"
WORDINGS = {"production": PRODUCTION, "candidate": CANDIDATE}  # an alias each
RELEASE = Release(PROMPT, "production", "uv run mlflow-prompt-ab-test")
GAIN = (0.45, 0.65)  # satisfied users before and after: the gain whose power is printed
SKEWED = 0.001  # a split that chance gives less often than this was no split by chance


@dataclass(frozen=True)
class Request:
    user: str
    text: str
    label: str  # the right one: what the user is satisfied with
    misclicks: bool  # the thumb goes the wrong way


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    winner: str | None
    users: int
    in_use: int


def share_of(user: str, purpose: str) -> float:
    """A number from 0 to 1 that is always the same for a user, and for another purpose an unrelated one."""
    digest = hashlib.sha256(f"{PROMPT}/{purpose}/{user}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def variant_of(user: str, share: float) -> str:
    return "candidate" if share_of(user, "variant") < share else "production"


def requests(rows: JobRows, noise: float) -> Iterator[list[Request]]:
    """User after user, without end: one or two reviews each, and a thumb that sometimes slips."""
    reviews = itertools.cycle(zip(rows.frame["text"], rows.frame["label"], strict=True))
    for number in itertools.count(1):
        user = f"user-{number:04}"
        asked = itertools.islice(reviews, 1 if share_of(user, "visits") < 0.5 else 2)
        yield [
            Request(user, text, label, share_of(f"{user}/{visit}", "misclick") < noise)
            for visit, (text, label) in enumerate(asked)
        ]


def serve(llm: Backend, client: Any, request: Request, share: float, labels: tuple[str, ...]) -> tuple[str, str | None]:
    """Answer one request with the prompt of the user's variant; returns the trace's id and the label."""
    variant = variant_of(request.user, share)
    with mlflow.start_span("label-live", span_type=SpanType.CHAIN) as span:
        span.set_inputs({"text": request.text})
        mlflow.update_current_trace(user=request.user, tags={"variant": variant})
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@{variant}")  # links the trace to the version
        content = str(prompt.format(text=request.text, labels=" or ".join([", ".join(labels[:-1]), labels[-1]])))
        reply = client.chat.completions.create(
            model=llm.model, messages=[{"role": "user", "content": content}], temperature=0
        )
        label = parse_label(reply.choices[0].message.content or "", labels)
        span.set_outputs({"label": label})
    return span.trace_id, label


def serve_users(
    llm: Backend, client: Any, users: list[list[Request]], plan: Plan, labels: tuple[str, ...]
) -> list[str]:
    """One look's worth of traffic. Feedback comes after the answer, as it does in life, and lands on its trace."""
    served = [
        (request, *serve(llm, client, request, plan.share, labels))
        for user in track(users, "users")
        for request in user
    ]
    mlflow.flush_trace_async_logging()  # feedback needs a trace that is already there
    for request, trace_id, label in served:
        helpful = (label == request.label) != request.misclicks
        # A simulated user is code. Thumbs of people have source_type="HUMAN" (lesson 7.5).
        source = AssessmentSource(source_type="CODE", source_id="simulated-user")
        mlflow.log_feedback(trace_id=trace_id, name="helpful", value=helpful, source=source)
    return [trace_id for _, trace_id, _ in served]


def read_outcomes(run_id: str) -> dict[str, Arm]:
    """Each variant's users and satisfied users, from the traces of the run.

    The user was drawn, so the user counts: one with two visits is satisfied when both answers were helpful.

    Raises:
        CheckFailed: a user saw both variants, or a trace has no feedback.
    """
    traces: list[Trace] = mlflow.search_traces(run_id=run_id, max_results=100_000, return_type="list")
    thumbs: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for trace in traces:
        key = trace.info.tags["variant"], trace.info.request_metadata["mlflow.trace.user"]
        said = [item.value for item in trace.info.assessments if item.name == "helpful"]
        if not said:
            raise CheckFailed(f"the trace {trace.info.trace_id} has no feedback", "run the lesson again")
        thumbs[key] += said
    users = [user for _, user in thumbs]
    if len(users) != len(set(users)):
        raise CheckFailed("a user saw both variants: nothing can be compared", "keep --share while a test runs")
    of = {name: [all(said) for (variant, _), said in thumbs.items() if variant == name] for name in WORDINGS}
    return {name: Arm(len(satisfied), sum(satisfied)) for name, satisfied in of.items()}


def check_split(arms: dict[str, Arm], share: float) -> float:
    """The p of the split that was asked for. Raises CheckFailed where it is not what came out."""
    from scipy.stats import binomtest

    total = sum(arm.users for arm in arms.values())
    p = float(binomtest(arms["candidate"].users, total, share).pvalue)
    if p < SKEWED:
        raise CheckFailed(
            f"{arms['candidate'].users} of {total} users saw the candidate, where {share:.0%} were meant to",
            "look for users who are left out or counted twice in one variant; the test is void",
        )
    return p


def row_of(look: int, arms: dict[str, Arm], plan: Plan) -> dict[str, Any]:
    shown = {f"{name}": f"{arm.satisfied} of {arm.users}" for name, arm in arms.items()}
    p = 2 * min(better_p(arms["candidate"], arms["production"]), better_p(arms["production"], arms["candidate"]), 0.5)
    return {"look": look, **shown, "p": p, "level": plan.level(look)}


def experiment(llm: Backend, rows: JobRows, plan: Plan, noise: float) -> tuple[str | None, int, str]:
    """Serve and look until the plan names a winner or its looks are used up: winner, users, and a trace."""
    run_id = mlflow.active_run().info.run_id
    client, traffic, seen = llm.openai_client(), requests(rows, noise), []
    for look in range(1, plan.looks + 1):
        traces = serve_users(llm, client, list(itertools.islice(traffic, plan.users_per_look)), plan, rows.labels)
        arms = read_outcomes(run_id)
        check_split(arms, plan.share)
        seen.append(row_of(look, arms, plan))
        rates = {f"satisfied_{name}": arm.rate for name, arm in arms.items() if arm.users}
        mlflow.log_metrics({**rates, "p": seen[-1]["p"], "level": plan.level(look)}, step=look)
        winner = plan.winner(look, arms["production"], arms["candidate"])
        if winner:
            break
    show_table(seen)
    mlflow.log_table({name: [row[name] for row in seen] for name in seen[0]}, "looks.json")
    return winner, sum(arm.users for arm in arms.values()), traces[-1]


def run(llm: Backend, rows: JobRows, plan: Plan, noise: float) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    # 1. Two versions, an alias each
    for alias, wording in WORDINGS.items():
        use_alias(PROMPT, alias, wording, needs=("text",), commit_message=f"First wording of {alias}")
    versions = {alias: Release(PROMPT, alias, RELEASE.command).in_use() for alias in WORDINGS}
    same = versions["production"] == versions["candidate"]
    note = ": the same, so whoever wins wins by luck (an A/A test)" if same else ""
    steps(f"production is version {versions['production']}, candidate version {versions['candidate']}{note}")

    # 2. What this plan can find, before anybody is asked
    found, lucky = simulate(plan, *GAIN), simulate(plan, GAIN[0], GAIN[0])
    most = plan.looks * plan.users_per_look
    steps(f"At most {most} users in {plan.looks} looks; by simulation (1,000 tests each):")
    click.echo(f"      from {GAIN[0]} to {GAIN[1]} satisfied: found {found.candidate_wins:.0%} of the time, "
               f"after {found.mean_users:.0f} users")  # fmt: skip
    click.echo(f"      no difference: a winner all the same {lucky.candidate_wins + lucky.production_wins:.1%} "
               f"of the time, {plan.alpha:.0%} allowed")  # fmt: skip
    with mlflow.start_run(run_name="prompt-ab-test") as active:
        settings = {"looks": plan.looks, "users_per_look": plan.users_per_look, "share": plan.share}
        mlflow.log_params({**settings, "alpha": plan.alpha, "noise": noise, **versions})

        # 3. Serve, look, and stop where the plan allows it
        winner, users, trace_id = experiment(llm, rows, plan, noise)
        steps(f"{'No winner' if winner is None else f'{winner} wins'} after {users} of at most {most} users")

        # 4. The winner goes to production
        if winner == "candidate":
            RELEASE.to(int(versions["candidate"] or 0))
        now = int(RELEASE.in_use() or 0)
        steps(f"production points at version {now}")
        mlflow.log_metrics({"users": users, "in_use": now, "power": found.candidate_wins})
        mlflow.set_tag("winner", winner or "none")
    return Outcome(active.info.run_id, trace_id, winner, users, now)


@lesson("3.5", llm="mock", rows=True)
@click.option("--looks", type=click.IntRange(min=1), default=5, show_default=True, help="How often to look, at most.")
@click.option("--users-per-look", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5, show_default=True,
              help="Of the users, to the candidate.")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often equal prompts may have a winner, over all looks together.")  # fmt: skip
@click.option("--noise", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="Share of the simulated thumbs that go the wrong way.")  # fmt: skip
@click.option("--rollback", is_flag=True, help="Only point production back at the version before.")
def main(
    looks: int, users_per_look: int, share: float, alpha: float, noise: float, rollback: bool,
    backend: BackendOptions, source: InputOptions,
) -> None:  # fmt: skip
    if rollback:
        left, now = RELEASE.roll_back()
        click.echo(f"production of {PROMPT}: back from version {left} to version {now}")
        return
    if source.input and not source.label_column:
        raise InputError("a simulated user needs the right label of each text", "--label-column NAME")
    rows = load_job_rows(source, num_samples=looks * users_per_look * 2, seed=0)
    with open_backend(backend) as llm:
        outcome = run(llm, rows, Plan(looks, users_per_look, share, alpha), noise)
    measured = {"winner": outcome.winner or "none", "users": outcome.users, "version_in_use": outcome.in_use}
    show("3.5", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
