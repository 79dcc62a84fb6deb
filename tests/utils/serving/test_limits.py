"""How often, how much and how long: each guard at its edge, without a network."""

import asyncio
import time

import pytest

from tests.utils.serving.caller import call, hello
from utils.serving.limits import BodyLimit, TimeLimit
from utils.serving.rate_limit import RateGuard, RateLimit
from utils.serving.record import Record


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_pace_and_who_waits_is_told_how_long():
    clock = Clock()
    limit = RateLimit(per_second=2, burst=3, clock=clock)
    assert [limit.take("ada") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.4
    assert limit.take("ada") == pytest.approx(0.1)
    clock.now += 0.11
    assert limit.take("ada") == 0 and limit.take("ada") > 0
    clock.now += 1_000
    assert [limit.take("ada") for _ in range(4)][:3] == [0, 0, 0], "what was not used does not pile up"
    assert limit.take("ada") > 0


def test_one_key_over_its_limit_leaves_the_others_alone():
    guard = RateGuard(hello, RateLimit(per_second=0.1, burst=2, clock=Clock()))
    statuses = [asyncio.run(call(guard, record=Record(key=key))).status for key in ("ada", "ada", "ada", "bob")]
    assert statuses == [200, 200, 429, 200]
    refused = asyncio.run(call(guard, record=Record(key="ada")))
    assert refused.headers["retry-after"] == "10" and "wait 10 s" in refused.body["detail"]
    assert asyncio.run(call(guard, path="/health", record=Record(key="ada"))).status == 200


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (1, 0.5)])
def test_a_limit_that_lets_nothing_through_is_a_mistake(rate, burst):
    with pytest.raises(ValueError):
        RateLimit(rate, burst)


@pytest.mark.parametrize(
    ("pieces", "headers", "status"),
    [
        ([b"x" * 100], {"content-length": "100"}, 200),
        ([b"x" * 101], {"content-length": "101"}, 413),
        ([b"x" * 60, b"x" * 40], {}, 200),
        ([b"x" * 60, b"x" * 41], {}, 413),
        ([b"x" * 101], {"content-length": "5"}, 413),
        ([b"x" * 100], {"content-length": "many"}, 200),
        ([b""], {}, 200),
    ],
)
def test_a_body_is_counted_whatever_its_header_says(pieces, headers, status):
    reply = asyncio.run(call(BodyLimit(hello, 100, 1), pieces=pieces, headers=headers))
    assert reply.status == status
    if status == 200:
        assert reply.body == {"bytes": sum(map(len, pieces))}


def test_a_body_of_a_megabyte_is_not_read_to_its_end():
    pieces = [b"x" * 1000 for _ in range(1000)]
    read: list[bytes] = []

    class Counting(list):
        def pop(self, *args):
            read.append(b"")
            return super().pop(*args)

    async def never(scope, receive, send):
        pytest.fail("the app was asked")

    reply = asyncio.run(call(BodyLimit(never, 10_000, 1), pieces=Counting(pieces)))
    assert reply.status == 413 and reply.headers["connection"] == "close"


def test_a_slow_sender_is_given_up_and_one_that_leaves_is_no_error():
    begun = time.monotonic()
    assert asyncio.run(call(BodyLimit(hello, 100, 0.2), pieces=[b"x", 5.0, b"y"])).status == 408
    assert time.monotonic() - begun < 3
    assert asyncio.run(call(BodyLimit(hello, 100, 1), pieces=[b"x", None, b""])).status == 0


async def slow(scope, receive, send) -> None:
    await asyncio.sleep(5)
    await hello(scope, receive, send)


async def dribbling(scope, receive, send) -> None:
    kind = scope["path"].encode().strip(b"/").replace(b"-", b"/", 1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    while True:
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        await asyncio.sleep(0.05)


def test_an_answer_that_does_not_begin_in_time_is_504():
    begun = time.monotonic()
    reply = asyncio.run(call(TimeLimit(slow, 0.2)))
    assert reply.status == 504 and "0.2 s" in reply.body["detail"] and time.monotonic() - begun < 3


def test_a_stream_that_does_not_end_in_time_ends_with_an_event_that_says_so():
    reply = asyncio.run(call(TimeLimit(dribbling, 0.2), path="/text-event-stream"))
    assert reply.status == 200 and len(reply.parts) >= 2
    assert reply.parts[-1] == b'data: {"error": "the request took more than 0.2 s"}\n\ndata: [DONE]\n\n'


def test_a_timeout_of_the_apps_own_is_not_taken_for_the_limit():
    async def failing(scope, receive, send):
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(call(TimeLimit(failing, 5)))
