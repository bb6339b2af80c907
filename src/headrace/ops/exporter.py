"""Metrics of a process that serves nothing else: a small server beside a stream, a repeated run or a repeated landing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics import MetricWrapperBase

from headrace.app import App
from headrace.errors import SettingError
from headrace.flow.gauges import Weights
from headrace.model.run import Run
from headrace.ops.metrics import Merged, State, seconds_since_1970
from headrace.ops.names import BY_NAME, EVERY, METRICS
from headrace.ports import Observer, Store

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Kind = TypeVar("Kind", bound=MetricWrapperBase)
OUTCOMES = {"fact": ("clean", "quarantined", "duplicate"), "reference": ("clean", "quarantined", "superseded")}


class Exporter:
    """Counts what the process of a verb does, and shows it at ``metrics.host``:``metrics.port`` while it is open. Counters of
    what may happen begin at 0, so that their first step is seen as one."""

    def __init__(self, app: App, verb: str) -> None:
        self._verb = verb
        self._place = app.settings["metrics.host"], app.settings["metrics.port"]
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time beside each counter, which Prometheus does not want
        own = CollectorRegistry()
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._metrics: dict[str, MetricWrapperBase] = {}
        self._state = State(app, far=True)
        for metric in METRICS:
            if verb in metric.of and metric.of != EVERY:
                more: dict[str, Any] = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
                self._metrics[metric.name] = kinds[metric.kind](
                    metric.name, metric.help, metric.labels, registry=own, **more
                )
        done = BY_NAME["headrace_last_success_timestamp_seconds"]
        self._done = Gauge(done.name, done.help, done.labels, registry=own)
        self._registry = CollectorRegistry()
        self._registry.register(Merged(self._state.collect, lambda: _collected(own)))
        self._project = app.project
        self._weights = Weights(app.project)
        self._begin(app)

    def _begin(self, app: App) -> None:
        paths = ("batch", "speed") if self._verb == "stream" else ("batch",)
        for source in app.project.sources.values():
            for name in ("headrace_landed_records_total", "headrace_bytes_total"):
                self.counter(name).labels(source.name)
            if self._verb != "land":
                for path in paths:
                    for outcome in OUTCOMES[source.role]:
                        if path == "batch" or source.role == "fact":
                            self.counter("headrace_records_total").labels(source.name, path, outcome)
        if self._verb != "land":
            for path in paths:
                self.histogram("headrace_batch_duration_seconds").labels(path)

    def __enter__(self) -> Self:
        host, port = self._place
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise SettingError(
                "HR0601", f"cannot listen on {host}:{port}: {error.strerror or error}", help="another --metrics-port"
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def counter(self, name: str) -> Counter:
        return cast("Counter", self._metrics[name])

    def gauge(self, name: str) -> Gauge:
        return cast("Gauge", self._metrics[name])

    def histogram(self, name: str) -> Histogram:
        return cast("Histogram", self._metrics[name])

    # What is told

    def observe(self, observer: Observer) -> Observer:
        """The observer, with what it is told counted."""
        return Counting(observer, self)

    def watch(self, app: App) -> None:
        """Times what the app writes to its store."""
        app.store = cast("Store", TimedStore(app.store, self))

    def worked(self) -> None:
        """The verb has done its work."""
        self._done.labels(self._verb).set(time.time())

    def ran(self, app: App, run: Run) -> None:
        """A run ended well."""
        self.worked()
        if run.generation is not None:
            self.histogram("headrace_batch_duration_seconds").labels("batch").observe(run.seconds)
        self._weights.look(app.lake, app.engine, app.store)
        for (source, rule), records in self._weights.quarantine.items():
            self.gauge("headrace_quarantine_records").labels(source, rule).set(records)
        skew, rows = self.gauge("headrace_partition_skew_ratio"), self.gauge("headrace_partition_rows")
        skew.clear()
        rows.clear()
        for table, (largest, mean) in self._weights.partitions.items():
            skew.labels(table).set((largest - mean) / mean)
            rows.labels(table).set(largest)

    def ended(self, verb: str, subject: str, counts: Mapping[str, int]) -> None:
        if subject not in self._project.sources:
            return
        if verb == "land":
            records = counts.get("bronze", 0) + counts.get("unreadable", 0)
            self.counter("headrace_landed_records_total").labels(subject).inc(records)
            self.counter("headrace_bytes_total").labels(subject).inc(counts.get("bytes", 0))
        elif verb == "refine" and self._verb != "land":
            self._judged(subject, "batch", counts)

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None:
        if self._verb != "stream":
            return  # a run that counts ahead for the stream
        self._judged(source, "speed", outcomes)
        self.histogram("headrace_batch_duration_seconds").labels("speed").observe(seconds)
        if newest:
            latency = max(time.time() - seconds_since_1970(newest), 0.0)
            self.histogram("headrace_end_to_end_latency_seconds").labels(source).observe(latency)
        self.worked()

    def _judged(self, source: str, path: str, counts: Mapping[str, int]) -> None:
        for verdict in ("clean", "quarantined", "unreadable", "duplicate", "superseded"):
            if count := counts.get(verdict, 0):
                outcome = "quarantined" if verdict == "unreadable" else verdict
                self.counter("headrace_records_total").labels(source, path, outcome).inc(count)


def _collected(registry: CollectorRegistry) -> Iterator[Family]:
    return iter(registry.collect())


@dataclass(slots=True)
class Counting:
    """An observer before another one."""

    observer: Observer
    exporter: Exporter

    def begin(self, verb: str, subject: str, total: int | None = None) -> None:
        self.observer.begin(verb, subject, total)

    def advance(self, count: int) -> None:
        self.observer.advance(count)

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None:
        self.exporter.ended(verb, subject, counts)
        self.observer.end(verb, subject, counts, seconds, note)

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None:
        self.exporter.counted(source, outcomes, seconds, newest)
        self.observer.counted(source, outcomes, seconds, newest)

    def alarm(self, text: str) -> None:
        self.observer.alarm(text)


class TimedStore:
    """A store whose writes of rows are timed; all else it does as it always did."""

    def __init__(self, store: Store, exporter: Exporter) -> None:
        self._store = store
        backend = type(store).__name__.removesuffix("Store").lower()
        self._seconds = exporter.histogram("headrace_serving_write_seconds").labels(backend)
        self._rows = exporter.counter("headrace_serving_written_rows_total").labels(backend)
        self._errors = exporter.counter("headrace_serving_write_errors_total").labels(backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, table: Any, rows: Iterable[Any]) -> int:
        return self._timed(lambda: self._store.put(table, rows))

    def put_speed(self, table: Any, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Any]) -> int:
        return self._timed(lambda: self._store.put_speed(table, epoch, lane, start, fence, rows))

    def _timed(self, write: Callable[[], int]) -> int:
        with self._failures(), self._seconds.time():
            count = write()
        self._rows.inc(count)
        return count

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._errors.inc()
            raise
