"""One prompt in, one text out: usage from the server, and every wrong reply as one kind of error."""

from types import SimpleNamespace

import pytest

from utils.llm_backends import open_backend
from utils.llm_calls import complete
from utils.model_servers import BadReply


def test_the_reply_comes_with_the_servers_counts():
    with open_backend("mock") as llm:
        reply = complete(llm, "What is the sentiment of this review? Answer with one word.\nI love it.")
    assert reply.text == "positive"
    assert reply.prompt_tokens and reply.completion_tokens


def test_garbage_is_a_bad_reply():
    with open_backend("mock", mock_faults="garbage:1") as llm, pytest.raises(BadReply, match="no JSON"):
        complete(llm, "Hello")


@pytest.mark.parametrize(
    "reply",
    [
        SimpleNamespace(choices=None),
        SimpleNamespace(choices=[]),
        "a page of HTML",
        SimpleNamespace(choices=[SimpleNamespace(message=None)]),
        SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=" "))], usage=None),
    ],
)
def test_a_reply_without_a_text_is_no_answer(reply):
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: reply)))
    llm = SimpleNamespace(openai_client=lambda: client, model="m", settings=SimpleNamespace(temperature=0))
    with pytest.raises(BadReply):
        complete(llm, "Hello")  # type: ignore[arg-type]
