"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from vortex.server.processes import MemoryBudget, WorkerPool
from vortex.server.store import STATES, Store
from vortex.session import Session


class Metrics:
    """The figures of one server."""

    def __init__(
        self, store: Store, session: Session, budget: MemoryBudget, pools: Sequence[WorkerPool]
    ) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        stored = Gauge("vortex_jobs_stored", "Jobs by state", ["state"], registry=registry)
        for state in STATES:
            stored.labels(state).set_function(partial(store.count_jobs, state))
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
        self.live_dropped = Counter(
            "vortex_live_frames_dropped", "Frames left out because they would be late", registry=registry
        )
        prepared = Gauge("vortex_portraits_ready", "Portraits held in memory", registry=registry)
        prepared.set_function(lambda: session.prepared_count)
        reserved = Gauge(
            "vortex_memory_reserved_bytes", "Memory that requests have reserved to be read", registry=registry
        )
        reserved.set_function(lambda: budget.taken_bytes)
        processes = Gauge("vortex_worker_memory_bytes", "Memory of the worker processes", registry=registry)
        processes.set_function(lambda: sum(pool.resident_bytes() for pool in pools))

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry)
