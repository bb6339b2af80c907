"""What `check` refuses: the code, the place of the caret, and what to write instead, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import HeadraceError, Place, ProjectErrors
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("shop")
project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, clerk VARCHAR, amount DECIMAL(18,4), weight DOUBLE")
project.reference("rates", csv("rates.csv"), key="shop", valid_from="since", columns="shop VARCHAR, since DATE, rate DECIMAL(9,4)")
project.reference("shops", csv("shops.csv"), key="shop, floor", columns="shop VARCHAR, floor INTEGER, city VARCHAR")
"""
GOOD = "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts, avg(amount) AS mean FROM sales GROUP BY ALL"
MARTS = [
    ("SELECT shop, sum(nothing) AS x FROM sales GROUP BY ALL", "HR0204", "nothing", "did you mean"),
    ("SELECT shop, sum(amount) AS x FROM sale GROUP BY ALL", "HR0203", "sale", "did you mean 'sales'?"),
    ("SELECT shop, sum(amount AS x FROM sales GROUP BY ALL", "HR0201", "", ""),
    ("SELECT shop, now() AS x FROM sales GROUP BY ALL", "HR0202", "now", "$now"),
    (
        "SELECT shop, date_diff('month', sold_at, sold_at) AS d, count(*) AS n FROM sales GROUP BY ALL",
        "HR0202",
        "date_diff",
        "subtract",
    ),
    ("SELECT shop, approx_quantile(amount, 0.5) AS x FROM sales GROUP BY ALL", "HR0202", "approx_quantile", "exact"),
    ("SELECT shop, sum(amount) AS x FROM read_csv('/etc/passwd') GROUP BY ALL", "HR0202", "read_csv", "read sources"),
    ("SELECT shop, sum(amount) / count(*) AS x FROM sales GROUP BY ALL", "HR0206", "sum", "nullif"),
    ("SELECT shop, sum(weight) AS x FROM sales GROUP BY ALL", "HR0207", "", "DECIMAL"),
    ("SELECT clerk, sum(amount) AS x FROM sales GROUP BY ALL", "HR0208", "clerk", "coalesce"),
    ("SELECT shop, CASE WHEN shop = 'a' THEN sum(amount) END AS x FROM sales GROUP BY ALL", "HR0209", "shop", "FILTER"),
    (
        "SELECT shop, sum(amount) AS amount, amount / nullif(count(*), 0) AS x FROM sales GROUP BY ALL",
        "HR0205",
        "amount",
        "rename",
    ),
    ("SELECT shop, sum(amount) AS x FROM sales", "HR0210", "", "GROUP BY ALL"),
    ("SELECT shop, sum(amount) AS x FROM sales GROUP BY ALL LIMIT 3", "HR0210", "", "silver"),
    (
        "SELECT s.shop, sum(amount) AS x FROM sales AS s JOIN shops AS p USING (shop) GROUP BY ALL",
        "HR0215",
        "",
        "shop, floor",
    ),
    (
        "SELECT s.shop, sum(amount) AS x FROM sales AS s JOIN rates AS r USING (shop) GROUP BY ALL",
        "HR0215",
        "",
        "valid_to",
    ),
    (
        "SELECT s.shop, sum(s.amount) AS x FROM sales AS s JOIN sales AS r USING (shop) GROUP BY ALL",
        "HR0215",
        "",
        "aggregate events in a mart",
    ),
]
QUERIES = [
    ("SELECT day, nothing FROM good WHERE shop = $shop", "HR0204", "nothing", "one of"),
    ("SELECT day, revenue FROM goods WHERE shop = $shop", "HR0203", "goods", "did you mean 'good'?"),
    ("SELECT shop, avg(mean) AS mean FROM good GROUP BY shop", "HR0212", "avg", "measure(mean)"),
    ("SELECT shop, sum(mean) AS mean FROM good GROUP BY shop", "HR0212", "sum", "measure(mean)"),
    ("SELECT shop, revenue FROM good GROUP BY shop", "HR0211", "revenue", "measure(revenue)"),
    ("SELECT day, revenue FROM good WHERE shop = $shop AND $x > $y", "HR0213", "", "CAST"),
    ("SELECT * FROM good WHERE shop = $shop", "HR0211", "", "write the columns out"),
    ("SELECT day, revenue FROM good WHERE shop = $shop OFFSET 3", "HR0211", "", "cursor"),
    ("SELECT day, revenue FROM good AS g JOIN shops AS s USING (shop) WHERE g.shop = $shop", "HR0211", "", "LEFT JOIN"),
    (
        "SELECT day, revenue FROM good AS g LEFT JOIN shops AS s USING (shop) WHERE g.shop = $shop",
        "HR0215",
        "",
        "shop, floor",
    ),
    ("SELECT day, md5(shop) AS h FROM good WHERE shop = $shop", "HR0202", "md5", "mart"),
    ("SELECT amount, sale_id FROM sales WHERE amount = $amount", "HR0214", "", ""),
]
DECLARED = [
    ('project.source("x", csv("x.csv"), id="nope", event_time="t", columns="id BIGINT, t DATE")', "HR0103", "nope"),
    ('project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINTEGER, t DATE")', "HR0105", "BIGINTEGER"),
    ('project.source("sales", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE")', "HR0104", "sales"),
    ('project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE").rule("idd > 3", "r")', "HR0204", "idd"),
    ('project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE").rule("id >", "r")', "HR0201", ""),
    ('project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE").repair("id", "3", "r")', "HR0103", "id"),
    ('project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE, order INT")', "HR0103", "order"),
    ('project.page("P", line("nothing", x="a", y="b"))', "HR0106", "nothing"),
    ('project.pin("nothing")', "HR0103", "nothing"),
    ('project.keep("nothing", "90 days")', "HR0108", "nothing"),
    ('project.keep("nothing", "3 months")', "HR0108", "'3 months'"),
    ('project.keep("nothing", "0 days")', "HR0108", "'0 days'"),
    ('project.fresh("nothing", "5 minutes")', "HR0110", "nothing"),
    ('project.fresh("nothing", "soon")', "HR0110", "'soon'"),
    ("1 / 0", "HR0102", "ZeroDivisionError"),
    ("import nothing_such", "HR0102", "nothing_such"),
]  # fmt: skip


