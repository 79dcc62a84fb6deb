"""Backends for programs that live long: a model that was logged opens its own when it is loaded."""

import atexit
from contextlib import ExitStack
from functools import cache

from utils.llm_backends import OPENERS, Backend
from utils.options import BackendOptions

_opened = ExitStack()


@cache
def kept_backend(given: BackendOptions) -> Backend:
    """The backend for these options, opened once for each process and closed when it ends.

    The options name no port and hold no key: a mock is started on a free port of this machine, and a key is read from
    the environment of the process that asks. Unlike open_backend it leaves environment and tags as they are.

    Raises:
        BackendUnavailable: no server, no such model, or no key.
    """
    return _opened.enter_context(OPENERS[given.llm_type](given))


atexit.register(_opened.close)
