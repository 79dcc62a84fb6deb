"""What the manifest is made of: modules, lessons, and the evidence that a lesson leaves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """One of the eight modules; its lessons share an experiment."""

    number: int
    title: str
    experiment: str
    goal: str
    track: str  # one of TRACKS; a track builds on those before it


@dataclass(frozen=True)
class Evidence:
    """Something MLflow holds once a lesson was done.

    kind: `run`, `trace`, `model`, `prompt` or `dataset`; `what` says it in words; at least `minimum` of them must
    exist. Runs, traces and models are found by the tag `lesson`, narrowed by `filter` (MLflow's search syntax);
    a prompt by `name`; a dataset is an input of one of the lesson's runs.
    """

    kind: str
    what: str
    minimum: int = 1
    filter: str = ""
    name: str = ""


@dataclass(frozen=True)
class Lesson:
    """One command.

    shows: MLflow calls that must stand in the lesson's own source. page: where the experiment shows its results in
    mlflow ui, and look: what to look for there. tour_args: flags for the tour, besides store and model. mostly_waits:
    for something that has its own pace; the tour goes on meanwhile.
    """

    number: str
    title: str
    command: str
    file: str
    page: str
    look: str
    shows: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    hints: tuple[str, ...]
    requires: tuple[str, ...] = ()
    extra: str | None = None
    tour_args: tuple[str, ...] = ()
    uses_llm: bool = True
    mostly_waits: bool = False
    docs: str = "https://mlflow.org/docs/latest/genai/"

    @property
    def typed(self) -> str:
        """The command as a learner types it, with the extra that it needs."""
        return f"uv run {f'--extra {self.extra} ' if self.extra else ''}{self.command}"

    @property
    def module(self) -> Module:
        return MODULES[int(self.number.split(".")[0]) - 1]

    @property
    def experiment(self) -> str:
        return self.module.experiment


TRACKS = ("beginner", "intermediate", "advanced")

MODULES = (
    Module(1, "Fundamentals", "1-fundamentals", "Track runs and models, and know what MLflow 3 changed.", "beginner"),
    Module(2, "Tracing", "2-tracing", "See every LLM call, also those inside Spark workers.", "beginner"),
    Module(3, "Prompts", "3-prompts", "Version prompts, compare them, and roll them back.", "beginner"),
    Module(4, "Agents", "4-agents", "Build agents whose every step can be inspected.", "intermediate"),
    Module(5, "RAG", "5-rag", "Answer from documents, and measure retrieval and answers apart.", "intermediate"),
    Module(6, "Evaluation", "6-evaluation", "Score quality so that a difference can be believed.", "intermediate"),
    Module(7, "Production", "7-production", "Serve, watch and improve an agent that people use.", "advanced"),
    Module(8, "Advanced", "8-advanced", "Scale, optimise and combine what came before.", "advanced"),
)
