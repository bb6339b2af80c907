"""Names to adapters; the only place that imports adapters by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import SettingError
from headrace.ports import Insisting, Inspectable
from headrace.settings import Settings, size

if TYPE_CHECKING:
    from headrace.ports import Drop, Engine, Inbox, Inspect, Lake, Log, Observer, Store


def engine(folder: Path, settings: Settings, *others: Path) -> Engine:
    """An engine for the lake's files, and those below ``others``."""
    from headrace.adapters.duckdb_engine import DuckDBEngine

    return DuckDBEngine(
        folder / settings["lake.path"],
        *others,
        memory=settings["engine.memory"],
        threads=settings["engine.threads"] or None,
        spill=folder / ".headrace" / "spill",
    )


def binder() -> Engine:
    """An engine for names and types only: it never sees data."""
    from headrace.adapters.duckdb_engine import DuckDBEngine

    return DuckDBEngine(memory="128MB", threads=1)


def inbox(folder: Path, settings: Settings) -> Inbox:
    if settings["inbox.url"]:
        from headrace.adapters.sftp_inbox import SftpInbox

        names = ("url", "host_key", "key", "passphrase", "password", "quiet", "done", "poll", "timeout")
        limit = size(settings["inbox.max_file"])
        return SftpInbox(**{name: settings[f"inbox.{name}"] for name in names}, max_file=limit)
    from headrace.adapters.folder_inbox import FolderInbox

    return FolderInbox(folder / settings["inbox.path"], settings["inbox.quiet"], done=settings["inbox.done"])


def folder_inbox(folder: Path) -> Inbox:
    """A folder whose files are complete."""
    from headrace.adapters.folder_inbox import FolderInbox

    return FolderInbox(folder, 0.0)


@contextmanager
def drop(settings: Settings) -> Iterator[Drop]:
    """Where the SFTP inbox is filled; raises SettingError HR0601 where there is none."""
    if not settings["inbox.url"]:
        raise SettingError("HR0601", "there is no SFTP server: inbox.url is empty", help="inbox.url = sftp://...")
    from headrace.adapters.sftp_drop import SftpDrop

    names = ("url", "host_key", "key", "passphrase", "password", "done", "timeout")
    opened = SftpDrop(**{name: settings[f"inbox.{name}"] for name in names})
    try:
        yield opened
    finally:
        opened.close()


def lake(folder: Path, settings: Settings) -> Lake:
    from headrace.adapters.delta_lake import DeltaLake

    return DeltaLake(folder / settings["lake.path"])


def log(settings: Settings, lake: Lake, engine: Engine) -> Log:
    if not settings["kafka.brokers"]:
        from headrace.adapters.bronze_log import BronzeLog

        return BronzeLog(lake, engine)
    from headrace.adapters.kafka_log import KafkaLog

    given = {
        "bootstrap.servers": settings["kafka.brokers"],
        "security.protocol": settings["kafka.security"],
        "sasl.mechanism": settings["kafka.mechanism"],
        "sasl.username": settings["kafka.user"],
        "sasl.password": settings["kafka.password"],
        "ssl.ca.location": settings["kafka.ca"],
        "ssl.certificate.location": settings["kafka.certificate"],
        "ssl.key.location": settings["kafka.key"],
    }
    used = {name: value for name, value in given.items() if value}
    return KafkaLog(used, engine, partitions=settings["kafka.partitions"], replicas=settings["kafka.replicas"])


def store(folder: Path, settings: Settings) -> Store:
    if settings["cassandra.hosts"] or settings["cassandra.bundle"]:
        if settings["postgres.url"]:
            raise SettingError(
                "HR0601", "there are two stores: postgres.url, and cassandra's", help="leave one of them out"
            )
        from headrace.adapters.cassandra_session import Address
        from headrace.adapters.cassandra_store import CassandraStore

        hosts = tuple(host.strip() for host in str(settings["cassandra.hosts"]).split(",") if host.strip())
        names = [field.name for field in fields(Address) if field.name != "hosts"]
        return CassandraStore(Address(hosts, **{name: settings[f"cassandra.{name}"] for name in names}))
    if settings["postgres.url"]:
        from headrace.adapters.postgres_store import PostgresStore

        return PostgresStore(**{name: settings[f"postgres.{name}"] for name in ("url", "password", "ca", "schema")})
    from headrace.adapters.sqlite_store import SQLiteStore

    return SQLiteStore(folder / settings["store.path"])


def inspect(store: Store) -> Inspect | None:
    """What looks at a store's own tables and nodes; None for one file, of which there is nothing to see."""
    return store.inspection() if isinstance(store, Inspectable) else None


def insist(store: Store) -> None:
    """Has a store that may be out of reach for a while waited for: by who counts, not by who answers."""
    if isinstance(store, Insisting):
        store.insist()


def run_lock(folder: Path) -> AbstractContextManager[None]:
    from headrace.adapters.file_lock import held

    return held(folder / ".headrace" / "run.lock")


def land_lock(folder: Path) -> AbstractContextManager[None]:
    """A run and a stream of one project land in turns."""
    from headrace.adapters.file_lock import waited_for

    return waited_for(folder / ".headrace" / "land.lock")


def gen_lock(folder: Path) -> AbstractContextManager[None]:
    from headrace.adapters.file_lock import held

    return held(folder / ".headrace" / "gen.lock")


@contextmanager
def scratch(folder: Path, settings: Settings, target: Path) -> Iterator[Callable[[str], None]]:
    """A private engine for generators that write below ``target``; gives what runs its statements."""
    from headrace.adapters.duckdb_engine import DuckDBEngine

    private = DuckDBEngine(target, memory=settings["engine.memory"], spill=folder / ".headrace" / "spill")
    try:
        yield private.execute
    finally:
        private.close()


class _Silence:
    def begin(self, verb: str, subject: str, total: int | None = None) -> None: ...

    def advance(self, count: int) -> None: ...

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None: ...

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None: ...

    def alarm(self, text: str) -> None: ...


def silence() -> Observer:
    """An observer that tells nobody."""
    return _Silence()
