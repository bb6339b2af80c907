"""Whatever lands, in however many runs: nothing is lost, the balances hold, and the marts are the same.

A file is made of records whose verdict is known as they are made; the oracle counts them in Python, by the definition
of a duplicate alone. Files with bytes changed at random have no oracle, but their balances must hold too.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.app import App
from headrace.model.project import LoadedProject
from headrace.model.run import Run
from headrace.sql.judge import bronze_columns, silver_columns
from tests.kit import Opened, ProjectFolder, Quiet

HORIZON = 5
DECLARATIONS = """
project = Project("balance")
sales = project.source("sales", csv("sales_*.csv"), id="id", event_time="sold_on", horizon={horizon},
    columns="id BIGINT, sold_on DATE NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(9,2) NOT NULL")
sales.rule("amount >= 0", "negative amount")
clicks = project.source("clicks", jsonl("clicks_*.jsonl"), id="id", event_time="sold_on", horizon={horizon},
    columns="id BIGINT, sold_on DATE NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(9,2) NOT NULL")
clicks.rule("amount >= 0", "negative amount")
shops = project.reference("shops", csv("shops_*.csv"), key="shop", columns="shop VARCHAR, region VARCHAR NOT NULL")
"""
REGIONS = (
    "SELECT coalesce(r.region, '?') AS region, count(*) AS records, sum(s.amount) AS amount, max(s.amount) AS most"
)
FILES = {
    "marts/sold.sql": f"{REGIONS} FROM sales AS s LEFT JOIN shops AS r ON r.shop = s.shop GROUP BY ALL",
    "marts/clicked.sql": "SELECT shop, count(*) AS records, sum(amount) AS amount, max(amount) AS most FROM clicks AS s GROUP BY ALL",
    "marts/quality.sql": "SELECT source, kind, reason, count(*) AS records FROM verdicts GROUP BY ALL",
    "queries/sold.sql": "SELECT region, records, amount, most FROM sold",
    "queries/clicked.sql": "SELECT shop, records, amount, most FROM clicked",
    "queries/quality.sql": "SELECT source, kind, reason, records FROM quality",
}
SHOPS = ("a", "b", "c")
DAY = "2024-05-01"


@dataclass(frozen=True)
class Record:
    """One record as it is sent, and what it is: its id, shop and amount where it passes every rule."""

    style: str
    id: int
    shop: str
    amount: int

    @property
    def passes(self) -> bool:
        return self.style in GOOD

    @property
    def value(self) -> Decimal:
        return Decimal(self.amount) / 100


GOOD = ("plain", "quoted", "as text")
BAD = ("word", "negative", "missing", "rounded")
BROKEN = ("cut", "open", "bytes")


def csv_line(r: Record) -> bytes:
    amount = f"{r.value:.2f}"
    lines = {
        "plain": f"{r.id},{DAY},{r.shop},{amount}",
        "quoted": f'{r.id},{DAY},"{r.shop}",{amount}00',
        "as text": f"0{r.id},{DAY},{r.shop},{amount}",
        "word": f"{r.id},yesterday,{r.shop},{amount}",
        "negative": f"{r.id},{DAY},{r.shop},-0.01",
        "missing": f"{r.id},{DAY},,{amount}",
        "rounded": f"{r.id},{DAY},{r.shop},{amount}5",
        "cut": f"{r.id},{DAY},{r.shop}",
        "open": f'{r.id},{DAY},"{r.shop},{amount}',
    }
    return b"%d,\xff,x,1" % r.id if r.style == "bytes" else lines[r.style].encode()


def json_line(r: Record) -> bytes:
    sent: dict[str, Any] = {"id": r.id, "sold_on": DAY, "shop": r.shop, "amount": float(r.value)}
    changes: dict[str, dict[str, Any]] = {
        "quoted": {"amount": f"{r.value}"},
        "as text": {"id": f"0{r.id}", "more": [{"shop": 1}]},
        "word": {"amount": "much"},
        "negative": {"amount": -0.01},
        "missing": {"shop": None},
        "rounded": {"amount": f"{r.value:.2f}5"},
        "open": {"shop": {"name": r.shop}},
    }
    line = json.dumps(sent | changes.get(r.style, {})).encode()
    return line[:-5] if r.style == "cut" else line.replace(b'"shop"', b'"\xff"') if r.style == "bytes" else line


def csv_file(records: Sequence[Record]) -> bytes:
    return b"\n".join([b"id,sold_on,shop,amount", *map(csv_line, records), b""])


def json_file(records: Sequence[Record]) -> bytes:
    return b"".join(json_line(r) + b"\n" for r in records)


def shop_file(rows: Sequence[tuple[str, str]]) -> bytes:
    return "\n".join(["shop,region", *(f"{shop},{region}" for shop, region in rows), ""]).encode()


# The oracle


def counted(records: Sequence[Record], horizon: int) -> tuple[list[Record], Counter[str]]:
    """The clean records of a lane, and its verdicts: a duplicate's id occurs among the passing records of the previous
    ``horizon`` offsets, counted or not."""
    clean: list[Record] = []
    verdicts: Counter[str] = Counter()
    for at, record in enumerate(records):
        if not record.passes:
            verdicts["unreadable" if record.style in BROKEN else "quarantined"] += 1
        elif any(r.passes and r.id == record.id for r in records[max(at - horizon, 0) : at]):
            verdicts["duplicate"] += 1
        else:
            verdicts["clean"] += 1
            clean.append(record)
    return clean, verdicts


def grouped(records: Sequence[Record], key: Callable[[Record], str]) -> dict[str, tuple[int, Decimal, Decimal]]:
    groups: dict[str, list[Decimal]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record.value)
    return {k: (len(v), sum(v, Decimal(0)), max(v)) for k, v in groups.items()}


# Runs


@cache
def loaded(horizon: int) -> LoadedProject:
    with tempfile.TemporaryDirectory() as folder:
        return ProjectFolder(Path(folder), DECLARATIONS.format(horizon=horizon), FILES).app.project


class World:
    """A project that runs in a folder of its own, as often as it is told."""

    def __init__(self, folder: Path, horizon: int) -> None:
        (folder / "landing").mkdir()
        self.folder = folder
        self.horizon = horizon
        self.runs: list[Run] = []

    @property
    def app(self) -> App:
        app = Opened(self.folder, {"inbox.quiet": 0.0})
        app.__dict__["project"] = loaded(self.horizon)
        return app

    def run(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            (self.folder / "landing" / name).write_bytes(data)
        run = self.app.run(Quiet())
        for step in run.steps:
            if step.verb == "land":
                assert step.counts.get("bronze", 0) + step.counts.get("unreadable", 0) == step.counts["rows"]
            if step.verb == "refine":
                kinds = ("clean", "quarantined", "duplicate", "superseded", "unreadable")
                assert step.counts["landed"] == sum(step.counts[k] for k in kinds)
        self.runs.append(run)

    def answers(self, *queries: str) -> dict[str, list[tuple[Any, ...]]]:
        app = self.app
        return {q: sorted(app.reader.answer(q, {}).rows, key=repr) for q in queries}

    def silver(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every record's place and verdict, by source; and the balance of silver with bronze."""
        app = self.app
        found = {}
        for source in app.project.sources.values():
            silver, bronze = app.lake.snapshot(f"silver/{source.name}"), app.lake.snapshot(f"bronze/{source.name}")
            if silver is None or bronze is None:
                continue
            scan = app.engine.scan(silver.files, silver_columns(source))
            rows = app.engine.rows(f"SELECT _file, _row, _offset, _verdict, _reasons FROM {scan} ORDER BY _offset")
            landed = app.engine.rows(
                f"SELECT _file, _row, _offset FROM {app.engine.scan(bronze.files, bronze_columns(source))} ORDER BY _offset"
            )
            assert [r[2] for r in landed] == list(range(len(landed))), "offsets are dense"
            assert {r[:3] for r in rows} <= set(landed)
            assert len({r[:2] for r in rows}) == len(rows), "no record is there twice"
            found[source.name] = rows
        return found


