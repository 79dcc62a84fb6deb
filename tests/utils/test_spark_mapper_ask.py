"""One prompt of the mapper, without Spark and with a clock that does not run: retries, waits, errors and times."""

import json
import time
from email.utils import formatdate

import httpx
import openai
import pytest

from utils.spark_mapper import (
    ERROR_CHARACTERS,
    LONGEST_WAIT_S,
    Caller,
    Reply,
    ask,
    describe,
    is_sampled,
)

GOOD = Reply("positive", 12, 1)
JITTER_S = 0.25  # the first back-off is at most this long


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the code under test wanted to sleep; none of them passes."""
    naps: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", naps.append)
    return naps


def refusal(status: int, message: str = "refused", key: str = "", **headers: str) -> openai.APIStatusError:
    """What the OpenAI SDK raises for such an answer of a server."""
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    request = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions", headers=sent)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return openai.APIStatusError(message, response=httpx.Response(status, headers=named, request=request), body=None)


def scripted(*steps: Reply | BaseException) -> Caller:
    """A caller that answers with each step in turn and keeps to the last one."""
    left = list(steps)

    def call(prompt: str) -> Reply:
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, BaseException):
            raise step
        return step

    return call


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "1500", "retry_after": "2"}, 1.5),
        ({"retry_after": "3600"}, LONGEST_WAIT_S),
        ({"retry_after": "inf"}, LONGEST_WAIT_S),
        ({"retry_after": "-4"}, 0),
        ({"retry_after": "nan"}, 0),
        ({"retry_after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_waits_as_long_as_the_server_asks(slept: list[float], headers: dict[str, str], seconds: float) -> None:
    outcome = ask(scripted(refusal(429, **headers), GOOD), "x", 4)
    assert outcome.reply == GOOD
    assert outcome.error is None
    assert len(outcome.calls) == 2
    assert len(slept) == 1
    assert seconds <= slept[0] <= seconds + JITTER_S


def test_a_retry_after_may_be_a_date(slept: list[float]) -> None:
    ask(scripted(refusal(503, retry_after=formatdate(time.time() + 20, usegmt=True)), GOOD), "x", 4)
    assert 15 < slept[0] <= 20 + JITTER_S
    ask(scripted(refusal(503, retry_after=formatdate(time.time() - 20, usegmt=True)), GOOD), "x", 4)
    assert 0 <= slept[1] <= JITTER_S


def test_the_back_off_grows_and_stays_below_its_bound(slept: list[float]) -> None:
    outcome = ask(scripted(refusal(500)), "x", 9)
    assert len(outcome.calls) == 9
    assert len(slept) == 8
    for attempt, nap in enumerate(slept):
        assert 0 <= nap <= min(8, JITTER_S * 2**attempt)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_a_request_that_is_wrong_is_not_sent_again(slept: list[float], status: int) -> None:
    outcome = ask(scripted(refusal(status, "no such thing"), GOOD), "x", 4)
    assert outcome.reply is None
    assert outcome.error == "APIStatusError: no such thing"
    assert len(outcome.calls) == 1
    assert slept == []


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_a_fault_of_the_moment_is_tried_again_and_then_reported(slept: list[float], status: int) -> None:
    outcome = ask(scripted(refusal(status, "later")), "x", 3)
    assert outcome.reply is None
    assert outcome.error == "APIStatusError: later"
    assert [call["error"] for call in outcome.calls] == ["APIStatusError: later"] * 3
    assert len(slept) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        Reply(""),
        Reply(" \n"),
        Reply(None),  # type: ignore[arg-type]
        json.JSONDecodeError("Expecting value", "<html>", 0),
        AttributeError("'str' object has no attribute 'choices'"),
        openai.APIResponseValidationError(
            httpx.Response(200, request=httpx.Request("POST", "http://127.0.0.1/v1")), body=None
        ),
        openai.APITimeoutError(httpx.Request("POST", "http://127.0.0.1/v1")),
        ConnectionError("reset"),
    ],
    ids=lambda garbage: type(garbage).__name__,
)
def test_what_is_no_answer_is_never_one_and_is_asked_again(slept: list[float], garbage: Reply | Exception) -> None:
    outcome = ask(scripted(garbage, GOOD), "x", 4)
    assert outcome.reply == GOOD
    assert [bool(call["error"]) for call in outcome.calls] == [True, False]
    failed = ask(scripted(garbage), "x", 2)
    assert failed.reply is None
    assert failed.error


def test_an_interrupt_is_no_failed_row(slept: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(scripted(KeyboardInterrupt()), "x", 4)
    assert slept == []


def test_every_call_has_its_own_times(slept: list[float]) -> None:
    before = time.time_ns()
    outcome = ask(scripted(refusal(500), refusal(429), GOOD), "x", 4)
    times = [moment for call in outcome.calls for moment in (call["started_ns"], call["ended_ns"])]
    assert [before, *times] == sorted([before, *times])


@pytest.mark.parametrize(
    ("error", "secret"),
    [
        (ValueError("Incorrect API key provided: sk-proj-abc123"), "abc123"),
        (ValueError("header 'Authorization: Bearer eyJhbGciOi'"), "eyJhbGciOi"),
        (refusal(401, "{'error': 'the key gw_0815 is not known'}", key="gw_0815"), "gw_0815"),
    ],
)
def test_an_error_shows_no_key(slept: list[float], error: Exception, secret: str) -> None:
    outcome = ask(scripted(error), "x", 1)
    assert outcome.error
    assert secret not in outcome.error
    assert secret not in str(outcome.calls)
    assert "…" in outcome.error


def test_an_error_is_one_short_line() -> None:
    described = describe(ValueError("two\nlines\t" + "x" * 1000))
    assert described.startswith("ValueError: two lines xxx")
    assert len(described) == ERROR_CHARACTERS


def test_a_sample_is_the_same_everywhere_and_about_as_large_as_asked() -> None:
    texts = [f"review {number}" for number in range(4000)]
    assert not any(is_sampled(text, 0.0) for text in texts)
    assert all(is_sampled(text, 1.0) for text in texts)
    chosen = {text for text in texts if is_sampled(text, 0.1)}
    assert 300 < len(chosen) < 500
    assert chosen <= {text for text in texts if is_sampled(text, 0.3)}
