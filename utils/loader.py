"""Imports of packages that only an extra installs."""

from importlib import import_module
from types import ModuleType

from utils.errors import UserError


class MissingExtra(UserError):
    """A package of an optional extra is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra named `extra` installs.

    Raises MissingExtra when the module itself, or a package that holds it, is not there. An import that fails
    inside the module is its own error and passes unchanged: another sync would not mend it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module and not module.startswith(f"{missing}."):
            raise
        raise MissingExtra(f"the package {missing} is not installed", f"uv sync --extra {extra}") from error
