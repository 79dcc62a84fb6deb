"""8.7 A fine-tune tracked: epochs, curves, checkpoints, early stop, and the best checkpoint registered.

New here: a checkpoint is a logged model with a step; its metrics choose it, and a killed training goes on from it.
Run it:   uv run mlflow-finetune-tracking
          uv run mlflow-finetune-tracking --hidden 64 --learning-rate 0.01
          uv run mlflow-finetune-tracking --input my.csv --text-column comment --label-column verdict --held-out 200
          uv run mlflow-finetune-tracking --resume RUN_ID
          uv run --extra huggingface mlflow-finetune-tracking --lora ./my-distilbert
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  finetune: Model metrics, checkpoints
Change:   --patience 20; which checkpoint is registered now, and what has the waiting cost?
Docs:     https://mlflow.org/docs/latest/ml/model-registry/
"""

from collections.abc import Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from utils.cli import Steps, lesson, show, show_table
from utils.errors import InputError, JobFailed
from utils.evaluation import wilson_interval
from utils.lesson_context import current_tags
from utils.lora_training import LoraClassifier, LoraSettings, base_name, open_base
from utils.options import EmbedOptions, InputOptions
from utils.registry import without_notices
from utils.training_curves import curves_figure
from utils.training_parts import Classifier, Data, Outcome, Settings, has_stopped, measure, prepare, refuse_mixed
from utils.training_reviews import split_rows

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

NAME, LORA_NAME = "finetuned-head", "finetuned-lora"  # in the registry
CHOSEN_BY = "held_out_loss"
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]
# The optimiser's state is part of a checkpoint: without it a training that goes on is another training.
TRUSTED_TYPES = ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]
LORA_CODE = Path(__file__).with_name("lora_model.py")
LORA_PACKAGES = ("torch", "transformers", "peft", "safetensors")


def new_head(settings: Settings) -> "MLPClassifier":
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (settings.hidden,), learning_rate_init=settings.learning_rate, batch_size=settings.batch_size,
        shuffle=False, random_state=settings.seed,
    )  # fmt: skip


def new_model(settings: Settings, labels: tuple[str, ...]) -> Classifier:
    if settings.lora is None or settings.rank is None:
        return new_head(settings)
    lora = LoraSettings(settings.lora, settings.rank, settings.learning_rate, settings.batch_size, settings.seed)
    model = LoraClassifier.new(lora, labels)
    trained, weights = model.trained_weights
    mlflow.log_params({"trained_weights": trained, "weights": weights})
    click.echo(
        f"      {trained:,} of {weights:,} weights are trained: adapters of rank {lora.rank} and what classifies"
    )
    return model


