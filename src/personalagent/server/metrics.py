"""What the server counts, for Prometheus. No label names a user, a key or a tenant."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from personalagent import __version__

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
INFERENCES = ("done", "retry", "dead")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("personalagent_requests_total", "Requests answered.", ("route", "code"), registry=self._registry)
        self.preparation = Histogram(
            "personalagent_request_overhead_seconds",
            "From a chat request's arrival until it goes on to the model.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.first_bytes = Histogram(
            "personalagent_upstream_seconds",
            "From there until the model's answer begins.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge("personalagent_requests_in_flight", "Requests being answered now.", registry=self._registry)
        self.streams = Gauge("personalagent_streams_active", "Answers being streamed now.", registry=self._registry)
        self.broken_streams = Counter(
            "personalagent_streams_broken_total", "Streams that the model broke off.", registry=self._registry
        )
        self.inferences = Counter(
            "personalagent_inference_total", "Background inferences, by how they went.", ("status",), registry=self._registry
        )
        for status in INFERENCES:
            self.inferences.labels(status)
        self.queue = Gauge(
            "personalagent_inference_queue_depth", "Users whose turns wait to be inferred.", registry=self._registry
        )
        build = Gauge("personalagent_build_info", "The version that runs.", ("version",), registry=self._registry)
        build.labels(__version__).set(1)

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)
