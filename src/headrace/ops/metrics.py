"""Counts of the server, and how fresh its answers are, for Prometheus."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from headrace import __version__
from headrace.app import App
from headrace.errors import HeadraceError
from headrace.flow.reconcile import last

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by route and status, logins by result, and the published generation of one project.

    Counted in plain lists and given to Prometheus's library only when it asks: its own counters would cost each
    request three times as much. Called from one event loop.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}
        self._logins: dict[str, int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, route: str, status: int, seconds: float) -> None:
        key = (route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        counts = self._seconds.get(route)
        if counts is None:
            counts = self._seconds[route] = [0.0] * (len(BUCKETS) + 2)
        counts[bisect_left(BUCKETS, seconds)] += 1
        counts[-1] += seconds

    def login(self, result: str) -> None:
        self._logins[result] = self._logins.get(result, 0) + 1

    def text(self) -> tuple[bytes, str]:
        return generate_latest(self._registry), MEDIA_TYPE

    def collect(self) -> Iterator[Metric]:
        """What Prometheus's library calls."""
        about = GaugeMetricFamily("headrace_info", "The version that runs.", labels=["version", "project"])
        about.add_metric([__version__, self._app.project.name], 1)
        yield about
        requests = CounterMetricFamily("headrace_http_requests", "Answered requests.", labels=["route", "status"])
        for (route, status), count in self._requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "headrace_http_request_seconds", "Time from request to response.", labels=["route"]
        )
        for route, times in self._seconds.items():
            upto, buckets = 0.0, list[tuple[str, float]]()
            for bound, hits in zip((*map(str, BUCKETS), "+Inf"), times[:-1], strict=True):
                upto += hits
                buckets.append((bound, upto))
            seconds.add_metric([route], buckets, times[-1])
        yield seconds
        logins = CounterMetricFamily(
            "headrace_logins", "Logins by password that were not known already.", labels=["result"]
        )
        for result, count in self._logins.items():
            logins.add_metric([result], count)
        yield logins
        yield from self._freshness()
        yield self._drift()

    def _freshness(self) -> Iterator[Metric]:
        number = GaugeMetricFamily("headrace_generation", "The published generation; 0 before the first.")
        as_of = GaugeMetricFamily(
            "headrace_as_of_seconds", "Newest counted event time of a lane, in seconds since 1970.", labels=["lane"]
        )
        published = GaugeMetricFamily(
            "headrace_published_seconds", "When the generation was published, in seconds since 1970."
        )
        try:
            generation = self._app.reader.generation(self._app.reader.pointer().generation)
        except HeadraceError:
            number.add_metric([], 0)
        else:
            number.add_metric([], generation.number)
            for lane, moment in generation.as_of.items():
                as_of.add_metric([lane], dt.datetime.fromisoformat(moment).timestamp())
            if generation.published_at:
                published.add_metric([], dt.datetime.fromisoformat(generation.published_at).timestamp())
        yield from (number, as_of, published)

    def _drift(self) -> Metric:
        """What the last `headrace reconcile` found; nothing before the first."""
        ratio = GaugeMetricFamily(
            "headrace_reconcile_drift_ratio",
            "The part of a serving table's keys that differed from bronze at the last reconcile.",
            labels=["table", "rows"],
        )
        try:
            found = last(self._app.store)
        except HeadraceError:
            found = None
        for table in found["tables"] if found is not None else ():
            ratio.add_metric([table["table"], "speed" if table["speed"] else "batch"], table["ratio"])
        return ratio
