"""Marts and queries against plain DuckDB over the same rows: taken apart, merged, stored, fetched and finished again."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.errors import ProjectErrors
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("shop")
project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, clerk VARCHAR, amount DECIMAL(18,4), items INTEGER, paid BOOLEAN")
project.reference("shops", csv("shops.csv"), key="shop", columns="shop VARCHAR, city VARCHAR, size INTEGER")
"""
MART = """-- Sales.
SELECT shop, CAST(sold_at AS DATE) AS day, coalesce(clerk, '(none)') AS clerk,
       sum(amount) AS revenue, count(*) AS receipts, count(amount) AS priced, avg(amount) AS mean, min(amount) AS least, max(amount) AS most,
       sum(items) AS pieces, revenue / nullif(receipts, 0) AS basket, bool_or(paid) AS any_paid, bool_and(paid) AS all_paid,
       count(DISTINCT items) AS kinds, count(*) FILTER (WHERE items > 3) AS big, coalesce(sum(amount) FILTER (WHERE paid), 0) AS got,
       arg_max(amount, sold_at) AS last_amount, arg_min(clerk, amount) AS cheapest_by
FROM sales GROUP BY ALL
"""
ROWS = [
    (i, dt.datetime(2024, 1, 1 + i % 5, i % 24, (i * 7) % 60, i % 59, tzinfo=dt.UTC), f"shop{i % 3}", None if i % 4 == 0 else f"clerk{i % 2}",
     None if i % 11 == 0 else Decimal(i * 37 % 1001) / 8, i % 6, None if i % 13 == 0 else i % 2 == 0)
    for i in range(200)
]  # fmt: skip


def _landing(rows: list[tuple[Any, ...]]) -> str:
    lines = ["sale_id,sold_at,shop,clerk,amount,items,paid"]
    for i, at, shop, clerk, amount, items, paid in rows:
        cells = [
            i,
            at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            shop,
            clerk or "",
            "" if amount is None else amount,
            items,
            "" if paid is None else paid,
        ]
        lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    folder = ProjectFolder(tmp_path_factory.mktemp("shop"), DECLARATIONS, {"marts/daily.sql": MART})
    for name, sql in QUERIES.items():
        folder.write(f"queries/{name}.sql", sql)
    # In three runs, so that every answer is merged from pieces.
    for piece in range(3):
        folder.land(f"sales_{piece}.csv", _landing(ROWS[piece::3]))
        folder.land("shops.csv", "shop,city,size\nshop0,Cape Town,3\nshop1,Johannesburg,\n")
        folder.run()
    return folder


@pytest.fixture(scope="module")
def plain() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET timezone = 'UTC'")
    con.execute(
        "CREATE TABLE sales (sale_id BIGINT, sold_at TIMESTAMP, shop VARCHAR, clerk VARCHAR, amount DECIMAL(18,4), items INTEGER, paid BOOLEAN)"
    )
    con.executemany(
        "INSERT INTO sales VALUES (?, ?, ?, ?, ?, ?, ?)", [(r[0], r[1].replace(tzinfo=None), *r[2:]) for r in ROWS]
    )
    con.execute(
        "CREATE TABLE shops AS SELECT * FROM (VALUES ('shop0', 'Cape Town', 3), ('shop1', 'Johannesburg', NULL)) t(shop, city, size)"
    )
    return con


