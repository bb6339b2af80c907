"""What Prometheus is told."""

from __future__ import annotations

import random
from pathlib import Path

import apsw

from headrace.ops.metrics import Metrics
from tests.flow import shop
from tests.kit import Quiet


def test_drift_is_told_by_table_after_the_first_reconcile(tmp_path: Path) -> None:
    project = shop.make(tmp_path)
    project.land("sales_1.csv", shop.sales_file(random.Random(1), 0, 40))
    project.run()
    app = project.app

    def drift() -> dict[str, float]:
        lines = Metrics(app).text()[0].decode().splitlines()
        told = [line for line in lines if line.startswith("headrace_reconcile_drift_ratio{")]
        return {line.split('table="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in told}

    assert drift() == {}
    table = app.project.queries["total"].tables[0].name
    connection = apsw.Connection(str(project.folder / app.settings["store.path"]))
    connection.execute(f'UPDATE "{table}" SET _records = _records + 1')
    connection.close()
    app.reconcile(Quiet(), ["daily"])
    found = drift()
    assert found.pop(table) == 1
    assert set(found.values()) == {0}
    app.reconcile(Quiet(), ["daily"])
    assert drift()[table] == 0
