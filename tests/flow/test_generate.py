"""gen: the same files and messages wherever they go, however often it is killed on the way."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from headrace.app import App
from headrace.errors import SettingError
from tests.kit import ProjectFolder, Quiet
from tools.services import Broker, Sftp

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
ROWS = 40
FILES = 6
SAMPLES = f"""
VOLUMES = {{"dev": 1.0, "prod": 3.0}}

def generate(samples):
    samples.csv("prices.csv", "SELECT 'a' AS item, 1 AS price")
    for file in range({FILES}):
        samples.csv(f"till/sales_{{file}}.csv", f"SELECT {{file}} * 1000 + i AS sale_id, TIMESTAMP '2024-01-01' + to_minutes(i::INTEGER) AS sold_at,"
                    f" whole('n', {{file}} * 1000 + i, 1, 99) AS amount FROM range({{samples.scaled({ROWS})}}) t(i) ORDER BY i")
        samples.jsonl(f"visits_{{file}}.jsonl", f"SELECT 0 AS file, i AS place, concat('{{{{\\"visit\\": ', {{file}} * 1000 + i,"
                      f" ', \\"came_at\\": \\"2024-01-01T00:00:00\\"}}}}') AS line FROM range({ROWS}) t(i)", files=1)
    samples.text("_truth/truth.txt", "all of it")
"""


def project(folder: Path, settings: str = "", topic: str = "") -> ProjectFolder:
    folder.mkdir(exist_ok=True)
    named = [f', topic="{name}.{topic}"' if topic else "" for name in ("sales", "visits")]
    made = ProjectFolder(folder, f"""
