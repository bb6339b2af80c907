"""A store on another machine answers as the embedded one does, and no answer waits for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headrace import waiting
from headrace.app import App
from tests.http.conftest import Running, running
from tests.kit import ProjectFolder
from tools import services

PATHS = (
    "/v1/queries/daily?customer=c1&from=2024-02-01&to=2024-02-29",
    "/v1/queries/daily?customer=nobody&from=2024-02-01&to=2024-02-29",
    "/v1/queries/top_items?customer=c2&from=2024-02-03&to=2024-02-29&limit=2",
    "/v1/queries/several?customers=c1,c2&from=2024-02-01&to=2024-02-29&limit=7",
    "/v1/queries/customers?limit=10",
    "/v1/queries/total",
    "/v1/queries/items",
)


@pytest.fixture
def remote(shop: ProjectFolder, cassandra: services.Node, tmp_path: Path) -> Iterator[Running]:
    settings: dict[str, Any] = {
        "cassandra.hosts": cassandra.host, "cassandra.port": cassandra.port, "cassandra.replicas": 1,
        "cassandra.keyspace": "http_remote", "lake.path": str(tmp_path / "lake"),
    }  # fmt: skip
    from headrace import wiring

    app = App(shop.folder, settings)
    app.run(wiring.silence())
    with running(shop, tmp_path / "users.json", **settings) as site:
        yield site
        store: Any = site.app.store
        store.connected.define("DROP KEYSPACE http_remote")
        store.close()


@pytest.mark.parametrize("bridged", [True, False], ids=["on the loop", "in threads"])
def test_answers_are_those_of_the_embedded_store(
    remote: Running, site: Running, bridged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "is_possible", bridged)
    for path in PATHS:
        there, here = remote.get(path), site.get(path)
        assert (there.status_code, there.json()["rows"]) == (200, here.json()["rows"]), path
        tag = {"if-none-match": there.headers["etag"], "authorization": f"Bearer {remote.token}"}
        assert remote.get(path, headers=tag).status_code == 304
    following = remote.get("/v1/queries/customers?limit=10").json()["next_cursor"]
    page = remote.get(f"/v1/queries/customers?limit=10&cursor={following}").json()["rows"]
    assert page == site.get("/v1/queries/customers?limit=20").json()["rows"][10:]
    assert remote.get("/health/ready").status_code == 200
    assert remote.get("/pages/sales").status_code == 200


@pytest.mark.slow
def test_an_answer_that_waits_keeps_no_other_waiting(remote: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = remote.server._answers._store
    gate, true = threading.Event(), store.fetch

    def opened(done: Any) -> None:
        gate.wait(20)
        done(None)

    def held(table: Any, partition: Any, *given: Any, **more: Any) -> Any:
        if partition == ("c1",) and waiting.on_loop():
            waiting.waited(lambda done, _: threading.Thread(target=opened, args=(done,)).start())
        return true(table, partition, *given, **more)

    for path in PATHS[:2]:
        remote.get(path)  # what has to be prepared, is
    monkeypatch.setattr(store, "fetch", held)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(remote.get, PATHS[0])
        time.sleep(0.1)
        assert remote.get(PATHS[1]).status_code == 200
        assert not slow.done()
        gate.set()
        assert slow.result().status_code == 200


@pytest.mark.slow
def test_a_node_that_is_gone_is_503_for_now_and_heals(remote: Running, cassandra: services.Node) -> None:
    assert remote.get(PATHS[0]).status_code == 200
    cassandra.kill()
    gone = remote.get(PATHS[0])
    assert (gone.status_code, gone.json()["type"]) == (503, "/docs/errors/HR0424")
    assert int(gone.headers["retry-after"]) > 0
    assert remote.get("/health/ready").status_code == 503
    assert remote.get("/health/live").status_code == 200
    cassandra.start()
    until = time.monotonic() + 60
    while remote.get(PATHS[0]).status_code != 200 and time.monotonic() < until:
        time.sleep(0.2)
    assert remote.get(PATHS[0]).status_code == 200
