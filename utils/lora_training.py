"""LoRA on a small transformer that classifies text, with the methods that the head of lesson 8.7 has.

Only what is trained is written: adapters and classification layer as safetensors, the optimiser's state beside them.
The transformer stays where it is; a checkpoint knows it by a digest of its weights. Everything runs on the CPU, where
the same epochs give the same numbers. LoRA: Hu et al., https://arxiv.org/abs/2106.09685
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import InputError
from utils.loader import require
from utils.time_limits import OutOfTime, within

EXTRA = "huggingface"
CURE = "--lora FOLDER of a small encoder (DistilBERT, MiniLM, BERT) with config.json and model.safetensors"
# Names that families of encoders give to the layers that make queries and values: where LoRA goes.
TARGETS = {"query", "value", "q_lin", "v_lin", "q_proj", "v_proj", "query_proj", "value_proj", "Wqkv"}
HEADS = {"classifier", "score"}  # peft trains and keeps these of itself
DROPOUT = 0.1
MAX_TOKENS = 256  # of a text; what comes after is cut off
BATCH = 64  # texts at once where nothing is learnt
HUB_SECONDS = 5


@dataclass(frozen=True)
class LoraSettings:
    """What a training is made of. rank: of the two matrices that stand for a change of a weight matrix."""

    base: str
    rank: int
    learning_rate: float
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Base:
    """A transformer with a classification layer. fresh: names of the weights that its folder does not hold, drawn at
    random; digest: of all others."""

    model: Any
    tokenizer: Any
    fresh: frozenset[str]
    digest: str


def open_base(name: str, labels: Sequence[str], seed: int = 0) -> Base:
    """The transformer of a folder, or of a name on the model hub: from the disk, else downloaded once.

    Raises:
        MissingExtra: torch, transformers or peft are not installed.
        InputError: it is not there, has no safetensors, or is of no kind that classifies.
    """
    torch, transformers = require("torch", EXTRA), require("transformers", EXTRA)
    broken = require("safetensors", EXTRA).SafetensorError
    require("peft", EXTRA)
    _quieten(transformers)
    place = {"pretrained_model_name_or_path": name, "local_files_only": _is_here(name, transformers)}
    with _seeded(torch, seed):  # the weights of `fresh`
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
            model, told = transformers.AutoModelForSequenceClassification.from_pretrained(
                **place, num_labels=len(labels), dtype=torch.float32, use_safetensors=True,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, broken) as error:
            raise InputError(f"{name} is no transformer to train: {_first_line(error)}", CURE) from error
    if tokenizer.pad_token is None:
        raise InputError(f"the tokenizer of {name} has no token to fill up with, as an encoder's has", CURE)
    fresh = frozenset({*told["missing_keys"], *(key[0] for key in told["mismatched_keys"])})
    return Base(model, tokenizer, fresh, _digest(model, fresh))


def base_name(name: str) -> str:
    """A folder by its full path, so that a checkpoint finds it from anywhere; a name on the hub as it is.

    Raises:
        InputError: it is written as a folder and there is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if folder.is_absolute() or name.startswith("."):
        raise InputError(f"there is no folder {name}", CURE)
    return name


