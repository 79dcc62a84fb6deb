"""The mock server through the OpenAI SDK and plain HTTP."""

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from utils.mock_llm import MockServer, MockSettings, parse_faults

ROOT = Path(__file__).resolve().parents[2]
HELLO: Any = [
    {
        "role": "user",
        "content": "Answer with one word: positive, negative or neutral.\nThe soup was delicious.",
    }
]
VAGUE: Any = [{"role": "user", "content": "What is the sentiment of this review? The soup was delicious and hot."}]


@pytest.fixture(scope="module")
def server():
    with MockServer() as running:
        yield running


@pytest.fixture()
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="mock", max_retries=0) as sdk:
        yield sdk


def test_chat_is_tagged_as_a_mock(client):
    raw = client.chat.completions.with_raw_response.create(model="mock-small", messages=HELLO)
    answer = raw.parse()
    assert raw.headers["x-mock-llm"] == "true" and answer.system_fingerprint == "mock"
    assert answer.choices[0].message.content == "positive" and answer.choices[0].finish_reason == "stop"


def test_streaming_gives_the_same_words_and_the_usage(client):
    whole = client.chat.completions.create(model="mock-small", messages=VAGUE)
    chunks = list(
        client.chat.completions.create(
            model="mock-small", messages=VAGUE, stream=True, stream_options={"include_usage": True}
        )
    )
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(words) > 3 and "".join(words) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    plain = list(client.chat.completions.create(model="mock-small", messages=VAGUE, stream=True))
    assert all(chunk.usage is None for chunk in plain)


def test_the_first_token_comes_well_before_the_last():
    with (
        MockServer(MockSettings(latency_ms=300)) as slow,
        openai.OpenAI(base_url=slow.base_url, api_key="mock") as sdk,
    ):
        start = time.perf_counter()
        times = [
            time.perf_counter() - start
            for _ in sdk.chat.completions.create(model="mock-small", messages=VAGUE, stream=True)
        ]
        assert times[0] < times[-1] - 0.1
        assert times[-1] >= 0.25


def test_tools_are_called(client):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
                "required": ["city", "unit"],
            },
        },
    }
    question = [{"role": "user", "content": "What is the weather in Lisbon, in fahrenheit?"}]
    answer = client.chat.completions.create(model="mock-large", messages=question, tools=[tool]).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert json.loads(answer.message.tool_calls[0].function.arguments) == {
        "city": "Lisbon",
        "unit": "fahrenheit",
    }
    none = client.chat.completions.create(model="mock-large", messages=question, tools=[tool], tool_choice="none")
    assert none.choices[0].message.tool_calls is None
    named = {"type": "function", "function": {"name": "get_weather"}}
    forced = client.chat.completions.create(model="mock-large", messages=HELLO, tools=[tool], tool_choice=named)
    assert forced.choices[0].message.tool_calls[0].function.name == "get_weather"
    chunks = client.chat.completions.create(model="mock-large", messages=question, tools=[tool], stream=True)
    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "get_weather"


class Review(BaseModel):
    sentiment: Literal["neutral", "positive", "negative"]
    stars: int
    complaint: bool


def test_json_schema_is_filled_by_reading_the_text(client):
    def read(text):
        form = client.chat.completions.parse(
            model="mock-large",
            messages=[{"role": "user", "content": f"Rate from 1 to 5.\nReview: {text}"}],
            response_format=Review,
        )
        return form.choices[0].message.parsed

    bad, good = read("The room was dirty and the staff were rude."), read(
        "A wonderful, spotless hotel with excellent food."
    )
    assert (bad.sentiment, bad.complaint, good.sentiment, good.complaint) == (
        "negative",
        True,
        "positive",
        False,
    )
    assert bad.stars < good.stars


def test_json_object_mode(client):
    messages = [
        {
            "role": "user",
            "content": "Classify as positive or negative and reply in JSON.\nReview: The soup was awful.",
        }
    ]
    answer = client.chat.completions.create(
        model="mock-large", messages=messages, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content) == {"sentiment": "negative"}


