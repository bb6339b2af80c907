"""The log in Kafka: a lane is a partition of a topic, named by the topic's id, so that a topic that was deleted and made
again is another one.

Offsets are kept by who reads, never by the broker alone: a group's committed offsets are for others to see.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import pyarrow as pa

from headrace.errors import MissingExtraError, OutsideError
from headrace.formats.lines import misread
from headrace.model.source import OCCURRENCE, Source
from headrace.ports import Arrival, Engine, Filed
from headrace.sql.landing import landing_sql

try:
    from confluent_kafka import (
        Consumer,
        IsolationLevel,
        KafkaError,
        KafkaException,
        Message,
        Producer,
        TopicCollection,
        TopicPartition,
    )
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AdminClient,
        ConfigResource,
        NewTopic,
        OffsetSpec,
        ResourceType,
    )
except ImportError:
    raise MissingExtraError("kafka", "a log in Kafka (kafka.brokers)", "confluent-kafka") from None

Of = TypeVar("Of")
Header = tuple[str, str | bytes | None]
Place = tuple[str, int]
"""A topic and a number of its partitions."""
NUMBER = re.compile("[0-9]{1,15}")
BATCH = 200_000
"""Messages that are taken from the client at a time."""
MARKED = 1000
"""One message in so many can be marked, and the last one of each batch: a message takes far more memory than its bytes."""
READ = 200_000
"""Messages that one ``read`` gives at most."""
CHUNK = 20_000
"""Records that are produced before all of them are known to be written: what an interruption leaves in doubt."""
TIMEOUT = 30.0
"""Seconds after which a broker that does not answer is given up."""
LONGEST = 64 << 20
"""Bytes of a record, in topics that are made here: Kafka's own megabyte is less than a file may have in a line."""
TOPIC = {
    "retention.ms": "-1",
    "max.message.bytes": str(LONGEST),
    # Else brokers refuse what comes from a clock that is more than an hour ahead of theirs. Nobody reads these times.
    "message.timestamp.type": "LogAppendTime",
}
ORDINARY = 900_000
"""Bytes of a record that any topic takes, unless its owner says otherwise."""
ROOM = 4096
"""Bytes of a message besides key and value, at most."""
KEPT = 400
"""Bytes that are kept of a record that is too long for its topic."""
THREAD = "headrace-feed"
LOOK = 2.0
"""Seconds between two looks at whether a topic is still the same."""


