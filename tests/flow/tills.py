"""Tills that sell, counted into three nodes of Cassandra: what arrives, who counts it, who asks, and what must come of it,
told in plain Python from the files alone."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.adapters.cassandra_store import CassandraStore
from headrace.app import App
from headrace.http import credentials
from headrace.model.run import Run
from headrace.seam.pointer import Pointer
from tests.flow import shop
from tests.flow.logged import ROOT, run_until_done
from tests.kit import Opened, ProjectFolder, Quiet
from tools.services import Nodes

DECLARATIONS = """
project = Project("tills")
sales = project.source(
    "sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", horizon=500,
    columns="sale_id VARCHAR, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "negative amount")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/sales.sql": "SELECT day, revenue, receipts FROM daily WHERE shop = $shop ORDER BY day",
}
SETTINGS = """[inbox]
quiet = 0.0
[engine]
memory = '256MB'
threads = 1
[stream]
range = 37
[cassandra]
hosts = '{hosts}'
port = {port}
keyspace = '{keyspace}'
timeout = 2.0
patience = 90.0
"""
SHOPS = ("a", "b", "c", "d", "e", "f")
HEALED = 60.0
"""Seconds after which whatever was broken counts again, without anybody's help (I6)."""
Answered = dict[str, list[tuple[str, Decimal, int]]]
"""By shop, its days with revenue and receipts."""


