"""The embedded log: bronze itself. Landing appends to it, and a source has one lane, its table."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from headrace.model.source import Source
from headrace.ports import Arrival, Engine, Filed, Lake
from headrace.sql.judge import bronze_columns


class BronzeLog:
    """Reads bronze tables as lanes; who writes them is ``land``."""

    def __init__(self, lake: Lake, engine: Engine) -> None:
        self._lake = lake
        self._engine = engine

    is_bronze = True

    def lanes(self, source: Source) -> Mapping[str, tuple[int, int]]:
        bronze = self._lake.snapshot(f"bronze/{source.name}")
        return {source.name: (0, (bronze.transaction(source.name) or 0) if bronze is not None else 0)}

    def read(self, source: Source, lane: str, first: int, end: int) -> Arrival:
        bronze = self._lake.snapshot(f"bronze/{source.name}")
        landed = (bronze.transaction(lane) or 0) if bronze is not None else 0
        files = bronze.files if bronze is not None else ()
        scan = self._engine.scan(files, bronze_columns(source), grown=True)
        return Arrival(lane, f"(SELECT * FROM {scan} WHERE _lane = '{lane}')", max(min(end, landed), first))

    def keeps(self, source: Source, lane: str, mark: str) -> bool:
        return True

    def append(self, source: Source, files: Iterable[Filed]) -> Iterator[int]:
        raise NotImplementedError("files land in bronze directly")

    def feed(self, group: str, sources: Sequence[Source], start: Callable[[str, int], int]) -> BronzeFeed:
        return BronzeFeed(self, sources, start)


class BronzeFeed:
    """Every lane is the one worker's: several would all have to read every file."""

    def __init__(self, log: BronzeLog, sources: Sequence[Source], start: Callable[[str, int], int]) -> None:
        self._log = log
        self._sources = {source.name: source for source in sources}
        self._positions = {name: start(name, 0) for name in self._sources}
        self.is_caught_up = False

    @property
    def lanes(self) -> Collection[str]:
        return self._sources

    def poll(self, wait: float) -> Sequence[Arrival]:
        found = []
        for lane, source in self._sources.items():
            arrival = self._log.read(source, lane, self._positions[lane], 1 << 62)
            if arrival.end > self._positions[lane]:
                self._positions[lane] = arrival.end
                found.append(arrival)
        self.is_caught_up = not found
        if not found:
            time.sleep(wait)
        return found

    def mark(self, lane: str, end: int) -> str:
        return ""

    def commit(self, lane: str, offset: int) -> None:
        pass  # bronze keeps no positions of its readers

    def close(self) -> None:
        pass
