"""SQL over a mart's stored parts: merging them, finishing them, rolling them up to a serving table's key."""

from __future__ import annotations

from headrace.model.mart import Mart, Part
from headrace.model.retention import Floor
from headrace.model.serving import ServingTable
from headrace.model.types import Type
from headrace.sql.mart import RECORDS


def merge_sql(part: Part, column: str) -> str:
    """An aggregate that merges stored values of a part into one of the same type."""
    if part.merge == "set":
        return f"list_sort(list_distinct(flatten(list({column}))))"
    if part.merge == "value":
        return f"any_value({column})"
    if part.merge in ("arg_min", "arg_max"):
        return f"{part.merge[4:]}({column})"
    return f"CAST({part.merge}({column}) AS {part.type})"


def parts_columns(mart: Mart) -> list[tuple[str, str]]:
    """Names and SQL types of a mart's table in gold."""
    return [
        *((c.name, str(c.type)) for c in mart.grain),
        *((p.name, p.lake_type) for p in mart.parts),
        (RECORDS, "BIGINT"),
    ]


def merged_sql(mart: Mart, scan: str) -> str:
    """One row a key from the appended pieces of a mart; emptied groups are gone."""
    grain = [c.name for c in mart.grain]
    columns = [
        *grain,
        *(f"{merge_sql(p, p.name)} AS {p.name}" for p in mart.parts),
        f"CAST(sum({RECORDS}) AS BIGINT) AS {RECORDS}",
    ]
    return f"SELECT {', '.join(columns)} FROM {scan}{_grouped(grain)} HAVING sum({RECORDS}) > 0"


def finished_sql(mart: Mart, parts: str) -> str:
    """The mart as people read it: grain and finished measures. Quotients are the engine's doubles here; answers are exact."""
    columns = [*(c.name for c in mart.grain), *(f"{m.finisher} AS {m.name}" for m in mart.measures)]
    values = [f"{p.name}.v AS {p.name}" for p in mart.parts if p.by is not None]
    if values:
        parts = f"(SELECT * REPLACE ({', '.join(values)}) FROM {parts})"
    finished = f"SELECT {', '.join(columns)} FROM {parts}"
    return f"SELECT * FROM ({finished}) WHERE {mart.having}" if mart.having else finished


def _grouped(columns: list[str]) -> str:
    return f" GROUP BY {', '.join(columns)}" if columns else ""


def rollup_sql(table: ServingTable, parts: str) -> str:
    """A mart's merged parts (or a dataset's rows), filtered and rolled up to a serving table's key, as stored values."""
    key = ", ".join(c.name for c in table.key)
    where = f" WHERE {table.where}" if table.where else ""
    stored_key = ", ".join(f"{stored(c.name, c.type)} AS {c.name}" for c in table.key)
    if not table.of_mart:
        values = "".join(f", {stored_part(p, p.name)} AS {p.name}" for p in table.parts)
        return f"SELECT {stored_key}{values}, CAST(1 AS BIGINT) AS {RECORDS} FROM {parts}{where}"
    values = "".join(f", {stored_part(p, merge_sql(p, p.name))} AS {p.name}" for p in table.parts)
    head = f"{stored_key}{values}" if key else values.removeprefix(", ")
    return (
        f"SELECT {head}, CAST(sum({RECORDS}) AS BIGINT) AS {RECORDS} FROM {parts}{where}"
        + _grouped([c.name for c in table.key])
        + f" HAVING sum({RECORDS}) > 0"
    )


def stored_part(part: Part, expression: str) -> str:
    """A part as the stored value of it; an ordered one as JSON of [order, lane, offset, value]."""
    if part.by is None:
        return stored(expression, part.type)
    k, v = stored(f"({expression}).k", part.by), stored(f"({expression}).v", part.type)
    return (
        f"CASE WHEN {expression} IS NOT NULL THEN CAST(json_array({k}, ({expression}).lane, "
        f'({expression})."offset", {v}) AS VARCHAR) END'
    )


def stored(expression: str, type: Type) -> str:
    """An expression of a SQL type as the stored value of it (``model.serving``)."""
    if type.name in ("DATE", "DECIMAL"):
        return f"CAST({expression} AS VARCHAR)"
    if type.is_instant:
        return f"epoch_us({expression})"
    if type.name == "BOOLEAN":
        return f"CAST({expression} AS BIGINT)"
    if type.item is not None and type.item.name == "DECIMAL":
        # As text: a number in JSON is read as a double.
        return f"CAST(to_json(CAST({expression} AS VARCHAR[])) AS VARCHAR)"
    if type.name == "LIST":
        return f"CAST(to_json({expression}) AS VARCHAR)"
    return f"CAST({expression} AS BIGINT)" if type.is_exact else expression


