"""What a project's ``generate(samples)`` writes sample data with: seeded random SQL macros, tables and files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

# A query costs about 10 ms before it reads a row, one for each of 120 files is a second; this many bound the memory.
FILES_AT_ONCE = 12

# The outer hash is not decoration: DuckDB joins the hashes of two arguments by XOR, so without it the draws of two tags
# would differ by a constant and be fully dependent.
MACROS = """
CREATE OR REPLACE TEMP MACRO u(tag, i) AS
    (hash(hash(hash({seed}::UBIGINT, tag), i)) >> 11)::DOUBLE / 9007199254740992.0;
CREATE OR REPLACE TEMP MACRO normal(tag, i) AS
    sqrt(-2.0 * ln(1.0 - u('radius ' || tag, i))) * cos(2.0 * pi() * u('angle ' || tag, i));
CREATE OR REPLACE TEMP MACRO whole(tag, i, low, high) AS
    low + floor(u(tag, i) * (high - low + 1))::INTEGER;
CREATE OR REPLACE TEMP MACRO pick(tag, i, choices) AS
    choices[1 + floor(u(tag, i) * len(choices))::INTEGER];
CREATE OR REPLACE TEMP MACRO weighted(tag, i, choices, weights) AS
    choices[1 + len(list_filter(
        list_transform(range(1, len(weights)), lambda k: list_sum(weights[1:k])),
        lambda reached: reached <= u(tag, i) * list_sum(weights)))];
CREATE OR REPLACE TEMP MACRO shuffled(tag, i) AS
    row_number() OVER (ORDER BY u(tag, i), i);
CREATE OR REPLACE TEMP MACRO dealt(tag, i, choices, counts) AS
    flatten(list_transform(list_zip(choices, counts), lambda c: repeat([c[1]], c[2])))[shuffled(tag, i)];
CREATE OR REPLACE TEMP MACRO ident(prefix, tag, i, width := 12) AS
    prefix || '_' || right(lower(to_base(
        (hash(hash(hash({seed}::UBIGINT, tag), i)) % 4738381338321616896)::BIGINT, 36, 12)), width);
