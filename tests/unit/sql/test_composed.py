"""Queries over several marts, and windows over rolled up rows, against plain DuckDB."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.errors import ProjectErrors
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("phone")
project.source("usage", csv("usage.csv"), id="id", event_time="at_time", columns="id BIGINT, at_time TIMESTAMPTZ NOT NULL, phone VARCHAR NOT NULL, cost DECIMAL(18,4)")
project.source("ticks", csv("ticks.csv"), id="id", event_time="at_time", columns="id BIGINT, at_time TIMESTAMPTZ NOT NULL, pair VARCHAR NOT NULL, bid DECIMAL(18,6), ask DECIMAL(18,6)")
"""
FILES = {
    "marts/hourly.sql": "SELECT phone, date_trunc('hour', at_time) AS hour, sum(cost) AS cost, count(*) AS events FROM usage GROUP BY ALL",
    "marts/prices.sql": "SELECT pair, date_trunc('hour', at_time) AS hour, sum(bid + ask) / nullif(2 * count(*), 0) AS mid FROM ticks GROUP BY ALL",
    "queries/in_wak.sql": """WITH u AS (SELECT hour, measure(cost) AS cost FROM hourly WHERE phone = $phone AND hour >= $from AND hour < $to GROUP BY hour)
SELECT u.hour, round(u.cost, 6) AS cost, round(u.cost / nullif(m.mid * w.mid, 0), 6) AS wak
FROM u
LEFT JOIN prices AS m ON m.pair = 'MRVZAR' AND m.hour = u.hour AND m.hour BETWEEN date_trunc('hour', $from) AND $to
LEFT JOIN prices AS w ON w.pair = 'WAKMRV' AND w.hour = u.hour AND w.hour BETWEEN date_trunc('hour', $from) AND $to
ORDER BY u.hour""",
    # Three conditions on a joined mart, and conditions in parentheses: both are part of the fetch.
    "queries/bounded.sql": """WITH u AS (SELECT hour, measure(cost) AS cost FROM hourly WHERE (phone = $phone AND hour >= $from) AND hour < $to GROUP BY hour)
SELECT u.hour, round(u.cost / nullif(m.mid, 0), 6) AS cost FROM u
LEFT JOIN prices AS m ON m.pair = 'MRVZAR' AND m.hour = u.hour AND m.hour >= date_trunc('hour', $from) AND m.hour < $to ORDER BY u.hour""",
    "queries/balance.sql": "SELECT hour, measure(cost) AS cost, sum(measure(cost)) OVER (ORDER BY hour) AS balance FROM hourly "
    "WHERE phone = $phone AND hour < $to GROUP BY hour ORDER BY hour",
    "queries/ranked.sql": "SELECT phone, sum(cost) AS cost, rank() OVER (ORDER BY sum(cost) DESC) AS place FROM hourly WHERE hour >= $from GROUP BY phone ORDER BY place, phone",
    "queries/both.sql": "WITH a AS (SELECT phone, sum(events) AS early FROM hourly WHERE hour < $split GROUP BY phone), "
    "b AS (SELECT phone, sum(events) AS late FROM hourly WHERE hour >= $split GROUP BY phone) "
    "SELECT a.phone, a.early, b.late, a.early + b.late AS events FROM a JOIN b USING (phone) WHERE a.early > 1 ORDER BY a.phone LIMIT 2",
}
USAGE = [(i, f"2024-01-01T{i % 5:02}:{i % 60:02}:00Z", f"27{i % 3}", Decimal(i * 17 % 23) / 4) for i in range(60)]
TICKS = [
    (
        i,
        f"2024-01-01T{i % 4:02}:{i % 60:02}:30Z",
        ["MRVZAR", "WAKMRV"][i % 2],
        Decimal(100 + i) / 7 // Decimal("0.000001") * Decimal("0.000001"),
        Decimal(120 + i),
    )
    for i in range(40)
]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    folder = ProjectFolder(tmp_path_factory.mktemp("phone"), DECLARATIONS, FILES)
    folder.land("usage.csv", "id,at_time,phone,cost\n" + "".join(f"{i},{t},{p},{c}\n" for i, t, p, c in USAGE))
    folder.land("ticks.csv", "id,at_time,pair,bid,ask\n" + "".join(f"{i},{t},{p},{b},{a}\n" for i, t, p, b, a in TICKS))
    folder.run()
    return folder


@pytest.fixture(scope="module")
def plain() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("CREATE TABLE usage (id BIGINT, at_time TIMESTAMP, phone VARCHAR, cost DECIMAL(18,4))")
    con.executemany("INSERT INTO usage VALUES (?, CAST(? AS TIMESTAMP), ?, ?)", USAGE)
    con.execute("CREATE TABLE ticks (id BIGINT, at_time TIMESTAMP, pair VARCHAR, bid DECIMAL(18,6), ask DECIMAL(18,6))")
    con.executemany("INSERT INTO ticks VALUES (?, CAST(? AS TIMESTAMP), ?, ?, ?)", TICKS)
    return con


