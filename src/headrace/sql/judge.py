"""From a contract to SQL: how bronze text becomes typed values, verdicts and reasons. Batch, stream and Spark run this SQL."""

from __future__ import annotations

import json

from sqlglot import exp

from headrace.errors import DeclarationError, Place
from headrace.model.source import META, Source
from headrace.model.types import INTEGERS, Column, Type
from headrace.sql.dialect import Text, check_subset, is_division_safe, parse_expression, render

RAW = "_raw_"
"""Prefix of the columns that hold values as sent while a record is judged."""
JUDGED = ("_verdict", "_reasons", "_flags", "_repairs")
REPAIR_TYPE = 'STRUCT("column" VARCHAR, reason VARCHAR, before VARCHAR, after VARCHAR)[]'


def quote(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def is_json_text(source: Source, column: Column) -> bool:
    """Whether bronze keeps a column as JSON text (``12`` and ``"12"`` differ) rather than as plain text."""
    return source.format.kind == "jsonl" and (column.type.is_number or column.type.name == "BOOLEAN")


def decode_json(source: Source, line: str) -> str:
    """An expression that takes one JSON line apart into a struct of bronze columns; NULL where it is not JSON."""
    shape = {source.sent(c.name): "JSON" if is_json_text(source, c) else "VARCHAR" for c in source.columns}
    return f"try(from_json({line}, {literal(json.dumps(shape))}))"


def read_column(source: Source, column: Column) -> tuple[str, str]:
    """The typed value of a column, and the condition under which a value that was sent cannot be it."""
    raw = RAW + column.name
    text = raw
    if is_json_text(source, column):
        text = f"CASE WHEN starts_with({raw}, '\"') THEN {raw}[2:-2] ELSE {raw} END"
    elif column.type.is_number and source.format.decimal != ".":
        text = f"replace({raw}, {literal(source.format.decimal)}, '.')"
    value, fits = _cast(text, column.type, f"{column.name}")
    return value, f"{raw} IS NOT NULL AND ({column.name} IS NULL OR NOT ({fits}))" if fits else "false"


def _cast(text: str, type: Type, name: str) -> tuple[str, str]:
    """A value and the condition that nothing was lost in reading it; an empty condition cannot fail."""
    plain = f"regexp_full_match({text}, '[-+0-9.eE]+')"
    if type.name == "VARCHAR":
        return text, ""
    if type.name == "DECIMAL":
        wide = min(38, 38 - (type.precision - type.scale))
        return f"TRY_CAST({text} AS {type})", f"{plain} AND TRY_CAST({text} AS DECIMAL(38,{min(wide, type.scale + 12)})) = {name}"
    if type.name in INTEGERS:
        return f"TRY_CAST({text} AS {type})", f"{plain} AND TRY_CAST({text} AS DECIMAL(38,12)) = {name}"
    if type.name == "DOUBLE":
        return f"TRY_CAST({text} AS DOUBLE)", f"{plain} AND isfinite({name})"
    if type.name == "DATE":
        return f"TRY_CAST({text} AS DATE)", f"regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
    if type.is_instant:
        zone = "(Z|[-+][0-9]{2}(:?[0-9]{2})?)" if type.name == "TIMESTAMPTZ" else "Z?"
        shape = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?" + zone
        # A text of 20 characters that ends in Z and casts at all is an instant to the second: the common case, unmatched.
        quick = f"(length({text}) = 20 AND ends_with({text}, 'Z'))"
        value = f"coalesce(TRY_CAST({text} AS {type}), CASE WHEN contains({text}, ':60') THEN TRY_CAST(replace({text}, ':60', ':59') AS {type}) END)"
        return value, f"{quick} OR regexp_full_match({text}, '{shape}')"
    return f"TRY_CAST({text} AS BOOLEAN)", "true"


def type_reason(column: Column) -> str:
    return f"{column.name} is not {column.type}"


def judge_sql(source: Source, bronze: str, duplicates: str | None) -> str:
    """SQL that judges bronze rows: META, the contract's columns (repaired), and the JUDGED columns.

    ``bronze`` is a relation with META, ``_error`` and the columns as sent. ``duplicates`` is a relation of
    (_lane, _offset) that are duplicates or superseded, with ``_verdict``; None where there are none.
    ``_verdict`` is clean, quarantined, duplicate, superseded, or unreadable (could not be parsed when it landed).
    """
    meta = ", ".join(f"b.{name}" for name in META)
    raw = ", ".join(f"b.{quote(source.sent(c.name))} AS {RAW}{c.name}" for c in source.columns)
    read, misfits = [], []
    for column in source.columns:
        value, misfit = read_column(source, column)
        read.append(f"{value} AS {column.name}")
        if misfit != "false":
            misfits.append((misfit, type_reason(column)))
        if not column.nullable:
            misfits.append((f"{RAW}{column.name} IS NULL", f"{column.name} is missing"))
    repairs = {r.column: expression(source, r.expression) for r in source.repairs}
    mended = [f"{repairs[c.name]} AS {c.name}, {c.name} AS _old_{c.name}" if c.name in repairs else c.name for c in source.columns]
    changes = [(f"_old_{r.column} IS DISTINCT FROM {r.column}", r.column, r.reason) for r in source.repairs]
    changes += [
        (f"contains({RAW}{c.name}, ':60') AND {c.name} IS NOT NULL", c.name, "leap second read as :59")
        for c in source.columns if c.type.is_instant
    ]  # fmt: skip
    # Rules and flags see the repaired values; a record that could not be read is not judged by them.
    rules = [(f"NOT {expression(source, r.condition)}", r.reason) for r in source.rules]
    flags = [(expression(source, f.condition), f.reason) for f in source.flags]
    readable = "_error IS NULL AND _misfits IS NULL"
    verdict = "CASE WHEN n._error IS NOT NULL THEN 'unreadable' WHEN n._reasons IS NOT NULL THEN 'quarantined'"
    join = ""
    if duplicates is not None:
        verdict += " WHEN d._verdict IS NOT NULL THEN d._verdict"
        join = f" LEFT JOIN {duplicates} AS d ON d._lane = n._lane AND d._offset = n._offset"
    verdict += " ELSE 'clean' END AS _verdict"
    return f"""
WITH sent AS (SELECT {meta}, b._error, {raw} FROM {bronze} AS b),
typed AS (SELECT *, {", ".join(read)} FROM sent),
mended AS (SELECT {", ".join(META)}, _error, {", ".join(RAW + c.name for c in source.columns)}, {_reasons(misfits)} AS _misfits,
                  {", ".join(mended)} FROM typed),
n AS (SELECT *, CASE WHEN _error IS NOT NULL THEN [_error] WHEN _misfits IS NOT NULL THEN _misfits ELSE {_reasons(rules)} END AS _reasons,
             CASE WHEN {readable} THEN {_reasons(flags)} END AS _flags,
             CASE WHEN {readable} THEN {_changes(changes)} END AS _repairs FROM mended)
SELECT {", ".join("n." + m for m in META)}, {", ".join("n." + c.name for c in source.columns)}, {verdict}, n._reasons, n._flags, n._repairs
FROM n{join}"""


def _some(pairs: list[tuple[str, str]], nothing: str) -> str:
    """A list of the items whose condition holds, NULL where none does (nearly always: so that is tested first)."""
    if not pairs:
        return f"CAST(NULL AS {nothing})"
    any_of = " OR ".join(f"coalesce({condition}, false)" for condition, _ in pairs)
    each = ", ".join(f"CASE WHEN {condition} THEN {item} END" for condition, item in pairs)
    return f"CASE WHEN {any_of} THEN list_filter([{each}], lambda x: x IS NOT NULL) END"


def _reasons(pairs: list[tuple[str, str]]) -> str:
    return _some([(condition, literal(reason)) for condition, reason in pairs], "VARCHAR[]")


def _changes(changes: list[tuple[str, str, str]]) -> str:
    items = [
        (condition, f"{{'column': {literal(column)}, 'reason': {literal(reason)}, 'before': {RAW}{column}, 'after': CAST({column} AS VARCHAR)}}")
        for condition, column, reason in changes
    ]
    return _some(items, REPAIR_TYPE)


def expression(source: Source, sql: str) -> str:
    """A rule's, flag's or repair's SQL with ``raw.column`` pointing at the value as sent."""
    tree = parse_expression(Text(sql, source.place)).copy()
    for column in tree.find_all(exp.Column):
        if column.table == "raw":
            column.replace(exp.column(RAW + column.name))
    return f"({render(tree)})"


def check_expressions(source: Source) -> list[DeclarationError]:
    """Parse errors, constructs outside the subset, and raw columns that do not exist."""
    errors: list[DeclarationError] = []
    texts = [(r.expression, r.place) for r in source.repairs] + [(r.condition, r.place) for r in (*source.rules, *source.flags)]
    for sql, place in texts:
        text = Text(sql, place)
        try:
            tree = parse_expression(text)
        except DeclarationError as error:
            errors.append(error)
            continue
        errors += [DeclarationError(e.code, e.what, place=place, help=e.help) for e in check_subset(tree, text)]
        if tree.find(exp.Select, exp.Window):
            errors.append(DeclarationError("HR0202", f"a rule sees one record only: {sql}", place=place))
        for division in tree.find_all(exp.Div):
            if not is_division_safe(division):
                errors.append(DeclarationError("HR0206", f"division without nullif: {sql}", place=place, help="x / nullif(y, 0)"))
    return errors


def bronze_columns(source: Source) -> list[tuple[str, str]]:
    """Names and SQL types of a source's bronze table."""
    fixed = [("_file", "VARCHAR"), ("_row", "BIGINT"), ("_lane", "VARCHAR"), ("_offset", "BIGINT"), ("_landed_at", "TIMESTAMPTZ")]
    return [*fixed, ("_sha256", "VARCHAR"), ("_error", "VARCHAR"), ("_bytes", "BLOB"), *((source.sent(c.name), "VARCHAR") for c in source.columns)]


def silver_columns(source: Source) -> list[tuple[str, str]]:
    """Names and SQL types of a source's silver table."""
    fixed = [("_file", "VARCHAR"), ("_row", "BIGINT"), ("_lane", "VARCHAR"), ("_offset", "BIGINT"), ("_landed_at", "TIMESTAMPTZ")]
    judged = [("_verdict", "VARCHAR"), ("_reasons", "VARCHAR[]"), ("_flags", "VARCHAR[]"), ("_repairs", REPAIR_TYPE)]
    return [*fixed, *((c.name, str(c.type)) for c in source.columns), *judged]


def repeats_sql(source: Source, judged: str) -> str:
    """Records that are duplicates (facts) or superseded (references): (_lane, _offset, _verdict).

    ``judged`` is a relation with META, the identity columns and ``_reasons``. A duplicate is a record whose id occurs
    among the rule-passing records of the previous ``horizon`` offsets of its lane, counted or not (seam: Values).
    """
    passing = f"SELECT * FROM {judged} WHERE _reasons IS NULL"
    identity = ", ".join(source.identity)
    if source.role == "fact":
        before = f"lag(_offset) OVER (PARTITION BY _lane, {identity} ORDER BY _offset)"
        return (
            f"SELECT _lane, _offset, 'duplicate' AS _verdict FROM (SELECT _lane, _offset, {before} AS _before FROM ({passing})) "
            f"WHERE _offset - _before <= {source.horizon}"
        )
    key = identity if source.valid_from is None else f"{identity}, {source.valid_from}"
    newest = f"row_number() OVER (PARTITION BY {key} ORDER BY _lane DESC, _offset DESC)"
    return (
        f"SELECT _lane, _offset, 'superseded' AS _verdict FROM (SELECT _lane, _offset, {newest} AS _rank FROM ({passing})) WHERE _rank > 1"
    )


def probe_sql(source: Source, bronze: str) -> list[tuple[Place, str]]:
    """One SELECT for each declared expression alone, to find the one that the engine refuses."""
    raw = ", ".join(f"{quote(source.sent(c.name))} AS {RAW}{c.name}" for c in source.columns)
    typed = ", ".join(f"CAST(NULL AS {c.type}) AS {c.name}" for c in source.columns)
    relation = f"(SELECT {raw}, {typed} FROM {bronze})"
    declared = [(r.place, r.expression) for r in source.repairs] + [(r.place, r.condition) for r in (*source.rules, *source.flags)]
    return [(place, f"SELECT {expression(source, sql)} AS x FROM {relation}") for place, sql in declared]