def train_epoch(model: Classifier, data: Data, settings: Settings, epoch: int) -> None:
    """All rows once, in an order that depends on seed and epoch alone: a resumed training sees the same one."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(data.train.labels))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # said below
            model.partial_fit(data.train.inputs[order], data.train.labels[order], classes=list(data.labels))
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise JobFailed(f"the weights left all bounds in epoch {epoch}", "a smaller --learning-rate") from error


def log_head(head: "MLPClassifier", example: np.ndarray, epoch: int) -> str:
    logged = mlflow.sklearn.log_model(
        head, name="checkpoint", step=epoch, serialization_format="skops", skops_trusted_types=TRUSTED_TYPES,
        pip_requirements=REQUIREMENTS, signature=infer_signature(example, head.predict(example)),
        params={"epoch": epoch}, tags=current_tags(),
    )  # fmt: skip
    return str(logged.model_id)


def log_adapters(model: LoraClassifier, epoch: int) -> str:
    """Adapters and optimiser as safetensors, and the file that puts them on the transformer; not the transformer."""
    with TemporaryDirectory() as outer:
        folder = Path(outer) / "adapter"
        model.save(folder)
        logged = mlflow.pyfunc.log_model(
            name="checkpoint", step=epoch, python_model=str(LORA_CODE), artifacts={"adapter": str(folder)},
            model_config={"base": model.settings.base},
            pip_requirements=[f"{package}=={version(package)}" for package in LORA_PACKAGES],
            params={"epoch": epoch}, tags=current_tags(),
        )  # fmt: skip
    return str(logged.model_id)


def log_checkpoint(model: Classifier, data: Data, epoch: int, metrics: dict[str, float]) -> None:
    """A logged model with its step; its metrics come after it, so that a checkpoint without them is half a one."""
    if isinstance(model, LoraClassifier):
        model_id = log_adapters(model, epoch)
    else:
        model_id = log_head(model, data.train.inputs[:2], epoch)
    mlflow.log_metrics(metrics, step=epoch, model_id=model_id, dataset=data.choose.dataset)


def load(model_uri: str, settings: Settings) -> Classifier:
    """A checkpoint, which can predict and be trained on: its optimiser is in it."""
    if settings.lora is None:
        return mlflow.sklearn.load_model(model_uri)
    return mlflow.pyfunc.load_model(model_uri).unwrap_python_model().classifier


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
    if difference := settings.difference(run.data.params):
        raise InputError(f"the training began with {difference}", "the same flags as before")
    if not checkpoints(run):
        raise InputError(f"the training {run_id} left no checkpoint", "uv run mlflow-finetune-tracking   (a new one)")
    return run


def start(run: Run, data: Data, settings: Settings, resumed: bool) -> tuple[Classifier, int, list[float]]:
    """The model, the last epoch that it has seen, and the losses of the checkpoints up to there."""
    if not resumed:
        mlflow.log_params(settings.as_params())
        for part, context in ((data.train, "training"), (data.choose, "choosing"), (data.report, "reporting")):
            mlflow.log_input(part.dataset, context=context)
        return new_model(settings, data.labels), 0, []
    done = sorted(checkpoints(run), key=epoch_of)
    losses = [next(m.value for m in model.metrics or [] if m.key == CHOSEN_BY) for model in done]
    return load(done[-1].model_uri, settings), epoch_of(done[-1]), losses


def train(
    run: Run, data: Data, settings: Settings, max_epochs: int, patience: int, resumed: bool
) -> Iterator[tuple[int, dict[str, float]]]:
    """Epoch by epoch up to the early stop; each is measured, every few are kept."""
    model, seen, losses = start(run, data, settings, resumed)
    for epoch in count(seen + 1):
        if epoch > max_epochs or has_stopped(losses, patience):
            return
        train_epoch(model, data, settings, epoch)
        metrics = measure(model, data)
        if epoch % settings.checkpoint_every == 0:
            log_checkpoint(model, data, epoch, metrics)
            losses.append(metrics[CHOSEN_BY])
            if settings.lora:  # minutes, not seconds
                click.echo(f"      Epoch {epoch} is kept: {CHOSEN_BY} {metrics[CHOSEN_BY]:.3f}")
        else:
            mlflow.log_metrics(metrics, step=epoch)
        yield epoch, metrics


def registered_name(settings: Settings) -> str:
    return NAME if settings.lora is None else LORA_NAME


def register_best(run: Run, name: str) -> tuple[LoggedModel, str]:
    """The checkpoint with the lowest loss on the held-out rows: a version in the registry, under the alias best."""
    best = checkpoints(run)[0]
    with without_notices():
        registered = mlflow.register_model(best.model_uri, name, tags={"epoch": str(epoch_of(best)), **current_tags()})
    MlflowClient().set_registered_model_alias(name, "best", registered.version)
    return best, str(registered.version)


def report_best(best: LoggedModel, version: str, data: Data, settings: Settings) -> tuple[float, tuple[float, float]]:
    """The registered version, loaded as anybody would load it, on rows that chose nothing."""
    loaded = load(f"models:/{registered_name(settings)}/{version}", settings)
    right = int((loaded.predict(data.report.inputs) == data.report.labels).sum())
    accuracy, interval = right / len(data.report.labels), wilson_interval(right, len(data.report.labels))
    metrics = {"report_accuracy": accuracy, "report_accuracy_low": interval[0], "report_accuracy_high": interval[1]}
    mlflow.log_metrics(metrics, step=epoch_of(best), model_id=best.model_id, dataset=data.report.dataset)
    return accuracy, interval


def run(data: Data, settings: Settings, max_epochs: int, patience: int, resume: str | None) -> Outcome:
    steps = Steps(4)
    seen = f"vectors of {data.train.inputs.shape[1]} numbers" if settings.lora is None else "texts as they are"
    steps(f"{settings.rows}; {seen}")
    with mlflow.start_run(
        run_id=resume, run_name=None if resume else "finetune" if settings.lora is None else "finetune-lora"
    ) as active:
        # 1. Epochs; the id comes first, since whoever kills the training needs it
        click.echo(f"      Run {active.info.run_id}: --resume goes on from its newest checkpoint")
        epochs = list(train(active, data, settings, max_epochs, patience, resumed=resume is not None))
        # A training that was killed after its last epoch has none left.
        last = epochs[-1][0] if epochs else max(map(epoch_of, checkpoints(active)))
        steps(f"Trained up to epoch {last}" + (" (early stop)" if last < max_epochs else ""))

        # 2. The curves, read back from the store
        client = MlflowClient()
        histories = {
            name: {point.step: point.value for point in client.get_metric_history(active.info.run_id, name)}
            for name in ("train_loss", "held_out_loss", "train_accuracy", "held_out_accuracy")
        }
        # 3. The best checkpoint, as the store ranks them, becomes a version
        name = registered_name(settings)
        best, number = register_best(active, name)
        mlflow.log_figure(curves_figure(histories, epoch_of(best)), "curves.png")
        steps(f"Best of {len(checkpoints(active))} checkpoints by {CHOSEN_BY}: "
              f"epoch {epoch_of(best)}, registered as {name} version {number}, alias best")  # fmt: skip

        # 4. Loaded from the registry, on rows that neither training nor choice has seen
        accuracy, interval = report_best(best, number, data, settings)
        mlflow.log_metrics({"best_epoch": epoch_of(best), "last_epoch": last})
        steps(f"On {len(data.report.labels)} other rows: {accuracy:.3f} right ({interval[0]:.3f} to {interval[1]:.3f})")
    shown = [step for step in sorted(histories["train_loss"]) if step % settings.checkpoint_every == 0]
    show_table([{"epoch": step, **{name: found[step] for name, found in histories.items()},
                 "": "best" if step == epoch_of(best) else ""} for step in shown])  # fmt: skip
    return Outcome(active.info.run_id, last, best, number, accuracy, interval)


@lesson("8.7", rows=True, embed=True)
@click.option("--hidden", type=click.IntRange(min=1), help="Neurons of the head.  [default: 32]")
@click.option("--lora", metavar="MODEL", help="No head, but LoRA on a small transformer: a folder, or a name on the "
              "model hub. Needs the extra huggingface.")  # fmt: skip
@click.option("--rank", type=click.IntRange(min=1), help="Of the adapters, with --lora.  [default: 8]")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True),
              help="[default: 0.003; with --lora 0.001]")  # fmt: skip
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
    hidden: int | None, lora: str | None, rank: int | None, learning_rate: float | None, batch_size: int,
    max_epochs: int, checkpoint_every: int, patience: int, held_out: int, seed: int, resume: str | None,
    source: InputOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    if max_epochs < checkpoint_every:
        raise InputError(f"{max_epochs} epochs leave no checkpoint", f"--max-epochs {checkpoint_every} or more")
    refuse_mixed(hidden, lora, rank, embedding)
    parts = split_rows(source, held_out, seed)
    shared = (batch_size, seed, checkpoint_every, parts.description, parts.digest())
    if lora is None:
        named = f"{embedding.embed_type or 'lexical'} {embedding.embed_model or ''}".strip()
        settings = Settings(named, hidden or 32, learning_rate or 0.003, *shared)
    else:
        base = base_name(lora)
        digest = open_base(base, parts.labels).digest
        settings = Settings(None, None, learning_rate or 0.001, *shared, base, digest, rank or 8)
    if resume:
        find_run(resume, settings)
    outcome = run(prepare(parts, None if lora else embedding), settings, max_epochs, patience, resume)
    measured = {"best epoch": epoch_of(outcome.best), "last epoch": outcome.last_epoch, "version": outcome.version,
                "accuracy": outcome.accuracy}  # fmt: skip
    show("8.7", measured, run_id=outcome.run_id)


if __name__ == "__main__":
    main()
