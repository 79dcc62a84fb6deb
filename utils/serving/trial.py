"""A caller's side of a served agent: one request of each kind, many at once, and a stop in the middle."""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from utils.errors import CheckFailed
from utils.evaluation import latency_percentiles
from utils.serving.service import Service

REFUSED = "refused"  # no answer at all: the service is not there (any more)


@dataclass(frozen=True)
class Answer:
    """One request. status: of HTTP, or REFUSED. first_ms: until the first piece of a stream, else until the end."""

    status: str
    ms: float
    first_ms: float
    begun: float
    version: str = ""
    trace_id: str = ""
    body: Any = None

    @property
    def ok(self) -> bool:
        return self.status == "200"

    def row(self) -> dict[str, str]:
        """For a table: the status, and the refusal or the answer."""
        body = self.body[-1] if isinstance(self.body, list) else self.body or {}
        texts = [
            part["text"] for item in body.get("output", [body.get("item", {})]) for part in item.get("content", [])
        ]
        return {"status": self.status, "what came back": str(body.get("detail") or " ".join(texts))[:70]}


@dataclass(frozen=True)
class Load:
    """What many requests came to. seconds: from the first to the last."""

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        return Counter(answer.status for answer in self.answers)

    def figures(self) -> dict[str, float]:
        """Of the answered ones: requests per second and percentiles in milliseconds.

        Raises:
            ValueError: not one was answered.
        """
        good = [answer for answer in self.answers if answer.ok]
        times = latency_percentiles([answer.ms for answer in good])
        first = latency_percentiles([answer.first_ms for answer in good])
        return {
            "requests_per_second": len(good) / self.seconds,
            **{f"{name}_ms": value for name, value in times.items()},
            "first_p50_ms": first["p50"],
        }


