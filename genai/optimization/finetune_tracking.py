"""8.7 A fine-tune tracked: epochs, curves, checkpoints, early stop, and the best checkpoint registered.

New here: a checkpoint is a logged model with a step; its metrics choose it, and a killed training goes on from it.
Run it:   uv run mlflow-finetune-tracking
          uv run mlflow-finetune-tracking --hidden 64 --learning-rate 0.01
          uv run mlflow-finetune-tracking --input my.csv --text-column comment --label-column verdict --held-out 200
          uv run mlflow-finetune-tracking --resume RUN_ID
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  finetune: Model metrics, checkpoints
Change:   --patience 20; which checkpoint is registered now, and what has the waiting cost?
Docs:     https://mlflow.org/docs/latest/ml/model-registry/
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from utils.cli import Steps, lesson, show, show_table
from utils.embeddings import open_embedding
from utils.errors import InputError, JobFailed
from utils.evaluation import wilson_interval
from utils.lesson_context import current_tags
from utils.options import EmbedOptions, InputOptions
from utils.registry import without_notices
from utils.training_curves import curves_figure
from utils.training_reviews import Parts, split_rows

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

NAME = "finetuned-head"  # in the registry
CHOSEN_BY = "held_out_loss"
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]
# The optimiser's state is part of a checkpoint: without it a training that goes on is another training.
TRUSTED_TYPES = ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]


@dataclass(frozen=True)
class Settings:
    """What makes two trainings the same one: a resumed training has to agree in all of it."""

    embedding: str
    hidden: int
    learning_rate: float
    batch_size: int
    seed: int
    checkpoint_every: int
    rows: str

    def as_params(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Part:
    """Rows as the head sees them: vectors, float32 array (rows, dimensions), and labels."""

    vectors: np.ndarray
    labels: np.ndarray
    dataset: PandasDataset


@dataclass(frozen=True)
class Data:
    train: Part
    choose: Part
    report: Part
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    last_epoch: int
    best: LoggedModel
    version: str
    accuracy: float
    interval: tuple[float, float]


def embed(parts: Parts, embedding: EmbedOptions) -> Data:
    """Sentence embeddings once, before the first epoch: only the head is trained."""
    model = open_embedding(embedding.embed_type or "lexical", embedding.embed_model)

    def part(name: str, rows: pd.DataFrame) -> Part:
        vectors = np.asarray(model.get_text_embedding_batch(rows["text"].tolist()), dtype=np.float32)
        dataset = mlflow.data.from_pandas(rows, name=f"finetune-{name}", targets="label")
        return Part(vectors, rows["label"].to_numpy(dtype=str), dataset)

    named = {name: part(name, getattr(parts, name)) for name in ("train", "choose", "report")}
    return Data(**named, labels=parts.labels)


def new_head(settings: Settings) -> "MLPClassifier":
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (settings.hidden,), learning_rate_init=settings.learning_rate, batch_size=settings.batch_size,
        shuffle=False, random_state=settings.seed,
    )  # fmt: skip


def train_epoch(head: "MLPClassifier", data: Data, settings: Settings, epoch: int) -> None:
    """All rows once, in an order that depends on seed and epoch alone: a resumed training sees the same one."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(data.train.labels))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # said below
            head.partial_fit(data.train.vectors[order], data.train.labels[order], classes=list(data.labels))
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise JobFailed(f"the weights left all bounds in epoch {epoch}", "a smaller --learning-rate") from error


def measure(head: "MLPClassifier", data: Data) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, log_loss

    found = {}
    for name, part in (("train", data.train), ("held_out", data.choose)):
        chances = head.predict_proba(part.vectors)
        found[f"{name}_loss"] = float(log_loss(part.labels, chances, labels=list(data.labels)))
        found[f"{name}_accuracy"] = float(accuracy_score(part.labels, head.classes_[chances.argmax(axis=1)]))
    return found


def log_checkpoint(head: "MLPClassifier", data: Data, epoch: int, metrics: dict[str, float]) -> None:
    """A logged model with its step; its metrics come after it, so that a checkpoint without them is half a one."""
    example = data.train.vectors[:2]
    logged = mlflow.sklearn.log_model(
        head, name="checkpoint", step=epoch, serialization_format="skops", skops_trusted_types=TRUSTED_TYPES,
        pip_requirements=REQUIREMENTS, signature=infer_signature(example, head.predict(example)),
        params={"epoch": epoch}, tags=current_tags(),
    )  # fmt: skip
    mlflow.log_metrics(metrics, step=epoch, model_id=logged.model_id, dataset=data.choose.dataset)


