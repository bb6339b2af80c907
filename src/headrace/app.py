"""Opens a project and hands the steps their ports: an assembler, no logic."""

from __future__ import annotations

import os
import runpy
import secrets
import shutil
import socket
import time
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import settings as all_settings
from headrace import wiring
from headrace.errors import DeclarationError, OutsideError, SettingError
from headrace.settings import size

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.flow.answer import Reader
    from headrace.flow.apply import Applied
    from headrace.flow.canary import Watch
    from headrace.flow.cluster import Finding
    from headrace.flow.export import Gold
    from headrace.flow.housekeeping import Housekeeping
    from headrace.flow.mending import Mending
    from headrace.flow.plan import Plan
    from headrace.flow.quarantine import Quarantine
    from headrace.flow.reconcile import Found
    from headrace.flow.run import Batch
    from headrace.flow.samples import Target
    from headrace.flow.status import Progress
    from headrace.flow.trial import Result
    from headrace.model.project import LoadedProject
    from headrace.model.run import Run
    from headrace.ports import Engine, Inbox, Inspect, Lake, Log, Observer, Store
    from headrace.settings import Settings


class App:
    """One project folder with its settings; each part is opened, and imported, when it is first needed."""

    def __init__(self, folder: Path, flags: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self._flags = flags
        self.settings: Settings = all_settings.load(folder, flags)

    def beside(self) -> App:
        """The same project and store with a lake and an engine of its own, for another thread."""
        other = App(self.folder)
        other.settings, other.project, other.store = self.settings, self.project, self.store
        return other

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
    def log(self) -> Log:
        return wiring.log(self.settings, self.lake, self.engine)

    @cached_property
    def store(self) -> Store:
        return wiring.store(self.folder, self.settings)

    @cached_property
    def inspect(self) -> Inspect | None:
        """What looks at the store's own tables and nodes; None where there is nothing to look at."""
        return wiring.inspect(self.store)

    def watch(self, say: Callable[[str], None]) -> Watch:
        """What looks for writes by the clock, and says what it finds."""
        from headrace.flow.canary import Watch

        return Watch(self.project, self.store, self.inspect, say)

    @cached_property
    def reader(self) -> Reader:
        """Answers queries; needs the store only."""
        from headrace.flow.answer import Reader

        return Reader(self.project, self.store)

    @cached_property
    def gold(self) -> Gold:
        """The relations of the generation that answers."""
        from headrace.flow.export import Gold

        return Gold(self.project, self.lake, self.engine, self.reader)

    @cached_property
    def quarantine(self) -> Quarantine:
        from headrace.flow.quarantine import Quarantine

        return Quarantine(self.project, self.lake, self.engine)

    @cached_property
    def housekeeping(self) -> Housekeeping:
        from headrace.flow.housekeeping import Housekeeping

        return Housekeeping(self.project, self.lake, self.engine, self.reader)

    def batch(self, observer: Observer, mending: Mending | None = None) -> Batch:
        """What a run works with; ``mending`` is done besides what is new."""
        wiring.insist(self.store)
        from headrace.flow.mending import NOTHING
        from headrace.flow.run import Batch
        from headrace.flow.writing import Behind

        return Batch(
            self.project,
            self.inbox,
            self.log,
            self.lake,
            self.engine,
            self.store,
            observer,
            self.settings["stream.range"],
            partial(wiring.land_lock, self.folder),
            mending or NOTHING,
            Behind,
            inspect=self.inspect,
        )

    def run(self, observer: Observer, *, full: bool = False, refit: bool = False, take_over: bool = False) -> Run:
        """Lands, refines, aggregates and publishes what is new; raises ConflictError HR0401 while another run does."""
        batch = self.batch(observer)
        with wiring.run_lock(self.folder):
            return batch.run(full=full, refit=refit, take_over=take_over)

    def stream(self, observer: Observer, *, until_caught_up: bool, stopped: Callable[[], bool]) -> int:
        """Lands what arrives and counts it at once, until ``stopped``; gives the number of records. What has never been
        published is published first."""
        from headrace.errors import NotReadyError, OutOfReachError
        from headrace.flow.stream import Worker
        from headrace.flow.writing import Behind
        from headrace.model.run import Run

        wiring.insist(self.store)
        try:
            self.reader.pointer()
        except NotReadyError:
            self.run(observer)
        batch = self.batch(observer)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        worker = Worker(self.project, self.log, self.lake, self.engine, self.store, observer, name, Behind(2))

        watch = self.watch(observer.alarm)

        def arrivals() -> None:
            watch.look()
            try:
                batch.land(Run(""))
            except OutOfReachError as error:
                if until_caught_up:
                    raise
                # What has landed is counted all the same; then it is asked again.
                observer.alarm(str(error))

        return worker.run(arrivals, until_caught_up=until_caught_up, stopped=stopped)

    def land(self, observer: Observer, *, accept_gaps: bool = False) -> Run:
        """Lands what the inbox has, and copies what the log has to bronze; nothing is counted yet."""
        from headrace.model.run import Run

        run = Run("")
        batch = self.batch(observer)
        batch.land(run)
        batch.copy(run, accept_gaps=accept_gaps)
        return run

    def reconcile(
        self, observer: Observer, names: Sequence[str] = (), *, sample: int | None = None, repair: bool = True,
    ) -> Found:  # fmt: skip
        """Compares what the store answers with what bronze says, and mends it by a run where they differ."""
        from headrace.flow.reconcile import Reconcile, reconcile

        def run(mending: Mending) -> int | None:
            with wiring.run_lock(self.folder):
                return self.batch(observer, mending).run().generation

        wiring.insist(self.store)
        work = Reconcile(self.project, self.lake, self.engine, self.store, observer, self.inspect)
        return reconcile(work, names, sample=sample, repair=repair, run=run)

    def plan(self) -> Plan:
        """What the store's tables are to be, and what differs from that."""
        from headrace.flow.answer import Reader
        from headrace.flow.export import Gold
        from headrace.flow.plan import Limits, Planner

        store = self.inspect.unchecked() if self.inspect is not None else self.store
        gold = Gold(self.project, self.lake, self.engine, Reader(self.project, store))
        limits = Limits(self.settings["cassandra.partition_rows"], size(self.settings["cassandra.partition_size"]))
        keyspace, replicas = self.settings["cassandra.keyspace"], self.settings["cassandra.replicas"]
        return Planner(
            self.project,
            self.engine,
            store,
            gold,
            self.inspect,
            keyspace,
            replicas,
            self.settings["stream.range"],
            limits,
        ).plan()

    def apply(self, observer: Observer) -> Applied:
        """Makes the store's tables what ``plan`` says."""
        from headrace.flow.apply import apply

        def anew() -> App:
            """The project as its files are now, with this one's session."""
            app = type(self)(self.folder, self._flags)
            app.store, app.inspect = self.store, self.inspect
            return app

        def run(mending: Mending) -> int | None:
            batch = anew().batch(observer, mending)
            batch.compares = True
            return batch.run().generation

        with wiring.run_lock(self.folder):
            return apply(self.project, self.inspect, observer, lambda: anew().plan(), run)

    def backfill(self, observer: Observer, mart: str, first: dt.date, last: dt.date) -> Run:
        """Computes the windows of a mart that have these days in them whole from bronze, and publishes them."""
        from headrace.flow.backfill import backfilling

        mending = backfilling(self.project, mart, first, last)
        with wiring.run_lock(self.folder):
            return self.batch(observer, mending).run()

    def rollback(self) -> int:
        """Returns to the predecessor; gives its number. Raises ConflictError HR0405."""
        from headrace.flow.rollback import rollback

        with wiring.run_lock(self.folder):
            return rollback(self.store)

    def replay(self, source: str, text: str) -> tuple[int, list[str]]:
        """Puts corrected records (JSON lines, as exported) into bronze; gives how many, and the origins
        that were replayed before."""
        from headrace.flow.replay import replay

        # The stream appends to the lane, too, and of two who do at once one fails.
        with wiring.run_lock(self.folder), wiring.land_lock(self.folder):
            return replay(self.quarantine, source, text)

    def why(self, name: str, given: Mapping[str, Any], whole: int) -> dict[str, Any]:
        """The trace of an answer."""
        from headrace.flow.why import Why

        return Why(self.gold, self.reader, self.lake, self.engine).why(name, given, whole)

    def status(self) -> dict[str, Any]:
        from headrace.flow.status import status

        return status(self.project, self.lake, self.engine, self.store, self.inspect)

    def progress(self) -> Progress:
        """How far counting has come, without a look at any record."""
        from headrace.flow.status import progress

        return progress(self.project, self.lake, self.engine, self.store)

    def doctor(self) -> list[Finding]:
        from headrace.flow.status import doctor

        return doctor(self.folder, self.project, lambda: self.inbox, self.lake, self.store, self.inspect)

    def compact(self, observer: Observer) -> Iterator[tuple[str, int, int]]:
        """Merges small files; gives (table, files before, files after) of each."""
        with wiring.run_lock(self.folder):
            yield from self.housekeeping.compact(observer)

    def vacuum(self, older_than_hours: float) -> int:
        with wiring.run_lock(self.folder):
            return self.housekeeping.vacuum(older_than_hours)

    def exports(self) -> list[str]:
        from headrace.flow.export import names

        return names(self.folder)

    def export(self, name: str, path: Path) -> int:
        """Writes an export; gives its number of rows."""
        from headrace.flow.export import Gold, export

        engine = wiring.engine(self.folder, self.settings, path.parent)
        return export(name, self.folder, path, Gold(self.project, self.lake, engine, self.reader))

    def test(self, names: tuple[str, ...]) -> Iterator[Result]:
        """Runs the project's unit tests, each in a folder of its own."""
        from headrace.flow.run import Batch
        from headrace.flow.trial import trials

        def make(place: Path) -> Batch:
            settings = all_settings.load(place, {"inbox.path": ".", "inbox.quiet": 0.0}, environment={})
            lake, engine = wiring.lake(place, settings), wiring.engine(place, settings)
            inbox, store = wiring.inbox(place, settings), wiring.store(place, settings)
            return Batch(self.project, inbox, wiring.log(settings, lake, engine), lake, engine, store, wiring.silence())

        return trials(self.folder, names, make)

    def samples(self) -> Mapping[str, Any]:
        """What the project's ``samples.py`` defines: nothing where there is none."""
        file = self.folder / "samples.py"
        return runpy.run_path(str(file)) if file.is_file() else {}

    def generators(self) -> list[str]:
        """The functions of ``samples.py`` that make sample data: those that take ``samples`` and need nothing else."""
        import inspect

        file = str(self.folder / "samples.py")
        found = []
        for name, made in self.samples().items():
            if inspect.isfunction(made) and made.__code__.co_filename == file and not name.startswith("_"):
                needed = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
                found += [name] if len(needed) == 1 else []
        return found

    def deliver(
        self,
        observer: Observer,
        to: Sequence[str],
        scale: float,
        seed: int,
        *,
        what: str = "generate",
        again: bool = False,
    ) -> dict[str, int]:
        """Makes sample data for each of ``to``: ``sftp``, ``kafka``, ``folder`` (the inbox) or the path of another one.
        What an interrupted call has delivered is not delivered again. Gives how many files were made, and were there."""
        from headrace.flow.generate import Noted, Server, Several, Topics, ledger_name
        from headrace.flow.samples import Folder

        place = self.folder / ".headrace" / "gen"
        work = place / f"work-{os.getpid()}"
        started = time.monotonic()
        with wiring.gen_lock(self.folder), ExitStack() as stack:
            for left in place.glob("work-*"):
                shutil.rmtree(left)
            work.mkdir(parents=True)
            stack.callback(shutil.rmtree, work)
            inbox = Folder(self.folder / self.settings["inbox.path"])
            targets: list[Target] = []
            ledgers: dict[str, Path] = {}
            for name in dict.fromkeys(to):
                target: Target
                if name == "kafka":
                    if self.log.is_bronze:
                        raise SettingError("HR0601", "there is no log in Kafka: kafka.brokers is empty", help="set it")
                    alone = work / "alone"
                    target = Topics(self.project, self.log, self.engine, observer, inbox, alone, wiring.folder_inbox)
                    known = f"kafka {self.settings['kafka.brokers']}"
                elif name == "sftp":
                    target = Server(stack.enter_context(wiring.drop(self.settings)))
                    known = f"sftp {self.settings['inbox.url']}"
                else:
                    folder = self.folder / self.settings["inbox.path"] if name == "folder" else Path(name).resolve()
                    folder.mkdir(parents=True, exist_ok=True)
                    target, known = Folder(folder), f"folder {folder}"
                ledgers[name] = place / f"{ledger_name(self.folder, what, scale, seed, known)}.txt"
                if again:
                    ledgers[name].unlink(missing_ok=True)
                targets.append(Noted(target, ledgers[name], flushed=name == "kafka"))
            several = Several(targets, observer)
            observer.begin("generate", ", ".join(dict.fromkeys(to)))
            self.generate(scale, seed, str(work), what=what, target=several)
            for name, ledger in ledgers.items():
                if name != "kafka":  # a file that is sent twice is one; a topic must never have it twice
                    ledger.unlink()
        observer.end("generate", ", ".join(dict.fromkeys(to)), several.counts, time.monotonic() - started)
        return several.counts

    def generate(
        self,
        scale: float,
        seed: int,
        folder: str | None,
        *more: Any,
        what: str = "generate",
        target: Target | None = None,
    ) -> Path:
        """Runs ``what`` of the project's ``samples.py``; gives the folder that it wrote, unless it wrote to ``target``."""
        from headrace.flow.samples import Samples

        file = self.folder / "samples.py"
        place = Path(folder) if folder else self.folder / self.settings["inbox.path"]
        place.mkdir(parents=True, exist_ok=True)
        generator = self.samples().get(what)
        if generator is None:
            raise DeclarationError(
                "HR0102", f"{file} does not define {what}(samples)", help=f"def {what}(samples: Samples) -> None: …"
            )
        with wiring.scratch(self.folder, self.settings, place) as run_sql:
            try:
                generator(Samples(run_sql, place, seed=seed, scale=scale, target=target), *more)
            except ModuleNotFoundError as error:
                raise OutsideError("HR0701", str(error), help=f"install what {file.name} imports") from None
        return place
