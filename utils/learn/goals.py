"""`mlflow-learn goals`: what the store proves of the goals, what is open, and what only the learner can answer."""

import click

from utils import curriculum
from utils.goals import GOALS, KINDS, Goal, goals_of, is_reached
from utils.learn.status import open_store
from utils.mlflow_setup import default_tracking_uri

TITLES = {"learning": "Learning goals", "criterion": "Success criteria", "production": "Production checklist"}
WIDTH = max(map(len, ("done", "open", "yours", "to come")))


def show_goals(tracking_uri: str | None, module: int | None = None) -> None:
    """Print every goal with its state, and below what is not done yet the command that gets there."""
    uri = tracking_uri or default_tracking_uri()
    store = open_store(uri)
    shown = [goal for goal in GOALS if module in (None, goal.module)]
    states = {goal: state_of(goal, is_reached(goal, store)) for goal in shown}
    for kind in KINDS:
        for number in (entry.number for entry in curriculum.MODULES):
            _show_list(f"{TITLES[kind]}, module {number}", goals_of(kind, number), states)
    counts = {state: list(states.values()).count(state) for state in ("done", "open", "yours", "to come")}
    click.echo(f"Store: {uri}")
    click.echo(
        f"{counts['done']} of {counts['done'] + counts['open']} proved by the store; {counts['yours']} are questions "
        f"that only you can answer; {counts['to come']} belong to lessons to come"
    )


def state_of(goal: Goal, reached: bool) -> str:
    """`done` and `open` are the store's word; `yours` is asked, never ticked."""
    if goal.to_come:
        return "to come"
    if goal.asked:
        return "yours"
    return "done" if reached else "open"


def _show_list(title: str, goals: list[Goal], states: dict[Goal, str]) -> None:
    listed = [goal for goal in goals if goal in states]
    if listed:
        click.echo(title)
    for goal in listed:
        state = states[goal]
        lesson = f"   ({goal.lesson})" if state == "to come" else ""
        click.echo(f"  {state:<{WIDTH}}  {goal.text}{lesson}")
        if state in ("open", "yours"):
            click.echo(f"  {'':<{WIDTH}}  {goal.command}")
    if listed:
        click.echo()
