"""What a training of lesson 8.7 is made of, whichever model learns: settings, rows, one measure, one stopping rule."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from utils.embeddings import open_embedding
from utils.errors import InputError
from utils.options import EmbedOptions
from utils.training_reviews import Parts

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.data.pandas_dataset import PandasDataset
    from mlflow.entities import LoggedModel


class Classifier(Protocol):
    """What is trained: a scikit-learn head on vectors, or LoRA on texts (utils/lora_training.py).

    classes_: labels in the order of predict_proba's columns.
    """

    classes_: Any

    def partial_fit(self, inputs: Any, labels: Any, classes: Any) -> Any: ...

    def predict_proba(self, inputs: Any) -> Any: ...

    def predict(self, inputs: Any) -> Any: ...


@dataclass(frozen=True)
class Settings:
    """What makes two trainings the same one: a resumed training has to agree in all of it.

    rows says it in words, and rows_digest which rows they are. A head has an embedding and hidden neurons; LoRA has a
    transformer, the digest of its weights, and a rank.
    """

    embedding: str | None
    hidden: int | None
    learning_rate: float
    batch_size: int
    seed: int
    checkpoint_every: int
    rows: str
    rows_digest: str
    lora: str | None = None
    lora_digest: str | None = None
    rank: int | None = None

    def as_params(self) -> dict[str, str]:
        """Without what this kind of training does not have."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}

    def difference(self, before: dict[str, str]) -> str | None:
        """The first setting in which a training with the params `before` was another one, in words."""
        now = self.as_params()
        for name in sorted(asdict(self), key=lambda name: name != "lora"):  # what is trained comes first
            if before.get(name) != now.get(name):
                return f"{name} {before.get(name, 'none')}, not with {now.get(name, 'none')}"
        return None


@dataclass(frozen=True)
class Part:
    """Rows as the model sees them: vectors, float32 array (rows, dimensions), or texts, object array; and labels."""

    inputs: np.ndarray
    labels: np.ndarray
    dataset: "PandasDataset"


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
    best: "LoggedModel"
    version: str
    accuracy: float
    interval: tuple[float, float]


def refuse_mixed(hidden: int | None, lora: str | None, rank: int | None, embedding: EmbedOptions) -> None:
    """Raises InputError for a flag of the model that is not trained: it would change nothing."""
    if lora is None and rank is not None:
        raise InputError("--rank is the rank of adapters, and without --lora there are none", "--lora FOLDER")
    if lora is not None and (hidden, embedding.embed_type, embedding.embed_model) != (None, None, None):
        problem = "--hidden, --embed-type and --embed-model belong to the head on sentence embeddings"
        raise InputError(problem, "--lora without them")


def prepare(parts: Parts, embedding: EmbedOptions | None) -> Data:
    """Sentence embeddings once, before the first epoch, where only a head is trained; LoRA reads the texts."""
    import mlflow

    model = open_embedding(embedding.embed_type or "lexical", embedding.embed_model) if embedding else None

    def part(name: str, rows: "pd.DataFrame") -> Part:
        texts = rows["text"].tolist()
        vectors = np.asarray(model.get_text_embedding_batch(texts), dtype=np.float32) if model else None
        dataset = mlflow.data.from_pandas(rows, name=f"finetune-{name}", targets="label")
        return Part(
            np.asarray(texts, dtype=object) if vectors is None else vectors, rows["label"].to_numpy(dtype=str), dataset
        )

    named = {name: part(name, getattr(parts, name)) for name in ("train", "choose", "report")}
    return Data(**named, labels=parts.labels)


def measure(model: Classifier, data: Data) -> dict[str, float]:
    """Log loss and accuracy (0 to 1) on the rows learnt from and on those that choose."""
    from sklearn.metrics import accuracy_score, log_loss

    found = {}
    for name, part in (("train", data.train), ("held_out", data.choose)):
        chances = model.predict_proba(part.inputs)
        found[f"{name}_loss"] = float(log_loss(part.labels, chances, labels=list(data.labels)))
        found[f"{name}_accuracy"] = float(accuracy_score(part.labels, model.classes_[chances.argmax(axis=1)]))
    return found


def has_stopped(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` checkpoints all were no better than one before them."""
    return len(losses) > patience and min(losses[:-patience]) <= min(losses[-patience:])
