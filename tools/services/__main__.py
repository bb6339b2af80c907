"""`./dev services up kafka sftp`: starts servers, and finds and ends what any `up` has started."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.services.cassandra import JARS as CASSANDRA_JARS
from tools.services.cassandra import nodes
from tools.services.kafka import JARS as KAFKA_JARS
from tools.services.kafka import brokers
from tools.services.postgres import Postgres
from tools.services.process import (
    Record,
    ServiceError,
    Startable,
    end,
    family,
    free_port,
    new_folder,
    of,
    one_at_a_time,
    records,
    sweep,
)
from tools.services.prometheus import Prometheus
from tools.services.sftp import Sftp

SERVICES: Mapping[str, Callable[[Path, int, dict[str, Any]], Startable]] = {
    "kafka": lambda place, port, given: brokers("kafka", 1, place, [port], "160m", **given),
    "kafka3": lambda place, port, given: brokers("kafka3", 3, place, following(port, 3), "160m", **given),
    "sftp": lambda place, port, given: Sftp(place, port or free_port(), **given),
    "cassandra": lambda place, port, given: nodes("cassandra", 1, place, port, **given),
    "cassandra3": lambda place, port, given: nodes("cassandra3", 3, place, port, **given),
    "postgres": lambda place, port, given: Postgres(place, port or free_port(), **given),
    "prometheus": lambda place, port, given: Prometheus(place, port or free_port(), **given),
}
JARS = (KAFKA_JARS, CASSANDRA_JARS)


def following(port: int, count: int) -> list[int]:
    return [port and port + i for i in range(count)]


def up(name: str, folder: Path | None, port: int) -> None:
    have = of(name)
    if have and all(r.alive for r in have):
        return
    end(have)  # what is left of one that died
    place, scrap = new_folder(folder, name)
    made = SERVICES[name](place, port, {"owner": 0, "scrap": scrap})
    try:
        made.start()
    except BaseException:
        made.close()
        raise


def show() -> None:
    rows = [("name", "pid", "memory", "address", "folder")]
    for r in records():
        rows.append((r.name, str(r.pid) if r.alive else "dead", memory(r), r.address, r.folder + note(r)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))


def memory(record: Record) -> str:
    return f"{sum(p.memory for p in family(record.pid).values()) / 1e6:.0f} MB" if record.alive else "-"


def note(record: Record) -> str:
    return "  (left over)" if record.left_over else "  (of a test)" if record.owner else ""


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev services", description="Real servers on loopback, for tests and trials."
    )
    parser.add_argument("what", choices=("up", "down", "status", "fetch"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SERVICES)}; none: all of them")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, of the first server; 0: any free one")
    parser.add_argument("--folder", type=Path, help="where data is kept; without: a temporary folder, gone with `down`")
    parser.add_argument("--dry", action="store_true", help="of fetch: only say, by the exit code, whether it is done")
    given = parser.parse_args(args)
    if unknown := set(given.names) - set(SERVICES):
        parser.error(f"no service {', '.join(sorted(unknown))}: there are {', '.join(SERVICES)}")
    names = given.names or SERVICES
    if len(names) > 1 and (given.port or given.folder):
        parser.error("--port and --folder are for one service")
    try:
        if given.what == "fetch":
            if given.dry:
                return any(jars.missing for jars in JARS)
            for jars in JARS:
                jars.fetched()
            return 0
        with one_at_a_time("services"):
            sweep()
            if given.what == "up":
                for name in names:
                    up(name, given.folder, given.port)
            elif given.what == "down":
                end([r for name in names for r in of(name)])
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    show()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
