"""What the clients and servers of models say: their lists of models, and calls that failed."""

from typing import Any


def model_names(body: Any, listed_as: str, named_as: str) -> list[str] | None:
    """The models in a server's list; None where the body is no such list. Ollama may list none as null."""
    if not isinstance(body, dict) or listed_as not in body:
        return None
    entries = body[listed_as] or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    return [str(entry.get(named_as, "")) for entry in entries]


class BadReply(Exception):
    """The server answered, but not with an answer."""


def describe_failed_call(error: Exception) -> str | None:
    """What a client says when its server fails: the kind and the status. None for a bug of ours.

    Not the server's own words: some servers repeat the key in them.
    """
    import httpx
    from ollama import ResponseError
    from openai import OpenAIError

    if isinstance(error, BadReply):
        return str(error)
    # Ollama's client raises the plain ConnectionError, everybody else one of its subclasses.
    if not isinstance(error, httpx.HTTPError | OpenAIError | ResponseError) and type(error) is not ConnectionError:
        return None
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} ({status})" if status else type(error).__name__
