"""`headrace skew` by its command line: the vendor's load pattern, other shapes of data, a project's own tables."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cassandra.metadata import murmur3

from headrace.ops.skew import measure as measuring
from headrace.ops.skew import survey
from tests.kit import ProjectFolder

HOT = 100_001
"""Writes of the vendor's load script that have one ssn: those from the 51st on."""


def skew(*words: str | Path, fails: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", "skew", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == fails, done.stderr
    return done


def report(*words: str | Path) -> Any:
    return json.loads(skew(*words, "--json").stdout)


def vendor(file: Path, rows: int, repeated: int) -> str:
    """The vendor's load pattern: 50 writes with random keys, then ``repeated`` with one, then random ones."""
    chance = random.Random(7)

    def ssn() -> str:
        return f"{chance.randrange(100, 1000)}-{chance.randrange(10, 100)}-{chance.randrange(1000, 10_000)}"

    hot = ssn()
    with file.open("w") as out:
        out.write("ssn,imei\n")
        for write in range(1, rows + 1):
            out.write(f"{hot if 50 < write <= 50 + repeated else ssn()},{write}\n")
    return hot


def csv(file: Path, header: str, rows: Iterable[Sequence[object]]) -> Path:
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return file


def shards_of(keys: Iterable[bytes], shards: int = 4) -> list[int]:
    """Rows of each shard, by the driver's hash and the rule of shards written out once more."""
    on = Counter(((murmur3(key) + 2**63) * 2**12 % 2**64) * shards // 2**64 for key in keys)
    return [on[shard] for shard in range(shards)]


def names_the_burst(found: Any, hot: str, rows: int, repeated: int) -> None:
    first, second = found["top"][:2]
    assert first["key"] == [hot]
    assert (first["rows"], second["rows"] < 10) == (repeated, True)
    assert first["burst"] == {
        "by": "row", "start": 51, "end": 50 + repeated, "rows": repeated, "all_rows": repeated,
        "times_mean_rate": pytest.approx((rows - 1) / (repeated - 1)),
    }  # fmt: skip
    assert first["share"] == repeated / rows
    assert [cause["kind"] for cause in found["causes"]] == ["fan-in burst"]
    assert f"ssn = {hot}" in found["causes"][0]["what"]
    assert f"rows 51 to {50 + repeated:,}" in found["causes"][0]["what"]
    # Its shard, on each of three nodes, has the most; and the rule of deviations stays below its threshold all the same.
    most = max(shard["rows"] for shard in found["shards"])
    assert {(s["node"], s["shard"]) for s in found["shards"] if s["rows"] == most} == {
        (r["node"], r["shard"]) for r in first["replicas"]
    }
    assert found["advisor"]["ceiling"] == pytest.approx(3**0.5)
    assert found["advisor"]["score"] < found["advisor"]["ceiling"] < 2
    assert found["advisor"]["shards_needed"] == 16
    assert found["balance"]["node_rows"]["max_over_mean"] == 1  # nor do nodes differ: each has a replica of everything
    chosen = [variant["name"] for variant in found["variants"] if variant["recommended"]]
    assert chosen
    assert chosen[0].startswith("salt")


def test_the_vendor_s_hot_key_and_its_burst_are_named_unaided(tmp_path: Path) -> None:
    file = tmp_path / "actions.csv"
    hot = vendor(file, 253_685, 10_000)
    names_the_burst(report(file, "--key", "ssn"), hot, 253_685, 10_000)


@pytest.mark.slow
def test_the_vendor_s_load_in_its_own_size(tmp_path: Path) -> None:
    file = tmp_path / "actions.csv"
    hot = vendor(file, 2_536_856, HOT)
    names_the_burst(report(file, "--key", "ssn"), hot, 2_536_856, HOT)


@pytest.mark.slow
def test_rows_of_shards_are_those_that_every_key_s_token_gives(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = [(f"user-{chance.randrange(3000)}", chance.randrange(100)) for _ in range(20_000)]
    found = report(csv(tmp_path / "a.csv", "user,n", rows), "--key", "user")
    expected = shards_of(user.encode() for user, _ in rows)
    assert [s["rows"] for s in found["shards"]] == expected * 3
    counts = Counter(user for user, _ in rows)
    assert found["keys"] == len(counts)
    assert [(k["key"][0], k["rows"]) for k in found["top"]] == sorted(counts.items(), key=lambda c: (-c[1], c[0]))[
        :20
    ] or ([k["rows"] for k in found["top"]] == sorted(counts.values(), reverse=True)[:20])
    assert found["bytes"] == sum(len(user) + len(str(n)) for user, n in rows)
    # Another key, with its type: two columns, one of which is an int.
    other = next(
        v
        for v in report(tmp_path / "a.csv", "--key", "user", "--other", "user,n:int")["variants"]
        if v["name"] == "key user, n"
    )
    keys = [struct.pack(">H", len(u)) + u.encode() + b"\0" + struct.pack(">Hi", 4, n) + b"\0" for u, n in rows]
    assert [s["rows"] for s in other["shards"]] == shards_of(keys) * 3
    assert other["partitions"] == len(set(rows))


def test_salts_lie_where_their_keys_tokens_put_them(tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "user,n", [("ana", n) for n in range(10)] + [("ben", n) for n in range(3)])
    found = report(file, "--key", "user", "--shards", "5")
    salted = next(v for v in found["variants"] if v["name"] == "salt 4")
    keys = [
        (user, salt)
        for user, count in (("ana", 10), ("ben", 3))
        for salt in range(4)
        for _ in range(count // 4 + (salt < count % 4))
    ]
    expected = shards_of(
        (struct.pack(">H", 3) + u.encode() + b"\0" + struct.pack(">Hq", 8, s) + b"\0" for u, s in keys), 5
    )
    assert [s["rows"] for s in salted["shards"]] == expected * 3
    assert (salted["partitions"], salted["reads_max"]) == (7, 4)


def test_in_bounded_memory_the_largest_keys_are_exact_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In-process, so that few keys are many: 64 counters, and some 40 keys that may be counted one by one.
    from headrace import settings, wiring
    from headrace.ops.skew import ring as rings
    from headrace.ops.skew.measure import measure
    from headrace.ops.skew.subject import of_file

    chance = random.Random(9)
    rows = [(f"u{chance.randrange(4000)}",) for _ in range(8000)] + [("hot",)] * 900 + [("warm",)] * 400
    chance.shuffle(rows)
    file = csv(tmp_path / "a.csv", "user", rows)
    scratch = tmp_path / "scratch"
    (scratch / ".headrace").mkdir(parents=True)
    engine = wiring.engine(scratch, settings.load(scratch, environment={}), tmp_path)
    ring = rings.vnodes(3, 3, 4, 64)
    whole = measure(engine, of_file(engine, [file], ["user"], "", scratch), ring, wiring.silence(), top=2)
    # Of salts only the largest keys are cut up; what stays is small.
    monkeypatch.setattr(measuring, "LARGEST", 50)
    cut = measure(engine, of_file(engine, [file], ["user"], "", scratch), ring, wiring.silence(), top=2)
    for variant, before in zip(cut.variants[:3], whole.variants[:3], strict=True):
        assert sum(variant.loads.rows.values()) == sum(before.loads.rows.values()) == 3 * len(rows)
        assert before.loads.largest_bytes <= variant.loads.largest_bytes <= 700  # of 225 rows, and of the other keys
    monkeypatch.setattr(survey, "BUCKETS", 64)
    monkeypatch.setattr(survey, "BUDGET", 800)
    bounded = measure(engine, of_file(engine, [file], ["user"], "", scratch), ring, wiring.silence(), top=2)
    assert not whole.loads.is_estimate
    assert bounded.loads.is_estimate
    assert [(k.key, k.rows) for k in bounded.top] == [(("hot",), 900), (("warm",), 400)]
    assert bounded.loads.rows == whole.loads.rows
    assert bounded.loads.bytes == whole.loads.bytes
    assert abs(bounded.keys / whole.keys - 1) < 0.05
    counts = Counter(user for (user,) in rows)
    assert sorted(counts.values())[-3] <= bounded.unlisted < 900


@pytest.mark.parametrize(
    ("rows", "options", "kind"),
    [
        ([(f"+1555000{user}", n) for user in range(1, 16) for n in range(20)], [], "few keys"),
        ([(n % 2, n) for n in range(3000)], [], "low-cardinality key"),
        ([(n, n) for n in range(20_000)], [], "even"),
        ([("hot" if n % 10 == 0 else n, n) for n in range(50_000)], [], "hot key"),
        ([(f"k{n % 60}" if n % 2 else n, n) for n in range(6000)], ["--nodes", "2", "--rf", "1", "--shards", "40"], "few keys"),
    ],
    ids=["few", "low", "even", "hot", "few for many shards"],
)  # fmt: skip
def test_the_cause_is_named(tmp_path: Path, rows: list[tuple[object, int]], options: list[str], kind: str) -> None:
    found = report(csv(tmp_path / "a.csv", "k,n", rows), "--key", "k", *options)
    assert kind in [cause["kind"] for cause in found["causes"]]


def test_15_keys_on_4_shards_are_uneven_and_chance_is_said_to_be_why(tmp_path: Path) -> None:
    file = csv(tmp_path / "calls.csv", "phone,at", [(f"+1555000{user}", n) for user in range(1, 16) for n in range(20)])
    found = report(file, "--key", "phone")
    assert [s["rows"] // 20 for s in found["shards"]][:4] == [1, 7, 2, 5]
    assert found["balance"]["shard_rows"]["max_over_mean"] == pytest.approx(7 * 4 / 15)
    assert found["chance"]["max_over_mean_median"] <= 7 * 4 / 15 <= found["chance"]["max_over_mean_95"]
    assert "chance alone" in found["causes"][0]["what"]


def test_a_burst_by_time_and_what_a_bucket_by_day_does_to_it(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = [
        (f"u{chance.randrange(500)}", f"2024-01-{day:02d} {chance.randrange(24):02d}:00:00")
        for day in range(1, 31)
        for _ in range(300)
    ]
    rows += [("hot", f"2024-01-17 10:{n // 60:02d}:{n % 60:02d}") for n in range(3000)]
    file = csv(tmp_path / "a.csv", "user,at", rows)
    found = report(file, "--key", "user", "--time", "at")
    burst = found["top"][0]["burst"]
    assert (burst["by"], burst["start"], burst["end"]) == ("time", "2024-01-17 10:00:00", "2024-01-17 10:49:59")
    assert burst["rows"] == 3000
    assert burst["all_rows"] == 3000 + sum(at == "2024-01-17 10:00:00" for user, at in rows if user != "hot")
    assert all(key["burst"] is None for key in found["top"][1:])
    days = next(v for v in found["variants"] if v["name"] == "bucket by day")
    assert days["largest_partition"]["rows"] == 3000  # the burst is of one day
    per_key = Counter(user for user, _ in {(user, at[:10]) for user, at in rows})
    assert days["partitions"] == sum(per_key.values())
    assert days["reads_max"] == max(per_key.values())
    assert days["reads_mean"] == pytest.approx(sum(per_key.values()) / len(per_key))


@pytest.mark.slow
def test_tablets_and_a_cluster_without_shards(tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "k,n", [(f"k{n}", n) for n in range(4000)])
    found = report(file, "--key", "k", "--tablets", "16", "--shards", "2")
    expected = Counter((murmur3(f"k{n}".encode()) + 2**63) >> 60 for n in range(4000))
    assert found["ring"]["tablets"]
    assert sum(s["rows"] for s in found["shards"]) == 12_000
    for key in found["top"]:
        assert key["tablet"] == (key["token"] + 2**63) >> 60
    # On three nodes with three replicas each has all tablets, dealt to its two shards in turns.
    assert {s["rows"] for s in found["shards"]} == {sum(expected[t] for t in range(turn, 16, 2)) for turn in (0, 1)}
    alone = report(file, "--key", "k", "--shards", "1", "--rf", "1", "--vnodes", "16")
    assert len(alone["shards"]) == 3
    assert sum(s["rows"] for s in alone["shards"]) == 4000


@pytest.mark.slow
def test_parquet_is_read_by_its_types_and_several_files_are_one(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for part in range(2):
        table = pa.table({"account": [part * 50 + n for n in range(50)], "paid": [True, False] * 25})
        parquet.write_table(table, tmp_path / f"part{part}.parquet")
    found = report(tmp_path / "part*.parquet", "--key", "account")
    assert found["key"] == [{"column": "account", "type": "bigint"}]
    assert [s["rows"] for s in found["shards"]] == shards_of(struct.pack(">q", n) for n in range(100)) * 3
    as_int = report(tmp_path / "part*.parquet", "--key", "account:int")
    assert [s["rows"] for s in as_int["shards"]] == shards_of(struct.pack(">i", n) for n in range(100)) * 3
    assert found["bytes"] == 100 * 16


def test_long_keys_and_rows_without_one(tmp_path: Path) -> None:
    rows = [("x" * 200 + str(n), n) for n in range(40)] + [("", n) for n in range(5)] + [("é" * 9, 1)]
    found = report(csv(tmp_path / "a.csv", "k,n", rows), "--key", "k")
    assert found["rows_without_key"] == 5
    assert [s["rows"] for s in found["shards"]] == shards_of(k.encode() for k, _ in rows if k) * 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{a}"], "HR0622", "--key COLUMN, of k, n"),
        (["{a}", "--key", "kk"], "HR0622", "did you mean 'k'?"),
        (["{a}", "--key", "k:decimal"], "HR0622", "is no CQL type"),
        (["{a}", "--key", "k", "--time", "at"], "HR0622", "no column 'at'"),
        (["{a}", "--key", "k", "--nodes", "2"], "HR0622", "--rf 2"),
        (["{dir}/none.csv", "--key", "k"], "HR0621", "no file"),
        (["{dir}/broken.parquet", "--key", "k"], "HR0621", "cannot be read"),
        (["{dir}/empty.csv", "--key", "k"], "HR0623", "no row has a value of k"),
        (["{a}", "--key", "k", "--time", "k"], "HR0304", "x0"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(tmp_path: Path, words: list[str], code: str, said: str) -> None:
    file = csv(tmp_path / "a.csv", "k,n", [(f"x{n}", n) for n in range(5)])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no PAR1")
    (tmp_path / "empty.csv").write_text("k,n\n")
    told = skew(
        *(word.format(a=file, dir=tmp_path) for word in words), fails=1 if code in ("HR0623", "HR0304") else 2
    ).stderr
    assert f"error[{code}]" in told
    assert said in told


class Page(HTMLParser):
    """What a page loads, and the elements that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "onload", "onclick")
        ]


def test_the_page_stands_alone_shows_every_shard_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>&'
    rows = [(evil.replace('"', "'"), n) for n in range(3000)] + [(f"k{n}", n) for n in range(9000)]
    file = csv(tmp_path / "a&b.csv", "<k>,n", rows)
    page = tmp_path / "page.html"
    told = skew(file, "--key", "<k>", "--html", page)
    assert "hot key" in told.stdout
    text = page.read_text()
    parsed = Page()
    parsed.feed(text)
    assert (parsed.elements["script"], parsed.elements["img"], parsed.loaded) == (0, 0, [])
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;script&gt;alert" in text
    pictures = [ET.fromstring(svg) for svg in re.findall(r"<svg[^>]*role=.*?</svg>", text, re.DOTALL)]  # noqa: S314  our own
    assert len(pictures) >= 2  # before, and after
    for picture in pictures:
        assert len(picture.findall("g")) == 12
        labels = picture.get("aria-labelledby", "").split()
        assert [element.get("id") for element in picture if element.tag in ("title", "desc")] == labels
    hot = [g for g in pictures[0].findall("g") if any(r.get("class") == "hot" for r in g.findall("rect"))]
    assert len(hot) == 3


PROJECT = """
project = Project("shop")
project.source("sales", csv("*.csv"), id="sale", event_time="sold_at",
    columns="sale VARCHAR, sold_at TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
"""
MART = "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue FROM sales GROUP BY ALL"
QUERY = "SELECT day, revenue FROM daily WHERE shop = $shop AND day BETWEEN $from AND $to ORDER BY day"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    folder = ProjectFolder(
        tmp_path_factory.mktemp("shop"), PROJECT, {"marts/daily.sql": MART, "queries/sales_of.sql": QUERY}
    )
    chance = random.Random(2)
    rows = [f"s{n},2024-01-{chance.randrange(1, 29):02d}T10:00:00,shop{chance.randrange(40)},2.50" for n in range(2000)]
    folder.land("a.csv", "sale,sold_at,shop,amount\n" + "\n".join(rows) + "\n")
    folder.run()
    return folder


def of_project(shop: ProjectFolder, *words: str) -> Any:
    done = shop.command("skew", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_query_s_serving_table_has_its_key_by_itself(shop: ProjectFolder) -> None:
    found = of_project(shop, "sales_of")
    table = shop.app.project.queries["sales_of"].tables[0]
    assert found["subject"] == table.name
    assert found["key"] == [{"column": "shop", "type": "text"}, {"column": "_bucket", "type": "bigint"}]
    rows = [
        (f"shop{n}", len(shop.ask("sales_of", shop=f"shop{n}", from_="2024-01-01", to="2024-01-31"))) for n in range(40)
    ]
    assert found["rows"] == sum(count for _, count in rows)
    assert (found["keys"], found["top"][0]["rows"]) == (40, max(count for _, count in rows))
    # As the store writes it: the shop, and the bucket behind it.
    keys = [
        struct.pack(">H", len(s)) + s.encode() + b"\0" + struct.pack(">Hq", 8, 0) + b"\0"
        for s, n in rows
        for _ in range(n)
    ]
    assert [s["rows"] for s in found["shards"]] == shards_of(keys) * 3
    assert "bucket by day" in [variant["name"] for variant in found["variants"]]
    assert of_project(shop, table.name)["rows"] == found["rows"]


@pytest.mark.slow
def test_a_mart_and_a_dataset_need_a_key(shop: ProjectFolder) -> None:
    assert of_project(shop, "daily", "--key", "day")["keys"] == 28
    sales = of_project(shop, "sales", "--key", "shop")
    assert (sales["rows"], sales["keys"]) == (2000, 40)
    assert sales["bytes"] == sum(len(f"s{n}") for n in range(2000)) + 2000 * (8 + len("2.50")) + sum(
        len(key["key"][0]) * key["rows"] for key in of_project(shop, "sales", "--key", "shop", "--top", "40")["top"]
    )
    told = shop.command("skew", "sales")
    assert (told.returncode, "HR0622" in told.stderr) == (2, True)
    told = shop.command("skew", "sale")
    assert (told.returncode, "did you mean 'sales'?" in told.stderr) == (2, True)


def test_nothing_is_told_of_what_no_run_has_made(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, PROJECT, {"marts/daily.sql": MART, "queries/sales_of.sql": QUERY})
    told = folder.command("skew", "sales_of")
    assert (told.returncode, "HR0403" in told.stderr, "headrace run" in told.stderr) == (3, True, True)


def test_no_cluster_is_asked(shop: ProjectFolder) -> None:
    environment = os.environ | {"HEADRACE_CASSANDRA__HOSTS": "192.0.2.1"}  # an address that no one has
    command = [sys.executable, "-m", "headrace", "--project", str(shop.folder), "skew", "sales_of", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert json.loads(done.stdout)["keys"] == 40
