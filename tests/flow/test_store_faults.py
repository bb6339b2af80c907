"""The SQLite store under writers that are killed: what was acknowledged is there, and nobody hears of locks."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from headrace.adapters.sqlite_store import SQLiteStore
from headrace.testing.store import NO_PARTITION

pytestmark = pytest.mark.slow
WRITERS = 8
ROOT = Path(__file__).parents[2]
WRITE = """
import sys
from pathlib import Path
from headrace.adapters.sqlite_store import SQLiteStore
from headrace.testing.store import NO_PARTITION
number, gen = int(sys.argv[2]), int(sys.argv[3])
store = SQLiteStore(Path(sys.argv[1]))
while True:
    store.put(NO_PARTITION, [(f"{number}.{i:03}", gen, 1, 0, gen) for i in range(200)])
    store.put_speed(NO_PARTITION, 1, f"lane {number}", 0, gen, [(f"{number}.{i:03}", gen, 1) for i in range(200)])
    store.raise_control(f"progress/{number}", gen)
    print(gen, flush=True)
    gen += 1
"""


@pytest.mark.fault("F35")
def test_eight_writers_that_are_killed_beside_a_long_reader(tmp_path: Path, seed: int) -> None:
    rnd, place = random.Random(seed), tmp_path / "store.db"
    store = SQLiteStore(place)
    store.create(NO_PARTITION)
    store.put(NO_PARTITION, [("long", 1, 1, 0, 1)])
    running: dict[int, subprocess.Popen[str]] = {}
    acknowledged = dict.fromkeys(range(WRITERS), 0)
    said: list[str] = []

    def start(number: int) -> None:
        command = [sys.executable, "-c", WRITE, str(place), str(number), str(acknowledged[number] + 1)]
        running[number] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def progress(number: int) -> int:
        return int((store.control(f"progress/{number}") or "0").split()[0])

    def kill(number: int) -> None:
        process = running.pop(number)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        whole = [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged[number] = max([acknowledged[number], *map(int, whole)])
        said.append(err)

    reader = SQLiteStore(place)
    reader.hold()  # of now, for as long as it wants
    before = [tuple(row) for row in reader.fetch(NO_PARTITION, ())]
    try:
        for number in range(WRITERS):
            start(number)
        for _ in range(3):
            before_round, waited = {number: progress(number) for number in running}, time.monotonic() + 120
            while behind := [number for number in running if progress(number) < before_round[number] + 2]:
                assert time.monotonic() < waited, (seed, behind, "nobody waits for ever")
                time.sleep(0.05)
            time.sleep(rnd.uniform(0, 0.5))  # anywhere in what they do
            for number in rnd.sample(sorted(running), WRITERS // 2):
                kill(number)
                start(number)
    finally:
        for number in sorted(running):
            kill(number)
    assert [tuple(row) for row in reader.fetch(NO_PARTITION, ())] == before, (seed, "a reader sees one moment")
    reader.release()
    assert said == [""] * len(said), (seed, said)
    connection = apsw.Connection(str(place))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], seed
    connection.close()
    newest: dict[str, set[int]] = {}
    for row in store.fetch(NO_PARTITION, ()):
        newest.setdefault(str(row[0]).split(".")[0], set()).add(int(row[-1]))
    for number, gen in acknowledged.items():
        assert gen, "each of them wrote"
        (found,) = newest[str(number)]  # one put is all or nothing
        assert gen <= found <= gen + 1, (seed, number, gen, found)
        assert progress(number) in (gen, gen + 1), (seed, number)
