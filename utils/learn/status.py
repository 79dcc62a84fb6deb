"""`mlflow-learn`: the eight modules, each with what the store proves."""

import click

from utils import curriculum
from utils.cli import show_table, ui_command
from utils.mlflow_setup import check_store, default_tracking_uri

BAR = 20  # characters


def show_status(tracking_uri: str | None, track: str | None = None) -> None:
    """Print progress by module, the lessons that are open, and the next command."""
    uri = tracking_uri or default_tracking_uri()
    store = open_store(uri)
    lessons = [entry for entry in curriculum.LESSONS if track in (None, entry.module.track)]
    done = {entry.number for entry in lessons if store and store.is_done(entry)}
    show_table([_module_row(module, done) for module in curriculum.MODULES if track in (None, module.track)])
    click.echo(f"Store: {uri}")
    following = next((entry for entry in lessons if entry.number not in done), None)
    if following:
        click.echo(f"Next:  {following.typed}   ({following.number} {following.title})")
    elif not lessons:
        click.echo(f"The lessons of the {track} track are still to come.")
    else:
        click.echo(f"Every lesson is done. Look at the results: {where_to_look(uri)}")


def show_evidence(entry: curriculum.Lesson, tracking_uri: str | None) -> None:
    """Print what the store holds of a lesson."""
    store = open_store(tracking_uri)
    findings = store.findings(entry) if store else []
    rows = [
        {"evidence": finding.evidence.what, "kind": finding.evidence.kind, "in the store": finding.proved}
        for finding in findings
    ]
    show_table(rows, title=f"Evidence of {entry.number}")


def open_store(tracking_uri: str | None, since_ms: int = 0):  # type: ignore[no-untyped-def]  # -> progress.Store | None
    """The store as it is: looking at progress never creates one."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from utils.mlflow_setup import explain, sqlite_path
    from utils.progress import Store

    uri = tracking_uri or default_tracking_uri()
    check_store(uri)
    if uri.startswith("sqlite:") and not sqlite_path(uri).exists():
        return None
    mlflow.set_tracking_uri(uri)
    try:
        return Store(since_ms)
    except (MlflowException, ModuleNotFoundError) as error:
        raise explain(error, uri) from error


def where_to_look(uri: str) -> str:
    """What shows this store: a server shows itself, everything else `mlflow ui`."""
    return uri if uri.startswith("http") else ui_command(uri)


def _module_row(module: curriculum.Module, done: set[str]) -> dict[str, object]:
    lessons = [entry.number for entry in curriculum.LESSONS if entry.module is module]
    finished = [number for number in lessons if number in done]
    filled = BAR * len(finished) // len(lessons) if lessons else 0
    state = f"{len(finished)} of {len(lessons)}" if lessons else "to come"
    open_lessons = " ".join(number for number in lessons if number not in done)
    bar = "█" * filled + "·" * (BAR - filled)
    return {"module": f"{module.number} {module.title}", "progress": bar, "done": state, "open": open_lessons}
