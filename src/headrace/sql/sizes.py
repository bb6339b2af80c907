"""SQL that measures what the partitions of a serving table come to: by day, and on."""

from __future__ import annotations

from headrace.model.serving import ServingTable
from headrace.model.types import Column
from headrace.sql.gold import stored_type
from headrace.sql.mart import RECORDS

ROW, CELL = 12, 3
"""Bytes of a row, and of each of its cells, beyond its values (flags, lengths, differences of timestamps), about."""
OURS = 4
"""Columns of numbers that are ours: records, generation, nulls, slot."""


def row_bytes(table: ServingTable) -> str:
    """An expression over stored rows: the bytes of one in the store, as far as its values tell. The partition key is kept
    once a partition."""
    columns = [(c.name, stored_type(c.type)) for c in table.clustering]
    columns += [(p.name, "VARCHAR" if p.by else stored_type(p.type)) for p in table.parts]
    sizes = [f"coalesce(strlen({name}), 0)" for name, type in columns if type == "VARCHAR"]
    fixed = ROW + (CELL + 8) * OURS + sum(CELL + (0 if type == "VARCHAR" else 8) for _, type in columns)
    return " + ".join([*sizes, str(fixed)])


def days_sql(table: ServingTable, rows: str, timed: Column | None) -> str:
    """Of ``rows``, a SELECT of a serving table's stored rows: keys, records and bytes by partition and day."""
    partition = [c.name for c in table.partition]
    if timed is None:
        day = "CAST(NULL AS DATE)"
    elif timed.type.is_instant:
        day = f"CAST(make_timestamp({timed.name}) AS DATE)"
    else:
        day = f"TRY_CAST({timed.name} AS DATE)"
    named = "".join(f"{name}, " for name in partition)
    return (
        f"SELECT {named}{day} AS _day, count(*) AS _keys, sum({RECORDS}) AS _records, sum({row_bytes(table)}) AS _bytes "
        f"FROM ({rows}) GROUP BY ALL"
    )


def sizes_sql(table: ServingTable, timed: bool, span: int | None, ahead: int, lanes: int, range_size: int) -> str:
    """Of the table ``_days``: one row with keys of the largest partition, of its largest month and day, all keys,
    partitions, speed rows, bytes a row, days.

    A partition grows by the mean of its days: for the ``span`` days that are kept, else by another ``ahead`` days. Speed
    rows live for two days at most, where runs are made daily: of a key one a lane and range, and none without a record.
    """
    partition = ", ".join(c.name for c in table.partition)
    group = f" GROUP BY {partition}" if partition else ""
    named = f"{partition}, " if partition else ""
    rate = "sum(_keys) / (date_diff('day', min(_day), max(_day)) + 1)"
    if not timed:
        whole = "sum(_keys)"
    elif span is not None:
        whole = f"greatest(sum(_keys), {rate} * {span})"
    else:
        whole = f"sum(_keys) + {rate} * {ahead}"
    ranges = f"(SELECT ceil(max(_all) / {range_size}.0) FROM (SELECT sum(_records) AS _all FROM _days GROUP BY _day))"
    return (
        f"WITH p AS (SELECT {named}{whole} AS _whole, {rate if timed else '0'} AS _rate FROM _days{group}), "
        f"m AS (SELECT sum(_keys) AS _month FROM _days GROUP BY {named}date_trunc('month', _day)) "
        f"SELECT ceil((SELECT max(_whole) FROM p)), "
        f"{'ceil(greatest((SELECT max(_month) FROM m), (SELECT max(_rate) * 31 FROM p)))' if timed else '0'}, "
        f"{'(SELECT max(_keys) FROM _days)' if timed else '0'}, "
        f"ceil((SELECT sum(_whole) FROM p)), (SELECT count(*) FROM p), "
        f"2 * (SELECT max(least(_records, _keys * {lanes} * {ranges})) FROM _days), "
        f"(SELECT ceil(sum(_bytes) / sum(_keys)) FROM _days), "
        f"(SELECT coalesce(date_diff('day', min(_day), max(_day)) + 1, 0) FROM _days)"
    )
