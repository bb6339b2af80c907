"""Opens a project and hands the steps their ports: an assembler, no logic."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import settings as all_settings
from headrace import wiring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.flow.answer import Reader
    from headrace.flow.run import Batch
    from headrace.model.project import LoadedProject
    from headrace.model.run import Run
    from headrace.ports import Engine, Inbox, Lake, Observer, Store
    from headrace.settings import Settings


class App:
    """One project folder with its settings; each part is opened when it is first needed."""

    def __init__(self, folder: Path, flags: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.settings: Settings = all_settings.load(folder, flags)

    @cached_property
    def project(self) -> LoadedProject:
        """The project's declarations; raises ProjectErrors with all that is wrong with them."""
        from headrace.declare.folder import load

        return load(self.folder, wiring.binder())

    @cached_property
    def engine(self) -> Engine:
        return wiring.engine(self.folder, self.settings)

    @cached_property
    def inbox(self) -> Inbox:
        return wiring.inbox(self.folder, self.settings)

    @cached_property
    def lake(self) -> Lake:
        return wiring.lake(self.folder, self.settings)

    @cached_property
    def store(self) -> Store:
        return wiring.store(self.folder, self.settings)

    @cached_property
    def reader(self) -> Reader:
        """Answers queries; needs the store only."""
        from headrace.flow.answer import Reader

        return Reader(self.project, self.store)

    def batch(self, observer: Observer) -> Batch:
        from headrace.flow.run import Batch

        return Batch(self.project, self.inbox, self.lake, self.engine, self.store, observer)

    def run(self, observer: Observer, *, full: bool = False, refit: bool = False) -> Run:
        """Lands, refines, aggregates and publishes what is new; raises ConflictError HR0401 while another run does."""
        batch = self.batch(observer)
        with wiring.run_lock(self.folder):
            return batch.run(full=full, refit=refit)
