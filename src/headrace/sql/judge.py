"""From a contract to SQL: how bronze text becomes typed values, verdicts and reasons. Batch, stream and Spark run this SQL."""

from __future__ import annotations

import json

from sqlglot import exp

from headrace.errors import DeclarationError, Place
from headrace.model.source import OCCURRENCE, Repair, Source
from headrace.model.types import Column, Type
from headrace.sql.dialect import Text, check_subset, is_division_safe, parse_expression, render

RAW = "_raw_"
"""Prefix of the columns that hold values as sent while a record is judged."""
TEXT = "_text_"
"""Prefix of the columns that hold the texts that values are read from."""
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


def _raw(source: Source, column: Column, prefix: str = "") -> str:
    """A column of bronze under the name that it is judged by. JSON is kept as JSON there; here it is its text."""
    return f"CAST({prefix}{quote(source.sent(column.name))} AS VARCHAR) AS {RAW}{column.name}"


def sent_text(source: Source, column: Column) -> str:
    """The text that a column's value is read from."""
    raw = RAW + column.name
    if is_json_text(source, column):
        return f"CASE WHEN starts_with({raw}, '\"') THEN {raw}[2:-2] ELSE {raw} END"
    if column.type.is_number and source.format.decimal != ".":
        # Exchanged, so that a point, which here parts thousands, is not taken for the decimal sign.
        return f"translate({raw}, {literal(source.format.decimal + '.')}, {literal('.' + source.format.decimal)})"
    return raw


def read_column(column: Column) -> tuple[str, str]:
    """The typed value of a column, and the condition under which a value that was sent cannot be it. Both read the
    column's text (``sent_text``) under the name TEXT + name."""
    value, fits = _cast(TEXT + column.name, column.type, column.name)
    return value, f"{RAW}{column.name} IS NOT NULL AND ({column.name} IS NULL OR NOT ({fits}))" if fits else "false"


def _cast(text: str, type: Type, name: str) -> tuple[str, str]:
    """A value and the condition that nothing was lost in reading it; an empty condition cannot fail.

    The engine's casts round, trim, and know ``1_000``, ``0x10``, ``infinity`` and ``epoch``; the conditions do not.
    """
    value = f"TRY_CAST({text} AS {type})"
    if type.name == "VARCHAR":
        return text, ""
    if type.is_exact:
        scale = type.scale if type.name == "DECIMAL" else 0
        fraction = f"[0-9]{{1,{scale}}}0*" if scale else "0+"
        digits = f"regexp_full_match({text}, '[-+]?([0-9]+([.]{fraction})?|[.]{fraction})')"
        # At most 15 digits before the exponent: then a rounded value is another double, so that rounding shows.
        short = f"regexp_full_match({text}, '[-+]?[0-9.]{{1,15}}[eE][-+]?[0-9]{{1,3}}')"
        same = f"CAST(CAST({name} AS VARCHAR) AS DOUBLE) = TRY_CAST({text} AS DOUBLE)"
        return value, f"CASE WHEN {digits} THEN true ELSE {short} AND {same} END"
    if type.name == "DOUBLE":
        # Zero is added to make -0.0, whose place among equal values is open, plain zero.
        return f"{value} + 0", f"regexp_full_match({text}, '[-+]?[0-9.]+([eE][-+]?[0-9]+)?') AND isfinite({name})"
    if type.name == "DATE":
        return value, f"regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') AND {name} >= DATE '0001-01-01'"
    if type.is_instant:
        zone = "(Z|[-+](0[0-9]|1[0-4])(:?[0-5][0-9])?)" if type.name == "TIMESTAMPTZ" else "Z?"
        shape = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6}0*)?)?" + zone
        # What has this shape without a blank and casts at all is an instant to the second: the common case.
        quick = f"{text} LIKE '____-__-__T__:__:__Z' AND NOT contains({text}, ' ')"
        leap = f"TRY_CAST({text}[:17] || '59' || {text}[20:] AS {type})"
        value = f"coalesce({value}, CASE WHEN contains({text}, ':60') THEN {leap} END)"
        # The years that every client can hold, in UTC as well.
        years = f"{name} >= {type} '0001-01-01' AND {name} < {type} '10000-01-01'"
        return value, f"CASE WHEN {quick} THEN true ELSE regexp_full_match({text}, '{shape}') END AND {years}"
    return value, "true"


def type_reason(column: Column) -> str:
    return f"{column.name} is not {column.type}"


def missing_reason(column: Column) -> str:
    return f"{column.name} is missing"


def repair_reason(repair: Repair) -> str:
    return f"{repair.column} cannot be repaired: {repair.reason}"


