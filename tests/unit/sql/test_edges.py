"""Where SQL and a shortcut for it could part: refused by `check`, or answered as plain SQL would."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ParameterError, ProjectErrors
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("edges")
project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(30,4), big BOOLEAN, payload VARCHAR NOT NULL")
project.source("refunds", csv("refunds_*.csv"), id="sale_id", event_time="paid_at", columns="sale_id BIGINT, paid_at TIMESTAMP NOT NULL")
project.reference("shops", csv("shops.csv"), key="shop", columns="shop VARCHAR, city VARCHAR NOT NULL")
"""
DAILY = """SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts, count(DISTINCT amount) AS prices,
arg_max(big, sold_at) AS was_big FROM sales GROUP BY ALL"""
SALES = """sale_id,sold_at,shop,amount,big,payload
1,2024-01-01 10:00:00,a,12345678901234567.0101,true,x
2,2024-01-01 11:00:00,a,12345678901234567.0102,true,x
3,2024-01-02 10:00:00,a,,false,x
4,2024-01-03 10:00:00,a,2.2000,true,x
5,2024-01-03 11:00:00,a,2.5000,true,x
6,2024-01-04 10:00:00,a,1.0000,false,x
7,2024-01-02 10:00:00,b,4.0000,true,x
"""
QUERIES = {
    "two_ranges": "SELECT day FROM daily WHERE shop = $shop AND day BETWEEN '2024-01-02' AND '2024-01-03' AND day BETWEEN $from AND $to ORDER BY day",
    "low_twice": "SELECT day FROM daily WHERE shop = $shop AND day >= '2024-01-03' AND day BETWEEN $from AND $to ORDER BY day",
    "one_and_many": "SELECT shop, day FROM daily WHERE shop = 'a' AND shop IN $shops ORDER BY day",
    "many_twice": "SELECT shop, day FROM daily WHERE shop IN $x AND shop IN $y ORDER BY shop, day",
    "range_and_equal": "SELECT day FROM daily WHERE shop = $shop AND day <= $max AND day = $day",
    "optional_and_range": "SELECT shop, day FROM daily WHERE shop = $shop AND ($day IS NULL OR day = $day) AND day >= $from ORDER BY day",
    "between_scales": "SELECT day FROM daily WHERE shop = $shop AND receipts BETWEEN 1 AND 1.5 ORDER BY day",
    "in_scales": "SELECT day FROM daily WHERE shop = $shop AND receipts IN (1, 0.2) ORDER BY day",
    "not_in_null": "SELECT day FROM daily WHERE shop = $shop AND receipts NOT IN (NULL, 10) ORDER BY day",
    "counts": "SELECT count(revenue) AS n, count(DISTINCT revenue) AS d, count(*) AS rows FROM daily WHERE shop = $shop AND day >= $from",
    "prices": "SELECT prices FROM daily WHERE shop = $shop AND day = $day",
    "all_prices": "SELECT measure(prices) AS prices FROM daily WHERE shop = $shop",
    "big": "SELECT day, was_big FROM daily WHERE shop = $shop AND was_big ORDER BY day",
    "moment": "SELECT day FROM daily WHERE shop = $shop AND day >= CAST($t AS TIMESTAMP) ORDER BY day",
    "before": "SELECT day FROM daily WHERE shop = $shop AND day < CAST($t AS TIMESTAMP) ORDER BY day",
    "dear": "SELECT day FROM daily WHERE shop = $shop AND revenue > $least ORDER BY day",
    "week": "SELECT day FROM daily WHERE shop = $shop AND day BETWEEN CAST($day AS DATE) - 6 AND $day ORDER BY day",
    "page": "SELECT day FROM daily WHERE shop = $shop AND day >= $from ORDER BY day LIMIT $limit",
}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    files = {"marts/daily.sql": DAILY} | {f"queries/{name}.sql": sql for name, sql in QUERIES.items()}
    folder = ProjectFolder(tmp_path_factory.mktemp("edges"), DECLARATIONS, files)
    folder.land("sales_1.csv", SALES)
    folder.run()
    return folder


def days(*numbers: int) -> list[str]:
    return [f"2024-01-0{n}" for n in numbers]


