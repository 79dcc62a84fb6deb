"""`mlflow-learn check`: which exercises the store proves, and what one of them still lacks."""

import click

from utils import exercises
from utils.cli import show_table
from utils.exercises import Exercise
from utils.learn.status import open_store
from utils.mlflow_setup import default_tracking_uri


def show_exercises(tracking_uri: str | None) -> None:
    """Print every exercise with its state, and the first that is open."""
    store = open_store(tracking_uri)
    # Without a store nothing was done yet, and nothing is asked.
    is_open = {
        entry.id: store is None or entry.check(store.client, store.experiment_ids) is not None
        for entry in exercises.EXERCISES
    }
    rows = [
        {"exercise": entry.id, "state": "open" if is_open[entry.id] else "done", "title": entry.title}
        for entry in exercises.EXERCISES
    ]
    show_table(rows)
    click.echo(f"Store: {tracking_uri or default_tracking_uri()}")
    following = next((entry for entry in exercises.EXERCISES if is_open[entry.id]), None)
    if following:
        click.echo(f"Next:  {describe_start(following)}")
    else:
        click.echo("Every exercise is done.")


def show_check(entry: Exercise, tracking_uri: str | None) -> int:
    """Print what proves the exercise, or the first thing that is missing. Returns the exit status."""
    store = open_store(tracking_uri)
    missing = entry.check(store.client, store.experiment_ids) if store else "there is no store yet"
    if missing:
        click.echo(f"{entry.id} is open: {missing}")
        click.echo(f"hint: uv run mlflow-learn hint {entry.id}")
        click.echo(f"file: {entry.file}   (run it again: uv run {entry.command})")
        return 1
    click.echo(f"{entry.id} is done. Found: {entry.proof}")
    following = exercises.next_exercise(entry.id)
    click.echo(f"Next: {describe_start(following) if following else 'uv run mlflow-learn check'}")
    return 0


def describe_start(entry: Exercise) -> str:
    return f"{entry.id} {entry.title}: write in {entry.file}, then uv run {entry.command}"
