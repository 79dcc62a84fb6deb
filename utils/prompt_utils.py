"""Prompts in MLflow's registry: registered once, found again, moved by alias.

Registering a template always makes a new version, also when it is the same text, so the helpers look first.
"""

import re
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import PromptVersion

Template = str | list[dict[str, str]]
# {{ name }} with a plain name: what MLflow calls a variable. Anything else in braces stays as it is.
VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
JINJA = re.compile(r"\{%|\{#|\{\{[^}]*[|.\[(][^}]*\}\}")


class PromptError(UserError):
    """A prompt, a version, an alias or a template cannot be used."""


def get_or_register(
    name: str, template: Template, *, commit_message: str | None = None, tags: dict[str, str] | None = None
) -> "PromptVersion":
    """The newest version of the prompt whose template is exactly this one; registered if there is none.

    Source: https://mlflow.org/docs/latest/genai/prompt-registry/
    """
    import mlflow

    for version in _versions(name):
        if version.template == template:
            return version
    return mlflow.genai.register_prompt(name=name, template=template, commit_message=commit_message, tags=tags)


def use_alias(
    name: str,
    alias: str,
    template: Template,
    *,
    needs: tuple[str, ...] = (),
    commit_message: str | None = None,
) -> str:
    """The URI of the version in use: `prompts:/name@alias`. Where nobody has set the alias yet, the template is
    registered and the alias set on it; an alias that points somewhere stays where the learner put it.

    Raises:
        PromptError: the version in use lacks a variable that the lesson fills (`needs`).
    """
    import mlflow

    uri = f"prompts:/{name}@{alias}"
    current = mlflow.genai.load_prompt(uri, allow_missing=True, cache_ttl_seconds=0, link_to_model=False)
    if current is None:
        current = get_or_register(name, template, commit_message=commit_message)
        mlflow.genai.set_prompt_alias(name=name, alias=alias, version=current.version)
    if missing := sorted(set(needs) - set(current.variables)):
        raise PromptError(
            f"version {current.version} of the prompt {name} has no variable {{{{{missing[0]}}}}}",
            f"move the alias: mlflow.genai.set_prompt_alias('{name}', '{alias}', VERSION)",
        )
    return uri


def require_rules(uri: str, cure: str) -> None:
    """Whether a prompt can be an agent's rules as it is: a text without variables.

    Raises:
        PromptError: there is no such prompt, or it is another kind of one. cure: what makes the prompt.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        prompt = mlflow.genai.load_prompt(uri, link_to_model=False, cache_ttl_seconds=0)
    except MlflowException as error:
        problem = f"there is no prompt {uri} in this store: {error.message.splitlines()[0]}"
        raise PromptError(problem, cure) from error
    if not prompt.is_text_prompt or prompt.variables:
        raise PromptError(f"{uri} cannot be an agent's rules", "a text prompt without variables")


def to_single_braces(template: str, *, escape: bool = True) -> str:
    """An MLflow template ({{name}}) with the single braces ({name}) that Python, LangChain and LlamaIndex fill in.

    Args:
        escape: double all other braces (JSON examples), so that `str.format` and LangChain give them out as they went
            in. False for LlamaIndex, which never touches them: it would send them doubled.

    Raises:
        PromptError: the template is Jinja2 (statements, filters, attributes), which a format string cannot express.
    """
    if JINJA.search(template):
        raise PromptError(
            "this template uses Jinja2 (statements, filters or attributes), which has no single-brace form",
            "render it with prompt.format(…) and pass the finished text on",
        )
    parts = VARIABLE.split(template)  # text, name, text, name, …, text
    texts = [part.replace("{", "{{").replace("}", "}}") if escape else part for part in parts[::2]]
    names = [f"{{{name}}}" for name in parts[1::2]] + [""]
    return "".join(text + name for text, name in zip(texts, names, strict=True))


def chat_messages(prompt: "PromptVersion", *, escape: bool = True) -> list[tuple[str, str]]:
    """The messages of a chat prompt as (role, text with single braces), as LangChain's from_messages takes them.

    Args:
        escape: as in to_single_braces; False for LlamaIndex.

    Raises:
        PromptError: it is a text prompt, or a message uses Jinja2.
    """
    if prompt.is_text_prompt:
        raise PromptError(f"{prompt.uri} is a text prompt without roles", "to_single_braces(prompt.template)")
    return [(message["role"], to_single_braces(message["content"], escape=escape)) for message in prompt.template]


def _versions(name: str) -> list["PromptVersion"]:
    """All versions, newest first; none when the prompt does not exist yet."""
    from mlflow import MlflowClient

    client = MlflowClient()
    if client.get_prompt(name) is None:
        return []
    return sorted(client.search_prompt_versions(name), key=lambda version: int(version.version), reverse=True)