def question_body(text: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": text}], **({"stream": True} if stream else {}), **more}


def ask(client: httpx.Client, key: str, body: Mapping[str, Any], path: str = "/invocations") -> Answer:
    """Send one request; a stream is read to its end."""
    begun, clock = time.time(), time.perf_counter()
    first_ms, lines = 0.0, []
    try:
        with client.stream("POST", path, json=body, headers={"authorization": f"Bearer {key}"}) as reply:
            for line in reply.iter_lines():
                first_ms = first_ms or (time.perf_counter() - clock) * 1000
                lines.append(line)
    except httpx.TransportError:
        return Answer(REFUSED, (time.perf_counter() - clock) * 1000, 0.0, begun)
    ms = (time.perf_counter() - clock) * 1000
    headers = reply.headers
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    parts = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")] if streamed else []
    read = [json.loads(part) for part in parts] if streamed else read_body("".join(lines))
    version, trace_id = headers.get("x-agent-version", ""), headers.get("x-trace-id", "")
    return Answer(str(reply.status_code), ms, first_ms or ms, begun, version, trace_id, read)


def read_body(text: str) -> Any:
    """JSON, or in the shape of a refusal what a web server says by itself where the app did not get to answer."""
    try:
        return json.loads(text)
    except ValueError:
        return {"detail": text}


def send_load(
    url: str, keys: Sequence[str], num_requests: int, clients: int, bodies: Callable[[int], dict[str, Any]],
    per_second: float | None = None, stop: threading.Event | None = None,
) -> Load:  # fmt: skip
    """Many requests, `clients` at once, the keys in turn.

    Args:
        per_second: None sends each as soon as a client is free; otherwise they begin at this pace.
        stop: ends the load early when it is set.
    """
    answers: list[Answer] = []
    begun, ended = time.perf_counter(), stop or threading.Event()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    with httpx.Client(base_url=url, timeout=120, limits=limits) as client, ThreadPoolExecutor(clients) as pool:

        def one(number: int) -> None:
            if per_second and (early := begun + number / per_second - time.perf_counter()) > 0:
                ended.wait(early)
            if not ended.is_set():
                answers.append(ask(client, keys[number % len(keys)], bodies(number)))

        list(pool.map(one, range(num_requests)))
    return Load(answers, time.perf_counter() - begun)


def try_guards(url: str, keys: Mapping[str, str], question: str, max_body_bytes: int, burst: int) -> list[Answer]:
    """One request for each thing that is refused, after one that is answered.

    Args:
        keys: name → key of `ada`, `bob`, `hasty`, and of `eve`, whose key was revoked.
    """
    ada = keys["ada"]
    with httpx.Client(base_url=url, timeout=120) as client:

        def post(key: str | None, content: bytes, path: str = "/invocations") -> Answer:
            begun, clock = time.time(), time.perf_counter()
            named = {"authorization": f"Bearer {key}"} if key else {}
            reply = client.post(path, content=content, headers={"content-type": "application/json", **named})
            ms = (time.perf_counter() - clock) * 1000
            return Answer(str(reply.status_code), ms, ms, begun, body=read_body(reply.text))

        good = json.dumps(question_body(question)).encode()
        answers = [ask(client, ada, question_body(question)), ask(client, ada, question_body(question, stream=True))]
        answers += [post(None, good), post("wrong", good), post(keys["eve"], good)]
        answers += [post(ada, b"x" * (max_body_bytes + 1)), post(ada, b"{nothing"), post(ada, b'{"input": 3}')]
        hasty = [
            client.get("/version", headers={"authorization": f"Bearer {keys['hasty']}"}) for _ in range(burst + 30)
        ]
        over = next((reply for reply in hasty if reply.status_code == 429), hasty[-1])
        wait = f"Retry-After: {over.headers.get('retry-after')}"
        answers.append(Answer(str(over.status_code), 0.0, 0.0, time.time(), body={"detail": wait}))
        answers.append(ask(client, keys["bob"], question_body(question)))
    return answers


GUARDED = (
    "a question", "the same, streamed", "no key", "a wrong key", "a revoked key", "a body too long", "no JSON",
    "no request", "a key over its limit", "another key meanwhile",
)  # fmt: skip
EXPECTED = ("200", "200", "401", "401", "403", "413", "422", "422", "429", "200")


@dataclass(frozen=True)
class Trial:
    """guarded: by GUARDED. rated: what came back on a feedback. last: the requests during the stop."""

    guarded: list[Answer]
    rated: Answer
    load: Load
    last: Load

    def problem(self) -> str | None:
        """The first request, if any, that was not answered as it should be; of the many, one that ended in a 500."""
        kinds = zip([*GUARDED, "a feedback"], [*EXPECTED, "200"], [*self.guarded, self.rated], strict=True)
        wrong = [(f"{name}, expected {status},", answer) for name, status, answer in kinds if answer.status != status]
        many = {"a request of the load": self.load.answers, "a request during the stop": self.last.answers}
        wrong += [(name, answer) for name, answers in many.items() for answer in answers if answer.status == "500"]
        if not wrong:
            return None
        name, answer = wrong[0]
        return f"{name} was answered with {answer.status}: {answer.row()['what came back']}"

    @property
    def cut_off(self) -> int:
        """Requests of the last load that ended in anything but an answer or nobody there: 0 in a graceful stop."""
        return sum(answer.status not in ("200", "429", REFUSED) for answer in self.last.answers)


def send_json(url: str, key: str, path: str, body: Mapping[str, Any]) -> Answer:
    """One POST on a connection of its own."""
    with httpx.Client(base_url=url, timeout=120) as client:
        return ask(client, key, body, path)


def stop_under_load(
    service: Service, keys: Sequence[str], clients: int, bodies: Callable[[int], dict[str, Any]],
    per_second: float | None = None,
) -> Load:  # fmt: skip
    """SIGTERM while requests are running. Those that have begun are answered; later ones find nobody.

    Raises:
        CheckFailed: the service did not end well.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_load, service.url, keys, 10_000, clients, bodies, per_second, stop)
        try:
            time.sleep(1)
            status = service.stop()
        except subprocess.TimeoutExpired as error:
            problem = f"the service is still there {error.timeout:g} s after it was told to stop"
            raise CheckFailed(problem, "uv run mlflow-serve-agent --serve, and stop it yourself") from error
        finally:
            stop.set()
        load = sending.result()
    if status:
        raise CheckFailed(f"the service ended with status {status}", "start it by itself, and read what it says")
    return load