def checkpoints(run: Run) -> list[LoggedModel]:
    """Whole checkpoints of a run, best first, as the store ranks them."""
    found = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id],
        filter_string=f"source_run_id = '{run.info.run_id}' AND metrics.{CHOSEN_BY} >= 0",
        order_by=[{"field_name": f"metrics.{CHOSEN_BY}", "ascending": True}],
        output_format="list",
    )
    return [model for model in found if model.status == LoggedModelStatus.READY]


def epoch_of(model: LoggedModel) -> int:
    return int(model.params["epoch"])


def find_run(run_id: str, settings: Settings) -> Run:
    """The training to go on with.

    Raises:
        InputError: there is none, it is done, it has no checkpoint, or it was another training.
    """
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise InputError(f"there is no run {run_id}", "the id that the killed command printed as Run") from error
    if run.data.tags.get("lesson") != "8.7" or "checkpoint_every" not in run.data.params:
        raise InputError(f"the run {run_id} is no training of this lesson", "uv run mlflow-finetune-tracking")
    if run.info.status == "FINISHED":
        raise InputError(f"the training {run_id} is done", "uv run mlflow-finetune-tracking   (a new one)")
    for name, value in settings.as_params().items():
        if (before := run.data.params[name]) != value:
            raise InputError(f"the training began with {name} {before}, not with {value}", "the same flags as before")
    if not checkpoints(run):
        raise InputError(f"the training {run_id} left no checkpoint", "uv run mlflow-finetune-tracking   (a new one)")
    return run


def start(run: Run, data: Data, settings: Settings, resumed: bool) -> tuple["MLPClassifier", int, list[float]]:
    """The head, the last epoch that it has seen, and the losses of the checkpoints up to there."""
    if not resumed:
        mlflow.log_params(settings.as_params())
        for part, context in ((data.train, "training"), (data.choose, "choosing"), (data.report, "reporting")):
            mlflow.log_input(part.dataset, context=context)
        return new_head(settings), 0, []
    done = sorted(checkpoints(run), key=epoch_of)
    losses = [next(m.value for m in model.metrics or [] if m.key == CHOSEN_BY) for model in done]
    return mlflow.sklearn.load_model(done[-1].model_uri), epoch_of(done[-1]), losses


def has_stopped(losses: list[float], patience: int) -> bool:
    """Whether the last `patience` checkpoints all were no better than one before them."""
    return len(losses) > patience and min(losses[:-patience]) <= min(losses[-patience:])


def train(
    run: Run, data: Data, settings: Settings, max_epochs: int, patience: int, resumed: bool
) -> Iterator[tuple[int, dict[str, float]]]:
    """Epoch by epoch up to the early stop; each is measured, every few are kept."""
    head, seen, losses = start(run, data, settings, resumed)
    for epoch in count(seen + 1):
        if epoch > max_epochs or has_stopped(losses, patience):
            return
        train_epoch(head, data, settings, epoch)
        metrics = measure(head, data)
        if epoch % settings.checkpoint_every == 0:
            log_checkpoint(head, data, epoch, metrics)
            losses.append(metrics[CHOSEN_BY])
        else:
            mlflow.log_metrics(metrics, step=epoch)
        yield epoch, metrics


def register_best(run: Run) -> tuple[LoggedModel, str]:
    """The checkpoint with the lowest loss on the held-out rows: a version in the registry, under the alias best."""
    best = checkpoints(run)[0]
    with without_notices():
        registered = mlflow.register_model(best.model_uri, NAME, tags={"epoch": str(epoch_of(best)), **current_tags()})
    MlflowClient().set_registered_model_alias(NAME, "best", registered.version)
    return best, str(registered.version)


def report_best(best: LoggedModel, data: Data) -> tuple[float, tuple[float, float]]:
    """The registered version, loaded as anybody would load it, on rows that chose nothing."""
    loaded = mlflow.sklearn.load_model(f"models:/{NAME}@best")
    right = int((loaded.predict(data.report.vectors) == data.report.labels).sum())
    accuracy, interval = right / len(data.report.labels), wilson_interval(right, len(data.report.labels))
    metrics = {"report_accuracy": accuracy, "report_accuracy_low": interval[0], "report_accuracy_high": interval[1]}
    mlflow.log_metrics(metrics, step=epoch_of(best), model_id=best.model_id, dataset=data.report.dataset)
    return accuracy, interval