QUERIES = {
    "own_rows": "SELECT day, clerk, revenue, receipts, priced, mean, least, most, pieces, basket, any_paid, all_paid, kinds, big, got, last_amount, cheapest_by "
    "FROM daily WHERE shop = $shop AND day BETWEEN $from AND $to ORDER BY day, clerk",
    "rolled_up": "SELECT day, measure(revenue) AS revenue, sum(receipts) AS receipts, measure(mean) AS mean, min(least) AS least, max(most) AS most, "
    "measure(basket) AS basket, measure(any_paid) AS any_paid, measure(all_paid) AS all_paid, measure(kinds) AS kinds, measure(last_amount) AS last_amount, "
    "measure(cheapest_by) AS cheapest_by FROM daily WHERE shop = $shop GROUP BY day ORDER BY day DESC",
    "top": "SELECT shop, sum(revenue) AS revenue FROM daily WHERE day >= $from AND day < $to GROUP BY shop ORDER BY revenue DESC, shop LIMIT $limit",
    "cities": "SELECT s.city, measure(d.revenue) AS revenue, count(DISTINCT d.shop) AS shops FROM daily AS d LEFT JOIN shops AS s USING (shop) "
    "GROUP BY s.city ORDER BY revenue DESC",
    "filtered": "SELECT day, sum(revenue) FILTER (WHERE clerk = 'clerk1') AS by_one, round(measure(mean), 1) AS mean FROM daily WHERE shop IN $shops "
    "AND ($clerk IS NULL OR clerk = $clerk) GROUP BY day HAVING sum(receipts) > 2 ORDER BY day",
    "everything": "SELECT measure(revenue) AS revenue, sum(receipts) AS receipts, count(DISTINCT shop) AS shops, max(day) AS last_day FROM daily",
    "groups": "SELECT count(*) AS groups FROM daily WHERE shop = $shop",
    "sales_of": "SELECT sale_id, sold_at, amount FROM sales WHERE shop = $shop AND sold_at >= $from ORDER BY sold_at, sale_id LIMIT coalesce($limit, 5)",
    "weekdays": "SELECT extract(isodow FROM day) AS weekday, date_trunc('month', day) AS month, measure(revenue) AS revenue FROM daily "
    "WHERE shop = $shop GROUP BY weekday, month ORDER BY weekday",
}
_AT = "max({'k': sold_at, 'v': amount}) FILTER (WHERE amount IS NOT NULL)"
_CHEAP = "min({'k': amount, 'o': sale_id, 'v': clerk}) FILTER (WHERE amount IS NOT NULL AND clerk IS NOT NULL)"
_ALL = f"""sum(amount), count(*), count(amount), sum(amount) / nullif(count(amount), 0), min(amount), max(amount), sum(items),
  sum(amount) / nullif(count(*), 0), bool_or(paid), bool_and(paid), count(DISTINCT items), count(*) FILTER (WHERE items > 3),
  coalesce(sum(amount) FILTER (WHERE paid), 0), ({_AT}).v, ({_CHEAP}).v"""
