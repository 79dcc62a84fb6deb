"""Where conversations are remembered: LangGraph checkpoints in one SQLite file, a thread for each session."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import InputError

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver

FILE = "conversations.db"
LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Memory:
    """saver: what an agent takes as its checkpointer. path: the SQLite file."""

    saver: "SqliteSaver"
    path: Path

    def resume(self, agent: Any, session: str) -> dict[str, Any]:
        """The config with which a session goes on: from its newest checkpoint at which nothing was left to do.

        A turn that was cut off (a kill, Ctrl-C, an error) has left checkpoints in the middle, perhaps with a tool call
        that has no result, which model servers refuse. They stay in the file, and the session goes on before them.
        """
        thread = _thread(session)
        for snapshot in agent.get_state_history(thread):
            if not snapshot.tasks:  # .next leaves out a step whose result is written but not yet part of the state
                return dict(snapshot.config)
        self.saver.delete_thread(session)  # nothing but a first turn that was cut off
        return thread

    def state(self, agent: Any, session: str) -> dict[str, Any]:
        """What the session holds: its messages and what else the agent keeps; empty for a new session."""
        return dict(agent.get_state(self.resume(agent, session)).values)

    def cut_off(self, agent: Any, session: str) -> str | None:
        """The question of a turn that was not finished, if the newest one was not."""
        newest = agent.get_state(_thread(session))
        asked = [message for message in newest.values.get("messages", ()) if message.type == "human"]
        return str(asked[-1].text) if newest.tasks and asked else None


def last_turns(messages: list[Any], window: int) -> list[Any]:
    """The messages from the window-th newest question on; window 0 means all of them."""
    asked = [place for place, message in enumerate(messages) if message.type == "human"]
    return messages[asked[-window] :] if 0 < window < len(asked) else messages


@contextmanager
def open_memory(folder: Path) -> Iterator[Memory]:
    """Open the memory in a folder, which is made when it is missing; two processes may have it open at once.

    Raises:
        InputError: the folder cannot be written, or its file is no memory of conversations.
    """
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    with closing(connection):
        # None: messages and plain values are read back, no other class that a file may name.
        saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        try:
            saver.setup()
            connection.execute("SELECT thread_id, checkpoint_ns, type, checkpoint, metadata FROM checkpoints LIMIT 0")
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        yield Memory(saver, path)


def _thread(session: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": session}}


def _unusable(path: Path, error: Exception) -> InputError:
    return InputError(f"conversations cannot be kept in {path} ({error})", "--output DIR, a folder that you can write")
