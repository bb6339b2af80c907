"""export: one SELECT of the project over its relations, written to a file for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.errors import DeclarationError, NotFoundError, NotReadyError, SettingError, nearest
from headrace.flow.answer import Reader
from headrace.flow.relations import Relations, feeding
from headrace.model.project import LoadedProject
from headrace.ports import Engine, Lake

FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "json"}


@dataclass(slots=True)
class Gold:
    """The project's relations as of the generation that answers."""

    project: LoadedProject
    lake: Lake
    engine: Engine
    reader: Reader

    def define(self) -> set[str]:
        """Makes every source, dataset and mart of that generation readable in the engine; gives the marts and datasets
        that cannot be, because they, or marts that they read, are new or were edited since.

        Raises NotReadyError HR0403 where contracts were edited, so that the lake has other columns.
        """
        generation = self.reader.generation(self.reader.pointer().generation)
        relations = Relations(self.project, self.lake, self.engine, generation.cut, generation.contracts)
        try:
            relations.define()
            relations.check(self.project.sources)
        except DeclarationError as error:
            raise edited_since("a contract", error.what) from None
        edited = relations.edited(generation) if generation.number else set()
        for mart in self.project.marts.values():
            if mart.name not in edited:
                state = generation.marts.get(mart.name)
                found = self.lake.snapshot(f"gold/{mart.name}", state.version) if state else None
                relations.define_mart(mart, found.files if found else ())
        return edited | {name for name in self.project.datasets if feeding(self.project, [name])[1] & edited}

    def ready(self, text: str) -> list[str]:
        """The columns of a SELECT over the relations, which it makes readable. Raises NotReadyError HR0403 where it reads
        what was edited since the last run, DeclarationError HR0204 where it reads what there is not."""
        edited = self.define()
        try:
            return [name for name, _ in self.engine.describe(text)]
        except DeclarationError as error:
            if found := sorted(name for name in edited if name in text):
                raise edited_since(", ".join(found)) from None
            raise error from None

    def sql(self, text: str) -> tuple[list[str], list[tuple[object, ...]]]:
        """Columns and rows (as text) of one SELECT over the relations."""
        columns = self.ready(text)
        names = ", ".join(f'CAST("{c}" AS VARCHAR)' for c in columns)
        return columns, self.engine.rows(f"SELECT {names} FROM ({text})")


def edited_since(what: str, found: str = "") -> NotReadyError:
    """What to raise where the lake has the rows of another ``what`` than the project declares now."""
    said = f"{what} was edited since the last run" + f": {found}" * bool(found)
    return NotReadyError("HR0403", said, help="headrace run")


def names(folder: Path) -> list[str]:
    """The exports that a project declares."""
    return sorted(f.stem for f in (folder / "exports").glob("*.sql"))


def export(name: str, folder: Path, path: Path, gold: Gold) -> int:
    """Writes an export to ``path`` (format by its ending); gives the number of rows.

    Raises NotFoundError HR0501 and SettingError HR0601 (an ending that no format has).
    """
    file = folder / "exports" / f"{name}.sql"
    if not file.is_file():
        raise NotFoundError("HR0501", f"no export '{name}'", help=nearest(name, names(folder)))
    kind = FORMATS.get(path.suffix)
    if kind is None:
        raise SettingError("HR0601", f"'{path}' names no format", help="end the name in " + ", ".join(FORMATS))
    text = file.read_text()
    gold.ready(text)
    return gold.engine.export(text, str(path), kind)