class LoraClassifier:
    """Trained epoch by epoch with partial_fit; texts are arrays or lists of str, labels of str.

    classes_: the labels in the order of the columns of predict_proba.
    """

    def __init__(self, base: Base, model: Any, labels: Sequence[str], settings: LoraSettings) -> None:
        self.base, self.model, self.settings = base, model, settings
        self.classes_ = np.asarray(labels, dtype=str)
        self.epochs = 0
        self.optimizer = require("torch", EXTRA).optim.AdamW(
            [weights for _, weights in self._trained()], lr=settings.learning_rate
        )

    @classmethod
    def new(cls, settings: LoraSettings, labels: Sequence[str]) -> "LoraClassifier":
        """Before the first epoch.

        Raises: what open_base does.
        """
        base = open_base(settings.base, labels, settings.seed)
        peft = require("peft", EXTRA)
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=settings.rank, lora_alpha=2 * settings.rank, lora_dropout=DROPOUT,
            target_modules=_targets(base.model, settings.base), modules_to_save=_fresh_modules(base.fresh),
        )  # fmt: skip
        with _seeded(require("torch", EXTRA), settings.seed), _without_notices():
            return cls(base, peft.get_peft_model(base.model, config), labels, settings)

    @classmethod
    def load(cls, folder: Path, base: str | None = None) -> "LoraClassifier":
        """What `save` wrote, ready to predict and to go on training. base: where the transformer is now.

        Raises:
            InputError: the transformer is not the one that the adapters were trained on; and what open_base raises.
        """
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        settings = LoraSettings(**{**state["settings"], "base": base or state["settings"]["base"]})
        opened = open_base(settings.base, state["labels"], settings.seed)
        if opened.digest != state["base_digest"]:
            problem = f"{settings.base} has other weights than when the adapters were trained on it"
            raise InputError(problem, "the transformer as it was then")
        with _without_notices():
            model = require("peft", EXTRA).PeftModel.from_pretrained(opened.model, str(folder), is_trainable=True)
        loaded = cls(opened, model, state["labels"], settings)
        loaded.epochs = state["epochs"]
        loaded._load_optimizer(folder / "optimizer.safetensors")
        return loaded

    def save(self, folder: Path) -> None:
        """Adapters in peft's format, the optimiser's two means of each trained weight, and what else a resume needs."""
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
        names = [name for name, _ in self._trained()]
        kept = {
            f"{names[place]}:{key}": value.contiguous()
            for place, values in self.optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
        require("safetensors.torch", EXTRA).save_file(kept, str(folder / "optimizer.safetensors"))
        state = {"labels": self.classes_.tolist(), "epochs": self.epochs, "base_digest": self.base.digest}
        text = json.dumps({**state, "settings": asdict(self.settings)}, indent=2)
        (folder / "state.json").write_text(text, encoding="utf-8")

    def partial_fit(self, inputs: Sequence[str], labels: Sequence[str], classes: Sequence[str]) -> None:
        """One epoch over the texts in the order given. Dropout depends on the seed and the number of the epoch alone.

        Raises:
            ValueError: the loss is non-finite.
        """
        torch = require("torch", EXTRA)
        targets = torch.tensor(np.searchsorted(np.asarray(classes), np.asarray(labels)))
        self.model.train()
        with _seeded(torch, int(np.random.default_rng([self.settings.seed, self.epochs]).integers(2**31))):
            for start in range(0, len(inputs), self.settings.batch_size):
                batch = slice(start, start + self.settings.batch_size)
                loss = torch.nn.functional.cross_entropy(self._logits(inputs[batch]), targets[batch])
                if not torch.isfinite(loss):
                    raise ValueError("non-finite loss")
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        self.epochs += 1

    def predict_proba(self, inputs: Sequence[str]) -> np.ndarray:
        """Array (texts, labels), rows sum to 1."""
        torch = require("torch", EXTRA)
        self.model.eval()
        with torch.no_grad():
            found = [self._logits(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
            return np.asarray(torch.cat(found).double().softmax(dim=1).numpy())

    def predict(self, inputs: Sequence[str]) -> np.ndarray:
        """The likeliest label of each text."""
        return np.asarray(self.classes_[self.predict_proba(inputs).argmax(axis=1)])

    @property
    def trained_weights(self) -> tuple[int, int]:
        """How many numbers are trained, and how many there are."""
        trained = sum(weights.numel() for _, weights in self._trained())
        return trained, sum(weights.numel() for weights in self.model.parameters())

    def _trained(self) -> list[tuple[str, Any]]:
        return [(name, weights) for name, weights in self.model.named_parameters() if weights.requires_grad]

    def _logits(self, texts: Sequence[str]) -> Any:
        tokens = self.base.tokenizer(
            [str(text) for text in texts], padding=True, truncation=True, max_length=self._most_tokens(),
            return_tensors="pt",
        )  # fmt: skip
        return self.model(**tokens).logits

    def _most_tokens(self) -> int:
        places = getattr(self.base.model.config, "max_position_embeddings", MAX_TOKENS)
        return min(MAX_TOKENS, self.base.tokenizer.model_max_length, places)

    def _load_optimizer(self, path: Path) -> None:
        places = {name: place for place, (name, _) in enumerate(self._trained())}
        states: dict[int, dict[str, Any]] = {}
        for key, value in require("safetensors.torch", EXTRA).load_file(str(path)).items():
            name, _, kind = key.rpartition(":")
            states.setdefault(places[name], {})[kind] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})


def _is_here(name: str, transformers: Any) -> bool:
    """Whether the disk has it. The hub is asked shortly first: a download itself would try again for a minute."""
    from huggingface_hub import model_info
    from huggingface_hub.utils import httpx

    try:
        transformers.AutoConfig.from_pretrained(name, local_files_only=True)
        return True
    except (OSError, ValueError) as error:
        if Path(name).is_dir():
            raise InputError(f"{name} is no transformer to train: {_first_line(error)}", CURE) from error
    try:
        within(HUB_SECONDS, model_info, name)
    except (OSError, OutOfTime, ValueError, httpx.HTTPError) as error:
        problem = f"the transformer {name} is neither on this disk nor can it be downloaded ({type(error).__name__})"
        raise InputError(problem, CURE) from error
    return False


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _targets(model: Any, name: str) -> list[str]:
    found = {path.rpartition(".")[2] for path, _ in model.named_modules()} & TARGETS
    if not found:
        raise InputError(f"no layer of {name} makes queries or values under a known name", CURE)
    return sorted(found)


def _fresh_modules(fresh: frozenset[str]) -> list[str] | None:
    """Layers drawn at random that peft would leave out: unkept, they would be others after a load."""
    paths = {key.rpartition(".")[0] for key in fresh}
    return sorted(path for path in paths if not HEADS & set(path.split("."))) or None


def _digest(model: Any, fresh: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        if name not in fresh:
            digest.update(name.encode() + weights.contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _seeded(torch: Any, seed: int) -> Iterator[None]:
    """Inside, random numbers of torch's depend on the seed alone; outside, nothing has changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _without_notices() -> Iterator[None]:
    """What peft and transformers tell each other about their next releases is no learner's matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _quieten(transformers: Any) -> None:
    """No progress bars, and no notice that the classification layer is new: the training says so."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