@contextmanager
def after(steps: Sequence[Mapping[str, bytes]], horizon: int) -> Iterator[World]:
    """A world after runs with these files."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), horizon)
        for files in steps:
            world.run(files)
        yield world


# Properties

FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
styles = st.sampled_from((*GOOD, *GOOD, *BAD, *BROKEN))
records = st.builds(Record, styles, st.integers(1, 9), st.sampled_from(SHOPS), st.integers(0, 99_999))
lanes = st.lists(st.lists(records, max_size=8), min_size=1, max_size=4)
shop_lanes = st.lists(
    st.lists(st.tuples(st.sampled_from((*SHOPS, "")), st.sampled_from(("north", "south", ""))), max_size=4), max_size=3
)


def named(pattern: str, files: Sequence[bytes]) -> dict[str, bytes]:
    return {pattern.format(i): data for i, data in enumerate(files)}


def split(files: Mapping[str, bytes], cuts: Sequence[int]) -> list[dict[str, bytes]]:
    """The files over several runs; those of one source keep their order, as their names do."""
    steps: list[dict[str, bytes]] = [{} for _ in range(max(cuts, default=0) + 1)]
    latest: dict[str, int] = {}
    for (name, data), cut in zip(sorted(files.items()), [*cuts, *[0] * len(files)], strict=False):
        source = name.split("_")[0]
        latest[source] = max(latest.get(source, 0), cut)
        steps[latest[source]][name] = data
    return steps


@pytest.mark.slow
@FEW
@given(lanes, lanes, shop_lanes, st.lists(st.integers(0, 3), max_size=11))
def test_every_record_has_its_verdict_in_one_run_or_many(
    sales: list[list[Record]], clicks: list[list[Record]], shops: list[list[tuple[str, str]]], cuts: list[int]
) -> None:
    files = named("sales_{}.csv", [csv_file(f) for f in sales])
    files |= named("clicks_{}.jsonl", [json_file(f) for f in clicks])
    files |= named("shops_{}.csv", [shop_file(f) for f in shops])
    with after([files], HORIZON) as once:
        silver, answers = once.silver(), once.answers("sold", "clicked", "quality")

    regions = {shop: region for f in shops for shop, region in f if shop and region}
    expected_sales, sales_verdicts = counted([r for f in sales for r in f], HORIZON)
    expected_clicks, click_verdicts = counted([r for f in clicks for r in f], HORIZON)
    assert Counter(r[3] for r in silver.get("sales", ())) == sales_verdicts
    assert Counter(r[3] for r in silver.get("clicks", ())) == click_verdicts
    sold = {region: (n, Decimal(amount), Decimal(most)) for region, n, amount, most in answers["sold"]}
    assert sold == grouped(expected_sales, lambda r: regions.get(r.shop, "?"))
    clicked = {shop: (n, Decimal(amount), Decimal(most)) for shop, n, amount, most in answers["clicked"]}
    assert clicked == grouped(expected_clicks, lambda r: r.shop)
    kinds: Counter[str] = Counter()
    for source, kind, _, number in answers["quality"]:
        kinds[kind] += number if source != "shops" else 0
    verdicts = sales_verdicts + click_verdicts
    assert kinds["landed"] == sum(verdicts.values())
    assert kinds["quarantined"] == verdicts["quarantined"] + verdicts["unreadable"]

    with after(split(files, cuts), HORIZON) as many:
        assert many.silver() == silver
        assert many.answers("sold", "clicked", "quality") == answers


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, bytes]:
    """Files with bytes changed, put in and left out."""
    files = named("sales_{}.csv", [csv_file(f) for f in draw(lanes)])
    files |= named("clicks_{}.jsonl", [json_file(f) for f in draw(lanes)])
    files |= named("shops_{}.csv", [shop_file(f) for f in draw(shop_lanes)])
    for name in sorted(files):
        data = bytearray(files[name])
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(data)))
            piece = draw(
                st.sampled_from(
                    (b"", b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"\\", b"{", b"9" * 20, b"\xef\xbb\xbf")
                )
            )
            data[at : at + draw(st.integers(0, 3))] = piece
        files[name] = bytes(data)
    return files


@pytest.mark.slow
@FEW
@given(spoiled(), st.lists(st.integers(0, 3), max_size=11))
def test_spoiled_files_lose_nothing_in_one_run_or_many(files: dict[str, bytes], cuts: list[int]) -> None:
    with after([files], HORIZON) as once, after(split(files, cuts), HORIZON) as many:
        assert once.silver() == many.silver()
        assert once.answers("sold", "clicked", "quality") == many.answers("sold", "clicked", "quality")
        once.run({})
        assert once.runs[-1].generation is None


@pytest.mark.slow
@FEW
@given(lanes, st.permutations(range(4)), st.lists(lanes, max_size=2), st.booleans())
def test_neither_order_nor_earlier_versions_change_a_mart(
    sales: list[list[Record]], order: list[int], earlier: list[list[list[Record]]], rejected: bool
) -> None:
    """Records that are sent twice are the same here: which of two different ones counts, the order decides."""
    final = [[Record(r.style, r.id, SHOPS[r.id % 3], r.id * 11) for r in f] for f in sales]
    files = named("sales_{}.csv", [csv_file(f) for f in final])
    steps: list[dict[str, bytes]] = [
        {name: data for name, data in named("sales_{}.csv", [csv_file(f) for f in version]).items() if name in files}
        for version in earlier
    ]
    names = sorted(files)
    arrivals = [names[i] for i in order if i < len(names)]
    steps += [{name: files[name]} for name in arrivals]
    if rejected:  # a version that cannot be read does not replace one that can
        steps.append({names[0]: b"\x1f\x8b not a gzip"})
    expected, _ = counted([r for f in final for r in f], 1_000_000)
    with after([files], 1_000_000) as whole, after(steps, 1_000_000) as world:
        assert world.answers("sold") == whole.answers("sold")
        assert sum(row[1] for row in whole.answers("sold")["sold"]) == len(expected)
