"""One prompt in, one text out, over the OpenAI SDK; whatever a server can do wrong is one kind of error."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.model_servers import BadReply

if TYPE_CHECKING:
    from utils.llm_backends import Backend


@dataclass(frozen=True)
class Reply:
    """`prompt_tokens` and `completion_tokens` as the server counted them; None where it did not say."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


def complete(llm: "Backend", prompt: str) -> Reply:
    """The model's reply to one user message, at the temperature of the backend's settings.

    Raises:
        BadReply: the server answered with something that is no reply, or holds no text.
        OpenAIError: it refused, or did not answer in time (describe_failed_call tells which errors are a server's).
    """
    try:
        reply = llm.openai_client().chat.completions.create(
            model=llm.model, messages=[{"role": "user", "content": prompt}], temperature=llm.settings.temperature
        )
    except json.JSONDecodeError as error:  # the SDK reads the body without a guard
        raise BadReply("the reply is no JSON") from error
    choices = getattr(reply, "choices", None)
    if not choices or choices[0].message is None:
        raise BadReply("the reply is no chat completion")
    text = (choices[0].message.content or "").strip()
    if not text:
        raise BadReply("the reply holds no text")
    usage = reply.usage
    return Reply(text, usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None)