@pytest.mark.parametrize(
    ("query", "given", "wanted"),
    [
        ("two_ranges", {"shop": "a", "from": "2024-01-01", "to": "2024-01-09"}, days(2, 3)),
        ("two_ranges", {"shop": "a", "from": "2024-01-03", "to": "2024-01-09"}, days(3)),
        ("low_twice", {"shop": "a", "from": "2024-01-01", "to": "2024-01-03"}, days(3)),
        ("one_and_many", {"shops": "b"}, []),
        ("one_and_many", {"shops": "a,b"}, days(1, 2, 3, 4)),
        ("many_twice", {"x": "a", "y": "a,b"}, days(1, 2, 3, 4)),
        ("many_twice", {"x": "a,b", "y": "b"}, days(2)),
        ("range_and_equal", {"shop": "a", "max": "2024-01-01", "day": "2024-01-02"}, []),
        ("range_and_equal", {"shop": "a", "max": "2024-01-02", "day": "2024-01-02"}, days(2)),
        ("optional_and_range", {"shop": "a", "from": "2024-01-03"}, days(3, 4)),
        ("optional_and_range", {"shop": "a", "from": "2024-01-03", "day": "2024-01-02"}, []),
        ("between_scales", {"shop": "a"}, days(2, 4)),
        ("in_scales", {"shop": "a"}, days(2, 4)),
        ("not_in_null", {"shop": "a"}, []),
        ("big", {"shop": "a"}, days(1, 3)),
        ("moment", {"shop": "a", "t": "2024-01-03T12:00:00Z"}, days(4)),
        ("moment", {"shop": "a", "t": "2024-01-03T00:00:00Z"}, days(3, 4)),
        ("before", {"shop": "a", "t": "2024-01-03T12:00:00Z"}, days(1, 2, 3)),
        ("dear", {"shop": "a", "least": "1"}, days(1, 3)),
        ("dear", {"shop": "a", "least": "4.7"}, days(1)),
        ("dear", {"shop": "a", "least": "-10.50"}, days(1, 3, 4)),
    ],
)
def test_every_condition_counts(edges: ProjectFolder, query: str, given: dict[str, str], wanted: list[str]) -> None:
    assert [row["day"] for row in edges.ask(query, **given)] == wanted


def test_null_is_not_counted_and_digits_are_not_lost(edges: ProjectFolder) -> None:
    assert edges.ask("counts", shop="a", **{"from": "2024-01-01"}) == [{"n": 3, "d": 3, "rows": 4}]
    assert edges.ask("prices", shop="a", day="2024-01-01") == [{"prices": 2}]
    assert edges.ask("all_prices", shop="a") == [{"prices": 5}]
    assert [row["was_big"] for row in edges.ask("big", shop="a")] == [True, True]


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("dear", {"shop": "a", "least": "1.00001"}),
        ("dear", {"shop": "a", "least": "1e3"}),
        ("dear", {"shop": "a", "least": "nan"}),
        ("week", {"shop": "a", "day": "0001-01-01"}),
    ],
)
def test_what_a_parameter_cannot_be_is_the_callers_mistake(
    edges: ProjectFolder, query: str, given: dict[str, str]
) -> None:
    with pytest.raises(ParameterError, match="HR0502"):
        edges.ask(query, **given)


@pytest.mark.parametrize("key", ["{}", "10000000000000000000000000000000", '"\\ud800"', "true", "null"])
def test_a_cursor_with_another_key_is_refused(edges: ProjectFolder, key: str) -> None:
    given = {"shop": "a", "from": "2024-01-01", "limit": "1"}
    cursor = edges.answer("page", **given).cursor
    assert cursor is not None
    fingerprint = json.loads(base64.urlsafe_b64decode(cursor + "=="))[0]
    for text in (f"[{fingerprint}, {key}]", "[" * 4000):
        forged = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        with pytest.raises(ParameterError, match="HR0503"):
            edges.app.reader.answer("page", given, forged)


