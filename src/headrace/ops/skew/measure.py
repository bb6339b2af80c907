"""Measures a subject on a ring: how its rows lie, what is special about its largest keys, and what other keys would do."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.model.ring import Place, Ring
from headrace.model.serving import DAY
from headrace.ops.skew.balance import Advisor, Chance, advisor, chance
from headrace.ops.skew.subject import KeyColumn, Subject
from headrace.ops.skew.survey import Loads, Survey, named, names, partitions, survey, together, typed, without
from headrace.ops.skew.token import bytes_sql, composite_sql, token
from headrace.ports import Engine, Observer

READ = 1_000
"""Keys of which is told how many partitions of another key one becomes."""
LARGEST = 100_000
"""Keys that are cut into buckets and salts. What is left is far more and smaller keys, which lie evenly either way."""
BINS = 100_000
"""Steps into which the span of the data is divided when a burst is looked for; its ends are those of rows."""
SALTS = (4, 8, 16)
BURST_ROWS, BURST_SHARE, BURST_RATE = 100, 0.5, 10.0
"""What makes a burst: so many rows at least, of all of the key's rows so many, and so many times the key's average rate."""
SAMPLE = 100_000
"""Rows that tell which other column has the most values."""
KEYS, LARGE, OTHER = "_skew_keys", "_skew_large", "_skew_other"


@dataclass(frozen=True, slots=True)
class Burst:
    """The window in which a key's rows exceed by most what twice its own average rate would bring. ``start`` and ``end``
    are microseconds since 1970 UTC, or numbers of rows; ``rows`` the key's rows in it, ``all_rows`` those of all keys, and
    ``intensity`` the key's rate in the window over its average rate in all of the data's time."""

    start: int
    end: int
    rows: int
    all_rows: int
    intensity: float
    by_row: bool

    @property
    def share(self) -> float:
        """Of all rows of the window."""
        return self.rows / self.all_rows

    @property
    def said(self) -> str:
        if self.by_row:
            return f"rows {self.start:,} to {self.end:,}"
        first, last = moment(self.start), moment(self.end)
        return f"{first} to {last.removeprefix(first[:11])}"


@dataclass(frozen=True, slots=True)
class TopKey:
    """A key with its values as text, exact counts, shares of all rows and bytes, and where it lies."""

    key: tuple[str, ...]
    rows: int
    bytes: int
    share: float
    multiple: float
    token: int
    part: int
    replicas: tuple[Place, ...]
    burst: Burst | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """Another key: what it would make of the rows, and how many of its partitions one partition of today's key becomes,
    all of which a read of that one then asks."""

    name: str
    kind: str
    key: tuple[str, ...]
    loads: Loads
    reads_mean: float
    reads_most: int

    @property
    def about(self) -> str:
        """Before the figures of reads: of another key they are estimates, of its largest keys."""
        return "~" if self.kind == "other" else ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured. What a key is said to have is exact; one that is not in ``top`` has no more rows than the last
    of them, or than ``unlisted``."""

    subject: Subject
    ring: Ring
    rows: int
    bytes: int
    keyless: int
    loads: Loads
    top: tuple[TopKey, ...]
    unlisted: int
    chance: Chance
    advisor: Advisor
    variants: tuple[Variant, ...]

    @property
    def keys(self) -> int:
        return self.loads.partitions

    @property
    def mean_rows(self) -> float:
        return self.rows / self.keys

    @property
    def fair_share(self) -> float:
        """Of all rows, what one shard would hold if all held the same."""
        return self.ring.replicas / len(self.ring.places)


def measure(
    engine: Engine,
    subject: Subject,
    ring: Ring,
    observer: Observer,
    *,
    top: int = 20,
    others: Sequence[Sequence[KeyColumn]] = (),
) -> Report:
    """Measures a subject on a ring. ``others`` are keys to compare with; where there is none, the column with the most
    values is. Raises ContractError HR0623 where no row has a key."""
    started = time.monotonic()
    observer.begin("skew", "count keys")
    found = survey(engine, subject.relation, subject.key, subject.size, ring, KEYS)
    listed = ", ".join(names(subject.key))
    order = f"greatest(_rows / {found.rows}, _bytes / {max(found.bytes, 1)}) DESC, {listed}"
    largest = f"SELECT * FROM {KEYS} ORDER BY {order} LIMIT {LARGEST}"
    engine.keep(LARGE, f"SELECT *, row_number() OVER (ORDER BY {order}) AS _at FROM ({largest})")
    observer.begin("skew", "look for bursts")
    keys = _top(engine, subject, ring, top, found)
    observer.begin("skew", "try other keys")
    if not others:
        best = _most_values(engine, subject)
        others = [[best]] if best else []
    variants = _variants(engine, subject, ring, found, others)
    # The rule compares rates; rows stand for them, as what is written once a row. The ceiling holds for any.
    seen = advisor(list(found.loads.rows.values()), len(keys[0].replicas))
    counts = {"rows": found.rows, "keys": found.loads.partitions}
    observer.end("skew", subject.name, counts, time.monotonic() - started)
    drawn = chance(ring, found.loads.partitions)
    return Report(
        subject, ring, found.rows, found.bytes, found.keyless, found.loads, keys, found.unlisted, drawn, seen, tuple(variants),
    )  # fmt: skip


