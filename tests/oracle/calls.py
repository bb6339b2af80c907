"""Independent oracle for calls: DuckDB over the raw files, with its own edition of the tz database and nothing of the product.

An attempted call is its phone, its destination and the instant at which it began; the first record of it counts, of those in
which every field is a value.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

Row = dict[str, Any]
COLUMNS = (
    "phone",
    "destination",
    "started_at",
    "seconds",
    "source_tower",
    "destination_tower",
    "completed",
    "source_imei",
)


def rounded(numerator: int, denominator: int) -> str | None:
    """A quotient to two places, half away from zero; neither is negative."""
    return f"{(200 * numerator + denominator) // (2 * denominator) / Decimal(100):.2f}" if denominator else None


class Calls:
    """The calls of a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.sql = duckdb.connect()
        self.sql.execute("SET timezone = 'UTC'")
        types = ", ".join(f"'{c}': 'VARCHAR'" for c in COLUMNS)
        self.sql.execute(f"""
            CREATE TABLE attempts AS
            SELECT phone, destination, CAST(started_at AS TIMESTAMPTZ) AS began,
                CAST(started_at AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS utc, any_value(CAST(seconds AS BIGINT)) AS seconds,
                any_value(completed = 'true') AS completed
            FROM read_csv('{folder}/**/calls*.csv', header = true, columns = {{{types}}}, auto_detect = false)
            WHERE phone IS NOT NULL AND destination IS NOT NULL AND regexp_full_match(seconds, '[0-9]+') AND completed IN ('true', 'false')
                AND regexp_full_match(source_tower, '[0-9]+') AND regexp_full_match(coalesce(destination_tower, '0'), '[0-9]+')
                AND regexp_full_match(started_at, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]{{1,6}})?(Z|[+-][0-9]{{2}}:[0-9]{{2}})')
            GROUP BY ALL""")

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self.sql.execute(sql, values).fetchall()

    def phones(self) -> list[str]:
        return [phone for (phone,) in self.rows("SELECT DISTINCT phone FROM attempts ORDER BY phone")]

    def rate(
        self, start: str, end: str, phone: str | None, first: int | None, last: int | None, zone: str | None
    ) -> Row:
        """The answer for calls from ``start`` until before ``end``, within hours of the day of a zone."""
        hours = list(range(24))
        if first is not None or last is not None:
            hour, hours = first or 0, []
            while hour != (24 if last is None else last) % 24 or not hours:
                hours.append(hour)
                hour = (hour + 1) % 24
        total, successful, seconds = self.rows(
            """
            SELECT count(*), count(*) FILTER (completed), sum(seconds) FILTER (completed) FROM attempts
            WHERE began >= CAST(? AS TIMESTAMPTZ) AND began < CAST(? AS TIMESTAMPTZ) AND (phone = ? OR ? IS NULL)
                AND list_contains(CAST(? AS INTEGER[]), hour(began AT TIME ZONE ?))
            """,
            (start, end, phone, phone, hours, zone or "UTC"),
        )[0]
        return {
            "total": total, "successful": successful, "failed": total - successful,
            "asr_percent": rounded(100 * successful, total), "acd_seconds": rounded(seconds or 0, successful),
        }  # fmt: skip
