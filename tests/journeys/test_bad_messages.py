"""Bad input as messages of a real topic: the verdicts of docs/bad-input.md, alike in the stream and in the run."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headrace.app import App
from headrace.flow.stream import Worker
from headrace.model.run import Run
from headrace.sql.judge import silver_columns
from tests.journeys.bad_inputs import CASES, COST, FILES, JSON, MESSAGES, Case
from tests.journeys.test_bad_input import ROWS, of
from tests.kit import ProjectFolder, Quiet
from tools.services import Broker

pytestmark = pytest.mark.slow
ALSO = [*(f"B{n}" for n in range(25, 36)), "B56", "B56b", "B58b", "B58c", "B58d", "B61"]
"""Those that come in files, too."""


def messages(case: Case) -> list[tuple[str | None, bytes | None]]:
    """The records of a case's files, one a message, with its id as key."""
    found: list[tuple[str | None, bytes | None]] = []
    for name, data in case.files.items():
        if name.endswith(".jsonl"):
            records = data.splitlines()
        else:
            rows = csv.DictReader(io.StringIO(data.decode()))
            records = [json.dumps({name: value or None for name, value in row.items()}).encode() for row in rows]
        found += [(f"{name}:{number}", record) for number, record in enumerate(records)]
    return found


def answers(folder: ProjectFolder) -> dict[str, Any]:
    asked = {kind: folder.ask("quality", kind=kind) for kind in ("quarantined", "repaired", "duplicate")}
    found: dict[str, Any] = {kind: {row["reason"]: row["records"] for row in rows} for kind, rows in asked.items()}
    (total,) = folder.ask("totals")
    return found | {"records": total["records"], "cost": Decimal(total["cost"])}


def streamed(app: App) -> None:
    worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")
    batch = app.batch(Quiet())
    worker.run(lambda: batch.land(Run("")), until_caught_up=True, stopped=lambda: False)


@pytest.mark.parametrize("code", [*ALSO, *MESSAGES])
def test_stream_and_run_give_the_documented_verdict(code: str, kafka: Broker, tmp_path: Path) -> None:
    row = ROWS[code]
    case, sent = MESSAGES[code]() if code in MESSAGES else (made := CASES[code](), messages(made))
    topic = f"calls.{time.time_ns()}"
    declared = replace(case, format=f'{JSON}, topic="{topic}"').declarations
    toml = f'[inbox]\nquiet = 0.0\n[kafka]\nbrokers = "{kafka.address}"\npartitions = 2\n[stream]\nrange = 1000\n'
    folder = ProjectFolder(tmp_path, declared, {**FILES, "headrace.toml": toml})
    folder.run()
    folder.app.log.ensure(folder.app.project.sources["calls"])  # type: ignore[attr-defined]
    if code in MESSAGES:
        for name, data in case.files.items():
            (tmp_path / "landing" / name).write_bytes(data)
    producer = Producer({"bootstrap.servers": kafka.address, "message.max.bytes": 64 << 20})
    failed: list[Any] = []
    for key, value in sent:
        producer.produce(topic, value, key, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert (producer.flush(60), failed) == (0, [])

    streamed(folder.app)
    found = answers(folder)
    assert (found["records"], found["cost"]) == (case.clean, case.cost or COST * case.clean)
    assert sum(found["quarantined"].values()) == case.bad
    if row.verdict == "row quarantined":
        assert set(found["quarantined"]) == {row.reason}
    else:
        assert case.bad == 0

    run = folder.run()
    assert answers(folder) == found, "the run has judged as the stream had"
    refined = of(run, "refine")
    assert refined["repaired"] == case.repaired
    bad = refined["quarantined"] + refined["unreadable"]
    assert (refined["landed"], refined["clean"], bad) == (case.rows, case.clean, case.bad)
    app = folder.app
    silver = app.lake.snapshot("silver/calls")
    assert silver is not None
    if row.verdict == "repaired":
        assert case.repaired
        scan = app.engine.scan(silver.files, silver_columns(app.project.sources["calls"]))
        assert app.engine.rows(f"SELECT DISTINCT unnest(_repairs).reason FROM {scan}") == [(row.reason,)]
    for number, records in case.numbers.items():
        assert sum(r["records"] for r in folder.ask("numbers", msisdn=number)) == records
    assert folder.run().generation is None, "nothing is new"