def reasons_of(source: Source) -> frozenset[str]:
    """Every reason that ``judge_sql`` can give; others are of records that could not be parsed when they landed."""
    read = [reason(column) for column in source.columns for reason in (type_reason, missing_reason)]
    return frozenset([*read, *map(repair_reason, source.repairs), *(rule.reason for rule in source.rules)])


def judge_sql(source: Source, bronze: str, duplicates: str | None) -> str:
    """SQL that judges bronze rows: META, the contract's columns (repaired), and the JUDGED columns.

    ``bronze`` is a relation with META, ``_error`` and the columns as sent. ``duplicates`` is a relation of
    (_lane, _offset) that are duplicates or superseded, with ``_verdict``; None where there are none.
    ``_verdict`` is clean, quarantined, duplicate, superseded, or unreadable (could not be parsed when it landed).
    """
    meta = ", ".join(f"b.{name}" for name in source.meta)
    raws = ", ".join(RAW + c.name for c in source.columns)
    raw = ", ".join(_raw(source, c, "b.") for c in source.columns)
    texts = ", ".join(f"{sent_text(source, c)} AS {TEXT}{c.name}" for c in source.columns)
    read, misfits = [], []
    for column in source.columns:
        value, misfit = read_column(column)
        read.append(f"{value} AS {column.name}")
        if misfit != "false":
            misfits.append((misfit, type_reason(column)))
        if not column.nullable:
            misfits.append((f"{RAW}{column.name} IS NULL", missing_reason(column)))
    repairs = {r.column: r for r in source.repairs}
    mended = []
    for column in source.columns:
        repair = repairs.get(column.name)
        if repair is None:
            mended.append(column.name)
            continue
        # In a struct an error can be told from NULL: what cannot be repaired is quarantined.
        value = f"TRY({{'value': CAST({expression(source, repair.expression)} AS {column.type})}})"
        mended += [f"{value}.value AS {column.name}", f"{column.name} AS _old_{column.name}"]
        misfits.append((f"{value} IS NULL", repair_reason(repair)))
    changes = [(f"_old_{r.column} IS DISTINCT FROM {r.column}", r.column, r.reason) for r in source.repairs]
    changes += [
        (f"contains({RAW}{c.name}, ':60') AND {c.name} IS NOT NULL", c.name, "leap second read as :59")
        for c in source.columns
        if c.type.is_instant
    ]
    # Rules and flags see the repaired values; a record that could not be read is not judged by them. A rule that fails
    # with an error fails; a flag does not fly.
    rules = [
        (f"coalesce(TRY(coalesce(NOT {expression(source, r.condition)}, false)), true)", r.reason) for r in source.rules
    ]
    flags = [(f"TRY({expression(source, f.condition)})", f.reason) for f in source.flags]
    readable = "_error IS NULL AND _misfits IS NULL"
    verdict = "CASE WHEN n._error IS NOT NULL THEN 'unreadable' WHEN n._reasons IS NOT NULL THEN 'quarantined'"
    join = ""
    if duplicates is not None:
        verdict += " WHEN d._verdict IS NOT NULL THEN d._verdict"
        join = f" LEFT JOIN {duplicates} AS d ON d._lane = n._lane AND d._offset = n._offset"
    verdict += " ELSE 'clean' END AS _verdict"
    return f"""
WITH sent AS (SELECT {meta}, b._error, {raw} FROM {bronze} AS b),
texts AS (SELECT *, {texts} FROM sent),
typed AS (SELECT *, {", ".join(read)} FROM texts),
mended AS (SELECT {", ".join(source.meta)}, _error, {raws}, {_reasons(misfits)} AS _misfits, {", ".join(mended)} FROM typed),
n AS (SELECT *, CASE WHEN _error IS NOT NULL THEN [_error] WHEN _misfits IS NOT NULL THEN _misfits
                     ELSE {_reasons(rules)} END AS _reasons,
             CASE WHEN {readable} THEN {_reasons(flags)} END AS _flags,
             CASE WHEN {readable} THEN {_changes(changes)} END AS _repairs FROM mended)
SELECT {", ".join("n." + m for m in source.meta)}, {", ".join("n." + c.name for c in source.columns)}, {verdict},
       n._reasons, n._flags, n._repairs
FROM n{join}"""


def _some(pairs: list[tuple[str, str]], nothing: str) -> str:
    """A list of the items whose condition holds, NULL where none does (nearly always: so that is tested first)."""
    if not pairs:
        return f"CAST(NULL AS {nothing})"
    any_of = " OR ".join(f"coalesce({condition}, false)" for condition, _ in pairs)
    each = ", ".join(f"CASE WHEN {condition} THEN {item} END" for condition, item in pairs)
    return f"CASE WHEN {any_of} THEN list_filter([{each}], lambda _item: _item IS NOT NULL) END"


def _reasons(pairs: list[tuple[str, str]]) -> str:
    return _some([(condition, literal(reason)) for condition, reason in pairs], "VARCHAR[]")


