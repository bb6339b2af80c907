"""One small project, run once, and a server that really listens."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.app import App
from headrace.http import credentials
from headrace.http.server import Server, users_file
from headrace.ops.metrics import Metrics
from tests.kit import ProjectFolder

USER, PASSWORD = "ann", "correct horse: battery ünd staple"
NASTY = {
    "c1": "<script>alert(1)</script>",
    "c2": "{{ 7*7 }}{% raw %}",
    "c3": "=HYPERLINK(1)",
    "c4": "</script><img src=x onerror=alert(1)>",
    "c5": "+27820001111",
}
"""Customers whose names are attacks on whoever shows them."""

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id VARCHAR NOT NULL, sold_at TIMESTAMPTZ NOT NULL, customer VARCHAR NOT NULL, item VARCHAR NOT NULL, amount DECIMAL(18,2) NOT NULL")
customers = project.reference("customers", csv("customers.csv"), key="customer", columns="customer VARCHAR NOT NULL, name VARCHAR")
project.page("Sales", number("total", y="amount", title="All sales", unit="EUR"), line("daily", x="day", y="amount", by="item", title="Sales a day", unit="EUR"),
    bar("top_items", x="item", y="amount"), table("customers", title="Customers"))
project.page("<b>Odd</b> {{ 7*7 }}", table("daily", title="<i>tile</i>"), table("several"), customer="nobody at all")
project.page("Items", bar("of_item", x="customer", y="amount"))
"""
FILES = {
    "marts/daily_sales.sql": """-- Sales by customer, UTC day and item.
SELECT customer, CAST(sold_at AS DATE) AS day, item, sum(amount) AS amount, count(*) AS sales FROM sales GROUP BY ALL""",
    "queries/daily.sql": """-- One customer's sales by day and item.
SELECT day, item, amount, sales FROM daily_sales WHERE customer = $customer AND day BETWEEN $from AND $to ORDER BY day, item""",
    "queries/week.sql": """-- One customer's sales from one day up to another.
SELECT day, item, amount FROM daily_sales WHERE customer = $customer AND day >= $from AND day < $until ORDER BY day, item""",
    "queries/top_items.sql": """-- What one customer bought most of.
SELECT item, sum(amount) AS amount FROM daily_sales WHERE customer = $customer AND day BETWEEN $from AND $to
GROUP BY item ORDER BY amount DESC, item LIMIT $limit""",
    "queries/customers.sql": "-- All customers.\nSELECT customer, name FROM customers ORDER BY customer LIMIT $limit",
    "queries/total.sql": "-- Everything ever sold.\nSELECT sum(amount) AS amount, sum(sales) AS sales FROM daily_sales",
    "queries/several.sql": """-- Sales of several customers.
SELECT customer, day, item, amount FROM daily_sales WHERE customer IN $customers AND day BETWEEN $from AND $to ORDER BY customer, day, item LIMIT $limit""",
    "queries/items.sql": """-- What was sold of each item, to whom.
SELECT item, customer, sum(amount) AS amount FROM daily_sales GROUP BY item, customer ORDER BY item, customer""",
    "queries/of_item.sql": """-- Who bought an item.
SELECT customer, sum(amount) AS amount FROM daily_sales WHERE item = $item GROUP BY customer ORDER BY customer""",
    "queries/recent.sql": """-- One customer's sales that are not of the future.
SELECT day, item, amount FROM daily_sales WHERE customer = $customer AND day <= CAST($now AS DATE) ORDER BY day, item""",
}
ITEMS = ("apple", "bread", "=cheese", "<b>dates</b>")


def sales_csv(days: int = 28) -> str:
    """``days`` days of February 2024, two customers, all items: amounts from a formula, so that answers can be computed."""
    lines = ["sale_id,sold_at,customer,item,amount"]
    for day in range(1, days + 1):
        for c in ("c1", "c2"):
            lines += [
                f"s{day}{c}{i},2024-02-{day:02d}T10:00:00Z,{c},{item},{amount(day, i)}" for i, item in enumerate(ITEMS)
            ]
    return "\n".join(lines) + "\n"


def amount(day: int, item: int) -> str:
    return f"{day * 10 + item}.{item}5"


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    folder = tmp_path_factory.mktemp("http") / "shop"
    folder.mkdir()
    project = ProjectFolder(folder, DECLARATIONS, FILES)
    project.land("sales.csv", sales_csv())
    more = "".join(f"d{n:03d},Customer {n}\n" for n in range(30))
    project.land("customers.csv", "customer,name\n" + "".join(f'{c},"{name}"\n' for c, name in NASTY.items()) + more)
    project.run()
    return project


@dataclass
class Running:
    """A server in a thread, and who may call it."""

    app: App
    server: Server
    url: str
    token: str
    metrics_token: str
    log: io.StringIO
    client: httpx.Client

    @property
    def users(self) -> Path:
        return users_file(self.app)

    @property
    def port(self) -> int:
        return int(self.server.socket.getsockname()[1])

    def get(self, path: str, **more: Any) -> httpx.Response:
        """As the user with a password, unless ``auth`` or ``headers`` say otherwise."""
        return self.request("GET", path, **more)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        if "headers" not in more and "auth" not in more:
            more["headers"] = {"authorization": f"Bearer {self.token}"}
        return self.client.request(method, path, **more)

    def anonymous(self, path: str, **headers: str) -> httpx.Response:
        return self.get(path, headers=headers)

    def raw(self, data: bytes, *, finish: bool = False) -> bytes:
        """What comes back for bytes, until the server closes (or ``finish``: we say that no more comes)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65536):
                received += part
            return received


@contextmanager
def running(folder: ProjectFolder, users: Path, **settings: Any) -> Iterator[Running]:
    app = App(folder.folder, {"serve.users": str(users), **settings})
    credentials.add_user(users_file(app), USER, PASSWORD)
    token = credentials.create_key(users_file(app), "tests", ("read",))
    metrics_token = credentials.create_key(users_file(app), "scraper", ("metrics",))
    listening = threading.Event()
    server = Server(app, host="127.0.0.1", port=0, ready=lambda _: listening.set(), meter=Metrics(app))
    log = io.StringIO()
    if server._log is not None:
        server._log._stream = log
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failure.append(error)
            listening.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listening.wait(30)
    if failure:
        raise failure[0]
    try:
        with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
            yield Running(app, server, server.url, token, metrics_token, log, client)
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def site(shop: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that a module's tests share."""
    with running(shop, tmp_path_factory.mktemp("users") / "users.json") as started:
        yield started


@pytest.fixture
def start(shop: ProjectFolder, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a server of one's own, with settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(shop, tmp_path / "users.json", **settings))