def _errors(folder: ProjectFolder) -> list[HeadraceError]:
    with pytest.raises(HeadraceError) as caught:
        _ = folder.app.project
    return list(caught.value.errors) if isinstance(caught.value, ProjectErrors) else [caught.value]


def _place(error: HeadraceError) -> Place:
    assert error.place is not None
    return error.place


@pytest.mark.parametrize(
    ("sql", "code", "word", "help"), MARTS, ids=[f"{c}-{i}" for i, (_, c, _, _) in enumerate(MARTS)]
)
def test_a_mart_is_refused_with_its_place_and_what_to_write(
    tmp_path: Path, sql: str, code: str, word: str, help: str
) -> None:
    _refused(tmp_path, "marts/bad.sql", sql, code, word, help)


@pytest.mark.parametrize(
    ("sql", "code", "word", "help"), QUERIES, ids=[f"{c}-{i}" for i, (_, c, _, _) in enumerate(QUERIES)]
)
def test_a_query_is_refused_with_its_place_and_what_to_write(
    tmp_path: Path, sql: str, code: str, word: str, help: str
) -> None:
    _refused(tmp_path, "queries/bad.sql", sql, code, word, help)


def _refused(tmp_path: Path, file: str, sql: str, code: str, word: str, help: str) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {"marts/good.sql": GOOD, file: "-- A comment above.\n" + sql})
    (error,) = _errors(folder)
    assert (error.code, _place(error).file) == (code, file), str(error)
    if word:
        assert _place(error).line == 2
        assert _place(error).text[_place(error).column - 1 :].lower().startswith(word.lower()), (
            str(error),
            error.place,
        )
    assert help in error.help