def moment(micros: int) -> str:
    """A time as people read it, in UTC."""
    found = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=micros)  # noqa: DTZ001  UTC without saying so at each
    text = found.isoformat(sep=" ", timespec="microseconds" if found.microsecond else "seconds")
    return text.rstrip("0").rstrip(".") if found.microsecond else text


def _top(engine: Engine, subject: Subject, ring: Ring, top: int, found: Survey) -> tuple[TopKey, ...]:
    blob = composite_sql([bytes_sql(name, type) for name, type in typed(subject.key)])
    said = [f"CAST(_k{at} AS VARCHAR)" for at, column in enumerate(subject.key) if not column.is_constant]
    columns = ", ".join(["_at", "_rows", "_bytes", blob, *said])
    bursts = _bursts(engine, subject, top)
    answer = []
    for at, rows, size, key, *values in engine.rows(f"SELECT {columns} FROM {LARGE} WHERE _at <= {top} ORDER BY _at"):
        placed, multiple = token(key), rows * found.loads.partitions / found.rows
        where = ring.range_of(placed), ring.replicas_of(placed)
        answer.append(TopKey(tuple(values), rows, size, rows / found.rows, multiple, placed, *where, bursts.get(at)))
    return tuple(answer)


def _bursts(engine: Engine, subject: Subject, top: int) -> dict[int, Burst]:
    """The bursts of the largest keys that have one: the stretch of a key's rows with the greatest sum, where a row counts one
    and time that passes counts against it (J. Bentley, Programming Pearls: Algorithm Design Techniques, CACM 27, 1984)."""
    if not subject.time and not subject.numbered:
        return {}
    when = subject.time or "_number"
    relation = subject.relation if subject.time else subject.numbered
    first, last = engine.rows(f"SELECT min({when}), max({when}) FROM {relation}")[0]
    if first is None or last == first:
        return {}
    width = max((last - first) // BINS, 1)
    large = f"(SELECT * FROM {LARGE} WHERE _at <= {top})"
    rows = f"SELECT _at, _when FROM (SELECT {named(subject.key)}, {when} AS _when FROM {relation}) JOIN {large} USING ({', '.join(names(subject.key))}) WHERE _when IS NOT NULL"
    bins = f"SELECT _at, min(_when) AS low, max(_when) AS high, count(*) AS n FROM ({rows}) GROUP BY _at, (_when - {first}) // {width}"
    order = "PARTITION BY _at ORDER BY low ROWS UNBOUNDED PRECEDING"
    counted = f"SELECT *, sum(n) OVER ({order}) AS upto, sum(n) OVER (PARTITION BY _at) AS total FROM ({bins})"
    # Twice the key's average rate, in rows for each unit of time.
    rated = f"SELECT *, 2.0 * total / {last - first} AS rate FROM ({counted})"
    starts = f"SELECT *, min(struct_pack(debt := upto - n - rate * low, low := low, before := upto - n)) OVER ({order}) AS start FROM ({rated})"
    best = f"SELECT _at, start.low AS low, high, upto - start.before AS n, total, row_number() OVER (PARTITION BY _at ORDER BY upto - rate * high - start.debt DESC, high) AS place FROM ({starts})"
    burst = f"n >= {BURST_ROWS} AND n >= {BURST_SHARE} * total AND n >= {BURST_RATE} * total * greatest(high - low, 1) / {last - first}"
    found = engine.rows(f"SELECT _at, low, high, n, total FROM ({best}) WHERE place = 1 AND {burst} ORDER BY _at")
    if not found:
        return {}
    if subject.time:
        sums = ", ".join(f"count(*) FILTER (_t BETWEEN {low} AND {high})" for _, low, high, _, _ in found)
        everyone = engine.rows(f"SELECT {sums} FROM (SELECT {when} AS _t FROM {relation})")[0]
    else:
        everyone = tuple(high - low + 1 for _, low, high, _, _ in found)
    answer = {}
    for (at, low, high, n, total), all_rows in zip(found, everyone, strict=True):
        lasted = max(high - low, 1) / (last - first)
        answer[at] = Burst(low, high, int(n), all_rows, float(n / total) / lasted, not subject.time)
    return answer


def _variants(
    engine: Engine, subject: Subject, ring: Ring, found: Survey, others: Sequence[Sequence[KeyColumn]]
) -> list[Variant]:
    columns = [
        (name, column) for name, column in zip(names(subject.key), subject.key, strict=True) if not column.is_constant
    ]
    listed = "".join(f"{name}, " for name, _ in columns)
    key = [*((name, column.cql_type) for name, column in columns), ("_b", "bigint")]
    stays = None
    if found.loads.partitions > LARGEST:
        # Keys are in the order of the greater of their two shares: those behind the last one have no greater one.
        share = engine.rows(f"SELECT greatest(_rows / {found.rows}, _bytes / {max(found.bytes, 1)}) FROM {LARGE} WHERE _at = {LARGEST}")  # fmt: skip
        most = int(share[0][0] * found.rows) if share else 0
        most_bytes = int(share[0][0] * found.bytes) if share else 0
        large = partitions(engine, LARGE, typed(subject.key), ring)
        stays = without(found.loads, large, max(most, found.unlisted), max(most_bytes, found.unlisted_bytes))
    answer = []

    def bucketed(name: str, kind: str, bucket: str, source: str, mean: float, most: int) -> None:
        made = partitions(engine, source, key, ring)
        loads = made if stays is None else together(made, stays)
        answer.append(Variant(name, kind, (*subject.key_names, bucket), loads, mean, most))

    using = ", ".join(names(subject.key))
    numbered = f"(SELECT {using}, _at FROM {LARGE})"
    if subject.time:
        days = f"SELECT {named(subject.key)}, {subject.time} // {DAY} AS _b, {subject.size} AS _bytes FROM {subject.relation}"
        # Grouped by numbers, which are a fraction of the memory that keys would be.
        counted = f"SELECT _at, _b, count(*) AS _rows, CAST(sum(_bytes) AS BIGINT) AS _bytes FROM ({days}) JOIN {numbered} USING ({using}) WHERE _b IS NOT NULL GROUP BY _at, _b"
        engine.keep("_skew_days", f"SELECT {listed}d.* FROM ({counted}) AS d JOIN {numbered} USING (_at)")
        mean, most = engine.rows("SELECT avg(n), max(n) FROM (SELECT count(*) AS n FROM _skew_days GROUP BY _at)")[0]
        bucketed("bucket by day", "day", f"day of {subject.time_name}", "_skew_days", mean, most)
    for salt in SALTS:
        rows = f"_rows // {salt} + CAST(_b < _rows % {salt} AS BIGINT)"
        cut = f"SELECT {listed}_b, {rows} AS _n, _rows AS _of, _bytes AS _size FROM {LARGE}, range({salt}) AS s(_b)"
        source = f"(SELECT {listed}_b, _n AS _rows, _size * _n // _of AS _bytes FROM ({cut}) WHERE _n > 0)"
        bucketed(f"salt {salt}", "salt", f"salt of {salt}", source, float(salt), salt)
    for other in others:
        lying = survey(engine, subject.relation, other, subject.size, ring, OTHER).loads
        # Of the largest keys only, and estimated: the values of one may be as many as there are rows.
        values = ", ".join(f"{column.expression} AS _o{at}" for at, column in enumerate(other))
        both = f"SELECT {named(subject.key)}, {values} FROM {subject.relation}"
        some = f"(SELECT {using}, _at FROM {LARGE} WHERE _at <= {READ})"
        distinct = f"approx_count_distinct(hash({', '.join(f'_o{at}' for at in range(len(other)))}))"
        each = f"SELECT {distinct} AS n FROM ({both}) JOIN {some} USING ({using}) GROUP BY _at"
        mean, most = engine.rows(f"SELECT avg(n), max(n) FROM ({each})")[0]
        names_of = tuple(column.name for column in other)
        answer.append(Variant(f"key {', '.join(names_of)}", "other", names_of, lying, mean or 0.0, most or 0))
    return answer


def _most_values(engine: Engine, subject: Subject) -> KeyColumn | None:
    """The column that could be a key and has the most values, among the first rows."""
    if not subject.others:
        return None
    counts = ", ".join(f"approx_count_distinct({column.expression})" for column in subject.others)
    sample = f"(SELECT * FROM {subject.relation} LIMIT {SAMPLE})"
    found = engine.rows(f"SELECT {counts} FROM {sample}")[0]
    return max(zip(found, subject.others, strict=True), key=lambda pair: pair[0])[1]
