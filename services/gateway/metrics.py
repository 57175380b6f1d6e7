"""What the gateway counts, in a registry of its own (a process may hold several gateways in tests)."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """Counters and histograms by name: ``tanda_gateway_…``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tanda_gateway_requests", "Requests by route and status", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "tanda_gateway_request_seconds", "Time to the answer's first byte", ["route"],
            registry=self.registry, buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
        )  # fmt: skip
        self._files = Counter("tanda_gateway_files_accepted", "Files in batches", registry=self.registry)
        self._bytes = Counter("tanda_gateway_bytes_accepted", "Bytes of sources", registry=self.registry)
        self._append = Histogram(
            "tanda_gateway_accept_seconds", "Time to write a batch's events", registry=self.registry
        )
        self._sent = Counter("tanda_gateway_live_bytes", "Bytes sent to live clients", registry=self.registry)
        self.clients = Gauge("tanda_gateway_live_clients", "Connected live clients", registry=self.registry)

    def accepted(self, files: int, size: int, seconds: float) -> None:
        self._files.inc(files)
        self._bytes.inc(size)
        self._append.observe(seconds)

    def sent(self, size: int) -> None:
        self._sent.inc(size)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Measured:
    """Counts every request under its route's template, so that ids make no series of their own."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], *_missing(message["headers"])]
                route = getattr(scope.get("route"), "path", "unknown")
                seconds = time.perf_counter() - began
                self.metrics.answered(scope["method"], route, message["status"], seconds)
            await send(message)

        await self.app(scope, receive, measured)


#: On every answer, unless the route says otherwise.
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def _missing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name for name, _ in headers}
    return [(name, value) for name, value in _ALWAYS if name not in there]