@pytest.mark.parametrize(("line", "code", "word"), DECLARED, ids=[f"{c}-{i}" for i, (_, c, _) in enumerate(DECLARED)])
def test_a_declaration_is_refused_with_its_line(tmp_path: Path, line: str, code: str, word: str) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS + line + "\n")
    number = len((folder.folder / "project.py").read_text().splitlines())
    error = _errors(folder)[0]
    assert error.code == code, str(error)
    assert word in str(error)
    if "pin" not in line:
        assert (_place(error).file, _place(error).line) == ("project.py", number)


@pytest.mark.parametrize(
    ("tile", "filters", "what", "help"),
    [
        ('table("q", shops="a")', "", "query 'q' has no parameter 'shops'", "did you mean 'shop'?"),
        ('table("q", limit="many")', "", "parameter 'limit' is 'many'", "a whole number from 1 to 10000"),
        ('table("q", **{"from": "1 May"})', "", "parameter 'from' is '1 May'", "DATE"),
        ('table("q", shop="a")', ', **{"from": "1 May"}', "parameter 'from' is '1 May'", "DATE"),
        (
            'table("q", shop="a")',
            ', form="2024-05-01"',
            "no tile's query has a parameter 'form'",
            "did you mean 'from'?",
        ),
        ('number("q", y="day", shop="a")', "", "'day' of query 'q' is DATE, which number() cannot", "numbers: revenue"),
        ('line("q", x="day", y="day", shop="a")', "", "'day' of query 'q' is DATE, which line() cannot", "revenue"),
        ('bar("q", x="day", y="day", shop="a")', "", "'day' of query 'q' is DATE, which bar() cannot", "revenue"),
    ],
)
def test_a_page_presets_what_its_queries_can_take(
    tmp_path: Path, tile: str, filters: str, what: str, help: str
) -> None:
    query = "SELECT day, revenue FROM good WHERE shop = $shop AND day >= $from ORDER BY day LIMIT $limit"
    files = {"marts/good.sql": GOOD, "queries/q.sql": query}
    good = ProjectFolder(
        tmp_path / "good",
        DECLARATIONS + 'project.page("P", table("q", shop="a", limit="5"), **{"from": "2024-05-01"})',
        files,
    )
    assert good.app.project.pages
    folder = ProjectFolder(tmp_path / "bad", f'{DECLARATIONS}project.page("P", {tile}{filters})', files)
    (error,) = _errors(folder)
    assert error.code == "HR0106"
    assert what in error.what
    assert help in error.help


@pytest.mark.parametrize(
    ("mart", "keep", "what", "help"),
    [
        ("good", '"godo", "9 days"', "names no mart", "did you mean 'good'?"),
        ("shops_of", '"shops_of", "9 days"', "'shops_of' has no window in its grain (shop)", "date_trunc"),
        ("texts", '"texts", "9 days"', "'texts' has no window in its grain (day)", "date_trunc"),
        ("late", '"late", "9 days"', "'late' counts visits, which declares no lateness", 'visits: lateness="1 hour"'),
        ("good", '"good", "a while"', "keep('good') has the span 'a while'", "as 90 days"),
        ("good", '"good", "9 days"); project.keep("good", "8 days"', "'good' is kept twice", ""),
    ],
)
def test_a_retention_is_refused_with_its_place_and_what_to_write(
    tmp_path: Path, mart: str, keep: str, what: str, help: str
) -> None:
    declared = DECLARATIONS.replace('"sold_at",', '"sold_at", lateness="1 day",') + (
        'project.source("visits", csv("v_*.csv"), id="id", event_time="came", columns="id BIGINT, came TIMESTAMP NOT NULL")\n'
    )
    marts = {
        "good": GOOD,
        "shops_of": "SELECT shop, count(*) AS n FROM sales GROUP BY ALL",
        "texts": "SELECT CAST(CAST(sold_at AS DATE) AS VARCHAR) AS day, count(*) AS n FROM sales GROUP BY ALL",
        "late": "SELECT CAST(came AS DATE) AS day, count(*) AS n FROM visits GROUP BY ALL",
    }
    files = {f"marts/{mart}.sql": marts[mart]}
    assert not ProjectFolder(tmp_path / "good", declared, files).app.project.retention
    (error,) = _errors(ProjectFolder(tmp_path / "bad", f"{declared}project.keep({keep})\n", files))
    assert error.code == "HR0108"
    assert what in error.what
    assert help in error.help
    assert (_place(error).file, _place(error).text) == ("project.py", f"project.keep({keep})")


