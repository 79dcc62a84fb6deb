"""An alias that is moved on purpose, remembers where it pointed, and can be taken back by one command."""

from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from utils.errors import InputError

BEFORE = "previous_{alias}"  # tag of the prompt: the version that the alias pointed at before


@dataclass(frozen=True)
class Release:
    """One alias of one prompt, and the command that releases to it (named in the errors)."""

    prompt: str
    alias: str
    command: str

    @property
    def tag(self) -> str:
        return BEFORE.format(alias=self.alias)

    def in_use(self) -> int | None:
        """The version behind the alias, asked without the cache; None when nobody has set it."""
        uri = f"prompts:/{self.prompt}@{self.alias}"
        prompt = mlflow.genai.load_prompt(uri, allow_missing=True, cache_ttl_seconds=0, link_to_model=False)
        return int(prompt.version) if prompt else None

    def to(self, version: int) -> None:
        """Move the alias, and remember where it pointed."""
        if (before := self.in_use()) not in (None, version):
            mlflow.genai.set_prompt_tag(self.prompt, self.tag, str(before))
        mlflow.genai.set_prompt_alias(self.prompt, self.alias, version)

    def roll_back(self) -> tuple[int, int]:
        """Point the alias at the version before; returns both versions, the second one read back.

        Raises:
            InputError: nothing was released yet, or the version before was deleted.
        """
        prompt = MlflowClient().get_prompt(self.prompt)
        before = prompt.tags.get(self.tag) if prompt else None
        left = self.in_use() if prompt else None
        if before is None or left is None:
            raise InputError(f"no release of {self.prompt} is known that could be taken back", self.command)
        try:
            mlflow.genai.set_prompt_alias(self.prompt, self.alias, int(before))
        except MlflowException as error:
            raise InputError(
                f"version {before} of {self.prompt} is gone",
                f"mlflow.genai.set_prompt_alias('{self.prompt}', '{self.alias}', VERSION)",
            ) from error
        mlflow.genai.delete_prompt_tag(self.prompt, self.tag)
        return left, int(self.in_use() or 0)