CASES = [
    ("own_rows", {"shop": "shop1", "from_": "2024-01-02", "to": "2024-01-04"},
     f"SELECT CAST(sold_at AS DATE) d, coalesce(clerk, '(none)') c, {_ALL} FROM sales WHERE shop = 'shop1' AND CAST(sold_at AS DATE) BETWEEN '2024-01-02' AND '2024-01-04' GROUP BY 1, 2 ORDER BY 1, 2"),
    ("rolled_up", {"shop": "shop0"},
     f"""SELECT CAST(sold_at AS DATE), sum(amount), count(*), sum(amount) / nullif(count(amount), 0), min(amount), max(amount), sum(amount) / nullif(count(*), 0),
         bool_or(paid), bool_and(paid), count(DISTINCT items), ({_AT}).v, ({_CHEAP}).v FROM sales WHERE shop = 'shop0' GROUP BY 1 ORDER BY 1 DESC"""),
    ("top", {"from_": "2024-01-01", "to": "2024-01-03", "limit": 2},
     "SELECT shop, sum(amount) FROM sales WHERE sold_at < '2024-01-03' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 2"),
    ("cities", {}, "SELECT city, sum(amount), count(DISTINCT s.shop) FROM sales s LEFT JOIN shops USING (shop) GROUP BY 1 ORDER BY 2 DESC"),
    ("filtered", {"shops": ["shop0", "shop2"]},
     """SELECT CAST(sold_at AS DATE), sum(amount) FILTER (WHERE clerk = 'clerk1'), round(sum(amount) / count(amount), 1) FROM sales WHERE shop IN ('shop0', 'shop2')
        GROUP BY 1 HAVING count(*) > 2 ORDER BY 1"""),
    ("filtered", {"shops": "shop1", "clerk": "clerk0"},
     """SELECT CAST(sold_at AS DATE), sum(amount) FILTER (WHERE clerk = 'clerk1'), round(sum(amount) / count(amount), 1) FROM sales WHERE shop = 'shop1' AND clerk = 'clerk0'
        GROUP BY 1 HAVING count(*) > 2 ORDER BY 1"""),
    ("everything", {}, "SELECT sum(amount), count(*), count(DISTINCT shop), CAST(max(sold_at) AS DATE) FROM sales"),
    ("groups", {"shop": "shop2"}, "SELECT count(*) FROM (SELECT DISTINCT CAST(sold_at AS DATE), coalesce(clerk, '') FROM sales WHERE shop = 'shop2')"),
    ("sales_of", {"shop": "shop2", "from_": "2024-01-03T00:00:00Z"},
     "SELECT sale_id, sold_at, amount FROM sales WHERE shop = 'shop2' AND sold_at >= '2024-01-03' ORDER BY 2, 1 LIMIT 5"),
    ("weekdays", {"shop": "shop0"},
     "SELECT extract(isodow FROM sold_at), date_trunc('month', CAST(sold_at AS DATE)), sum(amount) FROM sales WHERE shop = 'shop0' GROUP BY 1, 2 ORDER BY 1"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "given", "sql"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_query_answers_what_plain_sql_over_the_raw_rows_says(
    shop: ProjectFolder, plain: duckdb.DuckDBPyConnection, query: str, given: dict[str, Any], sql: str
) -> None:
    answer = shop.answer(query, **given)
    expected = plain.execute(sql).fetchall()
    assert expected
    assert len(answer.rows) == len(expected)
    for got, wanted in zip(answer.rows, expected, strict=True):
        assert [_like(g, w) for g, w in zip(got, wanted, strict=True)] == list(wanted)


def _like(got: Any, wanted: Any) -> Any:
    """An answer's value as the plain engine gives it, where they are equal."""
    if wanted is None or got is None:
        return got
    if isinstance(wanted, float):
        # Quotients: exact and rounded once here, doubles there.
        assert abs(Decimal(got) - Decimal(wanted)) <= Decimal("0.0000005"), (got, wanted)
        return wanted
    if isinstance(wanted, Decimal):
        return Decimal(got)
    if isinstance(wanted, dt.datetime):
        return dt.datetime.fromisoformat(got).replace(tzinfo=None)
    return dt.date.fromisoformat(got) if isinstance(wanted, dt.date) else got


def test_a_quotient_is_rounded_once_and_half_away_from_zero(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "marts/m.sql": "SELECT shop, sum(amount) / nullif(count(*), 0) AS mean, sum(amount) AS total FROM sales GROUP BY ALL",
        "queries/q.sql": "SELECT round(mean, 2) AS two, mean, round(mean * 3, 1) AS thrice, -mean AS minus FROM m WHERE shop = $shop",
    })  # fmt: skip
    amounts = ["0.0100", "0.0100", "0.0100", "0.0101", "0.0099", "0.0100", "0.0000", "0.0200"]  # mean 0.01 exactly
    lines = [f"{i},2024-01-01T00:00:00Z,a,c,{a},1,true" for i, a in enumerate(amounts)]
    lines += [
        f"{9 + i},2024-01-01T00:00:00Z,b,c,{a},1,true" for i, a in enumerate(["0.0050", "0.0249", "0.0001"])
    ]  # mean 0.01
    lines += [
        "20,2024-01-01T00:00:00Z,c,c,-0.0150,1,true",
        "21,2024-01-01T00:00:00Z,d,c,0.0001,1,true",
        "22,2024-01-01T00:00:00Z,d,c,0.0000,1,true",
    ]
    folder.land("sales_1.csv", "sale_id,sold_at,shop,clerk,amount,items,paid\n" + "\n".join(lines) + "\n")
    folder.run()
    assert folder.ask("q", shop="a") == [{"two": "0.01", "mean": "0.010000", "thrice": "0.0", "minus": "-0.010000"}]
    assert folder.ask("q", shop="c") == [{"two": "-0.02", "mean": "-0.015000", "thrice": "0.0", "minus": "0.015000"}]
    exact = Fraction(1, 20000)
    assert folder.ask("q", shop="d")[0]["mean"] == str(
        Decimal(exact.numerator) / Decimal(exact.denominator) // Decimal("0.000001") * Decimal("0.000001")
    )
    assert Decimal(folder.ask("q", shop="d")[0]["mean"]) == Decimal("0.00005").quantize(
        Decimal("0.000001"), ROUND_HALF_UP
    )


def test_boolean_columns_are_conditions(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "marts/m.sql": "SELECT shop, coalesce(paid, false) AS paid, sum(amount) AS total, bool_or(items > 2) AS any_big FROM sales GROUP BY ALL",
        "queries/q.sql": "SELECT paid, any_big, total FROM m WHERE shop = $shop AND (paid OR any_big) ORDER BY paid",
        "queries/g.sql": "SELECT sum(total) FILTER (WHERE paid) AS got, measure(any_big) AS any_big FROM m WHERE shop = $shop",
    })  # fmt: skip
    rows = [
        "1,2024-01-01T00:00:00Z,a,c,1,1,true",
        "2,2024-01-01T00:00:00Z,a,c,2,5,false",
        "3,2024-01-01T00:00:00Z,b,c,4,1,false",
    ]
    folder.land("sales_1.csv", "sale_id,sold_at,shop,clerk,amount,items,paid\n" + "\n".join(rows) + "\n")
    folder.run()
    assert folder.ask("q", shop="a") == [
        {"paid": False, "any_big": True, "total": "2.0000"},
        {"paid": True, "any_big": False, "total": "1.0000"},
    ]
    assert folder.ask("q", shop="b") == []
    assert folder.ask("g", shop="a") == [{"got": "1.0000", "any_big": True}]


