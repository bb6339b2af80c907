"""SQL that compares what a store answers with what was computed anew, and that mends what differs."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.model.serving import ServingTable
from headrace.sql.gold import changes_sql, stored_type
from headrace.sql.mart import RECORDS

RANGE = (("_lane", "VARCHAR"), ("_start", "BIGINT"))
"""What the key of a speed row has besides."""
NEAR = "1e-9"
"""How far apart, relatively, two computations of one DOUBLE may be: the order of summation is the engine's."""


def stored_columns(table: ServingTable) -> list[tuple[str, str]]:
    """Names and SQL types of a table's stored rows: key, parts, records."""
    typed = [(c.name, stored_type(c.type)) for c in table.key]
    typed += [(p.name, "VARCHAR" if p.by else stored_type(p.type)) for p in table.parts]
    return [*typed, (RECORDS, "BIGINT")]


def drift_sql(table: ServingTable, wanted: str, stored: str, key: Sequence[str]) -> str:
    """The keys at which two relations differ: key, ``kind`` (differing, missing, surplus), ``_slot`` of the stored row."""
    same = " AND ".join(f"w.{k} = s.{k}" for k in key) or "true"
    tests = [f"w.{RECORDS} <> s.{RECORDS}"]
    for part in table.parts:
        w, s = f"w.{part.name}", f"s.{part.name}"
        test = f"{w} IS DISTINCT FROM {s}"
        if part.by is None and stored_type(part.type) == "DOUBLE":
            test = f"({test} AND coalesce(abs({w} - {s}) > {NEAR} * greatest(abs({w}), abs({s})), true))"
        tests.append(test)
    keys = "".join(f"coalesce(w.{k}, s.{k}) AS {k}, " for k in key)
    kind = f"CASE WHEN s.{RECORDS} IS NULL THEN 'missing' WHEN w.{RECORDS} IS NULL THEN 'surplus' ELSE 'differing' END"
    return (
        f"SELECT {keys}{kind} AS kind, s._slot AS _slot FROM {wanted} AS w FULL JOIN {stored} AS s ON {same} "
        f"WHERE s.{RECORDS} IS NULL OR w.{RECORDS} IS NULL OR {' OR '.join(tests)}"
    )


def mending_sql(table: ServingTable, fresh: str, live: str, drift: str, generation: int) -> str:
    """``changes_sql`` of the whole table, and the rows at the keys of ``drift``, which the lake believes to be there.

    Each goes into the slot that the lake's row is not in; where the lake has none, into that which answers not now.
    """
    key = [c.name for c in table.key]
    same = " AND ".join(f"{{0}}.{k} = {{1}}.{k}" for k in key) or "true"
    values = [n for n, _ in stored_columns(table)[len(key) :]]
    columns = ", ".join(f"f.{n}" for n in (*key, *values))
    slot = f"CAST(1 - coalesce(l._slot, d._slot, 1) AS BIGINT) AS _slot, CAST({generation} AS BIGINT) AS _gen"
    changed = changes_sql(table, fresh, live, generation, whole=True)
    new = f"NOT EXISTS (SELECT 1 FROM _changed AS c WHERE {same.format('d', 'c')})"
    nulls = ", ".join(
        [*(f"d.{k}" for k in key), *(f"CAST(NULL AS {t})" for _, t in stored_columns(table)[len(key) : -1])]
    )
    return (
        f"WITH _changed AS MATERIALIZED ({changed}) SELECT * FROM _changed "
        f"UNION ALL SELECT {columns}, {slot} FROM {drift} AS d JOIN {fresh} AS f ON {same.format('d', 'f')} "
        f"LEFT JOIN {live} AS l ON {same.format('d', 'l')} WHERE {new} "
        f"UNION ALL SELECT {nulls}{', ' if nulls else ''}CAST(0 AS BIGINT), {slot} FROM {drift} AS d "
        f"LEFT JOIN {live} AS l ON {same.format('d', 'l')} WHERE NOT EXISTS (SELECT 1 FROM {fresh} AS f WHERE {same.format('d', 'f')}) "
        f"AND {new}"
    )