class KafkaLog:
    """Topics of a cluster. ``settings`` are librdkafka's (address, security); ``partitions`` and ``replicas`` are for the
    topics that it has to make."""

    def __init__(self, settings: Mapping[str, str], engine: Engine, *, partitions: int, replicas: int) -> None:
        self.settings: dict[str, Any] = {
            "log_level": 2,  # what matters comes back as an error; the client would write the rest to standard error
            "error_cb": _teller(self),
            "topic.metadata.refresh.interval.ms": 5000,
            "socket.timeout.ms": 10000,
            **settings,
        }
        self._engine = engine
        self._partitions = partitions
        self._replicas = replicas
        self._admin_client: AdminClient | None = None
        self._reader: Consumer | None = None
        self._producer: Producer | None = None
        self._tails: dict[str, dict[tuple[str, str], dict[int, int]]] = {}
        self._looked: dict[tuple[str, int], int] = {}
        """By partition, up to where its tail was looked at."""
        self._own: dict[str, int] = {}
        """By topic, how many records whole files of this process's own have had since that look."""
        self._trouble: KafkaError | None = None
        """What a client was told of since a request was answered."""
        self._is_met = False
        """Whether one ever was."""

    is_bronze = False

    # Lanes

    def lanes(self, source: Source) -> Mapping[str, tuple[int, int]]:
        partitions = self.partitions_of(source)
        extents = self.extents(list(partitions.values()))
        return {lane: extents[p.topic, p.partition] for lane, p in partitions.items()}

    def partitions_of(self, source: Source) -> dict[str, TopicPartition]:
        """The lanes that a source's topic has now; none where there is no such topic."""
        described = self._described([source.topic])[source.topic]
        if described is None:
            return {}
        return {
            f"{source.name}#{described.topic_id}/{p.id}": TopicPartition(source.topic, p.id)
            for p in described.partitions
        }

    def extents(self, partitions: Sequence[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
        """Of each partition the first retained offset and the end of what is committed."""

        def ask(spec: OffsetSpec) -> dict[tuple[str, int], int]:
            asked = self._admin.list_offsets(
                {TopicPartition(p.topic, p.partition): spec for p in partitions},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=TIMEOUT,
            )
            return {(p.topic, p.partition): self._awaited(future).offset for p, future in asked.items()}

        if not partitions:
            return {}
        first = _patiently("reading offsets", lambda: ask(OffsetSpec.earliest()))  # type: ignore[no-untyped-call]
        end = _patiently("reading offsets", lambda: ask(OffsetSpec.latest()))  # type: ignore[no-untyped-call]
        return {place: (first[place], end[place]) for place in first}

    def ensure(self, source: Source) -> None:
        """Makes a source's topic where there is none. Records are kept for good unless its owner says otherwise."""
        if self.partitions_of(source):
            return
        new = NewTopic(source.topic, self._partitions, self._replicas, config=TOPIC)

        def make() -> None:
            made = self._admin.create_topics([new], operation_timeout=TIMEOUT)[source.topic]
            try:
                self._awaited(made)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

        _patiently(f"making topic {source.topic}", make)
        self.heard_of(source)

    def heard_of(self, source: Source, numbers: Collection[int] = ()) -> dict[str, TopicPartition]:
        """The lanes of a topic that is there, these partitions among them: brokers hear of it one after another."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            found = self.partitions_of(source)
            if found and {p.partition for p in found.values()}.issuperset(numbers):
                return found
            if time.monotonic() > deadline:
                what = f"the log: topic {source.topic} or a partition of it is not there"
                raise OutsideError("HR0412", what, retry=True, help="headrace doctor")
            time.sleep(0.05)

    # Reading

    def read(self, source: Source, lane: str, first: int, end: int) -> Arrival:
        partition = self.partitions_of(source).get(lane)
        if partition is None:
            raise gone(lane, first, end)
        low, high = self.extents([partition])[partition.topic, partition.partition]
        if first < low and first < end:
            raise gone(lane, first, low)
        end = min(end, high)
        messages: list[Message] = []
        position = first
        if position < end:
            partition.offset = first
            with _translated(f"reading {source.topic}"):
                self.reader.assign([partition])
                position = self._fill(messages, first, end)
                self.reader.unassign()
        mark = mark_of(messages[-1]) if messages else ""
        return Arrival(lane, self.relation(source, lane, _table(source, messages)), position, mark)

    def _fill(self, messages: list[Message], first: int, end: int) -> int:
        position, deadline = first, time.monotonic() + TIMEOUT
        while position < end and len(messages) < READ:
            for message in self.reader.consume(min(BATCH, end - position), timeout=0.1):
                deadline = time.monotonic() + TIMEOUT
                error = message.error()
                offset = message.offset() or 0
                if error is None and offset < end:
                    messages.append(message)
                    position = offset + 1
                elif error is None:
                    return end
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    # The last offsets may be those of markers, which nobody is given.
                    return min(max(position, offset), end)
                elif error.code() not in _PASSING:
                    raise KafkaException(error)
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
        return position

    def keeps(self, source: Source, lane: str, mark: str) -> bool:
        offset, partition = int(mark.partition(".")[0]), self.partitions_of(source).get(lane)
        if partition is None:
            return False
        low, high = self.extents([partition])[partition.topic, partition.partition]
        if offset < low:
            return True
        found: list[Message] = []
        if offset < high:
            partition.offset = offset
            with _translated(f"reading {source.topic}"):
                self.reader.assign([partition])
                self._fill(found, offset, offset + 1)
                self.reader.unassign()
            if not found:
                return True  # compaction leaves holes
        return [mark_of(message) for message in found] == [mark]

    def relation(self, source: Source, lane: str, messages: pa.Table) -> str:
        """Messages as bronze rows."""
        name = "_log_" + "".join(c if c.isalnum() else "_" for c in lane)
        self._engine.offer(name, messages)
        return f"({landing_sql(source, ['_line'], lane, name)})"

    def feed(self, group: str, sources: Sequence[Source], start: Callable[[str, int], int]) -> KafkaFeed:
        for source in sources:
            self.ensure(source)
        return KafkaFeed(self, group, sources, start)

    # Producing

    def append(self, source: Source, files: Iterable[Filed]) -> Iterator[int]:
        self.ensure(source)
        tails, topic, produce = self._tail(source), source.topic, self.producer.produce
        partitions = len(self.heard_of(source)) if tails else 0
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:  # nothing is told of those that are written
                failed.append(error)

        whole = doubt = own = 0
        for file, digest, records in files:
            known = tails.get((file, digest), {})
            last = max(known.values(), default=0)
            headers: list[Header] = [("file", file.encode()), ("sha256", digest.encode())]
            for row, key, message, problem, number in records:
                if doubt == CHUNK:
                    self._flush(source, failed)
                    yield whole
                    doubt = 0
                doubt += 1
                if row <= last - CHUNK:
                    continue
                # A record that cannot be read has no key of its own; it must go the same way when it is sent again.
                at = key.encode() or f"{file}:{row}".encode()
                size = len(at) + len(message)
                if size > ORDINARY and size + ROOM > self._longest(topic):
                    at, message, problem = (
                        f"{file}:{row}".encode(),
                        bytes(message[:KEPT]),
                        "longer than its topic takes",
                    )
                if row <= last and row <= known.get(murmur2(at) % partitions, 0):
                    continue
                more = [*headers, ("row", str(row).encode())]
                if number > 1:
                    more.append(("occurrence", str(number).encode()))
                if problem is not None:
                    more.append(("error", problem.encode()))
                while True:
                    try:
                        produce(topic, message, at, headers=more, on_delivery=delivered)
                    except BufferError:
                        self.producer.poll(0.1)
                    else:
                        break
                own += 1
            tails.pop((file, digest), None)
            whole += 1
        self._flush(source, failed)
        self._own[topic] = own
        yield whole

    def _flush(self, source: Source, failed: list[KafkaError]) -> None:
        with _translated(f"producing into {source.topic}"):
            left = self.producer.flush(120)
            if failed or left:
                raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001

    def _tail(self, source: Source) -> dict[tuple[str, str], dict[int, int]]:
        """Of the files that the ends of the lanes speak of: by partition, the last row that is there. Another process
        may have been interrupted meanwhile: what was appended since the last look is looked at, unless all of that is
        this process's own."""
        found = self._tails.setdefault(source.name, {})
        partitions = list(self.heard_of(source).values())
        extents = self.extents(partitions)
        new = sum(high - self._looked.get(place, 0) for place, (_, high) in extents.items())
        for partition in partitions:
            place = (partition.topic, partition.partition)
            low, high = extents[place]
            # A file may have become whole at most a chunk before it was told that it is, and a chunk may follow it.
            partition.offset = max(low, high - 2 * CHUNK - 1, self._looked.get(place, 0))
            messages: list[Message] = []
            if partition.offset < high and new != self._own.get(source.topic, 0):
                with _translated(f"reading {source.topic}"):
                    self.reader.assign([partition])
                    self._fill(messages, partition.offset, high)
                    self.reader.unassign()
            self._looked[place] = high
            for message in messages:
                origin = _origin(message.headers())
                if origin is not None:
                    file, digest, row, _ = origin
                    rows = found.setdefault((file, digest), {})
                    rows[partition.partition] = max(rows.get(partition.partition, 0), row)
        self._own.pop(source.topic, None)
        return found

    # Clients

    @property
    def reader(self) -> Consumer:
        """A consumer that is nobody's group's: it reads what it is told to."""
        if self._reader is None:
            self._reader = Consumer({**self.consuming("headrace.reader"), "fetch.wait.max.ms": 20})
        return self._reader

    def consuming(self, group: str) -> dict[str, Any]:
        return {
            **self.settings,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            # A worker that was killed is missed within seconds.
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            "max.poll.interval.ms": 300000,
            # The default stalls a fast consumer for a second whenever its queue is full.
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 65536,
        }

    @property
    def producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self.settings,
                    "enable.idempotence": True,
                    "linger.ms": 20,
                    "partitioner": "murmur2_random",
                    "message.max.bytes": LONGEST,  # of a message; batches keep to their own limit
                    "queue.buffering.max.messages": 200_000,
                    "delivery.report.only.error": True,
                }
            )
        return self._producer

    @property
    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient(self.settings)
        return self._admin_client

    def _told(self, error: KafkaError) -> None:
        """Is told of what concerns no single request: a client never gives up, and of a request says that it timed out."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # which follows what says why
            self._trouble = error

    def check(self) -> None:
        """Raises where the cluster has refused who asks, which it will do again."""
        trouble = self._trouble
        if trouble is not None and (trouble.code() in _REFUSED or (trouble.code() in _UNMET and not self._is_met)):
            self._trouble = None
            raise KafkaException(trouble)

    def _awaited(self, future: Future[Any]) -> Any:
        """The value of a request; a refusal at once."""
        deadline = time.monotonic() + TIMEOUT + 1
        while not future.done() and time.monotonic() < deadline:
            wait([future], 0.2)
            self._admin.poll(0)
            self.check()
        try:
            found = future.result(0)
        except (KafkaException, FutureTimeoutError) as error:
            if isinstance(error, KafkaException) and error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001
                raise
            trouble = self._trouble or KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001
            raise KafkaException(trouble) from None
        self._trouble, self._is_met = None, True
        return found

    def _longest(self, topic: str) -> int:
        """Bytes that a message of a topic may have."""
        with _translated(f"asking for settings of {topic}"):
            (asked,) = self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
            return int(self._awaited(asked)["max.message.bytes"].value)

    def _described(self, topics: Sequence[str]) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            futures = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=TIMEOUT)
            found: dict[str, Any] = {}
            for topic, future in futures.items():
                try:
                    found[topic] = self._awaited(future)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
                    found[topic] = None
            return found

        return _patiently("asking for topics", ask)


@dataclass(slots=True)
class Came:
    """One batch of a feed, by partition: messages as tables, some of them as they are, and the offset that comes next.
    ``ended`` are those that had no more at an offset."""

    tables: dict[Place, pa.Table] = field(default_factory=dict)
    marked: dict[Place, list[Message]] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    ended: dict[Place, int] = field(default_factory=dict)
    errors: list[tuple[Place, KafkaError]] = field(default_factory=list)


class KafkaFeed:
    """One worker of a consumer group. A thread takes messages from the client, one batch ahead of what was polled. What the
    group decides meanwhile, it has done by whoever polls."""

    def __init__(self, log: KafkaLog, group: str, sources: Sequence[Source], start: Callable[[str, int], int]) -> None:
        self._log = log
        self._group = group
        self._sources = {source.topic: source for source in sources}
        self._start = start
        self._lanes: dict[Place, str] = {}
        self._ended: dict[Place, int] = {}
        """The offset up to which nothing is missing, by partition that had no more when it was last looked at."""
        self._marked: dict[str, list[Message]] = {}
        """By lane, some messages of the last poll, the last one among them."""
        self._takes_part = False
        """Whether the group has dealt its lanes since this worker joined it; none may be this worker's."""
        self._failure: BaseException | None = None
        self._looked = 0.0
        self._thread = ThreadPoolExecutor(1, THREAD)
        self._ahead: Future[Came] | None = None
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """What the thread wants to be done; None: its batch is there."""
        self._commits: SimpleQueue[tuple[str, int]] = SimpleQueue()
        self._revoked: set[Place] = set()
        """What was taken away since the batch before."""
        self._is_torn = False
        """Whether some of that was given back since, so that a batch may have messages of before and after."""
        self._is_closed = False
        self._consumer = self._joined()

    @property
    def lanes(self) -> Collection[str]:
        return self._lanes.values()

    @property
    def is_caught_up(self) -> bool:
        if not self._takes_part or not self._ended.keys() >= self._lanes.keys():
            return False
        # What was taken ahead may be as old as the last poll: the end is asked for now.
        extents = self._log.extents([TopicPartition(*place) for place in self._lanes])
        return all(self._ended[place] >= end for place, (_, end) in extents.items())

    def poll(self, wait: float) -> Sequence[Arrival]:
        came = self._taken_ahead(wait)
        self._log.check()
        if self._failure is not None:
            raise self._failure
        if came.tables or self._is_torn or time.monotonic() > self._looked + LOOK:
            # A topic that was deleted and made again goes on at the same offsets without any error; only its id tells.
            self._looked = time.monotonic()
            if self._is_torn or self._is_renewed():
                self._join_anew()
                return []
        for place, error in came.errors:
            if error.code() in _GONE:
                if place in self._lanes:
                    raise self._gone(place)
            elif error.fatal() or error.code() not in _PASSING:
                raise OutsideError("HR0412", f"the log: {error.str()}", retry=True, help="headrace doctor")
        for place in came.tables:
            self._ended.pop(place, None)
        self._ended |= came.ended
        self._marked = {self._lanes[place]: found for place, found in came.marked.items() if place in self._lanes}
        arrivals = []
        for place, end in came.ends.items():
            if place in self._lanes:
                lane, source = self._lanes[place], self._sources[place[0]]
                table = came.tables[place] if place in came.tables else _table(source, [])
                arrivals.append(Arrival(lane, self._log.relation(source, lane, table), end))
        self._go_ahead(wait)
        return arrivals

    def mark(self, lane: str, end: int) -> str:
        given = self._marked.get(lane, [])
        before = bisect.bisect_left(given, end, key=lambda message: message.offset() or 0)
        return mark_of(given[before - 1]) if before else ""

    def commit(self, lane: str, offset: int) -> None:
        # Later, by the thread: the client lets nobody commit while it waits for what the group has decided to be done.
        self._commits.put((lane, offset))

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._ahead is not None:
            with contextlib.suppress(OutsideError):
                self._taken_ahead(0.0)
        self._thread.shutdown()
        self._commit()
        self._consumer.close()

    # The thread, and what it has done by whoever polls

    def _go_ahead(self, wait: float) -> None:
        self._revoked.clear()
        self._ahead = self._thread.submit(self._take, max(wait, 0.05))
        self._ahead.add_done_callback(lambda _: self._asked.put(None))

    def _taken_ahead(self, wait: float) -> Came:
        if self._ahead is None:
            self._go_ahead(wait)
        while (call := self._asked.get()) is not None:
            call()
        ahead, self._ahead = self._ahead, None
        assert ahead is not None
        return ahead.result()

    def _in_turn(self, call: Callable[[], None]) -> None:
        """Has whoever polls do something, and waits for it. Who closes a client is told of the group's decisions himself."""
        if not threading.current_thread().name.startswith(THREAD):
            call()
            return
        done: Future[None] = Future()

        def answer() -> None:
            try:
                call()
                done.set_result(None)
            except BaseException as error:  # noqa: BLE001  # it is raised where it was asked
                done.set_exception(error)

        self._asked.put(answer)
        done.result()

    def _take(self, wait: float) -> Came:
        came = Came()
        taken: dict[Place, list[Message]] = {}
        self._commit()
        with _translated("reading the log"):
            messages = self._consumer.consume(BATCH, timeout=wait)
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                if place not in taken:
                    taken[place] = []
                    came.ended.pop(place, None)
                taken[place].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                came.ends[place] = came.ended[place] = message.offset() or 0
            else:
                came.errors.append((place, error))
        for place, found in taken.items():
            came.tables[place] = _table(self._sources[place[0]], found)
            came.marked[place] = [*found[:-1:MARKED], found[-1]]
            came.ends[place] = max(came.ends.get(place, 0), (found[-1].offset() or 0) + 1)
        return came

    def _commit(self) -> None:
        """Says for others to see how far lanes are counted; a worker starts at its own checkpoint."""
        reached: dict[str, int] = {}
        while not self._commits.empty():
            lane, offset = self._commits.get()
            reached[lane] = offset
        offsets = [TopicPartition(*place, reached[lane]) for place, lane in self._lanes.items() if lane in reached]
        if offsets:
            with contextlib.suppress(KafkaException):
                self._consumer.commit(offsets=offsets, asynchronous=True)

    # The group

    def _joined(self) -> Consumer:
        consumer = Consumer(self._log.consuming(self._group))
        topics = list(self._sources)
        consumer.subscribe(topics, on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)
        return consumer

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._in_turn(lambda: self._begin(partitions))
            consumer.incremental_assign(partitions)
            self._takes_part = True
        except BaseException as error:  # noqa: BLE001  # the client would swallow it; poll raises it
            self._failure = error

    def _begin(self, partitions: list[TopicPartition]) -> None:
        """Has the worker take lanes up; where each begins is noted in its partition."""
        if self._is_closed:
            return
        for source in self._sources.values():
            mine = {p.partition: p for p in partitions if p.topic == source.topic}
            named = {p.partition: lane for lane, p in self._log.heard_of(source, mine).items()} if mine else {}
            for (_, number), (low, _) in self._log.extents(list(mine.values())).items():
                place = source.topic, number
                lane = self._lanes[place] = named[number]
                offset = self._start(lane, low)
                if offset < low:
                    raise gone(lane, offset, low)
                mine[number].offset = offset
                self._is_torn = self._is_torn or place in self._revoked

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._in_turn(lambda: self._end([(p.topic, p.partition) for p in partitions]))
        with contextlib.suppress(KafkaException):
            consumer.incremental_unassign(partitions)

    def _end(self, places: Sequence[Place]) -> None:
        for place in places:
            self._lanes.pop(place, None)
            self._ended.pop(place, None)
            self._revoked.add(place)

    def _is_renewed(self) -> bool:
        """Whether a topic is not the one any more that its lanes are named by."""
        current = {lane for source in self._sources.values() for lane in self._log.partitions_of(source)}
        return not current.issuperset(self._lanes.values())

    def _join_anew(self) -> None:
        self._consumer.close()
        self._lanes.clear()
        self._ended.clear()
        self._takes_part = self._is_torn = False
        self._consumer = self._joined()

    def _gone(self, place: Place) -> OutsideError:
        low, _ = self._log.extents([TopicPartition(*place)])[place]
        return gone(self._lanes[place], -1, low)


