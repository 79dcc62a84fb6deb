"""Work that hangs is given up in time; what works, and what fails, is passed on."""

import threading
import time
from contextvars import ContextVar

import pytest

from utils.time_limits import OutOfTime, within

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_results_and_exceptions_are_those_of_the_work():
    assert within(5, max, 1, 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(TimeoutError, match="its own") as caught:
        within(5, raise_timeout)
    assert not isinstance(caught.value, OutOfTime)


def raise_timeout() -> None:
    raise TimeoutError("its own")


@pytest.mark.parametrize("seconds", [0.2, 0, -1])
def test_work_that_hangs_is_left_behind(seconds):
    begun, forever = time.monotonic(), threading.Event()
    with pytest.raises(OutOfTime, match="nothing came back within"):
        within(seconds, forever.wait)
    assert time.monotonic() - begun < 5
    forever.set()


def test_the_work_sees_the_context_and_cannot_change_it():
    WHO.set("ada")

    def work() -> str:
        seen = WHO.get()
        WHO.set("ben")
        return seen

    assert within(5, work) == "ada" == WHO.get()
