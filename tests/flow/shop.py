"""A project with every kind of relation, its files in waves, and all that it answers and holds, for comparing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from headrace.app import App
from headrace.errors import ConflictError, NotReadyError
from headrace.flow.run import serving_tables
from headrace.flow.worker import Steps
from headrace.seam import pointer as pointers
from headrace.seam.reader import live
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("shop")
sales = project.source(
    "sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", horizon=500,
    columns="sale_id VARCHAR, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, customer VARCHAR, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "negative amount")
sales.flag("amount > 900", "large")
sales.repair("customer", "coalesce(customer, 'nobody')", "no customer")
visits = project.source(
    "visits", jsonl("visits_*.jsonl"), id="visit_id", event_time="came_at",
    columns="visit_id BIGINT, came_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, seconds BIGINT")
shops = project.reference("shops", csv("shops_*.csv"), key="shop", columns="shop VARCHAR, region VARCHAR NOT NULL, title VARCHAR")
rates = project.reference(
    "rates", csv("rates_*.csv"), key="shop", valid_from="since", columns="shop VARCHAR, since TIMESTAMPTZ, rate DECIMAL(18,4) NOT NULL")
"""
FILES = {
    "headrace.toml": "[inbox]\nquiet = 0.0\n[engine]\nmemory = '256MB'\nthreads = 2\n",
    "silver/regional.sql": "SELECT s.sale_id, s.sold_at, s.amount, r.region FROM sales AS s JOIN shops AS r USING (shop)",
    "silver/taxed.sql": "SELECT s.sold_at, s.shop, s.amount * r.rate AS tax FROM sales AS s JOIN rates AS r ON s.shop = r.shop AND s.sold_at >= r.since AND s.sold_at < r.valid_to",
    "marts/daily.sql": (
        "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts, min(amount) AS least, max(amount) AS most, "
        "avg(amount) AS basket, count(DISTINCT customer) AS customers, arg_max(customer, amount) AS best FROM sales GROUP BY ALL"
    ),
    "marts/usual.sql": "SELECT shop, median(amount) AS usual, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/regions.sql": "SELECT region, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts FROM regional GROUP BY ALL",
    "marts/taxes.sql": "SELECT shop, sum(CAST(tax AS DECIMAL(18,4))) AS tax FROM taxed GROUP BY ALL",
    "marts/traffic.sql": "SELECT shop, CAST(came_at AS DATE) AS day, sum(seconds) AS seconds, count(*) AS visits FROM visits GROUP BY ALL",
    "marts/quality.sql": "SELECT source, kind, reason, count(*) AS records FROM verdicts GROUP BY ALL",
    "marts/good_days.sql": "SELECT shop, count(*) AS days, sum(revenue) AS revenue FROM daily GROUP BY ALL",
    "queries/sales.sql": "SELECT day, revenue, receipts, least, most, basket, customers, best FROM daily WHERE shop = $shop AND day BETWEEN $first AND $last ORDER BY day",
    "queries/all_sales.sql": "SELECT shop, measure(revenue) AS revenue, measure(receipts) AS receipts, measure(basket) AS basket FROM daily GROUP BY shop ORDER BY shop",
    "queries/total.sql": "SELECT measure(revenue) AS revenue, measure(receipts) AS receipts, measure(customers) AS customers FROM daily",
    "queries/big_days.sql": "SELECT day, revenue FROM daily WHERE shop = $shop AND revenue > 1500 ORDER BY day",
    "queries/named.sql": "SELECT d.day, d.revenue, s.title, s.region FROM daily AS d LEFT JOIN shops AS s ON s.shop = d.shop WHERE d.shop = $shop ORDER BY d.day",
    "queries/usual.sql": "SELECT usual, receipts FROM usual WHERE shop = $shop",
    "queries/regions.sql": "SELECT day, revenue, receipts FROM regions WHERE region = $region ORDER BY day",
    "queries/taxes.sql": "SELECT tax FROM taxes WHERE shop = $shop",
    "queries/traffic.sql": "SELECT day, seconds, visits FROM traffic WHERE shop = $shop ORDER BY day",
    "queries/quality.sql": "SELECT source, kind, reason, records FROM quality ORDER BY source, kind, reason",
    "queries/good_days.sql": "SELECT days, revenue FROM good_days WHERE shop = $shop",
    "queries/receipts.sql": "SELECT sale_id, sold_at, customer, amount FROM sales WHERE shop = $shop ORDER BY sold_at LIMIT 50",
}
SHOPS = ("a", "b", "c", "d")
REGIONS = ("north", "south", "west")


