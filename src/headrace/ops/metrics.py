"""What a process shows to Prometheus: a project's state, and the requests of the server."""

from __future__ import annotations

import datetime as dt
import platform
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from headrace import __version__
from headrace.app import App
from headrace.errors import HeadraceError
from headrace.flow.canary import Watch
from headrace.flow.gauges import state
from headrace.flow.reconcile import last
from headrace.ops.names import BY_NAME

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = ("GET", "HEAD", "OPTIONS")
"""Others are shown as ``other``: anybody can make them up."""


def gauge(name: str) -> GaugeMetricFamily:
    metric = BY_NAME[name]
    return GaugeMetricFamily(name, metric.help, labels=metric.labels)


def counter(name: str) -> CounterMetricFamily:
    metric = BY_NAME[name]
    return CounterMetricFamily(name, metric.help, labels=metric.labels)


def seconds_since_1970(moment: str) -> float:
    """Of an RFC 3339 text."""
    return dt.datetime.fromisoformat(moment).timestamp()


class State(Collector):
    """The state of a project, looked up whenever Prometheus asks. What cannot be looked up is left out, so that alerts on its
    absence tell. ``far`` also asks the log, where that is not bronze."""

    def __init__(self, app: App, *, far: bool) -> None:
        self._app = app.beside()
        self._far = far
        self._watch: Watch | None = None
        self._turn = threading.Lock()

    def collect(self) -> Iterator[Family]:
        about = gauge("headrace_build_info")
        about.add_metric([__version__, platform.python_version()], 1)
        yield about
        with self._turn:
            for look in (self._state, self._drift, self._damaged):
                try:
                    found = look()
                except HeadraceError:
                    continue
                yield from found

    def _state(self) -> list[Family]:
        app = self._app
        now = state(app.project, app.lake, app.engine, app.store, app.log if self._far else None)
        names = ("generation", "stream_workers", "as_of_timestamp_seconds", "watermark_timestamp_seconds")
        number, workers, as_of, watermark = (gauge(f"headrace_{name}") for name in names)
        number.add_metric([], now.generation)
        workers.add_metric([], now.workers)
        goal = gauge("headrace_freshness_goal_seconds")
        for mart in now.marts:
            if mart.as_of is not None:
                as_of.add_metric([mart.mart], seconds_since_1970(mart.as_of))
            if mart.watermark is not None:
                watermark.add_metric([mart.mart], seconds_since_1970(mart.watermark))
            if mart.goal is not None:
                goal.add_metric([mart.mart], mart.goal)
        published = gauge("headrace_last_success_timestamp_seconds")
        if now.published_at:
            published.add_metric(["publish"], seconds_since_1970(now.published_at))
        lag, late = gauge("headrace_consumer_lag_records"), counter("headrace_late_records_total")
        for lane, records in now.lag.items():
            lag.add_metric([lane], records)
        for source, records in now.late.items():
            late.add_metric([source], records)
        return [number, workers, as_of, watermark, goal, published, lag, late]

    def _drift(self) -> list[Family]:
        """What the last `headrace reconcile` found; nothing before the first."""
        ratio, done = gauge("headrace_reconcile_drift_ratio"), gauge("headrace_last_success_timestamp_seconds")
        found = last(self._app.store)
        if found is not None:
            done.add_metric(["reconcile"], seconds_since_1970(found["at"]))
            for table in found["tables"]:
                ratio.add_metric([table["table"], "speed" if table["speed"] else "batch"], table["ratio"])
        return [ratio, done]

    def _damaged(self) -> list[Family]:
        """What the canaries of a cluster's tables tell; nothing where the store has none."""
        if self._watch is None:
            self._watch = self._app.watch(lambda _: None)
        if self._watch.inspect is None:
            return []
        self._watch.look()
        found = gauge("headrace_damaged_tables")
        found.add_metric([], len(self._watch.found))
        return [found]


class Merged(Collector):
    """Families of several collectors, each under one heading: the text format has each name once."""

    def __init__(self, *collects: Callable[[], Iterator[Family]]) -> None:
        self._collects = collects

    def collect(self) -> Iterator[Family]:
        found: dict[str, Family] = {}
        for collect in self._collects:
            for family in collect():
                known = found.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        return iter(found.values())


class Metrics:
    """Requests by route, method and status, and logins by result, with the project's state.

    Counted in plain lists and given to Prometheus's library only when it asks: its own counters would cost each
    request three times as much. Counted in one event loop; ``text`` may be called from any thread.
    """

    def __init__(self, app: App) -> None:
        self._requests: dict[tuple[str, str, int], list[float]] = {}
        self._logins: dict[str, int] = {}
        self._bounds = BY_NAME["headrace_http_request_duration_seconds"].buckets
        self._registry = CollectorRegistry()
        self._registry.register(Merged(State(app, far=False).collect, self._counts))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method if method in METHODS else "other", status)
        counts = self._requests.get(key)
        if counts is None:
            counts = self._requests[key] = [0.0] * (len(self._bounds) + 2)
        counts[bisect_left(self._bounds, seconds)] += 1
        counts[-1] += seconds

    def login(self, result: str) -> None:
        self._logins[result] = self._logins.get(result, 0) + 1

    def text(self) -> tuple[bytes, str]:
        return generate_latest(self._registry), MEDIA_TYPE

    def _counts(self) -> Iterator[Family]:
        metric = BY_NAME["headrace_http_request_duration_seconds"]
        requests = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for (route, method, status), times in list(self._requests.items()):
            upto, buckets = 0.0, list[tuple[str, float]]()
            for bound, hits in zip((*map(str, self._bounds), "+Inf"), times[:-1], strict=True):
                upto += hits
                buckets.append((bound, upto))
            requests.add_metric([route, method, str(status)], buckets, times[-1])
        yield requests
        logins = counter("headrace_logins_total")
        for result, count in list(self._logins.items()):
            logins.add_metric([result], count)
        yield logins
