"""What is looked at: rows of a file, a relation of the project, or a serving table, with their key, bytes and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import ContractError, DeclarationError, NotFoundError, OutsideError, SettingError, nearest
from headrace.model.serving import Bucket, ServingTable
from headrace.model.types import Type, parse_type
from headrace.ops.skew.token import CQL_TYPES
from headrace.ports import Engine
from headrace.sql.cql import cql_type
from headrace.sql.gold import rollup_sql, stored

FILES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABLE = "_skew_rows"
"""The engine's table of a serving table's rows."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the partition key: SQL of its stored value, and its CQL type."""

    name: str
    expression: str
    cql_type: str

    @property
    def is_constant(self) -> bool:
        return self.expression == "0"


@dataclass(frozen=True, slots=True)
class Subject:
    """``relation`` can be read repeatedly. ``size`` is SQL of a row's bytes, ``time`` of its microseconds since 1970 UTC, or
    empty. ``numbered`` is the relation with the rows' numbers, from 1 and in their order, as ``_number``; empty where they
    have none. ``others`` are columns that could be a key instead."""

    name: str
    relation: str
    key: tuple[KeyColumn, ...]
    size: str
    time: str = ""
    time_name: str = ""
    numbered: str = ""
    others: tuple[KeyColumn, ...] = ()

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.key if not column.is_constant)


def of_file(engine: Engine, files: Sequence[Path], key: Sequence[str], time: str, scratch: Path) -> Subject:
    """Rows of CSV or Parquet files. Of CSV every value is text, unless the key says otherwise: what looks like a number can
    begin with a zero. ``scratch`` is a folder that the engine may write to: CSV is read once, and kept there as Parquet.
    Rows have an order, unless they are of several Parquet files."""
    listed = ", ".join(_text(str(file)) for file in files)
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    try:
        if files[0].name.endswith(".parquet"):
            engine.describe(f"SELECT * FROM read_parquet([{listed}])")
            relation = f"read_parquet([{listed}], union_by_name = true)"
            rows = f"(SELECT *, file_row_number + 1 AS _number FROM read_parquet({listed}, file_row_number = true))"
            numbered = rows if len(files) == 1 else ""
        else:
            rows = f"read_csv([{listed}], all_varchar = true, header = true, parallel = false)"
            engine.describe(f"SELECT * FROM {rows}")
            kept = scratch / "rows.parquet"
            engine.write(f"SELECT *, row_number() OVER () AS _number FROM {rows}", str(kept))
            relation = numbered = f"read_parquet({_text(str(kept))})"
    except (DeclarationError, OutsideError, ContractError) as error:
        raise SettingError("HR0621", f"{name} cannot be read: {error.what}") from None
    return of_relation(engine, name, relation, key, time, numbered)


def of_relation(
    engine: Engine, name: str, relation: str, key: Sequence[str], time: str = "", numbered: str = ""
) -> Subject:
    """Rows of anything that the engine can read. A column of the key is ``NAME`` or ``NAME:CQL_TYPE``; without a type it is
    written as Headrace writes it. Raises SettingError HR0622 where a column is not there or its type cannot be a key."""
    described = engine.describe(f"SELECT * FROM {relation}")
    types = {column: type for column, type in described if not column.startswith("_")}
    if not key:
        raise SettingError("HR0622", f"{name} has no key of its own", help=f"--key COLUMN, of {', '.join(types)}")
    columns = tuple(_column(word, types, name) for word in key)
    micros = ""
    if time:
        _known(time, types, name)
        micros = f"epoch_us(CAST({_quoted(time)} AS TIMESTAMP))"
    names = {column.name for column in columns}
    rest = [n for n, type in types.items() if n not in names and n != time and _is_key(type)]
    others = tuple(_column(n, types, name) for n in rest)
    return Subject(name, relation, columns, _size(types), micros, time, numbered, others)