class Tills:
    """A project on three nodes."""

    def __init__(self, folder: Path, nodes: Nodes, seed: int, *, declarations: str = DECLARATIONS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.nodes, self.seed = nodes, seed
        self.rnd = random.Random(seed)
        self.keyspace = f"t{seed}_{time.time_ns()}"
        given = {
            "hosts": ",".join(nodes[i].announced for i in range(len(nodes))),
            "port": nodes[0].port,
            "keyspace": self.keyspace,
        }
        self.logged = ProjectFolder(folder, declarations, {**FILES, "headrace.toml": SETTINGS.format(**given)})
        self.app: App = Opened(folder)
        self.next, self.number = 0, 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.key = credentials.create_key(folder / self.app.settings["serve.users"], "watch")
        self.sell(80)
        self.app.run(Quiet())

    @property
    def store(self) -> CassandraStore:
        store = self.app.store
        assert isinstance(store, CassandraStore)
        return store

    @property
    def pointer(self) -> Pointer:
        return shop.pointer(self.app)

    # What arrives

    def sell(self, count: int) -> None:
        """A file of receipts, among them some twice, some below nothing, and some that are broken."""
        rnd = self.rnd
        numbers = [*range(self.next, self.next + count)]
        self.next += count
        numbers += rnd.sample(numbers, max(1, count // 10))
        self.land([*map(receipt, numbers)])

    def land(self, lines: list[str]) -> None:
        self.number += 1
        lines = ["sale_id,sold_at,shop,amount", *lines]
        made = self.logged.folder / "being_written"
        made.write_text("\n".join(lines) + "\n")
        made.rename(self.logged.folder / "landing" / f"sales_{self.number:04}.csv")

    @contextmanager
    def load(self, each: int = 20, pause: float = 0.2) -> Iterator[None]:
        """Files arrive all the while."""
        over = threading.Event()

        def sell() -> None:
            while not over.wait(pause):
                self.sell(self.rnd.randint(1, 2 * each))

        seller = threading.Thread(target=sell)
        seller.start()
        try:
            yield
        finally:
            over.set()
            seller.join()

    # What must come of it

    def recount(self) -> tuple[Answered, dict[str, int]]:
        """What the files come to, and what becomes of their records, counted without any of the product's code."""
        seen: set[str] = set()
        days: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [Decimal(), 0])
        balance = dict.fromkeys(("landed", "clean", "quarantined", "duplicates"), 0)
        for file in sorted((self.logged.folder / "landing").iterdir()):
            for line in csv.DictReader(file.read_text().splitlines()):
                balance["landed"] += 1
                try:
                    amount = Decimal(line["amount"])
                except InvalidOperation:
                    amount = Decimal(-1)
                if amount < 0:
                    balance["quarantined"] += 1
                elif line["sale_id"] in seen:
                    balance["duplicates"] += 1
                else:
                    seen.add(line["sale_id"])
                    balance["clean"] += 1
                    sums = days[line["shop"], line["sold_at"][:10]]
                    sums[0] += amount
                    sums[1] += 1
        found: Answered = {name: [] for name in SHOPS}
        for (place, day), (revenue, receipts) in sorted(days.items()):
            found[place].append((day, revenue, receipts))
        return found, balance

    def answered(self, app: App | None = None) -> Answered:
        app = app or self.app
        reader = type(app.reader)(app.project, app.store)
        return {s: as_answered(reader.answer("sales", {"shop": s}).rows) for s in SHOPS}

    def settle(self, story: str, wanted: Answered | None = None) -> None:
        """Waits until what is answered is what is ``wanted``, else what is in the files (I1, I6)."""
        deadline = time.monotonic() + HEALED
        wanted = wanted or self.recount()[0]
        while (found := self.answered()) != wanted:
            assert time.monotonic() < deadline, (self.seed, story, found, wanted)
            time.sleep(0.1)

    def close_books(self) -> None:
        """A last run, without workers, answers the same, and of every record it is known what became of it (I1, I2)."""
        self.run(take_over=True)
        wanted, balance = self.recount()
        assert self.answered() == wanted, self.seed
        found = shop.balance(self.app)["sales"]
        assert found.pop("superseded") == 0
        assert found == balance, self.seed

    def run(self, **options: Any) -> Run:
        return run_until_done(self.app, HEALED, **options)

    # Who asks

    @contextmanager
    def served(self) -> Iterator[str]:
        """A server of the API, as a process; gives its address."""
        said = self.logged.folder / "serve.log"
        command = [sys.executable, "-m", "headrace", "--project", str(self.logged.folder), "serve", "--port", "0"]
        with said.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            while "serving http" not in (text := said.read_text()):
                assert process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
            yield urlsplit(text.partition("serving ")[2].split()[0]).netloc
            assert process.poll() is None, said.read_text()
        finally:
            process.terminate()
            process.wait(30)

    @contextmanager
    def watched(self, *, may_refuse: bool = False) -> Iterator[Watch]:
        """Asks the API all the while. No answer may count less than the one before (I3), and none may be refused (I4), but
        for 503 with Retry-After where the store is away."""
        with self.served() as address:
            watch = Watch(address, self.key, may_refuse)
            thread = threading.Thread(target=watch.ask)
            thread.start()
            try:
                yield watch
            finally:
                watch.over.set()
                thread.join(60)
            assert not watch.failures, (self.seed, watch.failures)
            assert watch.answers, "somebody was answered"

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.store.insist()
            self.store.connected.define(f"DROP KEYSPACE IF EXISTS {self.keyspace}")
        self.store.close()


class Watch:
    """One who asks for every shop in turn."""

    def __init__(self, address: str, key: str, may_refuse: bool) -> None:
        self.address, self.may_refuse = address, may_refuse
        self.headers = {"authorization": f"Bearer {key}"}
        self.over = threading.Event()
        self.answers = self.refusals = 0
        self.slowest = 0.0
        """Seconds of an answer."""
        self.failures: list[str] = []

    def ask(self) -> None:
        seen: dict[str, int] = {}
        link = http.client.HTTPConnection(self.address, timeout=60)
        try:
            while not self.over.wait(0.01):
                for place in SHOPS:
                    began = time.monotonic()
                    link.request("GET", f"/v1/queries/sales?shop={place}", headers=self.headers)
                    reply = link.getresponse()
                    body = reply.read()
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    if reply.status == 503 and self.may_refuse and reply.getheader("retry-after"):
                        self.refusals += 1
                        continue
                    if reply.status != 200:
                        self.failures.append(f"{reply.status} {reply.getheaders()} {body.decode()}")
                        return
                    self.answers += 1
                    now = sum(row["receipts"] for row in json.loads(body)["rows"])
                    if now < seen.get(place, 0):
                        self.failures.append(f"{place}: {now} after {seen[place]}")
                        return
                    seen[place] = now
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody was not answered
            self.failures.append(repr(error))
        finally:
            link.close()


def receipt(number: int) -> str:
    """A line of a file; it follows from its number."""
    rnd = random.Random(number)
    amount = "oops" if number % 53 == 7 else str(rnd.randint(-500, 99_999) / 100)
    return f"s{number},2024-01-0{rnd.randint(1, 6)}T{rnd.randint(10, 23)}:00:00Z,{rnd.choice(SHOPS)},{amount}"


def as_answered(rows: list[Any]) -> list[tuple[str, Decimal, int]]:
    return [(str(day), Decimal(str(revenue)), int(receipts)) for day, revenue, receipts in rows]