def test_embeddings_in_base64_and_in_floats(client, server):
    packed = client.embeddings.create(model="mock-embedding", input=["the soup", "the moon"])
    plain = client.embeddings.create(model="mock-embedding", input="the soup", encoding_format="float")
    assert len(packed.data) == 2 and packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert client.embeddings.create(model="mock-embedding", input=[[1, 2, 3]]).usage.prompt_tokens == 3


def test_responses_whole_and_streamed(client):
    whole = client.responses.create(
        model="mock-small", instructions="Answer with one word: positive or negative.", input="I love it"
    )
    assert whole.output_text == "positive" and whole.usage.output_tokens == 2
    with client.responses.stream(model="mock-small", input=VAGUE) as events:
        kinds = {event.type for event in events}
        assert events.get_final_response().output_text
    assert "response.output_text.delta" in kinds


def test_errors_have_the_openai_form(server, client):
    assert [model.id for model in client.models.list()] == ["mock-small", "mock-large", "mock-embedding"]
    with pytest.raises(openai.NotFoundError, match="gpt-9") as caught:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert caught.value.code == "model_not_found"
    url = f"{server.base_url}/chat/completions"
    assert httpx.get(f"{server.base_url}/nothing").status_code == 404
    assert httpx.post(server.base_url.removesuffix("/v1") + "/chat/completions", json={}).status_code == 404
    for body in (
        b"{",
        b"[]",
        b"{}",
        json.dumps({"model": "mock-small"}).encode(),
        json.dumps({"model": "mock-small", "messages": []}).encode(),
    ):
        answer = httpx.post(url, content=body)
        assert answer.status_code == 400 and set(answer.json()["error"]) >= {"message", "type", "code"}
    assert httpx.get(url).status_code == 405


def test_counts_equal_the_usage_that_clients_saw() -> None:
    with MockServer() as fresh, openai.OpenAI(base_url=fresh.base_url, api_key="mock") as sdk:
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda i: sdk.chat.completions.create(
                        model="mock-small", messages=[{"role": "user", "content": f"hello {i}?"}]
                    ),
                    range(40),
                )
            )
        usages: list[Any] = [answer.usage for answer in answers]
        counts = fresh.counts
        assert counts.chat_calls == counts.requests["/v1/chat/completions", 200] == 40
        assert counts.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
        assert counts.completion_tokens == sum(usage.completion_tokens for usage in usages)
        assert 1 <= counts.max_in_flight <= 8


def test_a_client_that_leaves_ends_the_stream_quietly(capfd):
    with MockServer(MockSettings(latency_ms=5000)) as slow:
        body = {"model": "mock-small", "messages": VAGUE, "stream": True}
        with httpx.stream("POST", f"{slow.base_url}/chat/completions", json=body, timeout=5) as response:
            next(response.iter_lines())
        deadline = time.monotonic() + 3
        while not slow.counts.disconnects and time.monotonic() < deadline:
            time.sleep(0.02)
        assert slow.counts.disconnects == 1 and slow.counts.chat_calls == 0
    assert "Traceback" not in capfd.readouterr().err


def test_fault_shares_and_their_refusal():
    assert parse_faults("429:0.2, timeout:0.05,500:0.05,garbage:0.1") == {
        "429": 0.2,
        "timeout": 0.05,
        "500": 0.05,
        "garbage": 0.1,
    }
    assert parse_faults("") == {}
    for text, message in (
        ("418:0.1", "Unknown fault"),
        ("429:x", "no number"),
        ("429:1.5", "between 0 and 1"),
        ("429:0.6,500:0.6", "add up"),
        ("429:0.1,429:0.1", "twice"),
    ):
        with pytest.raises(ValueError, match=message):
            MockSettings(faults=text)


