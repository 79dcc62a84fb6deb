"""What an optimiser tried: every candidate prompt, and its score on the training rows."""

import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

from utils.errors import InputError, JobFailed
from utils.genai_evaluation import quiet_evaluation
from utils.sentiment_job import JobRows

if TYPE_CHECKING:
    from openai import OpenAI

LEAST_TRAINING, LEAST_HELD_OUT = 6, 10  # rows
FAILED = "Failed to invoke the predict_fn"  # how optimize_prompts begins the answer to a call that failed
TALKING = ("dspy", "LiteLLM", "mlflow.genai.optimize", "gepa")


@dataclass(frozen=True)
class Task:
    """Labelled reviews: the optimiser sees `train`, and `held_out` decides."""

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    labels: tuple[str, ...]


@dataclass
class Trials:
    """Scores (0 or 1) of each candidate's rows, in the order in which they were tried. Threads may add at once.

    One that only a few rows were asked about was given up there.
    """

    scores: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, template: str, scores: Sequence[float]) -> None:
        with self._lock:
            self.scores.setdefault(template, []).extend(float(score) for score in scores)

    def rows(self) -> list[dict[str, object]]:
        """A row for each candidate: number, calls, score, prompt. The first is the one that was to be improved."""
        return [
            {"candidate": number, "calls": len(scores), "score": sum(scores) / len(scores), "prompt": template}
            for number, (template, scores) in enumerate(self.scores.items(), start=1)
            if scores
        ]


def split(job: JobRows, train_rows: int, held_out_rows: int) -> Task:
    """The rows of a job, each text once.

    Raises:
        InputError: they have no labels, or too few of them are left to be held out.
    """
    if not job.labelled:
        raise InputError("without labels no answer is right or wrong", "--label-column NAME")
    frame = job.frame.drop_duplicates("text")  # a text on both sides would be no unseen row
    rows = [{"inputs": {"text": r.text}, "expectations": {"label": r.label}} for r in frame.itertuples()]
    train, held_out = rows[:train_rows], rows[train_rows : train_rows + held_out_rows]
    if len(held_out) < LEAST_HELD_OUT:
        raise InputError(
            f"{len(rows)} different rows leave {len(held_out)} held out",
            f"--train-rows N: {LEAST_HELD_OUT} must be left",
        )
    return Task(train, held_out, job.labels)


def reflection(client: "OpenAI", model: str, temperature: float) -> Any:
    """GEPA's reflection through an OpenAI client: autolog sees it, and it needs no litellm."""
    from gepa.proposer.reflective_mutation.reflection_lm import StatelessReflectionLM

    def reflect(prompt: Any) -> str:
        messages: list[Any] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        reply = client.chat.completions.create(model=model, messages=messages, temperature=temperature)
        return reply.choices[0].message.content or ""

    return StatelessReflectionLM(reflect)


def check_answer(output: object) -> None:
    """Raises JobFailed for what optimize_prompts makes of a failed call: it would count as a wrong answer."""
    if isinstance(output, str) and output.startswith(FAILED):
        raise JobFailed(output.removeprefix(FAILED).strip(), "look at the log of the model server, and run it again")


def check_tail(uri: str, tail: str) -> None:
    """DSPy writes instructions, and the text comes after them: a prompt that is built otherwise it would not improve.

    Raises:
        InputError: the prompt does not end with `tail`.
    """
    import mlflow

    current = mlflow.genai.load_prompt(uri, cache_ttl_seconds=0, link_to_model=False)
    if not str(current.template).endswith(tail):
        problem = f"DSPy's prompts end with a line {tail.strip()}, and version {current.version} in use does not"
        raise InputError(problem, "--method metaprompt, or --method gepa")


@contextmanager
def quiet_optimizer() -> Iterator[None]:
    """Without the progress bars and the log lines of the libraries; warnings and errors raise or are read elsewhere."""
    before = {name: logging.getLogger(name).level for name in TALKING}
    for name in TALKING:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with quiet_evaluation(), redirect_stderr(StringIO()):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def load_litellm() -> None:
    """Import, where litellm is installed, what it would otherwise import in a thread of its own after its first call.

    MLflow switches autolog on and off around each evaluation and imports modules under a lock of its own. The two
    then wait for each other for ever: litellm's thread for that lock, MLflow for the import.
    """
    if importlib.util.find_spec("litellm"):
        with suppress(ImportError):  # a version without it
            import litellm.proxy.spend_tracking.savings  # noqa: F401
