"""The lake on disk: Delta Lake tables. The engine writes the Parquet files; this file keeps their log."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions
from pyarrow import parquet

from headrace.errors import ConflictError, OutsideError, SettingError
from headrace.ports import Snapshot


class DeltaLake:
    """Delta tables below one folder; a table's name is its path in it, as ``bronze/sales``."""

    def __init__(self, folder: Path) -> None:
        if re.search("%[0-9A-Fa-f]{2}", str(folder.absolute())):
            raise SettingError(
                "HR0601", f"the lake cannot be in '{folder.absolute()}'", help="a path without % and two digits"
            )
        self.folder = folder
        self._newest: dict[str, DeltaTable] = {}

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        found = self._open(table, version) if version is not None else self._current(table)
        if found is None:
            return None
        root = self.folder / table
        files = tuple(str(root / uri.rpartition("/")[2]) for uri in found.file_uris())
        # Delta lists the newest file first; records read best in the order in which they came.
        return Snapshot(found.version(), tuple(sorted(files)), found.transaction_version)

    def new_file(self, table: str) -> str:
        # Names sort by time, so that a scan of a table's files follows the order of its commits.
        return str(self.folder / table / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet")

    def commit(
        self,
        table: str,
        add: Sequence[tuple[str, int]],
        *,
        keep: Sequence[str] | None,
        base: Snapshot | None,
        transactions: Mapping[str, int] | None = None,
    ) -> int:
        root = self.folder / table
        kept = set(keep if keep is not None else (base.files if base else ()))
        now = int(time.time() * 1000)
        old = set(base.files) if base else set()
        returning = [(file, 0) for file in sorted(kept - old)]
        adds = [_add(root, file, rows) for file, rows in (*add, *returning)]
        removes = [
            RemoveAction(path=Path(file).name, data_change=True, deletion_timestamp=now, size=None, partition_values={})
            for file in sorted(old - kept)
        ]
        properties = CommitProperties(
            max_commit_retries=0,
            app_transactions=[Transaction(name, number) for name, number in (transactions or {}).items()],
        )
        try:
            if base is None:
                if not adds:
                    raise ValueError(f"the first commit of {table} needs a file")
                schema = Schema.from_arrow(parquet.read_schema(add[0][0]))
                create_table_with_add_actions(str(root), _nullable(schema), adds, commit_properties=properties)
                _sync_commit(root, 0)
                return 0
            found = self._open(table)
            if found is None or found.version() != base.version:
                raise ConflictError("HR0404", f"{table} changed while it was being written", help="headrace run")
            schema = Schema.from_arrow(parquet.read_schema(add[0][0])) if add else found.schema()
            hooks = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
            found.create_write_transaction(
                [*adds, *removes],
                "append",
                _nullable(schema),
                commit_properties=properties,
                post_commithook_properties=hooks,
            )
            _sync_commit(root, base.version + 1)
        except DeltaError as error:
            if "already exists" in str(error) or "Failed to commit" in str(error) or "conflict" in str(error).lower():
                raise ConflictError(
                    "HR0404", f"{table} changed while it was being written", help="headrace run"
                ) from None
            raise OutsideError("HR0407", f"{table}: {_one_line(error)}") from None
        except OSError as error:
            full = "No space left" in str(error) or "File too large" in str(error)
            raise OutsideError("HR0406" if full else "HR0407", f"{table}: {_one_line(error)}") from None
        return base.version + 1

    def tables(self) -> Sequence[str]:
        logs = self.folder.glob("**/_delta_log")
        return sorted(str(log.parent.relative_to(self.folder)) for log in logs)

    def forget(self, table: str, keep_versions: Sequence[int], older_than_hours: float) -> int:
        newest = self.snapshot(table)
        if newest is None:
            return 0
        used = set(newest.files)
        for version in keep_versions:
            kept = self.snapshot(table, version)
            used |= set(kept.files) if kept else set()
        horizon = time.time() - older_than_hours * 3600
        gone = 0
        for file in (self.folder / table).glob("*.parquet"):
            if str(file) not in used and file.stat().st_mtime < horizon:
                file.unlink()
                gone += 1
        return gone

    def _current(self, table: str) -> DeltaTable | None:
        """The newest version; opened again only where the log has grown, as opening takes longer than all else here."""
        known = self._newest.get(table)
        if known is not None:
            log = self.folder / table / "_delta_log"
            last, following = (log / f"{known.version() + more:020d}.json" for more in (0, 1))
            if last.exists() and not following.exists():
                return known
        found = self._open(table)
        if found is not None:
            self._newest[table] = found
        return found

    def _open(self, table: str, version: int | None = None) -> DeltaTable | None:
        root = self.folder / table
        if not (root / "_delta_log").is_dir():
            return None
        try:
            return DeltaTable(str(root), version=version)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise OutsideError("HR0407", f"{table}: {error}") from None


def _add(root: Path, file: str, rows: int) -> AddAction:
    if not rows:
        rows = parquet.read_metadata(file).num_rows
    # The file's own entry in its folder must be on disk before the log names it.
    _sync(root)
    stat = Path(file).stat()
    stats = json.dumps({"numRecords": rows})
    return AddAction(
        path=Path(file).name,
        size=stat.st_size,
        partition_values={},
        modification_time=stat.st_mtime_ns // 1_000_000,
        data_change=True,
        stats=stats,
    )


def _sync_commit(root: Path, version: int) -> None:
    """Flushes a commit to disk: the store must not name a version that a power cut can take away. deltalake does not."""
    _sync(root / "_delta_log" / f"{version:020d}.json")
    _sync(root / "_delta_log")


def _one_line(error: Exception) -> str:
    """The library's message without its colours and arrows."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace("↳", "").splitlines()
    return ": ".join(line.strip() for line in lines if line.strip())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _nullable(schema: Schema) -> Schema:
    """The schema with every column nullable: what a file happens to hold is not a promise of the table."""
    return Schema([Field(f.name, f.type, nullable=True) for f in schema.fields])