def _changes(changes: list[tuple[str, str, str]]) -> str:
    items = [
        (
            condition,
            f"{{'column': {literal(column)}, 'reason': {literal(reason)}, 'before': {RAW}{column}, 'after': CAST({column} AS VARCHAR)}}",
        )
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
    for place, sql in _declared(source):
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
                errors.append(
                    DeclarationError("HR0206", f"division without nullif: {sql}", place=place, help="x / nullif(y, 0)")
                )
    return errors


def bronze_columns(source: Source) -> list[tuple[str, str]]:
    """Names and SQL types of a source's bronze table."""
    fixed = [
        ("_file", "VARCHAR"),
        ("_row", "BIGINT"),
        ("_lane", "VARCHAR"),
        ("_offset", "BIGINT"),
        ("_landed_at", "TIMESTAMPTZ"),
    ]
    return [
        *fixed,
        *([(OCCURRENCE, "BIGINT")] if source.twins else []),
        ("_sha256", "VARCHAR"),
        ("_error", "VARCHAR"),
        ("_bytes", "BLOB"),
        *((source.sent(c.name), "VARCHAR") for c in source.columns),
    ]


def silver_columns(source: Source) -> list[tuple[str, str]]:
    """Names and SQL types of a source's silver table."""
    fixed = [
        ("_file", "VARCHAR"),
        ("_row", "BIGINT"),
        ("_lane", "VARCHAR"),
        ("_offset", "BIGINT"),
        ("_landed_at", "TIMESTAMPTZ"),
    ]
    judged = [("_verdict", "VARCHAR"), ("_reasons", "VARCHAR[]"), ("_flags", "VARCHAR[]"), ("_repairs", REPAIR_TYPE)]
    if source.twins:
        fixed.append((OCCURRENCE, "BIGINT"))
    return [*fixed, *((c.name, str(c.type)) for c in source.columns), *judged]


def identity_sql(source: Source, bronze: str) -> str:
    """SELECT of every bronze row's identity as typed values, with its lane and offset; NULL where one is missing or no value
    of its type. ``05`` and ``5`` are one BIGINT, ``5`` and ``"5"`` one number in JSON."""
    columns = [c for c in source.columns if c.name in source.identity]
    raw = ", ".join(_raw(source, c) for c in columns)
    texts = ", ".join(f"{sent_text(source, c)} AS {TEXT}{c.name}" for c in columns)
    values = ", ".join(f"{read_column(c)[0]} AS {c.name}" for c in columns)
    meta = ", ".join(name for name in source.meta if name in ("_lane", "_offset", OCCURRENCE))
    return f"SELECT {meta}, {values} FROM (SELECT *, {texts} FROM (SELECT {meta}, {raw} FROM {bronze}))"


def repeats_sql(source: Source, judged: str) -> str:
    """Records that are duplicates (facts) or superseded (references): (_lane, _offset, _verdict).

    ``judged`` is a relation with META, the identity columns and ``_reasons``. A duplicate is a record whose id occurs
    among the rule-passing records of the previous ``horizon`` offsets of its lane, counted or not (seam: Values).
    """
    passing = f"SELECT * FROM {judged} WHERE _reasons IS NULL"
    identity = ", ".join(source.event_id)
    if source.role == "fact":
        before = f"lag(_offset) OVER (PARTITION BY _lane, {identity} ORDER BY _offset)"
        return (
            f"SELECT _lane, _offset, 'duplicate' AS _verdict FROM (SELECT _lane, _offset, {before} AS _before FROM ({passing})) "
            f"WHERE _offset - _before <= {source.horizon}"
        )
    key = identity if source.valid_from is None else f"{identity}, {source.valid_from}"
    newest = f"row_number() OVER (PARTITION BY {key} ORDER BY _lane DESC, _offset DESC)"
    return f"SELECT _lane, _offset, 'superseded' AS _verdict FROM (SELECT _lane, _offset, {newest} AS _rank FROM ({passing})) WHERE _rank > 1"


def probe_sql(source: Source, bronze: str) -> list[tuple[Place, str]]:
    """One SELECT for each declared expression alone, to find the one that the engine refuses."""
    raw = ", ".join(_raw(source, c) for c in source.columns)
    typed = ", ".join(f"CAST(NULL AS {c.type}) AS {c.name}" for c in source.columns)
    relation = f"(SELECT {raw}, {typed} FROM {bronze})"
    return [(place, f"SELECT {expression(source, sql)} AS x FROM {relation}") for place, sql in _declared(source)]


def _declared(source: Source) -> list[tuple[Place, str]]:
    conditions = [
        *((r.place, r.condition) for r in source.rules),
        *((f.place, f.condition) for f in source.flags),
    ]
    return [*((r.place, r.expression) for r in source.repairs), *conditions]