def test_a_retention_of_a_broken_mart_is_not_blamed(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS + 'project.keep("bad", "9 days")\n', {"marts/bad.sql": MARTS[0][0]})
    assert [e.code for e in _errors(folder)] == ["HR0204"]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    files = {f"marts/m{i}.sql": sql for i, (sql, *_) in enumerate(MARTS)} | {
        f"queries/q{i}.sql": sql for i, (sql, *_) in enumerate(QUERIES)
    }
    folder = ProjectFolder(
        tmp_path,
        DECLARATIONS + "\n".join(line for line, code, _ in DECLARED if code not in ("HR0102", "HR0104")),
        {"marts/good.sql": GOOD, **files},
    )
    found = {(e.place.file if e.place else "", e.code) for e in _errors(folder)}
    for i, (_, code, _, _) in enumerate(MARTS):
        assert (f"marts/m{i}.sql", code) in found
    for i, (_, code, _, _) in enumerate(QUERIES):
        assert (f"queries/q{i}.sql", code) in found


def test_marts_that_read_each_other_are_refused(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS, {
        "silver/a.sql": "SELECT s.* FROM sales AS s JOIN b USING (shop)", "marts/b.sql": "SELECT shop, median(amount) AS x FROM a GROUP BY ALL",
    })  # fmt: skip
    assert {e.code for e in _errors(folder)} == {"HR0216"}


def test_what_reads_a_broken_mart_is_not_blamed(tmp_path: Path) -> None:
    folder = ProjectFolder(
        tmp_path, DECLARATIONS, {"marts/bad.sql": MARTS[0][0], "queries/q.sql": "SELECT shop, x FROM bad"}
    )
    assert [e.code for e in _errors(folder)] == ["HR0204"]


def test_a_rule_must_be_a_condition(tmp_path: Path) -> None:
    line = (
        'project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE").rule("id + 1", "r")\n'
    )
    (error,) = _errors(ProjectFolder(tmp_path, DECLARATIONS + line))
    assert (error.code, "not a condition" in error.what) == ("HR0204", True)


@pytest.mark.parametrize("where", ["day > 5", "revenue > 'x'", "mean > 'x'"])
def test_types_that_do_not_fit_are_found_offline(tmp_path: Path, where: str) -> None:
    sql = f"SELECT shop, day, revenue FROM good WHERE {where}"
    (error,) = _errors(ProjectFolder(tmp_path, DECLARATIONS, {"marts/good.sql": GOOD, "queries/bad.sql": sql}))
    assert error.code == "HR0202"
    assert _place(error).file == "queries/bad.sql"


def test_errors_of_declarations_come_first(tmp_path: Path) -> None:
    line = 'project.source("x", csv("x.csv"), id="id", event_time="t", columns="id BIGINT, t DATE, amount FLOAT")\n'
    mart = "SELECT t, sum(amount) AS amount_sum FROM x GROUP BY ALL"
    assert _errors(ProjectFolder(tmp_path, DECLARATIONS + line, {"marts/a.sql": mart}))[0].code == "HR0105"