def _statuses(server, order):
    def send(i):
        body = {"model": "mock-small", "messages": [{"role": "user", "content": f"hello {i}"}]}
        answer = session.post(f"{server.base_url}/chat/completions", json=body)
        if answer.status_code == 200:
            try:
                answer.json()
            except ValueError:
                return "garbage"
        return str(answer.status_code)

    with httpx.Client() as session, ThreadPoolExecutor(8) as pool:
        return dict(zip(order, pool.map(send, order), strict=True))


def test_a_fault_of_one_model_leaves_the_others_alone():
    with MockServer(MockSettings(faults="500@mock-small:1")) as half:
        sdk = openai.OpenAI(base_url=half.base_url, api_key="mock", max_retries=0)
        with pytest.raises(openai.InternalServerError):
            sdk.chat.completions.create(model="mock-small", messages=HELLO)
        assert sdk.chat.completions.create(model="mock-large", messages=HELLO).choices[0].message.content == "positive"
        assert half.counts.faults["500"] == 1
    for wrong in ("500@:1", "@mock-small:1", "404@mock-small:1"):
        with pytest.raises(ValueError, match="Unknown fault"):
            parse_faults(wrong)


def test_faults_are_a_share_of_requests_in_any_order_and_a_retry_can_succeed():
    settings = MockSettings(faults="429:0.2,500:0.1,garbage:0.1", seed=3)
    with MockServer(settings) as first, MockServer(settings) as second:
        forwards, backwards = _statuses(first, range(600)), _statuses(second, range(599, -1, -1))
        assert forwards == backwards
        found = list(forwards.values())
        assert found.count("429") == pytest.approx(120, abs=30) and found.count("500") == pytest.approx(60, abs=25)
        assert found.count("garbage") == pytest.approx(60, abs=25)
        failed = [i for i, status in forwards.items() if status != "200"]
        again = _statuses(first, failed)
        assert 0.4 < sum(status == "200" for status in again.values()) / len(failed) < 0.8
        limited = httpx.post(
            f"{first.base_url}/chat/completions",
            json={
                "model": "mock-small",
                "messages": [{"role": "user", "content": f"hello {found.index('429')}"}],
            },
        )
        assert sum(first.counts.faults.values()) >= len(failed)
        assert limited.status_code in (200, 429, 500)


def test_the_sdk_gets_through_rate_limits_with_retries():
    with (
        MockServer(MockSettings(faults="429:0.4")) as limited,
        openai.OpenAI(base_url=limited.base_url, api_key="mock", max_retries=20) as sdk,
    ):
        for i in range(10):
            assert sdk.chat.completions.create(
                model="mock-small", messages=[{"role": "user", "content": f"hello {i}"}]
            ).choices
        assert limited.counts.faults["429"] > 0


def test_a_timeout_fault_holds_the_connection_and_stop_does_not_wait_for_it():
    with MockServer(MockSettings(faults="timeout:1")) as held:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{held.base_url}/chat/completions",
                json={"model": "mock-small", "messages": HELLO},
                timeout=0.3,
            )
        waiting = threading.Thread(target=_post_quietly, args=(f"{held.base_url}/chat/completions",))
        waiting.start()
        time.sleep(0.2)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    waiting.join(5)
    assert not waiting.is_alive()


def _post_quietly(url):
    with pytest.raises(httpx.HTTPError):
        httpx.post(url, json={"model": "mock-small", "messages": HELLO}, timeout=20)


def test_it_runs_as_a_process_of_its_own():
    command = [sys.executable, "-m", "utils.mock_llm", "--port", "0", "--latency-ms", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stderr
            url = process.stdout.readline().strip()
            assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "mock-small"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
    wrong = subprocess.run([*command, "--faults", "418:1"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "Unknown fault" in wrong.stderr


def test_importing_it_is_light():
    code = (
        "import sys, time; t = time.process_time(); import utils.mock_llm; assert 'aiohttp' not in "
        "sys.modules; print(time.process_time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0  # seconds; 0.1 on a quiet machine
