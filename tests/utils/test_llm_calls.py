"""One prompt in, one text out: usage from the server, and every wrong reply as one kind of error."""

from types import SimpleNamespace

import pytest

from utils.llm_backends import open_backend
from utils.llm_calls import Chat
from utils.model_servers import BadReply


def test_the_reply_comes_with_the_servers_counts():
    with open_backend("mock") as llm, Chat(llm) as chat:
        reply = chat.complete("What is the sentiment of this review? Answer with one word.\nI love it.")
    assert reply.text == "positive"
    assert reply.prompt_tokens and reply.completion_tokens


def test_garbage_is_a_bad_reply():
    failed: list[str] = []
    with open_backend("mock", mock_faults="garbage:1") as llm, Chat(llm) as chat:
        with pytest.raises(BadReply, match="no JSON"):
            chat.complete("Hello")
        assert chat.try_complete("Hello", failed) is None and failed == ["the reply is no JSON"]


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
    completions = SimpleNamespace(create=lambda **_: reply)
    client = SimpleNamespace(chat=SimpleNamespace(completions=completions), close=lambda: None)
    llm = SimpleNamespace(openai_client=lambda: client, model="m", settings=SimpleNamespace(temperature=0))
    with Chat(llm) as chat, pytest.raises(BadReply):  # type: ignore[arg-type]
        chat.complete("Hello")


def test_an_error_of_ours_is_no_failed_call():
    completions = SimpleNamespace(create=lambda **_: 1 / 0)
    client = SimpleNamespace(chat=SimpleNamespace(completions=completions), close=lambda: None)
    llm = SimpleNamespace(openai_client=lambda: client, model="m", settings=SimpleNamespace(temperature=0))
    with Chat(llm) as chat, pytest.raises(ZeroDivisionError):  # type: ignore[arg-type]
        chat.try_complete("Hello", [])
