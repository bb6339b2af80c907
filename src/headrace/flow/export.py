"""export: one SELECT of the project over its relations, written to a file for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.errors import DeclarationError, NotFoundError, NotReadyError, OutsideError, SettingError, nearest
from headrace.flow.answer import Reader
from headrace.flow.relations import Relations
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

    def define(self) -> list[str]:
        """Makes every source, dataset and mart of that generation readable in the engine; gives the marts that cannot be,
        because they were edited since."""
        generation = self.reader.generation(self.reader.pointer().generation)
        relations = Relations(self.project, self.lake, self.engine, generation.cut, generation.contracts)
        relations.define()
        changed = []
        for mart in self.project.marts.values():
            state = generation.marts.get(mart.name)
            found = self.lake.snapshot(f"gold/{mart.name}", state.version) if state else None
            try:
                relations.define_mart(mart, found.files if found else ())
            except OutsideError:
                changed.append(mart.name)  # its parts are other ones than those that were computed
        return changed

    def sql(self, text: str) -> tuple[list[str], list[tuple[object, ...]]]:
        """Columns and rows (as text) of one SELECT over the relations."""
        changed = self.define()
        try:
            columns = [name for name, _ in self.engine.describe(text)]
        except DeclarationError as error:
            if changed and any(name in text for name in changed):
                what = f"{', '.join(changed)} was edited since the last run"
                raise NotReadyError("HR0403", what, help="headrace run") from None
            raise error from None
        names = ", ".join(f'CAST("{c}" AS VARCHAR)' for c in columns)
        return columns, self.engine.rows(f"SELECT {names} FROM ({text})")


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
    gold.define()
    return gold.engine.export(file.read_text(), str(path), kind)
