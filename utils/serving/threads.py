"""An agent that is plain functions, called from an event loop without holding it up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")
END = object()


class Workers:
    """`number` threads: so many requests are worked on at once, the others wait for their turn."""

    def __init__(self, number: int) -> None:
        self.pool = ThreadPoolExecutor(number, thread_name_prefix="agent")

    async def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of the work, done in a thread with the caller's context (spans find their parent)."""
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.pool, context.run, work, *arguments)

    async def stream(
        self, begin: Callable[[], Iterator[T]], stopped: Callable[[], object] | None = None
    ) -> AsyncIterator[T]:
        """What an iterator yields, as it comes. One thread runs all of it, in one context.

        When the reader goes away (this generator is closed or cancelled), the iterator is closed where it next yields:
        whatever it holds open ends there, and then `stopped` is called in the event loop.
        """
        loop, queue, left = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def hand_over(item: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                items = begin()
                for item in items:
                    if left.is_set():
                        items.close()  # type: ignore[attr-defined]
                        return
                    hand_over(item)
                hand_over(END)
            except Exception as error:  # noqa: BLE001  it is raised where the items are read
                hand_over(Failed(error))

        context = copy_context()
        done, complete = loop.run_in_executor(self.pool, context.run, work), False
        try:
            while (item := await queue.get()) is not END:
                if isinstance(item, Failed):
                    raise item.error
                yield item
            complete = True
            await done
        finally:
            left.set()
            if stopped and not complete:
                done.add_done_callback(lambda _: stopped())


class Failed:
    """An exception on its way to the reader."""

    def __init__(self, error: Exception) -> None:
        self.error = error