project = Project("tills")
project.source("sales", csv("**/sales_*.csv"), id="sale_id", event_time="sold_at", columns="sale_id BIGINT, sold_at TIMESTAMP, amount INTEGER"{named[0]})
project.source("visits", jsonl("visits_*.jsonl"), id="visit", event_time="came_at", columns="visit BIGINT, came_at TIMESTAMP"{named[1]})
project.reference("prices", csv("prices.csv"), key="item", columns="item VARCHAR, price INTEGER")
""")  # fmt: skip
    made.write("samples.py", SAMPLES)
    made.write("headrace.toml", settings)
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    made = project(tmp_path_factory.mktemp("whole") / "tills")
    assert made.app.deliver(Quiet(), ["folder"], 1.0, 7) == {"files": 2 * FILES + 2, "there already": 0}
    found = files(made.folder / "landing")
    assert len(found) == 2 * FILES + 2
    assert len(found["till/sales_3.csv"].splitlines()) == ROWS + 1
    return found


def child(folder: Path, at: int, *targets: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.flow.generating", str(folder), str(at), *targets]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def killed_often(folder: Path, kills: int, *targets: str, most: int) -> None:
    """Runs it to its end, and kills it at random moments before."""
    rnd = random.Random(SEED)
    died = 0
    for _ in range(kills):
        done = child(folder, rnd.randrange(most), *targets)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        died += 1
    assert died, "it was never killed"
    done = child(folder, -1, *targets)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_folder_is_the_same_after_kills(whole: dict[str, bytes], tmp_path: Path) -> None:
    made = project(tmp_path / "tills")
    killed_often(made.folder, 5, "folder", most=24)
    assert files(made.folder / "landing") == whole, f"HEADRACE_TEST_SEED={SEED}"
    assert files(made.folder / ".headrace/gen") == {}


def test_what_is_there_is_not_made_again(whole: dict[str, bytes], tmp_path: Path) -> None:
    made = project(tmp_path / "tills")
    assert child(made.folder, 20, "folder").returncode == -9
    there = {name: (made.folder / "landing" / name).stat().st_mtime_ns for name in files(made.folder / "landing")}
    assert 2 < len(there) < len(whole)
    counts = made.app.deliver(Quiet(), ["folder"], 1.0, 7)
    assert counts["there already"] in (len(there), len(there) - 1)
    assert counts["there already"] + counts["files"] == len(whole)
    kept = [name for name, at in there.items() if (made.folder / "landing" / name).stat().st_mtime_ns == at]
    assert len(kept) == counts["there already"]


def test_another_seed_begins_anew(tmp_path: Path) -> None:
    made = project(tmp_path / "tills")
    assert child(made.folder, 20, "folder").returncode == -9
    assert made.app.deliver(Quiet(), ["folder"], 1.0, 8) == {"files": 2 * FILES + 2, "there already": 0}


def test_the_command_line_has_volumes_targets_and_progress(whole: dict[str, bytes], tmp_path: Path) -> None:
    made = project(tmp_path / "tills")
    done = made.command("gen", "--volume", "prod", "--seed", "7", "--to", str(tmp_path / "a"), "--to", "folder")
    assert done.returncode == 0, done.stderr
    assert f"{2 * FILES + 2} files" in done.stderr
    assert files(tmp_path / "a") == files(made.folder / "landing")
    assert len((tmp_path / "a/till/sales_0.csv").read_text().splitlines()) == 3 * ROWS + 1
    wrong = made.command("gen", "--volume", "production")
    assert wrong.returncode == 2
    assert "one of dev, prod" in wrong.stderr


@pytest.mark.parametrize(("target", "setting"), [("kafka", "kafka.brokers"), ("sftp", "inbox.url")])
def test_a_target_that_is_not_set_is_told(target: str, setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=setting):
        project(tmp_path / "tills").app.deliver(Quiet(), [target], 1.0, 7)


@pytest.mark.slow
def test_a_server_has_the_same_files_after_kills(whole: dict[str, bytes], sftp: Sftp, tmp_path: Path) -> None:
    given = f'url = "sftp://{sftp.user}@127.0.0.1:{sftp.port}/upload"\nhost_key = "{sftp.host_key}"\nkey = "file:{sftp.key}"\n'
    made = project(tmp_path / "tills", f'[inbox]\n{given}done = ".done"\n')
    killed_often(made.folder, 3, "sftp", most=24)
    found = files(sftp.upload)
    assert {
        name: body for name, body in found.items() if not name.endswith(".done") and "/." not in f"/{name}"
    } == whole
    assert {name.removesuffix(".done") for name in found if name.endswith(".done")} == set(whole)
    made.app.run(Quiet())
    counted = {s["source"]: s["clean"] for s in made.app.status()["sources"]}
    assert counted == {"sales": FILES * ROWS, "visits": FILES * ROWS, "prices": 1}


def messages(broker: Broker, topic: str) -> Counter[tuple[str, int]]:
    """How often each row of each file is in a topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": broker.address, "group.id": f"look.{time.time_ns()}", "enable.auto.commit": False}
    )
    found: Counter[tuple[str, int]] = Counter()
    try:
        for partition in consumer.list_topics(topic, 20).topics[topic].partitions:
            place = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(place, 20)
            consumer.assign([place])
            at = 0
            until = time.monotonic() + 30
            while at < end:
                assert time.monotonic() < until
                for message in consumer.consume(1000, 1.0):
                    assert message.error() is None
                    at = (message.offset() or 0) + 1
                    headers = dict(message.headers() or [])
                    found[(bytes(headers["file"]).decode(), int(bytes(headers["row"])))] += 1
    finally:
        consumer.close()
    return found


@pytest.mark.slow
def test_topics_have_each_record_once_after_kills(whole: dict[str, bytes], kafka: Broker, tmp_path: Path) -> None:
    tag = f"gen.{SEED}.{time.time_ns()}"
    made = project(tmp_path / "tills", f'[kafka]\nbrokers = "{kafka.address}"\npartitions = 3\n', tag)
    killed_often(made.folder, 6, "kafka", "folder", most=500)
    assert files(made.folder / "landing") == whole
    rows = range(1, ROWS + 1)
    sold = messages(kafka, f"sales.{tag}")
    assert sold == Counter({(f"till/sales_{n}.csv", row): 1 for n in range(FILES) for row in rows}), f"{SEED=}"
    assert messages(kafka, f"visits.{tag}") == Counter(
        {(f"visits_{n}.jsonl", row): 1 for n in range(FILES) for row in rows}
    )
    again = App(made.folder).deliver(Quiet(), ["kafka"], 1.0, 7)
    assert again == {"files": 0, "there already": 2 * FILES + 2}
    assert messages(kafka, f"sales.{tag}") == sold
    sums = [
        sum(int(r["amount"]) for r in csv.DictReader(body.decode().splitlines()))
        for n, body in whole.items()
        if "sales" in n
    ]
    assert sum(sums) > 0