def stored_type(type: Type) -> str:
    """The SQL type of a stored value."""
    if type.name == "DOUBLE":
        return "DOUBLE"
    return (
        "BIGINT"
        if type.name == "BOOLEAN" or type.is_instant or (type.is_exact and type.name != "DECIMAL")
        else "VARCHAR"
    )


def state_columns(table: ServingTable) -> list[tuple[str, str]]:
    """Names and SQL types of the lake's copy of a serving table's live rows."""
    typed = [(c.name, stored_type(c.type)) for c in table.key] + [
        (p.name, "VARCHAR" if p.by else stored_type(p.type)) for p in table.parts
    ]
    return [*typed, (RECORDS, "BIGINT"), ("_slot", "BIGINT"), ("_gen", "BIGINT")]


def first_sql(fresh: str, generation: int) -> str:
    """Rows to publish into a table that never was: all rows of ``fresh``, a SELECT, in slot 0."""
    return f"SELECT *, CAST(0 AS BIGINT) AS _slot, CAST({generation} AS BIGINT) AS _gen FROM ({fresh})"


def changes_sql(table: ServingTable, fresh: str, live: str, generation: int, *, whole: bool) -> str:
    """Rows to publish: those of ``fresh`` that differ from ``live``, each for the slot that is not being read; with
    ``whole``, also the keys that are gone, emptied (Batch run, 3)."""
    key = [c.name for c in table.key]
    same_key = " AND ".join(f"f.{k} = l.{k}" for k in key) or "true"
    values = [*(p.name for p in table.parts), RECORDS]
    differs = " OR ".join(f"f.{v} IS DISTINCT FROM l.{v}" for v in values)
    columns = ", ".join(f"f.{n}" for n in (*key, *values))
    changed = (
        f"SELECT {columns}, CAST(1 - coalesce(l._slot, 1) AS BIGINT) AS _slot, CAST({generation} AS BIGINT) AS _gen "
        f"FROM {fresh} AS f LEFT JOIN {live} AS l ON {same_key} WHERE l._gen IS NULL OR {differs}"
    )
    if not whole:
        return changed
    emptied = ", ".join(
        [
            *(f"l.{k}" for k in key),
            *(f"CAST(NULL AS {'VARCHAR' if p.by else stored_type(p.type)})" for p in table.parts),
        ]
    )
    return (
        f"{changed} UNION ALL SELECT {emptied}{', ' if emptied else ''}CAST(0 AS BIGINT), CAST(1 - l._slot AS BIGINT), CAST({generation} AS BIGINT) "
        f"FROM {live} AS l WHERE l.{RECORDS} > 0 AND NOT EXISTS (SELECT 1 FROM {fresh} AS f WHERE {same_key})"
    )


def kept_sql(rows: str, floor: Floor | None) -> str:
    """Those of ``rows``, a SELECT with a serving table's key, whose window is not below the floor."""
    return rows if floor is None else f"SELECT * FROM ({rows}) WHERE NOT {_below(floor)}"


def unknown_sql(rows: str, floor: Floor | None) -> str:
    """Live rows, those below the floor as ones of which the store has anything or nothing: whatever is there now is a
    change, and goes to slot 0."""
    if floor is None:
        return rows
    unknown = ((RECORDS, "1"), ("_slot", "1"), ("_gen", "NULL"))
    replaced = ", ".join(f"CAST(CASE WHEN {_below(floor)} THEN {v} ELSE {c} END AS BIGINT) AS {c}" for c, v in unknown)
    return f"SELECT * REPLACE ({replaced}) FROM ({rows})"


def _below(floor: Floor) -> str:
    start = floor.start if isinstance(floor.start, int) else f"'{floor.start}'"
    return f"({floor.column} < {start})"


def live_sql(table: ServingTable, scan: str, pieces: int) -> str:
    """The newest row of each key among the appended pieces of a table's state."""
    if pieces <= 1:
        return f"SELECT * FROM {scan}"
    key = ", ".join(c.name for c in table.key)
    over = f"PARTITION BY {key} ORDER BY _gen DESC" if key else "ORDER BY _gen DESC"
    return f"SELECT * FROM {scan} QUALIFY row_number() OVER ({over}) = 1"
