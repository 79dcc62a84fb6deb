"""What the clients and servers of models say: their lists of models, and calls that failed."""

from typing import Any

from utils.errors import UserError

PROBE_SECONDS = 2.0


class BackendUnavailable(UserError):
    """The model server, the model or the key is missing."""


def model_names(body: Any, listed_as: str, named_as: str) -> list[str] | None:
    """The models in a server's list; None where the body is no such list. Ollama may list none as null."""
    if not isinstance(body, dict) or listed_as not in body:
        return None
    entries = body[listed_as] or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    return [str(entry.get(named_as, "")) for entry in entries]


def get_json(url: str, problem: str, cure: str, api_key: str | None = None) -> tuple[int, Any]:
    """Status and JSON body (None where it is no JSON) of a GET that takes at most PROBE_SECONDS.

    Raises:
        BackendUnavailable: nobody answers; it says `problem` and `cure`.
    """
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=PROBE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BackendUnavailable(problem, cure) from error
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, None


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