def _teller(log: KafkaLog) -> Callable[[KafkaError], None]:
    """Tells a log of errors without keeping it: its clients end with it, and not whenever cycles are looked for."""
    known = weakref.WeakMethod(log._told)  # noqa: SLF001  # of the class above

    def tell(error: KafkaError) -> None:
        told = known()
        if told is not None:
            told(error)

    return tell


_PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION, KafkaError._TIMED_OUT, KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._WAIT_COORD, KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID, KafkaError.BROKER_NOT_AVAILABLE,  # noqa: SLF001
    KafkaError.REPLICA_NOT_AVAILABLE, KafkaError.KAFKA_STORAGE_ERROR, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NETWORK_EXCEPTION, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS,
}  # fmt: skip
"""What a cluster answers while brokers come and go, leaders are elected, or a topic was heard of only just now. A consumer gets
over it by itself; the client says of none that trying again can help."""
_REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001
_UNMET = {KafkaError._SSL}  # noqa: SLF001
"""Refusals at first sight; later it is a broker that died in the middle of a handshake."""
_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001


def gone(lane: str, first: int, end: int) -> OutsideError:
    """Records that should have been read, and that the log has not any more."""
    what = (
        f"offsets {first} to {end} of {lane} are gone"
        if first >= 0
        else f"{lane} begins at {end} now: records are gone"
    )
    return OutsideError("HR0411", what, help="headrace land --accept-gaps, then headrace run --take-over")