def of_table(engine: Engine, table: ServingTable) -> Subject:
    """The rows that a serving table would have, keyed as Headrace keys it in Cassandra: its partition columns and a bucket.
    The engine has the mart's parts, or the dataset, already."""
    engine.keep(TABLE, rollup_sql(table, f'"{table.origin}__parts"' if table.of_mart else f'"{table.origin}"'))
    types = dict(engine.describe(f"SELECT * FROM {TABLE}"))
    key = [KeyColumn(c.name, _quoted(c.name), cql_type(c.type)) for c in table.partition]
    key.append(KeyColumn("_bucket", _bucket(table), "bigint"))
    others = tuple(KeyColumn(c.name, _quoted(c.name), cql_type(c.type)) for c in table.clustering)
    first = next(iter(table.clustering), None)
    micros = _micros(_quoted(first.name), first.type) if first else ""
    time = first.name if first and micros else ""
    return Subject(table.name, TABLE, tuple(key), _size(types), micros, time, "", others)


def columns_of(engine: Engine, subject: Subject, words: Sequence[str]) -> list[KeyColumn]:
    """Other columns of a subject as a key; raises SettingError HR0622."""
    known = {column.name: column for column in (*subject.key, *subject.others)}
    types = {
        name: type for name, type in engine.describe(f"SELECT * FROM {subject.relation}") if not name.startswith("_")
    }
    return [known[word] if word in known else _column(word, types, subject.name) for word in words]


def paths(what: str) -> list[Path]:
    """The files that a path or a pattern names; none where it names none, or is a name of something else."""
    if not what.endswith(FILES):
        return []
    path = Path(what)
    found = sorted(path.parent.glob(path.name)) if any(c in path.name for c in "*?[") else [path]
    if not found or not found[0].is_file():
        raise NotFoundError(
            "HR0621", f"no file {what}", help="a CSV or Parquet file, or a pattern in quotes: 'rows_*.parquet'"
        )
    return [file.resolve() for file in found]


def _column(word: str, types: Mapping[str, str], name: str) -> KeyColumn:
    column, _, wanted = word.partition(":")
    _known(column, types, name)
    if wanted:
        if wanted not in CQL_TYPES:
            raise SettingError("HR0622", f"'{wanted}' is no CQL type of a key here", help=nearest(wanted, CQL_TYPES))
        return KeyColumn(column, _quoted(column), wanted)
    type = parse_type(types[column])
    if type is None or type.item is not None:
        raise SettingError("HR0622", f"{column} is {types[column]}, which a key cannot have", help=f"{column}:text")
    return KeyColumn(column, stored(_quoted(column), type), cql_type(type))


def _known(column: str, types: Mapping[str, str], name: str) -> None:
    if column not in types:
        raise SettingError("HR0622", f"{name} has no column '{column}'", help=nearest(column, types))


def _is_key(text: str) -> bool:
    type = parse_type(text)
    return type is not None and type.item is None and type.name != "DOUBLE"


def _micros(column: str, type: Type) -> str:
    """SQL of the microseconds of a stored value; empty where it is no date and no instant."""
    if type.name == "DATE":
        return f"epoch_us(CAST(CAST({column} AS DATE) AS TIMESTAMP))"
    return column if type.is_instant else ""


def _bucket(table: ServingTable) -> str:
    """SQL of ``ServingTable.bucket_of``; of a salt another hash than the store's, which spreads as well."""
    bucket: Bucket | None = table.bucket
    if bucket is None:
        return "0"
    if bucket.kind == "salt":
        return f"CAST(hash({', '.join(_quoted(c.name) for c in table.clustering)}) % {bucket.count} AS BIGINT)"
    first = table.clustering[0]
    day = f"CAST(make_timestamp({_micros(_quoted(first.name), first.type)}) AS DATE)"
    if bucket.kind == "day":
        return f"CAST({day} - DATE '1970-01-01' AS BIGINT)"
    return f"CAST((extract(year FROM {day}) - 1970) * 12 + extract(month FROM {day}) - 1 AS BIGINT)"


def _size(types: Mapping[str, str]) -> str:
    """SQL of the bytes of a row's values as CQL writes them: no overhead of cells or rows, nothing compressed."""

    def one(name: str, text: str) -> str:
        column, type = _quoted(name), parse_type(text)
        if type is not None and type.name == "DATE":
            return f"CASE WHEN {column} IS NULL THEN 0 ELSE 10 END"
        if type is not None and (type.name in ("BOOLEAN", "DOUBLE") or type.is_instant or (type.is_exact and type.name != "DECIMAL")):  # fmt: skip
            return f"CASE WHEN {column} IS NULL THEN 0 ELSE 8 END"
        return f"coalesce(strlen(CAST({column} AS VARCHAR)), 0)"

    return " + ".join(one(name, type) for name, type in types.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