def sales_file(rnd: random.Random, first: int, count: int) -> str:
    """Receipts, among them duplicates of earlier ones, negative, large and broken ones. A record follows from its id."""
    ids = [first + i for i in range(count)]
    ids += [max(n - rnd.randint(1, 40), 0) for n in rnd.sample(ids, count // 10)]
    return "sale_id,sold_at,shop,customer,amount\n" + "".join(map(_sale, ids))


def _sale(number: int) -> str:
    rnd = random.Random(number)
    day, shop, customer = rnd.randint(1, 6), rnd.choice(SHOPS), rnd.choice(["", "x", "y", "z"])
    amount = "oops" if number % 53 == 7 else str(rnd.randint(-500, 99_999) / 100)
    return f"s{number},2024-01-0{day}T{rnd.randint(10, 23)}:00:{rnd.randint(10, 59)}Z,{shop},{customer},{amount}\n"


def visits_file(first: int, count: int) -> str:
    lines = []
    for number in range(first, first + count):
        rnd = random.Random(number)
        if number % 31 == 3:
            lines.append("{not json\n")
        else:
            lines.append(
                f'{{"visit_id": {number}, "came_at": "2024-01-0{rnd.randint(1, 6)}T12:00:00Z", "shop": "{rnd.choice(SHOPS)}", "seconds": {rnd.randint(1, 999)}}}\n'
            )
    return "".join(lines)


def shops_file(rnd: random.Random, shops: tuple[str, ...] = SHOPS) -> str:
    return "shop,region,title\n" + "".join(f"{s},{rnd.choice(REGIONS)},Shop {s} {rnd.randint(0, 9)}\n" for s in shops)


def rates_file(rnd: random.Random) -> str:
    lines = [f"{s},2024-01-0{rnd.randint(1, 5)}T00:00:00Z,0.{rnd.randint(10, 99)}\n" for s in SHOPS]
    return "shop,since,rate\n" + "".join(lines) + "".join(f"{s},2000-01-01T00:00:00Z,0.1\n" for s in SHOPS)


def waves(seed: int = 5) -> list[dict[str, str]]:
    """Files as they arrive: the second wave has something for every source and another version of one file."""
    rnd = random.Random(seed)
    return [
        {
            "sales_1.csv": sales_file(rnd, 0, 120),
            "visits_1.jsonl": visits_file(0, 40),
            "shops_1.csv": shops_file(rnd),
            "rates_1.csv": rates_file(rnd),
        },
        {
            "sales_2.csv": sales_file(rnd, 120, 90),
            "sales_3.csv": sales_file(rnd, 210, 30),
            "visits_2.jsonl": visits_file(40, 40),
            "visits_1.jsonl": visits_file(0, 35),
            "shops_2.csv": shops_file(rnd, ("b", "e")),
        },
    ]


def make(folder: Path) -> ProjectFolder:
    folder.mkdir(parents=True, exist_ok=True)
    return ProjectFolder(folder, DECLARATIONS, FILES)


def questions(app: App) -> list[tuple[str, dict[str, str]]]:
    asked: list[tuple[str, dict[str, str]]] = []
    for name, query in app.project.queries.items():
        wanted = {p.name for p in query.parameters}
        values = {"shop": SHOPS, "region": REGIONS}
        for value in values.get(next(iter(wanted & set(values)), ""), [""]):
            given = dict.fromkeys(wanted & set(values), value) | (
                {"first": "2024-01-01", "last": "2024-01-31"} if "first" in wanted else {}
            )
            asked.append((name, given))
    return asked


def answers(app: App) -> dict[str, Any]:
    """Every answer of the project, with a fresh reader; None where nothing was published."""
    reader = type(app.reader)(app.project, app.store)
    found: dict[str, Any] = {}
    for name, given in questions(app):
        try:
            answer = reader.answer(name, dict(given))
            found[f"{name} {given}"] = (answer.rows, answer.as_of)
        except NotReadyError as error:
            found[f"{name} {given}"] = error.code
    return found


def pointer(app: App) -> pointers.Pointer:
    text = app.store.control("pointer")
    return pointers.read(text) if text is not None else pointers.FIRST


def serving_rows(app: App) -> dict[str, list[tuple[Any, ...]]]:
    """The live rows of every serving table, slot and generation aside, read past the store."""
    now = pointer(app)
    found = {}
    # The library of the store: a second one in a process would end the first one's locks on the file.
    connection = apsw.Connection(str(app.folder / app.settings["store.path"]))
    for table in serving_tables(app.project):
        key = ", ".join(f'"{c.name}"' for c in table.key)
        columns = ", ".join(f'"{c}"' for c in table.columns)
        rows = connection.execute(
            f'SELECT {columns}, _slot, _gen FROM "{table.name}" ORDER BY {key}{", " if key else ""}_slot'
        ).fetchall()
        found[table.name] = live(rows, len(table.key), now.generation, now.abandoned)
    connection.close()
    return found


def marts(app: App) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every finished mart of the generation that answers."""
    app.gold.define()
    found = {}
    for name, mart in app.project.marts.items():
        columns = ", ".join(
            f"CAST({c} AS VARCHAR)" for c in [*(g.name for g in mart.grain), *(m.name for m in mart.measures)]
        )
        found[name] = sorted(app.engine.rows(f"SELECT {columns} FROM {name}"), key=repr)
    return found


def balance(app: App) -> dict[str, dict[str, int]]:
    """What became of the records of each source: landed = clean + quarantined + duplicates + superseded."""
    found = {}
    for source in app.status()["sources"]:
        counts = {k: source[k] for k in ("landed", "clean", "quarantined", "duplicates", "superseded")}
        assert counts["landed"] == sum(v for k, v in counts.items() if k != "landed"), source
        found[source["source"]] = counts
    return found


def everything(app: App) -> dict[str, Any]:
    return {"answers": answers(app), "serving": serving_rows(app), "marts": marts(app), "balance": balance(app)}


def differences(found: dict[str, Any], wanted: dict[str, Any], at: str = "") -> list[str]:
    """Where two of ``everything`` differ, in words."""
    out = []
    for key in {**wanted, **found}:
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{at}{key}: ")
        elif a != b:
            out.append(f"{at}{key}: {a!r} for {b!r}")
    return out


@contextmanager
def following(worker: Steps) -> Iterator[None]:
    """A worker that has nothing to count, and looks at the pointer all the while, as it does between micro-batches."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(0.01):
            worker.follow()

    with ThreadPoolExecutor(1) as thread:
        followed = thread.submit(follow)
        try:
            yield
        finally:
            ended.set()
        with suppress(ConflictError):  # the epoch is other code's: whoever asks it to follow again is told so again
            followed.result()
