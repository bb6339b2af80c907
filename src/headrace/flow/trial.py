"""test: a project's own unit tests of its SQL. Rows of sources in, expected rows of datasets, marts and queries out."""

from __future__ import annotations

import csv
import io
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, NotFoundError, Place, SettingError, nearest
from headrace.flow.answer import Reader
from headrace.flow.export import Gold
from headrace.flow.run import Batch
from headrace.model.source import Source


@dataclass(slots=True)
class Result:
    """One file of tests: what differs, empty where all is as expected."""

    name: str
    differences: list[str] = field(default_factory=list)


def trials(folder: Path, names: tuple[str, ...], make: Callable[[Path], Batch]) -> Iterator[Result]:
    """Runs ``tests/*.toml`` of a project, each on a lake of its own that ``make`` opens in an empty folder."""
    files = {f.stem: f for f in sorted((folder / "tests").glob("*.toml"))}
    names = tuple(Path(name).stem for name in names)
    for name in names:
        if name not in files:
            raise NotFoundError(
                "HR0306", f"no test '{name}'", help=nearest(name, files) if files else "tests are tests/NAME.toml"
            )
    for name in names or files:
        with tempfile.TemporaryDirectory(prefix="headrace-test-") as place:
            yield _trial(name, files[name], Path(place), make)


def _trial(name: str, file: Path, place: Path, make: Callable[[Path], Batch]) -> Result:
    try:
        declared = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingError(
            "HR0306", f"{file.name} cannot be read: {error}", place=Place(f"tests/{file.name}")
        ) from None
    batch = make(place)
    for source, text in declared.get("given", {}).items():
        found = batch.project.sources.get(source)
        if found is None:
            raise NotFoundError(
                "HR0306",
                f"tests/{file.name} gives '{source}', which is no source",
                help=nearest(source, batch.project.sources),
            )
        _write(found, text, place)
    result = Result(name)
    try:
        batch.run()
        reader = Reader(batch.project, batch.store)
        gold = Gold(batch.project, batch.lake, batch.engine, reader)
        for expected in declared.get("expect", []):
            result.differences += _compare(expected, reader, gold)
    except HeadraceError as error:
        result.differences.append(f"{error.code}: {error.what}")
    return result


def _write(source: Source, text: str, place: Path) -> None:
    path = place / source.format.pattern.replace("**/", "").replace("*", "test").replace("?", "x")
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.format.kind == "parquet":
        raise SettingError(
            "HR0306",
            f"{source.name} is Parquet, which a text cannot give",
            help="declare a CSV source of the same columns to test with",
        )
    path.write_text(text.strip("\n") + "\n", encoding=source.format.encoding)


def _compare(expected: Mapping[str, Any], reader: Reader, gold: Gold) -> list[str]:
    header, *rows = list(csv.reader(io.StringIO(expected["rows"].strip())))
    wanted = [[cell.strip() for cell in row] for row in rows]
    names = [h.strip() for h in header]
    if "query" in expected:
        what = f"query {expected['query']}"
        answer = reader.answer(
            expected["query"],
            {k: v if isinstance(v, list) else str(v) for k, v in expected.get("parameters", {}).items()},
        )
        columns = [c.name for c in answer.columns]
        missing = [n for n in names if n not in columns]
        if missing:
            return [f"{what} has no column '{missing[0]}': {nearest(missing[0], columns)}"]
        found = [
            ["" if row[columns.index(n)] is None else str(row[columns.index(n)]) for n in names] for row in answer.rows
        ]
    else:
        table = expected.get("mart") or expected.get("dataset") or ""
        what = f"{'mart' if 'mart' in expected else 'dataset'} {table}"
        _, raw = gold.sql("SELECT " + ", ".join(f'"{n}"' for n in names) + f' FROM "{table}"')
        found = [["" if cell is None else str(cell) for cell in row] for row in raw]
        found.sort(key=_sortable)
        wanted.sort(key=_sortable)
    return _differences(what, names, wanted, found)


def _differences(what: str, names: list[str], wanted: list[list[str]], found: list[list[str]]) -> list[str]:
    if len(wanted) == len(found) and all(
        _same(a, b) for w, f in zip(wanted, found, strict=True) for a, b in zip(w, f, strict=True)
    ):
        return []
    out = [f"{what}: {len(wanted)} rows expected, {len(found)} found ({', '.join(names)})"]
    out += [
        f"  - {', '.join(w)}"
        for w in wanted
        if not any(all(_same(a, b) for a, b in zip(w, f, strict=True)) for f in found)
    ]
    out += [
        f"  + {', '.join(f)}"
        for f in found
        if not any(all(_same(a, b) for a, b in zip(w, f, strict=True)) for w in wanted)
    ]
    return out if len(out) > 1 else [*out, "  the rows are the same, in another order or number"]


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return Decimal(a) == Decimal(b)
    except InvalidOperation:
        return a.lower() == b.lower() in ("true", "false")


def _sortable(row: list[str]) -> list[str]:
    return [str(Decimal(c).normalize()) if c.lstrip("-").replace(".", "", 1).isdigit() else c for c in row]