"""


CSVS_AT_ONCE = 200


class Target(Protocol):
    """Where sample files go."""

    def has(self, path: str) -> bool:
        """Whether the file is there already, so that it need not be made."""
        ...

    def take(self, path: str, file: Path) -> None:
        """Takes a finished file, all of it or nothing; the one that is handed over may be moved away."""
        ...


class Folder:
    """A folder, in which a file appears whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, path: str) -> bool:
        return False  # what is made anew has the same bytes, unless seed or scale are others

    def take(self, path: str, file: Path) -> None:
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.replace(place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            half = place.with_name(f".{place.name}.writing")
            shutil.copyfile(file, half)
            half.replace(place)


class Samples:
    """Random draws, temporary tables and files for one set of sample data.

    The same seed, scale and DuckDB version give the same bytes, whatever the number of threads. A draw depends only on
    the seed, on ``tag`` (what is drawn) and on ``i`` (for what it is drawn: one row number or key, always of one type).
    In every query:

    - ``u(tag, i)``: uniform in [0, 1).
    - ``normal(tag, i)``: mean 0, deviation 1, at most 8.6 from the mean.
    - ``whole(tag, i, low, high)``: an integer, both bounds included.
    - ``pick(tag, i, choices)``: one of a list, all equally likely.
    - ``weighted(tag, i, choices, weights)``: one of a list, by weights of any sum.
    - ``shuffled(tag, i)``: 1, 2, 3 ... in random order over the rows of the query.
    - ``dealt(tag, i, choices, counts)``: each choice for exactly so many rows of the query, NULL for the rest.
    - ``ident(prefix, tag, i)``: as ``evt_x7k2m9q0a1bc``; ``width := 8`` for up to twelve letters and digits.
    """

    def __init__(
        self,
        run_sql: Callable[[str], None],
        folder: Path,
        seed: int = 1,
        scale: float = 1.0,
        target: Target | None = None,
    ) -> None:
        """``run_sql`` runs DuckDB statements in a connection of its own; ``scale`` multiplies what the project lets it.
        Files are made in ``folder`` and handed to ``target``, or stay there.

        Raises ``ValueError`` for a scale that is not above zero.
        """
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be a number above 0, not {scale}")
        self._run = run_sql
        self._target = target or Folder(folder)
        self.folder = folder
        self.seed = seed
        self.scale = scale
        run_sql(MACROS.format(seed=seed % 2**64))

    def scaled(self, count: int, at_least: int = 1) -> int:
        """``count`` times the scale, as a whole number."""
        return max(at_least, round(count * self.scale))

    def table(self, name: str, sql: str) -> None:
        """Keep the rows of ``sql`` as the temporary table ``name``."""
        self._run(f"CREATE OR REPLACE TEMP TABLE {_name(name)} AS\n{sql}")

    def view(self, name: str, sql: str) -> None:
        """Give ``sql`` a name without computing it: for rows too many to keep, which are written file by file."""
        self._run(f"CREATE OR REPLACE TEMP VIEW {_name(name)} AS\n{sql}")

    def csv(self, path: str, sql: str) -> None:
        """Write the rows of ``sql`` with a header line; NULL is an empty field. Order them, or the bytes may differ."""
        self._write(path, sql, "FORMAT csv, HEADER")

    def csvs(self, paths: Sequence[str], columns: Sequence[str], sql: str) -> None:
        """Write several files with a header line each, far faster than one by one.

        ``sql`` gives the columns ``file`` (from 0), ``place`` (orders the rows of a file, without ties) and ``columns``, of
        which the first one is text. It runs once for many files, whose bytes are in memory together.
        """
        first, *others = columns
        header = ",".join(columns).encode() + b"\n"
        # A row of its own begins each file. No text that is sent begins so, and what it is alone with is empty.
        mark = b"\x02" + b"," * len(others) + b"\n"
        for begin in range(0, len(paths), CSVS_AT_ONCE):
            several = range(begin, min(begin + CSVS_AT_ONCE, len(paths)))
            missing = [n for n in several if not self._target.has(paths[n])]
            if not missing:
                continue
            half = self._half("csvs")
            try:
                self._run(f"""COPY (SELECT {", ".join(map(_name, columns))} FROM (
                    SELECT file, place, {_name(first)}, {", ".join(map(_name, others))} FROM (
                    {sql}
                    ) WHERE file BETWEEN {several[0]} AND {several[-1]}
                    UNION ALL BY NAME SELECT range AS file, -1 AS place, chr(2) AS {_name(first)} FROM range({several[0]}, {several[-1] + 1})
                    ) ORDER BY file, place) TO '{_quoted(half)}' (FORMAT csv, HEADER false)""")
                bodies = half.read_bytes().split(mark)[1:]
            finally:
                half.unlink(missing_ok=True)
            for n in missing:
                self._put(paths[n], header + bodies[n - begin])

    def text(self, path: str, text: str) -> None:
        """Write a file that needs no engine to be made."""
        if not self._target.has(path):
            self._put(path, text.encode())

    def jsonl(self, pattern: str, sql: str, files: int = 120) -> None:
        """Write ``files`` files, as ``pattern.format(file=0)`` names them, each row one line.

        ``sql`` gives the columns ``file`` (from 0), ``place`` (orders the lines of a file, without ties) and ``line``
        (JSON text, so that a key may be absent, null, or of different types). It runs once for a few files at a time,
        whose lines are in memory together: fast when ``file`` is a column of a table that is ordered by it.
        """
        for first in range(0, files, FILES_AT_ONCE):
            several = range(first, min(first + FILES_AT_ONCE, files))
            self.table(
                "_lines",
                f"SELECT file, place, line FROM (\n{sql}\n) WHERE file BETWEEN {several[0]} AND {several[-1]}",
            )
            for file in several:
                # No quote, and a delimiter that JSON text cannot hold unescaped: the line is written as it is.
                self._write(
                    pattern.format(file=file),
                    f"SELECT line FROM _lines WHERE file = {file} ORDER BY place",
                    "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'",
                )
        self._run("DROP TABLE IF EXISTS _lines")

    def _write(self, path: str, sql: str, options: str) -> None:
        half = self._half(path)
        if self._target.has(path):
            return
        try:
            self._run(f"COPY (\n{sql}\n) TO '{_quoted(half)}' ({options})")
            self._target.take(path, half)
        finally:
            half.unlink(missing_ok=True)

    def _put(self, path: str, data: bytes) -> None:
        half = self._half(path)
        try:
            half.write_bytes(data)
            self._target.take(path, half)
        finally:
            half.unlink(missing_ok=True)

    def _half(self, path: str) -> Path:
        relative = PurePosixPath(path)
        if relative.is_absolute() or not relative.parts or ".." in relative.parts:
            raise ValueError(f"sample file {path!r} must lie inside the sample folder")
        place = self.folder / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        # A source that is read meanwhile must not see half a file, and no pattern for data files matches this name.
        return place.with_name(f".{place.name}.{os.getpid()}.writing")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