MARTS = [
    ("SELECT shops.shop AS shop, count(*) AS n FROM sales RIGHT JOIN shops USING (shop) GROUP BY ALL", "RIGHT JOIN"),
    ("SELECT shop, count(*) AS n FROM sales WHERE amount > (SELECT avg(amount) FROM sales) GROUP BY ALL", "a SELECT within"),
    ("SELECT shop, count(*) AS n FROM sales WHERE sale_id IN (SELECT sale_id FROM refunds) GROUP BY ALL", "a SELECT within"),
    ("SELECT shops.city AS city, count(*) AS n FROM sales LEFT JOIN shops USING (shop) GROUP BY ALL", "'city' may be NULL"),
    ("SELECT json_extract_string(payload, '$.k') AS k, count(*) AS n FROM sales GROUP BY ALL", "'k' may be NULL"),
    ("SELECT shop, count(*) AS n FROM sales GROUP BY ALL HAVING count(*) > 1", "HAVING compares outputs"),
    ("SELECT shop, count(*) AS n FROM sales GROUP BY ALL HAVING sold_at > '2024-01-01'", "'sold_at' is none"),
    ("SELECT shop, count(*) AS n FROM sales GROUP BY ALL OFFSET 1", "OFFSET"),
    ("SELECT shop, count(*) AS n FROM sales GROUP BY shop, CAST(sold_at AS DATE)", "is grouped by, but no output"),
    ("SELECT shop, count(*) AS _records FROM sales GROUP BY ALL", "begins with _"),
    ("SELECT s.shop AS shop, count(*) AS n FROM sales AS s JOIN shops ON shops.shop = shops.shop GROUP BY ALL", "leaves out shop"),
]  # fmt: skip
DATASETS = [
    ("SELECT shop, amount FROM sales ORDER BY sale_id LIMIT 3", "LIMIT is not for datasets"),
    ("SELECT * FROM (SELECT shop, amount FROM sales LIMIT 3)", "LIMIT is not for datasets"),
    ("SELECT DISTINCT shop FROM sales", "DISTINCT is not for datasets"),
    ("WITH a AS (SELECT shop FROM sales) SELECT shop FROM a", "WITH is not for datasets"),
    ("SELECT * FROM sales WHERE EXISTS (SELECT 1 FROM refunds AS r WHERE r.sale_id = sales.sale_id)", "a SELECT within"),
    ("SELECT s.shop, x.paid_at FROM sales AS s JOIN (SELECT sale_id, paid_at FROM refunds) AS x ON x.sale_id = s.sale_id", "a SELECT within"),
    ("SELECT shops.city FROM sales FULL JOIN shops USING (shop)", "FULL JOIN"),
]  # fmt: skip
REFUSED = [
    ("SELECT DISTINCT day FROM daily WHERE shop = $shop", "DISTINCT"),
    ("SELECT day FROM daily WHERE shop = $shop HAVING revenue > 15", "HAVING is for groups"),
    ("SELECT day, revenue FROM daily WHERE shop = $shop ORDER BY revenue NULLS FIRST", "NULLS FIRST"),
    ("SELECT day FROM daily WHERE shop = $shop AND receipts IN (SELECT 1)", "a SELECT within"),
    ("SELECT day, round(revenue, -1) AS r FROM daily WHERE shop = $shop", "cannot be computed when answering"),
    ("SELECT day, round(revenue, 1 + 1) AS r FROM daily WHERE shop = $shop", "cannot be computed when answering"),
    ("SELECT day FROM daily WHERE shop = $shop AND day >= '2024-1-3'", "'2024-1-3' is no DATE"),
    ("SELECT day FROM daily WHERE shop = $shop AND day >= CAST($d AS DATE) - INTERVAL 12 HOUR", "cannot be computed when answering"),
    ("SELECT day FROM daily WHERE shop = $shop AND day >= CAST($d AS DATE) + INTERVAL (-2) DAY", "cannot be computed when answering"),
    ("WITH t AS (SELECT shop, measure(revenue) AS r FROM daily GROUP BY shop LIMIT 1) SELECT shop, r FROM t", "LIMIT belongs to the last"),
    ("WITH t AS (SELECT shop, measure(revenue) AS r FROM daily GROUP BY shop) SELECT DISTINCT shop FROM t", "DISTINCT"),
    ("WITH t AS (SELECT shop, measure(revenue) AS r FROM daily GROUP BY shop) SELECT shop FROM t ORDER BY shop OFFSET 3", "OFFSET"),
    ("WITH t AS (SELECT shop, measure(revenue) AS r FROM daily GROUP BY shop) SELECT shop FROM t HAVING r > 1", "HAVING"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "sql", "what"),
    [
        *(("marts/m.sql", *case) for case in MARTS),
        *(("silver/s.sql", *case) for case in DATASETS),
        *(("queries/q.sql", *case) for case in REFUSED),
    ],
)
def test_what_would_mean_something_else_is_refused(tmp_path: Path, place: str, sql: str, what: str) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {"marts/daily.sql": DAILY, place: sql})
    with pytest.raises(ProjectErrors) as caught:
        _ = folder.app.project
    errors: list[Any] = list(caught.value.errors)
    assert any(what in str(error) for error in errors), [str(e) for e in errors]
    assert all(error.place is not None and error.place.file == place for error in errors)
