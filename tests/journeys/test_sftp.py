"""A project that is fed over SFTP, by settings alone, gives what it gives from a folder; also when the server dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters import sftp_connection
from headrace.app import App
from headrace.errors import OutOfReachError
from headrace.sql.judge import bronze_columns
from tests.kit import ProjectFolder, Quiet
from tests.sftp import line_to
from tools import services

DECLARATIONS = """
project = Project("remote")
project.source("sales", csv("sales/*.csv"), id="id", event_time="day",
    columns="id BIGINT, day DATE NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(9,2) NOT NULL").rule(
    "amount >= 0", "negative amount")
project.source("visits", jsonl("visits_*.jsonl"), id="id", event_time="seen_at",
    columns="id BIGINT, seen_at TIMESTAMP NOT NULL, shop VARCHAR NOT NULL")
"""
FILES = {
    "marts/total.sql": "SELECT day, shop, count(*) AS records, sum(amount) AS amount FROM sales GROUP BY ALL",
    "marts/seen.sql": "SELECT CAST(seen_at AS DATE) AS day, count(*) AS visits FROM visits GROUP BY ALL",
    "queries/total.sql": "SELECT shop, measure(records) AS records, measure(amount) AS amount FROM total GROUP BY ALL",
    "queries/seen.sql": "SELECT measure(visits) AS visits FROM seen",
}


def landing(folder: Path) -> None:
    """Files of both sources: small and large ones, packed, broken, and still being written."""
    for n in range(20):
        rows = [f"{n * 5000 + i},2024-05-{i % 28 + 1:02},shop {i % 3},{i - 5}.25\n" for i in range(5000)]
        (folder / "sales").mkdir(parents=True, exist_ok=True)
        (folder / f"sales/s_{n:02}.csv").write_text("id,day,shop,amount\n" + "".join(rows))
    subprocess.run(["gzip", folder / "sales/s_07.csv"], check=True)
    (folder / "sales/s_90.csv").write_text("another,header\n1,2\n")
    (folder / "sales/s_91.csv.part").write_text("id,day,shop,amount\n1,2024")
    lines = [json.dumps({"id": i, "seen_at": "2024-05-01T00:00:00", "shop": "shop 1"}) for i in range(1000)]
    (folder / "visits_1.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")


def project(folder: Path, settings: str = "") -> ProjectFolder:
    folder.mkdir()
    made = ProjectFolder(folder, DECLARATIONS, FILES)
    made.write("headrace.toml", settings)
    return made


def remote(sftp: services.Sftp, port: int = 0) -> str:
    return (
        f'[inbox]\nurl = "sftp://{sftp.user}@127.0.0.1:{port or sftp.port}/upload"\n'
        f'host_key = "{sftp.host_key}"\nkey = "file:{sftp.key}"\ntimeout = 10.0\n'
    )


def all_of(folder: ProjectFolder) -> dict[str, Any]:
    """Answers and every bronze record with its origin, but for when it came."""
    app = folder.app
    found: dict[str, Any] = {name: folder.ask(name) for name in ("total", "seen")}
    for name, source in app.project.sources.items():
        snapshot = app.lake.snapshot(f"bronze/{name}")
        assert snapshot is not None
        scan = app.engine.scan(snapshot.files, bronze_columns(source))
        found[f"bronze/{name}"] = app.engine.rows(f"SELECT * EXCLUDE (_landed_at) FROM {scan} ORDER BY _offset")
    return found


def test_a_run_over_sftp_gives_what_a_run_over_a_folder_gives(sftp: services.Sftp, tmp_path: Path) -> None:
    landing(sftp.upload)
    local = project(tmp_path / "local")
    shutil.copytree(sftp.upload, local.folder / "landing", dirs_exist_ok=True)
    far = project(tmp_path / "far", remote(sftp))
    runs = local.run(), far.run()
    # 20 files of 5,000, one refused whole, 1,000 lines and one that is broken
    assert [run.total("rows", "land") for run in runs] == [100_000 + 1 + 1000 + 1] * 2
    assert all_of(far) == all_of(local)
    assert far.run().generation is None, "the same files again are not even read"


@pytest.mark.slow
def test_a_run_whose_server_dies_lands_nothing_half_and_the_next_one_all(
    sftp: services.Sftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_connection, "PAUSES", (0.05, 0.1))
    landing(sftp.upload)
    local = project(tmp_path / "local")
    shutil.copytree(sftp.upload, local.folder / "landing", dirs_exist_ok=True)
    local.run()
    with line_to(sftp.port) as line:
        far = project(tmp_path / "far", remote(sftp, line.port))

        def die() -> None:
            sftp.kill()
            line.cut()

        line.after(1 << 20, die)
        with pytest.raises(OutOfReachError):
            far.run()
        assert far.app.lake.snapshot("bronze/sales") is None
        sftp.start()
        far.run()
    assert all_of(far) == all_of(local)


@pytest.mark.slow
def test_a_stream_outlives_its_server(sftp: services.Sftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp_connection, "PAUSES", (0.05,))
    (sftp.upload / "sales").mkdir()
    (sftp.upload / "sales/a.csv").write_text("id,day,shop,amount\n1,2024-05-01,x,1.00\n")
    far = project(tmp_path / "far", remote(sftp) + "poll = 0.0\nquiet = 0.0\n")
    far.run()
    observer = Quiet()
    turns = 0

    def stopped() -> bool:
        nonlocal turns
        turns += 1
        if turns == 2:
            sftp.kill()
        if observer.alarms and not sftp.alive:
            sftp.start()
            (sftp.upload / "sales/b.csv").write_text("id,day,shop,amount\n2,2024-05-01,x,2.00\n")
        return turns > 50 or (
            sftp.alive and far.ask("total") == [{"shop": "x", "records": 2, "amount": Decimal("3.00")}]
        )

    assert far.app.stream(observer, until_caught_up=False, stopped=stopped) == 1
    assert [alarm.partition(":")[0] for alarm in observer.alarms] == ["HR0421"]


def headrace(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", "--project", str(folder), *args]
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_doctor_says_whether_the_inbox_can_be_reached(sftp: services.Sftp, tmp_path: Path) -> None:
    landing(sftp.upload)
    far = project(tmp_path / "far", remote(sftp)).folder
    good = headrace(far, "doctor")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "ok   inbox      22 files" in good.stdout
    wrong = headrace(far, "doctor", HEADRACE_INBOX__KEY="", HEADRACE_INBOX__PASSWORD="env:WRONG", WRONG="hunter2")
    assert wrong.returncode == 1
    assert "FAIL inbox      HR0423" in wrong.stdout
    assert "hunter2" not in wrong.stdout + wrong.stderr
    bare = headrace(far, "doctor", HEADRACE_INBOX__HOST_KEY="")
    assert "ssh-keyscan" in bare.stdout
    shown = headrace(far, "config", "show", HEADRACE_INBOX__PASSWORD="hunter2")
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "PRIVATE KEY" not in shown.stdout + shown.stderr


@pytest.mark.slow
def test_without_the_library_it_says_how_to_install_it(tmp_path: Path) -> None:
    far = project(tmp_path / "far", '[inbox]\nurl = "sftp://me@127.0.0.1:1/in"\nhost_key = "x"\n').folder
    (tmp_path / "without").mkdir()
    (tmp_path / "without/asyncssh.py").write_text("raise ImportError\n")
    path = f"{tmp_path / 'without'}{os.pathsep}{Path(__file__).parents[2] / 'src'}"
    done = headrace(far, "run", PYTHONPATH=path)
    assert done.returncode == 3
    assert "HR0701" in done.stderr
    assert "pip install 'headrace[sftp]'" in done.stderr
    assert "pip install 'headrace[sftp]'" in headrace(far, "doctor", PYTHONPATH=path).stdout


def test_the_app_of_a_folder_project_never_asks_for_the_library(tmp_path: Path) -> None:
    app = App(project(tmp_path / "local").folder)
    assert type(app.inbox).__name__ == "FolderInbox"
