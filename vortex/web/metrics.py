"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The figures of one server; ``count_jobs`` tells how many jobs are in each state now."""

    def __init__(self, count_jobs: Callable[[], Mapping[str, int]], count_ready: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_JobStates(count_jobs))
        self.jobs = Counter("vortex_jobs", "Jobs settled", ["state"], registry=registry)
        self.job_seconds = Histogram(
            "vortex_job_seconds", "Seconds from start to end of a job", registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800),
        )  # fmt: skip
        self.video_seconds = Counter("vortex_video_seconds", "Seconds of finished video", registry=registry)
        self.requests = Counter(
            "vortex_http_requests", "Answers by method and status", ["method", "status"], registry=registry
        )
        self.live = Gauge("vortex_live", "Faces that are live now", registry=registry)
        self.live_frames = Counter("vortex_live_frames", "Frames sent live", registry=registry)
        Gauge("vortex_portraits_ready", "Portraits held in memory", registry=registry).set_function(
            count_ready
        )

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry)


class _JobStates(Collector):
    def __init__(self, count_jobs: Callable[[], Mapping[str, int]]) -> None:
        self._count_jobs = count_jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("vortex_jobs_stored", "Jobs by state", labels=["state"])
        for state, count in self._count_jobs().items():
            family.add_metric([state], count)
        yield family