def test_a_mart_over_a_mart_merges_parts_and_stays_streamable(tmp_path: Path, plain: duckdb.DuckDBPyConnection) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "marts/daily.sql": MART,
        "marts/monthly.sql": "SELECT shop, date_trunc('month', day) AS month, measure(revenue) AS revenue, measure(mean) AS mean, measure(most) AS most, "
        "measure(basket) AS basket FROM daily GROUP BY ALL",
        "queries/months.sql": "SELECT month, revenue, mean, most, basket FROM monthly WHERE shop = $shop ORDER BY month",
    })  # fmt: skip
    for piece in range(2):
        folder.land(f"sales_{piece}.csv", _landing(ROWS[piece::2]))
        folder.run()
    assert folder.app.project.marts["monthly"].batch_only == ""
    ((month, revenue, mean, most, basket),) = folder.answer("months", shop="shop1").rows
    wanted: Any = plain.execute(
        "SELECT sum(amount), avg(amount), max(amount), sum(amount) / count(*) FROM sales WHERE shop = 'shop1'"
    ).fetchone()
    assert (month, Decimal(revenue), Decimal(most)) == ("2024-01-01T00:00:00Z", wanted[0], wanted[2])
    assert abs(float(mean) - wanted[1]) < 1e-6
    assert abs(float(basket) - wanted[3]) < 1e-6


def test_rows_of_a_dataset_that_look_alike_are_all_answered(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "silver/small.sql": "SELECT shop, sold_at, amount FROM sales WHERE amount < 10",
        "queries/small.sql": "SELECT sold_at, amount FROM small WHERE shop = $shop AND sold_at >= $from ORDER BY sold_at LIMIT 2",
        "queries/judged.sql": "SELECT shop, n FROM spine WHERE n > 0 ORDER BY shop",
        "marts/spine.sql": "SELECT shop, count(*) AS n FROM sales_judged GROUP BY ALL",
        "marts/noise.sql": "SELECT shop, corr(items, amount) AS c FROM sales GROUP BY ALL",
        "queries/noise.sql": "SELECT round(c, 2) AS c FROM noise WHERE shop = $shop",
    })  # fmt: skip
    rows = [f"{i},2024-01-01T00:00:00Z,a,c,{i},{i},true" for i in range(5)] + ["9,2024-01-01T00:00:00Z,,c,1,1,true"]
    folder.land("sales_1.csv", "sale_id,sold_at,shop,clerk,amount,items,paid\n" + "\n".join(rows) + "\n")
    folder.run()
    first = folder.answer("small", shop="a", from_="2024-01-01T00:00:00Z")
    assert [r[1] for r in first.rows] == ["0.0000", "1.0000"]
    reader = folder.app.reader
    given = {"shop": "a", "from": "2024-01-01T00:00:00Z"}
    second = reader.answer("small", given, first.cursor)
    third = reader.answer("small", given, second.cursor)
    assert [r[1] for r in [*second.rows, *third.rows]] == ["2.0000", "3.0000", "4.0000"]
    assert third.cursor is None
    assert folder.ask("judged") == [{"shop": "a", "n": 5}], "a record without a required value has no place on a spine"
    assert folder.ask("noise", shop="a") == [{"c": "1.00"}]


def test_rows_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "silver/twice.sql": "SELECT shop, unnest(['a', 'b']) AS side FROM sales",
        "queries/twice.sql": "SELECT side FROM twice WHERE shop = $shop",
    })  # fmt: skip
    with pytest.raises(ProjectErrors) as caught:
        _ = folder.app.project
    assert [e.code for e in caught.value.errors] == ["HR0214"]