HOURLY = (
    "SELECT phone, date_trunc('hour', at_time) AS hour, sum(cost) AS cost, count(*) AS events FROM usage GROUP BY ALL"
)
PRICES = (
    "SELECT pair, date_trunc('hour', at_time) AS hour, sum(bid + ask) / (2 * count(*)) AS mid FROM ticks GROUP BY ALL"
)
CASES = [
    ("in_wak", {"phone": "271", "from_": "2024-01-01T00:30:00Z", "to": "2024-01-01T05:00:00Z"},
     f"""WITH h AS ({HOURLY}), p AS ({PRICES}) SELECT h.hour, h.cost, h.cost / (m.mid * w.mid) FROM h LEFT JOIN p m ON m.hour = h.hour AND m.pair = 'MRVZAR'
         LEFT JOIN p w ON w.hour = h.hour AND w.pair = 'WAKMRV' WHERE phone = '271' AND h.hour >= '2024-01-01 00:30:00' ORDER BY 1"""),
    ("balance", {"phone": "270", "to": "2024-01-01T04:00:00Z"},
     f"SELECT hour, cost, sum(cost) OVER (ORDER BY hour) FROM ({HOURLY}) WHERE phone = '270' AND hour < '2024-01-01 04:00:00' ORDER BY 1"),
    ("bounded", {"phone": "271", "from_": "2024-01-01T01:00:00Z", "to": "2024-01-01T04:00:00Z"},
     f"""WITH h AS ({HOURLY}), p AS ({PRICES}) SELECT h.hour, h.cost / m.mid FROM h LEFT JOIN p m ON m.hour = h.hour AND m.pair = 'MRVZAR'
         WHERE phone = '271' AND h.hour >= '2024-01-01 01:00:00' AND h.hour < '2024-01-01 04:00:00' ORDER BY 1"""),
    ("ranked", {"from_": "2024-01-01T01:00:00Z"},
     f"SELECT phone, sum(cost) c, rank() OVER (ORDER BY sum(cost) DESC) r FROM ({HOURLY}) WHERE hour >= '2024-01-01 01:00:00' GROUP BY 1 ORDER BY r, phone"),
    ("both", {"split": "2024-01-01T02:00:00Z"},
     f"""WITH h AS ({HOURLY}) SELECT phone, sum(events) FILTER (WHERE hour < '2024-01-01 02:00:00') e, sum(events) FILTER (WHERE hour >= '2024-01-01 02:00:00') l, sum(events)
         FROM h GROUP BY 1 HAVING e > 1 ORDER BY 1 LIMIT 2"""),
]  # fmt: skip


@pytest.mark.parametrize(("query", "given", "sql"), CASES, ids=[c[0] for c in CASES])
def test_a_composed_query_answers_what_plain_sql_says(
    phone: ProjectFolder, plain: duckdb.DuckDBPyConnection, query: str, given: dict[str, Any], sql: str
) -> None:
    expected = plain.execute(sql).fetchall()
    found = phone.answer(query, **given).rows
    assert len(found) == len(expected) > 0
    for got, wanted in zip(found, expected, strict=True):
        for g, w in zip(got, wanted, strict=True):
            if isinstance(w, (float, Decimal, int)):
                assert abs(Decimal(g) - Decimal(w)) <= Decimal("0.0000006")
            elif w is None:
                assert g is None
            else:
                assert str(w).replace(" ", "T").rstrip("Z") == str(g).rstrip("Z")


def test_conditions_in_parentheses_are_part_of_the_fetch(phone: ProjectFolder) -> None:
    query = phone.app.project.queries["bounded"]
    (plan,) = query.plans.values()
    assert [c.name for c in plan.table.partition] == ["phone"]
    assert [[c.name for c in other.table.partition] for other in plan.others] == [["pair"]]


@pytest.mark.parametrize(("sql", "code"), [
    ("SELECT h.hour, p.mid FROM hourly AS h LEFT JOIN prices AS p ON p.hour = h.hour AND p.pair = 'x' WHERE h.phone = $phone", "HR0211"),
    ("WITH u AS (SELECT hour, cost FROM hourly WHERE phone = $phone) SELECT u.hour, p.mid FROM u LEFT JOIN prices AS p ON p.hour = u.hour", "HR0215"),
    ("WITH u AS (SELECT hour, cost FROM hourly WHERE phone = $phone) SELECT u.hour, u.nothing FROM u", "HR0204"),
    ("WITH u AS (SELECT hour, cost FROM hourly WHERE phone = $phone) SELECT sum(u.cost) AS s FROM u", "HR0211"),
    ("SELECT hour, avg(cost) OVER (ORDER BY hour ROWS 3 PRECEDING) AS m FROM hourly WHERE phone = $phone", "HR0202"),
])  # fmt: skip
def test_what_a_composed_query_cannot_be(tmp_path: Path, sql: str, code: str) -> None:
    folder = ProjectFolder(
        tmp_path, DECLARATIONS, {**{k: v for k, v in FILES.items() if k.startswith("marts")}, "queries/bad.sql": sql}
    )
    with pytest.raises(ProjectErrors) as caught:
        _ = folder.app.project
    assert [e.code for e in caught.value.errors] == [code], caught.value.errors[0]
