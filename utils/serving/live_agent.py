"""The version behind an alias, kept loaded, and exchanged while requests go on when the alias moves."""

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from utils.errors import InputError
from utils.registry import logged_model_id

KEPT = 2  # loaded versions: a rollback finds the one before still there


def load_beside_requests(model_uri: str, settings: dict[str, Any]) -> Any:
    """mlflow.pyfunc.load_model without traces of its own, and with those of the requests that are answered meanwhile.

    MLflow (3.17) takes the tracer away from the whole process while it loads: of requests served in those seconds
    nothing would be stored. Here only this thread goes without.
    """
    import mlflow

    load = inspect.unwrap(mlflow.pyfunc.load_model)  # below the decorator that does it
    with mlflow.tracing.context(enabled=False):
        return load(model_uri, model_config=settings)


@dataclass(frozen=True)
class Loaded:
    """One version, ready to answer. model_id: of the logged model, for its traces.

    agent: as it was written, without pyfunc around it, which refuses requests that are good (a null, for one).
    """

    version: str
    model_id: str
    agent: Any


class LiveAgent:
    """Requests take `current` once and stay with it to their end; the next ones may get another."""

    def __init__(self, name: str, alias: str, settings: dict[str, Any], told: Callable[[str], None] = lambda _: None):
        """
        Args:
            name: of the registered model. settings: of its model_config, instead of those it was registered with.
            told: is called with the version that answers from now on.

        Raises:
            InputError: there is no such model or alias.
        """
        self.name, self.alias, self.settings, self.told = name, alias, settings, told
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self.problem: str | None = None  # why the version that the alias names could not be loaded
        self.current = self._load(*self.wanted())
        self.told(self.current.version)

    def wanted(self) -> tuple[str, str]:
        """Version and model id behind the alias, as the store has them now."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            found = MlflowClient().get_model_version_by_alias(self.name, self.alias)
        except MlflowException as error:
            problem = f"no version of {self.name} has the alias {self.alias}"
            raise InputError(problem, "uv run mlflow-promote-agent") from error
        return str(found.version), logged_model_id(found)

    def refresh(self) -> bool:
        """Follow the alias; whether the version has changed. A version that cannot be loaded leaves the old one."""
        try:
            version, model_id = self.wanted()
            if version == self.current.version:
                self.problem = None
                return False
            self.current = self._load(version, model_id)
        except Exception as error:  # noqa: BLE001  the service goes on with what it has, and /version says why
            self.problem = f"{type(error).__name__}: {error}"
            return False
        self.problem = None
        self.told(self.current.version)
        return True

    def _load(self, version: str, model_id: str) -> Loaded:
        if version not in self._kept:
            agent = load_beside_requests(f"models:/{self.name}/{version}", self.settings)
            self._kept[version] = Loaded(version, model_id, agent.get_raw_model())
        self._kept.move_to_end(version)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[version]

    @contextmanager
    def followed(self, every_seconds: float) -> Any:
        """While the block runs, a thread looks at the alias every so often."""
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(every_seconds):
                self.refresh()

        thread = threading.Thread(target=follow, name="alias", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join(every_seconds + 1)