def mark_of(message: Message) -> str:
    """Offset and digest of a message, with its leader's epoch: another one may come to its offset where a log was cut off,
    as by a leader that had not all of it, or by a disk that was restored from a copy."""
    said = repr((message.leader_epoch(), message.timestamp(), message.key(), message.value()))
    digest = hashlib.blake2b(said.encode(), digest_size=8).digest()
    return f"{message.offset()}.{int.from_bytes(digest, 'big') >> 1}"


def murmur2(data: bytes) -> int:
    """The hash that Kafka's default partitioner takes a key's partition from (Apache Kafka, ``Utils.murmur2``), as a
    number that is not negative."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF


def _table(source: Source, messages: Sequence[Message]) -> pa.Table:
    """Messages as ``landing_sql`` reads them. What is no message to a contract, as a deletion marker without a value, is none
    here."""
    values = [message.value() for message in messages]
    if None in values:
        return _table(source, [message for message in messages if message.value() is not None])
    sent = [message.headers() for message in messages]
    offsets = pa.array([message.offset() for message in messages], pa.int64())
    if not any(sent):
        # Messages that others produce, which are plain in nearly every case: column by column, not one by one.
        with contextlib.suppress(pa.ArrowInvalid):  # some are not UTF-8
            lines = pa.array(values, pa.binary()).cast(pa.string())
            text = pa.repeat(pa.scalar("", pa.string()), len(messages))
            file = pa.repeat(pa.scalar(f"kafka:{source.topic}", pa.string()), len(messages))
            error, raw = misread(source, lines)
            ones = pa.repeat(pa.scalar(1, pa.int64()), len(messages))
            return pa.table([file, text, offsets, error, raw, lines, ones, offsets], [*_COLUMNS, "_offset"])
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for message, given in zip(messages, sent, strict=True):
        row = _row(source, message, given)
        for name, value in zip(_COLUMNS, row, strict=True):
            columns[name].append(value)
    error, raw = misread(source, pa.array(columns["_line"], pa.string()))
    for name, found in (("_error", error), ("_bytes", raw)):
        columns[name] = [
            before if new is None else new for before, new in zip(columns[name], found.to_pylist(), strict=True)
        ]
    types = {"_row": pa.int64(), "_bytes": pa.binary(), OCCURRENCE: pa.int64()}
    return pa.table({n: pa.array(v, types.get(n, pa.string())) for n, v in columns.items()} | {"_offset": offsets})


_COLUMNS = ("_file", "_sha256", "_row", "_error", "_bytes", "_line", OCCURRENCE)


def _row(source: Source, message: Message, headers: Any) -> tuple[Any, ...]:
    value = message.value() or b""
    origin = _origin(headers)
    file, digest, row, number = origin or (f"kafka:{source.topic}", "", message.offset(), 1)
    error = next((_text(sent) for name, sent in headers or () if name == "error"), None) if origin else None
    line = None
    if error is None:
        try:
            line = value.decode()
        except UnicodeDecodeError:
            error = "not UTF-8"
    return file, digest, row, error, value if error is not None else None, line, number


def _origin(headers: Any) -> tuple[str, str, int, int] | None:
    """File, digest, row and occurrence number of a record that ``append`` produced; None where somebody else did, whose
    headers may say anything."""
    said = {name: _text(value) for name, value in headers or ()}
    row, number = (said.get(name, "1") for name in ("row", "occurrence"))
    if not {"file", "sha256", "row"} <= said.keys() or not all(NUMBER.fullmatch(text) for text in (row, number)):
        return None
    return said["file"], said["sha256"], int(row), int(number)


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _patiently(doing: str, call: Callable[[], Of]) -> Of:
    """The call's value; it is made again while a cluster is electing leaders or has only just heard of a topic."""
    deadline = time.monotonic() + TIMEOUT
    with _translated(doing):
        while True:
            try:
                return call()
            except KafkaException as error:
                if (
                    not error.args[0].retriable() and error.args[0].code() not in _PASSING
                ) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        problem = error.args[0]
        raise OutsideError("HR0412", f"the log, {doing}: {problem.str()}", retry=True, help="headrace doctor") from None
