"""Figures of the running service, in Prometheus' text form, and the record that every request gets."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from utils.serving.record import ASKING_PATHS, CURRENT, App, Message, Receive, Record, Scope, Send

KNOWN_PATHS = (*ASKING_PATHS, "/feedback", "/health", "/metrics", "/version", "/agent/info", "/openapi.json")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Of one app. A label takes few values only: unknown paths are `other`, keys are none."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("agent_requests", "Requests by path and status", ["path", "status"], **make)
        self.seconds = Histogram("agent_request_seconds", "Until the last byte", ["path"], buckets=SECONDS, **make)
        self.first = Histogram("agent_first_byte_seconds", "Until the first byte", buckets=SECONDS, **make)
        self.running = Gauge("agent_requests_running", "Requests in the service now", **make)
        self.asked = Counter("agent_asked", "Requests that reached the agent", **make)
        self.traced = Counter("agent_traced", "Of these, requests with a trace", **make)
        self.version = Gauge("agent_version_loaded", "1 for the version that answers", ["version"], **make)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def count(self, asked: Counter) -> int:
        return int(asked._value.get())

    def use_version(self, version: str) -> None:
        self.version.clear()
        self.version.labels(version).set(1)


class Measured:
    """The outermost guard: opens the record and counts what comes of the request, also what other guards refuse."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in KNOWN_PATHS else "other"
        begun, status, first = time.perf_counter(), "left", 0.0  # left: the client went away before an answer

        async def watched(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status = str(message["status"])
            elif not first:
                first = time.perf_counter() - begun
            await send(message)

        token = CURRENT.set(Record())
        self.metrics.running.inc()
        try:
            await self.app(scope, receive, watched)
        finally:
            CURRENT.reset(token)
            self.metrics.running.dec()
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - begun)
            if path in ASKING_PATHS and status == "200":
                self.metrics.first.observe(first)
