"""From what was read of a file, or of a topic, to bronze rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from headrace.model.source import OCCURRENCE, Source
from headrace.sql.judge import decode_json, literal, quote

JSON_SPACE = "' ' || chr(9) || chr(13)"


def landing_sql(source: Source, columns: Sequence[str], lane: str = "", arrivals: str = "_arrivals") -> str:
    """SQL that makes bronze rows of a lane from ``arrivals``: ``_file``, ``_sha256``, ``_offset``, ``_row``, ``_error``,
    ``_bytes``, and either the ``columns`` as sent or ``_line``, one JSON object. Without a lane they are of files, and
    the source's own; messages of a topic's lane bring their own ``_occurrence``."""
    now = "TIMESTAMPTZ '" + dt.datetime.now(dt.UTC).isoformat() + "'"
    origin = f"_file, _row, {literal(lane or source.name)} AS _lane, _offset, {now} AS _landed_at, "
    if source.twins:
        origin += f"{OCCURRENCE}, " if lane else f"{_occurrence(source, columns)} AS {OCCURRENCE}, "
    origin += "_sha256"
    if list(columns) != ["_line"]:
        return f"SELECT {origin}, _error, _bytes, {', '.join(quote(n) for n in columns)} FROM {arrivals}"
    fields = ", ".join(f"_json.{quote(source.sent(c.name))}" for c in source.columns)
    no_object = f"_json IS NULL OR NOT starts_with(ltrim(_line, {JSON_SPACE}), '{{')"
    problem = f"coalesce(_error, CASE WHEN {no_object} THEN 'not a JSON object' END)"
    return (
        f"SELECT {origin}, _problem AS _error, CASE WHEN _problem IS NOT NULL THEN coalesce(_bytes, encode(_line)) END "
        f"AS _bytes, {fields} FROM (SELECT *, {problem} AS _problem FROM "
        f"(SELECT *, {decode_json(source, '_line')} AS _json FROM {arrivals}))"
    )


def message_sql(source: Source, columns: Sequence[str], arrivals: str = "_arrivals") -> str:
    """SQL of what is produced into the source's topic: ``_row``, the key (the texts of the columns that decide the lane),
    the message (one JSON object with the values as sent; the bytes themselves where they cannot be read), ``_error``,
    and the occurrence number."""
    lines = list(columns) == ["_line"]
    names = [source.sent(c.name) for c in source.columns]
    line = "_line" if lines else "to_json({" + ", ".join(f"{literal(n)}: {quote(n)}" for n in names) + "})"
    read = f"(SELECT *, {decode_json(source, '_line')} AS _json FROM {arrivals})" if lines else arrivals
    key = ", ".join(f"""trim(CAST({_sent(source, name, lines=lines)} AS VARCHAR), '"')""" for name in source.lane_by)
    number = _occurrence(source, columns) if source.twins else "1"
    return (
        f"SELECT _row, concat_ws(chr(31), {key}) AS _key, coalesce(_bytes, encode(CAST({line} AS VARCHAR))) AS _message, "
        f"_error, {number} AS _number FROM {read} ORDER BY _row"
    )


def _occurrence(source: Source, columns: Sequence[str]) -> str:
    """The how many-th record of its file with this id, as sent, a record is."""
    lines = list(columns) == ["_line"]
    ids = ", ".join(f"CAST({_sent(source, name, lines=lines)} AS VARCHAR)" for name in source.identity)
    return f"row_number() OVER (PARTITION BY _file, _sha256, {ids} ORDER BY _row)"


def _sent(source: Source, column: str, *, lines: bool) -> str:
    return ("_json." if lines else "") + quote(source.sent(column))