def run(data: Data, settings: Settings, max_epochs: int, patience: int, resume: str | None) -> Outcome:
    steps = Steps(4)
    steps(f"{settings.rows}; vectors of {data.train.vectors.shape[1]} numbers")
    with mlflow.start_run(run_id=resume, run_name=None if resume else "finetune") as active:
        # 1. Epochs; the id comes first, since whoever kills the training needs it
        click.echo(f"      Run {active.info.run_id}: --resume goes on from its newest checkpoint")
        epochs = list(train(active, data, settings, max_epochs, patience, resumed=resume is not None))
        last = epochs[-1][0] if epochs else 0
        steps(f"Trained up to epoch {last}" + (" (early stop)" if last < max_epochs else ""))

        # 2. The curves, read back from the store
        client = MlflowClient()
        histories = {
            name: {point.step: point.value for point in client.get_metric_history(active.info.run_id, name)}
            for name in ("train_loss", "held_out_loss", "train_accuracy", "held_out_accuracy")
        }
        # 3. The best checkpoint, as the store ranks them, becomes a version
        best, number = register_best(active)
        mlflow.log_figure(curves_figure(histories, epoch_of(best)), "curves.png")
        steps(f"Best of {len(checkpoints(active))} checkpoints by {CHOSEN_BY}: "
              f"epoch {epoch_of(best)}, registered as {NAME} version {number}, alias best")  # fmt: skip

        # 4. Loaded from the registry, on rows that neither training nor choice has seen
        accuracy, interval = report_best(best, data)
        mlflow.log_metrics({"best_epoch": epoch_of(best), "last_epoch": last})
        steps(f"On {len(data.report.labels)} other rows: {accuracy:.3f} right ({interval[0]:.3f} to {interval[1]:.3f})")
    shown = [step for step in sorted(histories["train_loss"]) if step % settings.checkpoint_every == 0]
    show_table([{"epoch": step, **{name: found[step] for name, found in histories.items()},
                 "": "best" if step == epoch_of(best) else ""} for step in shown])  # fmt: skip
    return Outcome(active.info.run_id, last, best, number, accuracy, interval)


@lesson("8.7", rows=True, embed=True)
@click.option("--hidden", type=click.IntRange(min=1), default=32, show_default=True, help="Neurons of the head.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=0.003, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Rows in a step.")
@click.option("--max-epochs", type=click.IntRange(min=1), default=40, show_default=True, help="At most so many.")
@click.option("--checkpoint-every", type=click.IntRange(min=1), default=3, show_default=True, help="Epochs.")
@click.option("--patience", type=click.IntRange(min=1), default=3, show_default=True,
              help="Checkpoints without a better one before the training stops.")  # fmt: skip
@click.option("--held-out", type=click.IntRange(min=8), default=120, show_default=True,
              help="Rows in two halves: one chooses the checkpoint, one is reported on.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="First weights, order, split.")
@click.option(
    "--resume", metavar="RUN_ID", help="Go on with a training that was killed; refused when anything differs."
)
def main(
    hidden: int, learning_rate: float, batch_size: int, max_epochs: int, checkpoint_every: int, patience: int,
    held_out: int, seed: int, resume: str | None, source: InputOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if max_epochs < checkpoint_every:
        raise InputError(f"{max_epochs} epochs leave no checkpoint", f"--max-epochs {checkpoint_every} or more")
    parts = split_rows(source, held_out, seed)
    named = f"{embedding.embed_type or 'lexical'} {embedding.embed_model or ''}".strip()
    settings = Settings(named, hidden, learning_rate, batch_size, seed, checkpoint_every, parts.description)
    if resume:
        find_run(resume, settings)
    outcome = run(embed(parts, embedding), settings, max_epochs, patience, resume)
    measured = {"best epoch": epoch_of(outcome.best), "last epoch": outcome.last_epoch, "version": outcome.version,
                "accuracy": outcome.accuracy}  # fmt: skip
    show("8.7", measured, run_id=outcome.run_id)


if __name__ == "__main__":
    main()
