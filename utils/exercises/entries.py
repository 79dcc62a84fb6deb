"""What an exercise is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils import curriculum

if TYPE_CHECKING:
    from mlflow import MlflowClient

# None when the store proves it, otherwise one sentence about the first thing that is missing.
Check = Callable[["MlflowClient", list[str]], str | None]


@dataclass(frozen=True)
class Exercise:
    """Something to write in `file`, beside the lesson whose number the id begins with.

    Its runs and traces carry the tag `exercise`, never `lesson`: an exercise is no evidence that a lesson was done.
    proof: what the store holds once the check says yes.
    """

    id: str
    title: str
    file: str
    task: str
    proof: str
    hints: tuple[str, ...]
    check: Check

    @property
    def lesson(self) -> "curriculum.Lesson":
        return curriculum.lesson(self.id[:-1])

    @property
    def command(self) -> str:
        return f"python {self.file}"

    @property
    def solution(self) -> str:
        return f"tests/solutions/{self.file.split('/')[-1]}"
