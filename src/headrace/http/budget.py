"""A store that stops reading when one answer has read enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from headrace.model.serving import ServingTable
from headrace.ports import Store

Row = tuple[Any, ...]
A_FETCH = 10
"""What a fetch costs besides its rows, in rows: many small partitions are work too."""


class SpentError(Exception):
    """The answer would read more than its budget."""


class Bounded:
    """The reading half of a store, up to ``rows`` rows between two calls of ``refill``. For one thread."""

    def __init__(self, store: Store, rows: int) -> None:
        self.rows = rows
        self._store = store
        self._left = rows
        self.control = store.control
        self.controls = store.controls
        self.is_remote = store.is_remote

    def refill(self, rows: int | None = None) -> None:
        self._left = self.rows if rows is None else rows

    def fetch(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        reverse: bool = False,
        after: Row | None = None,
        limit: int | None = None,
    ) -> Sequence[Row]:
        left = self._left - A_FETCH
        if left < 0 or (limit is not None and limit > left):
            raise SpentError
        rows = self._store.fetch(
            table, partition, bounds, reverse=reverse, after=after, limit=left + 1 if limit is None else limit
        )
        self._left = left - len(rows)
        if self._left < 0:
            raise SpentError
        return rows

    def fetch_speed(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        epoch: int,
    ) -> Sequence[Row]:
        rows = self._store.fetch_speed(table, partition, bounds, epoch=epoch)
        self._left -= A_FETCH + len(rows)
        if self._left < 0:
            raise SpentError
        return rows

    # An answer writes nothing, and does not know of others.

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        raise NotImplementedError

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        raise NotImplementedError

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        raise NotImplementedError

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        raise NotImplementedError

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        raise NotImplementedError

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        raise NotImplementedError

    def hold(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        raise NotImplementedError

    def set_control(self, name: str, value: str) -> None:
        raise NotImplementedError

    def create(self, table: ServingTable) -> None:
        raise NotImplementedError

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        raise NotImplementedError

    def drop(self, table: str) -> None:
        raise NotImplementedError

    def physical(self) -> Sequence[str]:
        raise NotImplementedError
